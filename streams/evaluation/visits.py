"""A log of events as visits: what a sequence model learns from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from models.evaluation.dataset import Sequences
from streams.agents.shoppers import Shopper
from streams.evaluation.consent import Forgotten, learnable
from streams.replay.record import ReplayEvent


def visits_of(events: Iterable[ReplayEvent], gap_ms: int) -> tuple[list[str], Sequences]:
    """(SKUs by row, visits in the order in which they began): the items that each shopper touched, as far as they may be learned
    (``consent.learnable``), parted by pauses of ``gap_ms``. An item touched several times in a row counts once.
    """
    places: dict[str, int] = {}
    shoppers: dict[Shopper, int] = {}
    visits: list[list[int]] = []
    owners = array("i")
    first: dict[int, int] = {}
    current: dict[Shopper, tuple[int, list[int]]] = {}
    for one in learnable(events):
        owner = shoppers.setdefault(one.shopper, len(shoppers))
        if isinstance(one, Forgotten):
            first[owner] = len(visits)
            current.pop(one.shopper, None)
            continue
        last_ms, visit = current.get(one.shopper, (one.at_ms, None))
        if visit is None or one.at_ms - last_ms > gap_ms:
            visit = []
            visits.append(visit)
            owners.append(owner)
        place = places.setdefault(one.sku, len(places))
        if not visit or visit[-1] != place:
            visit.append(place)
        current[one.shopper] = (max(last_ms, one.at_ms), visit)
    kept = Sequences.of([visit for number, visit in enumerate(visits) if number >= first.get(owners[number], 0)])
    # What is in no visit that is left has no row.
    named, rows = np.unique(kept.rows, return_inverse=True)
    skus = list(places)
    return [skus[place] for place in named], Sequences(kept.starts, rows.astype(np.int32))
