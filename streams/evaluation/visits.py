"""A log of events as visits: what a sequence model learns from."""

from __future__ import annotations

from collections.abc import Iterable

from models.evaluation.dataset import Sequences
from models.profiles.profile import TYPE_CODES
from streams.agents.shoppers import Shopper
from streams.evaluation.touches import touched
from streams.replay.record import ReplayEvent


def visits_of(events: Iterable[ReplayEvent], gap_ms: int) -> tuple[list[str], Sequences]:
    """(SKUs by row, visits in the order in which they began): the items that each shopper touched, parted by pauses of ``gap_ms``.

    An item touched several times in a row counts once. Records that are no valid JSON object or name nobody are passed over.
    """
    rows: dict[str, int] = {}
    visits: list[list[int]] = []
    current: dict[Shopper, tuple[int, list[int]]] = {}
    for event in events:
        found = touched(event.value, TYPE_CODES)
        if found is None:
            continue
        shopper, sku = found
        last_ms, visit = current.get(shopper, (event.at_ms, None))
        if visit is None or event.at_ms - last_ms > gap_ms:
            visit = []
            visits.append(visit)
        row = rows.setdefault(sku, len(rows))
        if not visit or visit[-1] != row:
            visit.append(row)
        current[shopper] = (max(last_ms, event.at_ms), visit)
    return list(rows), Sequences.of(visits)
