"""Event-time panes: which there are, how long each is kept, and which of them make up a window."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, NamedTuple

MINUTE_S = 60
HOUR_S = 3600
#: The length of the pane that is never cut: everything since the beginning.
TOTAL_S = 0

#: Panes kept of each length, newest included: an hour of minutes and seven days of hours, and a few over.
KEPT: Final[dict[int, int]] = {MINUTE_S: 65, HOUR_S: 171}


class PaneId(NamedTuple):
    """A pane: its length in seconds (``TOTAL_S`` = unbounded) and its start in ms since the epoch (0 for the total)."""

    length_s: int
    start_ms: int

    def __str__(self) -> str:
        return f"{self.length_s}:{self.start_ms}" if self.length_s else "total"

    @classmethod
    def parse(cls, text: str) -> PaneId:
        """Read what ``str`` wrote.

        >>> PaneId.parse(str(PaneId(60, 1_700_000_040_000))), PaneId.parse("total")
        (PaneId(length_s=60, start_ms=1700000040000), PaneId(length_s=0, start_ms=0))
        """
        if text == "total":
            return TOTAL
        length, start = text.split(":", 1)
        return cls(int(length), int(start))


TOTAL: Final = PaneId(TOTAL_S, 0)


class WindowSpan(NamedTuple):
    """A window as a row of ``panes`` panes of ``length_s`` seconds, the newest being the one that holds the watermark."""

    length_s: int
    panes: int


#: The windows of the rolling record; ``1m`` is the newest pane by itself.
#: A window ends with the pane that holds the watermark, so its newest pane is still
#: filling: "5m" spans between four and five minutes of events, "24h" between 23 and 24 hours. An interval of points is insufficient
#: with fewer than 24 panes that hold a test (``LEAST_PANES``): "24h" needs all of its own, the one that has just begun, too.
WINDOWS: Final[dict[str, WindowSpan]] = {
    "1m": WindowSpan(MINUTE_S, 1),
    "5m": WindowSpan(MINUTE_S, 5),
    "1h": WindowSpan(MINUTE_S, 60),
    "24h": WindowSpan(HOUR_S, 24),
    "7d": WindowSpan(HOUR_S, 168),
    "total": WindowSpan(TOTAL_S, 1),
}

WindowKind = Literal["pane", "horizon", "total"]


def kind_of(name: str) -> WindowKind:
    """What a window of ``WINDOWS`` is."""
    span = WINDOWS[name]
    return "total" if span.length_s == TOTAL_S else "pane" if span.panes == 1 else "horizon"


#: An outcome this far behind its partition's watermark is counted as late: the shortest window has passed it.
LATE_MS = 5 * 60_000


def pane_start(at_ms: int, length_s: int) -> int:
    """Start in ms of the pane of ``length_s`` seconds (above 0) that holds ``at_ms``."""
    return at_ms - at_ms % (length_s * 1000)


def oldest_kept(length_s: int, watermark_ms: int) -> int:
    """Start in ms of the oldest pane of that length that is kept at that watermark; 0 for the total."""
    if length_s == TOTAL_S:
        return 0
    return pane_start(watermark_ms, length_s) - (KEPT[length_s] - 1) * length_s * 1000


def is_kept(pane: PaneId, watermark_ms: int) -> bool:
    """Whether the ring still holds ``pane`` at that watermark. Every window's panes are kept, late ones included."""
    return pane.start_ms >= oldest_kept(pane.length_s, watermark_ms)


def closed_until(watermarks: Collection[int]) -> int:
    """The end in ms of the newest minute that all watermarks (ms, one a partition, at least one) have left.

    A partition in which nothing happens must not hold back the others for ever, so one that is more than ``LATE_MS`` behind
    the foremost is not waited for.

    >>> closed_until([1_700_000_045_000, 1_700_000_045_000]) == closed_until([1_700_000_045_000, 1_700_000_105_000]) == 1_700_000_040_000
    True
    >>> closed_until([1_700_000_045_000, 1_700_003_640_000]) == 1_700_003_640_000 - LATE_MS
    True
    """
    return pane_start(max(min(watermarks), max(watermarks) - LATE_MS), MINUTE_S)


def window_bounds(name: str, watermark_ms: int) -> tuple[int, int]:
    """Start (included) and end (excluded) in ms of a bounded window (any but ``total``).

    >>> start, end = window_bounds("5m", 1_700_000_059_999)
    >>> end - start, end
    (300000, 1700000100000)
    """
    span = WINDOWS[name]
    if span.length_s == TOTAL_S:
        raise ValueError("the window total has no bounds of its own")
    end = pane_start(watermark_ms, span.length_s) + span.length_s * 1000
    return end - span.panes * span.length_s * 1000, end
