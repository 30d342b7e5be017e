"""The panes of one asset from every partition, and the windows that they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.valuation.panes import MINUTE_S, TOTAL, TOTAL_S, WINDOWS, PaneId, is_kept, pane_start, window_bounds
from models.valuation.sums import PaneSums


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
class _Pane:
    """One pane as each partition has it, and their sum while that is current."""

    by_source: dict[int, PaneSums] = field(default_factory=dict)
    merged: PaneSums | None = None


class AssetPanes:
    """The panes of one asset by source partition."""

    def __init__(self) -> None:
        self.watermark_ms = 0
        self._panes: dict[PaneId, _Pane] = {}
        self._expired = False

    def add(self, source: int, pane: PaneId, sums: PaneSums) -> None:
        """Add what partition ``source`` has counted in ``pane`` since it last said so."""
        cell = self._panes.setdefault(pane, _Pane())
        cell.merged = None
        held = cell.by_source.get(source)
        cell.by_source[source] = sums if held is None else PaneSums.merged([held, sums])
        self._expired = self._expired or not is_kept(pane, self.watermark_ms)

    def held(self, source: int, pane: PaneId) -> PaneSums:
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

    def served(self) -> tuple[int, str, str, int] | None:
        """The newest exposure known of: (event time in ms, encoder, model, size of the catalogue)."""
        total = self._panes.get(TOTAL)
        return self._merged(total).served if total else None

    def window(self, name: str) -> WindowSums:
        """Sum a window of ``panes.WINDOWS``, the newest pane being the one that holds the watermark."""
        length_s, _ = WINDOWS[name]
        if length_s == TOTAL_S:
            panes = [TOTAL] if TOTAL in self._panes else []
            first_ms = self._merged(self._panes[TOTAL]).first_ms if panes else self.watermark_ms
            return self._sum(name, min(first_ms, self.watermark_ms), self.watermark_ms, panes)
        start_ms, end_ms = window_bounds(name, self.watermark_ms)
        panes = [pane for pane in self._panes if pane.length_s == length_s and start_ms <= pane.start_ms < end_ms]
        return self._sum(name, start_ms, end_ms, panes)

    def minute(self, pane: PaneId) -> WindowSums:
        """One minute that holds something, as a window of its own."""
        return self._sum("1m", pane.start_ms, pane.start_ms + MINUTE_S * 1000, [pane])

    def _sum(self, name: str, start_ms: int, end_ms: int, panes: list[PaneId]) -> WindowSums:
        sums = PaneSums.merged([self._merged(self._panes[pane]) for pane in panes])
        offsets: dict[int, tuple[int, int]] = {}
        for pane in panes:
            for source, part in self._panes[pane].by_source.items():
                low, high = offsets.get(source, (part.offset_low, part.offset_high))
                offsets[source] = (min(low, part.offset_low), max(high, part.offset_high))
        return WindowSums(name, start_ms, end_ms, sums, dict(sorted(offsets.items())), sums.served or self.served())

    @staticmethod
    def _merged(cell: _Pane) -> PaneSums:
        if cell.merged is None:
            cell.merged = PaneSums.merged(list(cell.by_source.values()))
        return cell.merged
