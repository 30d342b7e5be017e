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
    """Latest panes of one asset by source partition. Absolute sums replace, so applying a message twice changes nothing."""

    def __init__(self) -> None:
        self.watermark_ms = 0
        self._panes: dict[PaneId, _Pane] = {}

    def replace(self, source: int, pane: PaneId, sums: PaneSums | None) -> None:
        """What partition ``source`` now holds for ``pane``; None when it holds nothing."""
        cell = self._panes.setdefault(pane, _Pane())
        cell.merged = None
        if sums is None:
            cell.by_source.pop(source, None)
            if not cell.by_source:
                del self._panes[pane]
        else:
            cell.by_source[source] = sums

    def advance(self, watermark_ms: int) -> list[tuple[int, PaneId]]:
        """Move the watermark (never back) and drop the panes that left their ring; returns the (source, pane) pairs dropped."""
        before, self.watermark_ms = self.watermark_ms, max(watermark_ms, self.watermark_ms)
        if pane_start(before, MINUTE_S) == pane_start(self.watermark_ms, MINUTE_S):
            return []
        gone = [pane for pane in self._panes if not is_kept(pane, watermark_ms)]
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
        else:
            start_ms, end_ms = window_bounds(name, self.watermark_ms)
            panes = [pane for pane in self._panes if pane.length_s == length_s and start_ms <= pane.start_ms < end_ms]
        sums = PaneSums.merged([self._merged(self._panes[pane]) for pane in panes])
        offsets: dict[int, tuple[int, int]] = {}
        for pane in panes:
            for source, part in self._panes[pane].by_source.items():
                low, high = offsets.get(source, (part.offset_low, part.offset_high))
                offsets[source] = (min(low, part.offset_low), max(high, part.offset_high))
        if length_s == TOTAL_S:
            start_ms, end_ms = min(sums.first_ms, self.watermark_ms), self.watermark_ms
        return WindowSums(name, start_ms, end_ms, sums, dict(sorted(offsets.items())), sums.served or self.served())

    @staticmethod
    def _merged(cell: _Pane) -> PaneSums:
        if cell.merged is None:
            cell.merged = PaneSums.merged(list(cell.by_source.values()))
        return cell.merged
