"""Novelty: how little known the items of a list are."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2


class Novelty:
    """Mean self-information of a list's items in bits, -log2 of the share of all touches so far that an item has (Zhou et al., PNAS 107,
    2010; Vargas and Castells, RecSys 2011). Every item counts one touch more than it had, so that one nobody touched has a share too.

    Items are numbers, given as they become known.

    >>> novelty = Novelty()
    >>> for item in (0, 0, 0, 1):
    ...     novelty.touch(item)
    >>> novelty.know(4)
    >>> novelty.of([0]), novelty.of([2, 3]), novelty.of([0, 2])
    (1.0, 3.0, 2.0)
    """

    def __init__(self) -> None:
        self._touches: list[int] = []
        self._known: list[float] = []
        self._total = 0

    def know(self, items: int) -> None:
        """There are ``items`` items, touched or not."""
        missing = items - len(self._touches)
        if missing > 0:
            self._touches += [1] * missing
            self._known += [0.0] * missing
            self._total += missing

    def touch(self, item: int) -> None:
        """``item`` is touched once more."""
        self.know(item + 1)
        self._touches[item] += 1
        self._known[item] = log2(self._touches[item])
        self._total += 1

    def of(self, items: Sequence[int]) -> float:
        """Of a list of known items, at least one."""
        return log2(self._total) - sum(map(self._known.__getitem__, items)) / len(items)
