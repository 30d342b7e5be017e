"""A log of events as interactions: what factors are learned from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.factors.interactions import Interactions
from models.profiles.interest import TYPE_WEIGHTS
from models.profiles.profile import TYPE_CODES
from streams.agents.shoppers import Shopper
from streams.evaluation.touches import read_touch
from streams.replay.record import ReplayEvent


def interactions_of(events: Iterable[ReplayEvent]) -> Interactions:
    """Every touch of an item, by the effort of its type, in the order of time. Records that are no valid JSON object or name nobody are
    passed over.
    """
    shoppers: dict[Shopper, int] = {}
    places: dict[str, int] = {}
    found: list[tuple[int, int, float, int]] = []
    for event in events:
        touch = read_touch(event.value, TYPE_CODES)
        if touch is not None:
            shopper, fields = touch
            user, item = shoppers.setdefault(shopper, len(shoppers)), places.setdefault(fields["sku"], len(places))
            found.append((user, item, float(TYPE_WEIGHTS[TYPE_CODES[fields["type"]]]), event.at_ms))
    found.sort(key=lambda one: one[3])
    users, items, weights, at_ms = zip(*found, strict=True) if found else ((), (), (), ())
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), np.array(weights, np.float32), np.array(at_ms, np.int64), list(places)
    )
