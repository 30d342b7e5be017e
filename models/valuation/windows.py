"""The panes of one asset, or of one dimension, from every partition, and the windows that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from models.valuation.panes import MINUTE_S, TOTAL, TOTAL_S, WINDOWS, PaneId, WindowKind, is_kept, kind_of, pane_start, window_bounds
from models.valuation.sums import PaneSums
from models.valuation.worth import Worth, merged

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WindowSums:
    """One window of one asset: bounds in ms (end excluded), sums over all partitions, the offsets by partition, and the
    newest exposure in the window, or else the newest known.
    """

    name: str
    start_ms: int
    end_ms: int
    sums: PaneSums
    offsets: dict[int, tuple[int, int]]
    served: tuple[int, str, str, int] | None


@dataclass(slots=True)
class _Pane(Generic[T]):
    """One pane as each partition has it, and their sum while that is current."""

    by_source: dict[int, T] = field(default_factory=dict)
    merged: T | None = None


class PaneRing(Generic[T]):
    """Panes by source partition, of whatever ``merge`` adds up."""

    def __init__(self, merge: Callable[[Sequence[T]], T]) -> None:
        self.watermark_ms = 0
        self._merge = merge
        self._panes: dict[PaneId, _Pane[T]] = {}
        self._expired = False

    def add(self, source: int, pane: PaneId, sums: T) -> None:
        """Add what partition ``source`` has counted in ``pane`` since it last said so."""
        cell = self._panes.setdefault(pane, _Pane())
        cell.merged = None
        held = cell.by_source.get(source)
        cell.by_source[source] = sums if held is None else self._merge([held, sums])
        self._expired = self._expired or not is_kept(pane, self.watermark_ms)

    def held(self, source: int, pane: PaneId) -> T:
        """What partition ``source`` has counted in ``pane``. Raises ``KeyError`` where it has not."""
        return self._panes[pane].by_source[source]

    def closed(self, after_ms: int, until_ms: int) -> list[PaneId]:
        """The minutes that hold something and end after ``after_ms``, at ``until_ms`` at the latest; oldest first."""
        length_ms = MINUTE_S * 1000
        return sorted(pane for pane in self._panes if pane.length_s == MINUTE_S and after_ms < pane.start_ms + length_ms <= until_ms)

    def advance(self, watermark_ms: int) -> list[tuple[int, PaneId]]:
        """Move the watermark (never back) and drop the panes that left their ring; returns the (source, pane) pairs dropped."""
        before, self.watermark_ms = self.watermark_ms, max(watermark_ms, self.watermark_ms)
        if not self._expired and pane_start(before, MINUTE_S) == pane_start(self.watermark_ms, MINUTE_S):
            return []
        self._expired = False
        gone = [pane for pane in self._panes if not is_kept(pane, self.watermark_ms)]
        return [(source, pane) for pane in gone for source in self._panes.pop(pane).by_source]

    def panes_of(self, name: str) -> list[PaneId]:
        """The panes that make up a window of ``panes.WINDOWS``, oldest first; the newest is the one that holds the watermark."""
        length_s, _ = WINDOWS[name]
        if length_s == TOTAL_S:
            return [TOTAL] if TOTAL in self._panes else []
        start_ms, end_ms = window_bounds(name, self.watermark_ms)
        return sorted(pane for pane in self._panes if pane.length_s == length_s and start_ms <= pane.start_ms < end_ms)

    def held_panes(self) -> Collection[PaneId]:
        """All panes that hold something."""
        return self._panes.keys()

    def by_source(self, pane: PaneId) -> Mapping[int, T]:
        """The pane as each partition has it."""
        return self._panes[pane].by_source

    def whole(self, pane: PaneId) -> T:
        """The pane over all partitions."""
        cell = self._panes[pane]
        if cell.merged is None:
            cell.merged = self._merge(list(cell.by_source.values()))
        return cell.merged


@dataclass(frozen=True, slots=True)
class WorthWindow:
    """One window of one dimension: bounds in ms (end excluded), what each of its panes was worth, oldest first, when they start, all of
    them together, and the offsets of the first and the last test by partition.
    """

    start_ms: int
    end_ms: int
    kind: WindowKind
    panes: list[Worth]
    starts_ms: list[int]
    whole: Worth
    offsets: dict[int, tuple[int, int]]


class WorthPanes(PaneRing[Worth]):
    """What one dimension was worth."""

    def __init__(self) -> None:
        super().__init__(merged)

    def window(self, name: str) -> WorthWindow:
        """A window of ``panes.WINDOWS``, the newest pane being the one that holds the watermark. The total begins with 1970."""
        kind = kind_of(name)
        start_ms, end_ms = (0, self.watermark_ms) if kind == "total" else window_bounds(name, self.watermark_ms)
        return self._window(start_ms, end_ms, kind, self.panes_of(name))

    def minute(self, pane: PaneId) -> WorthWindow:
        """One minute that holds something, as a window of its own."""
        return self._window(pane.start_ms, pane.start_ms + MINUTE_S * 1000, "pane", [pane])

    def _window(self, start_ms: int, end_ms: int, kind: WindowKind, panes: list[PaneId]) -> WorthWindow:
        worths = [self.whole(pane) for pane in panes]
        offsets = _offsets(self.by_source(pane) for pane in panes)
        starts_ms = [pane.start_ms for pane in panes]
        return WorthWindow(start_ms, end_ms, kind, worths, starts_ms, worths[0] if len(worths) == 1 else merged(worths), offsets)


class AssetPanes(PaneRing[PaneSums]):
    """The panes of one asset."""

    def __init__(self) -> None:
        super().__init__(PaneSums.merged)

    def served(self) -> tuple[int, str, str, int] | None:
        """The newest exposure known of: (event time in ms, encoder, model, size of the catalogue)."""
        return self.whole(TOTAL).served if TOTAL in self._panes else None

    def window(self, name: str) -> WindowSums:
        """Sum a window of ``panes.WINDOWS``, the newest pane being the one that holds the watermark."""
        panes = self.panes_of(name)
        if WINDOWS[name].length_s == TOTAL_S:
            first_ms = self.whole(TOTAL).first_ms if panes else self.watermark_ms
            return self._sum(name, min(first_ms, self.watermark_ms), self.watermark_ms, panes)
        return self._sum(name, *window_bounds(name, self.watermark_ms), panes)

    def minute(self, pane: PaneId) -> WindowSums:
        """One minute that holds something, as a window of its own."""
        return self._sum("1m", pane.start_ms, pane.start_ms + MINUTE_S * 1000, [pane])

    def _sum(self, name: str, start_ms: int, end_ms: int, panes: list[PaneId]) -> WindowSums:
        sums = PaneSums.merged([self.whole(pane) for pane in panes])
        offsets = _offsets(self.by_source(pane) for pane in panes)
        return WindowSums(name, start_ms, end_ms, sums, offsets, sums.served or self.served())


def _offsets(panes: Iterable[Mapping[int, PaneSums | Worth]]) -> dict[int, tuple[int, int]]:
    """The first and the last offset by source."""
    offsets: dict[int, tuple[int, int]] = {}
    for pane in panes:
        for source, part in pane.items():
            low, high = offsets.get(source, (part.offset_low, part.offset_high))
            offsets[source] = (min(low, part.offset_low), max(high, part.offset_high))
    return dict(sorted(offsets.items()))
