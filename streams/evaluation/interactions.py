"""A log of events as interactions: what factors are learned from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.factors.interactions import Interactions
from models.profiles.interest import TYPE_WEIGHTS
from models.profiles.profile import TYPE_CODES
from streams.agents.shoppers import Shopper
from streams.evaluation.consent import Forgotten, learnable
from streams.replay.record import ReplayEvent


def interactions_of(events: Iterable[ReplayEvent]) -> Interactions:
    """Every touch of an item that may be learned (``consent.learnable``), by the effort of its type, in the order of time."""
    shoppers: dict[Shopper, int] = {}
    places: dict[str, int] = {}
    found: list[tuple[int, int, float, int]] = []
    first: dict[int, int] = {}
    for one in learnable(events):
        user = shoppers.setdefault(one.shopper, len(shoppers))
        if isinstance(one, Forgotten):
            first[user] = len(found)
            continue
        item = places.setdefault(one.sku, len(places))
        found.append((user, item, float(TYPE_WEIGHTS[TYPE_CODES[one.kind]]), one.at_ms))
    kept = [touch for place, touch in enumerate(found) if place >= first.get(touch[0], 0)]
    kept.sort(key=lambda one: one[3])
    users, items, weights, at_ms = zip(*kept, strict=True) if kept else ((), (), (), ())
    # Those of whom nothing is left have no number.
    _, user_column = np.unique(np.array(users, np.int32), return_inverse=True)
    named, item_column = np.unique(np.array(items, np.int32), return_inverse=True)
    skus = list(places)
    return Interactions(
        user_column.astype(np.int32), item_column.astype(np.int32), np.array(weights, np.float32), np.array(at_ms, np.int64),
        [skus[item] for item in named],
    )  # fmt: skip
