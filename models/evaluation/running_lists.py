"""What the lists that tests are judged by hold, as it goes on: coverage, novelty and repeats, with running curves in bounded space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

#: Points of a curve at most: when there are so many, every second one goes.
_POINTS: Final = 100
#: (tests so far, value).
ListCurve: TypeAlias = list[tuple[int, float]]


class _Totals(NamedTuple):
    tests: int
    distinct: int
    lists: int
    novelty: float
    hits: int
    repeats: int


class RunningLists:
    """Those of one method. ``catalogue_size``: items that lists may hold.

    >>> lists = RunningLists(catalogue_size=4)
    >>> lists.add([7, 8], novelty=2.0, hit=True, repeat=True)
    >>> lists.add([8, 9], novelty=3.0, hit=True, repeat=False)
    >>> lists.add([], novelty=0.0, hit=False, repeat=True)
    >>> lists.coverage(), lists.novelty(), lists.repeats()
    (0.75, 2.5, 0.5)
    >>> lists.coverage_curve(), lists.novelty_curve(), lists.repeats_curve()
    ([(1, 0.5), (2, 0.75), (3, 0.75)], [(1, 2.0), (2, 3.0)], [(1, 1.0), (2, 0.0)])
    """

    def __init__(self, catalogue_size: int) -> None:
        self._catalogue_size = catalogue_size
        self._listed: set[int] = set()
        self._tests = self._lists = self._hits = self._repeats = 0
        self._novelty = 0.0
        self._points = [self._totals()]
        self._step = 1

    def add(self, items: Sequence[int], *, novelty: float, hit: bool, repeat: bool) -> None:
        """The list of one test (empty: there was none), its novelty (else 0), whether it held the item, and whether that was a repeat."""
        self._listed.update(items)
        self._tests += 1
        self._lists += bool(items)
        self._novelty += novelty
        self._hits += hit
        self._repeats += hit and repeat
        if self._tests % self._step == 0:
            self._points.append(self._totals())
            if len(self._points) > _POINTS:
                self._points = self._points[::2]
                self._step *= 2

    def coverage(self) -> float | None:
        """The share of the catalogue that was in any list, 0..1; None of an empty catalogue."""
        # Items since taken off sale were listed, too.
        return min(1.0, len(self._listed) / self._catalogue_size) if self._catalogue_size else None

    def novelty(self) -> float | None:
        """The mean over lists; None where there was none."""
        return self._novelty / self._lists if self._lists else None

    def repeats(self) -> float | None:
        """The share of hits that were repeats, 0..1; None before the first hit."""
        return self._repeats / self._hits if self._hits else None

    def coverage_curve(self) -> ListCurve:
        """Coverage so far."""
        size = self._catalogue_size
        return [(point.tests, min(1.0, point.distinct / size)) for point in self._course()[1:]] if size else []

    def novelty_curve(self) -> ListCurve:
        """Mean novelty of the lists since the point before, where there were any."""
        steps = [(now.tests, now.novelty - then.novelty, now.lists - then.lists) for then, now in pairwise(self._course())]
        return [(tests, novelty / lists) for tests, novelty, lists in steps if lists]

    def repeats_curve(self) -> ListCurve:
        """Share of repeats among the hits since the point before, where there were any."""
        steps = [(now.tests, now.repeats - then.repeats, now.hits - then.hits) for then, now in pairwise(self._course())]
        return [(tests, repeats / hits) for tests, repeats, hits in steps if hits]

    def _course(self) -> list[_Totals]:
        """The points, and where it stands now."""
        return self._points if self._points[-1].tests == self._tests else [*self._points, self._totals()]

    def _totals(self) -> _Totals:
        return _Totals(self._tests, len(self._listed), self._lists, self._novelty, self._hits, self._repeats)
