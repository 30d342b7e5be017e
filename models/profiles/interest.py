"""What a shopper is interested in now: recent items as weighted anchors, derived when a list is made and never stored.

The interest vector is the weighted sum of the anchors' current vectors. It is never formed: its inner product with a product is the
weighted sum of the anchors' cosines, which neighbour lists by item hold (``models.retrieval.similar``). So a new encoder needs no
change to any profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.profiles.columns import ProfileColumns

#: Weight of a recent item by its type's code (browse, click, add_to_cart, purchase): effort shows intent.
TYPE_WEIGHTS: Final = np.array([0.6, 1.0, 1.5, 1.5], dtype=np.float32)
#: Distinct recent items that vote. Session-kNN gains little beyond the last nine (Serenade, SIGMOD 2022, section 6).
ANCHOR_LIMIT: Final = 9
#: Factor from one distinct item to the one before it.
POSITION_DECAY: Final = 0.7
HALF_LIFE_MS: Final = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Anchors:
    """The items that vote for each of n shoppers, newest first: int32[n, a] padded with -1, float32[n, a], int8[n, a]."""

    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    types: NDArray[np.int8]


def anchors_of(columns: ProfileColumns, limit: int = ANCHOR_LIMIT, position_decay: float = POSITION_DECAY) -> Anchors:
    """The last ``limit`` distinct items of each shopper. weight = type weight * trust * position_decay^place * 2^(-age / half-life), the
    first two factors those of the item's strongest event among the recent ones.

    ``trust`` is what the event's source counts over what the best source of the shopper's recent items does: it parts what is known of
    one shopper from better sources from what is known from worse ones, and leaves who is known from one source alone as they are. An event
    that counts nothing is passed over, and one that counts less pushes the items before it back by less: by position_decay^trust.
    """
    size = len(columns)
    rows = np.full((size, limit), -1, dtype=np.int32)
    weights = np.zeros((size, limit), dtype=np.float32)
    types = np.zeros((size, limit), dtype=np.int8)
    _derive(
        columns.now_ms, columns.recent_start, columns.recent_row, columns.recent_at, columns.recent_type,
        columns.recent_trust, TYPE_WEIGHTS, position_decay, float(HALF_LIFE_MS), rows, weights, types,
    )  # fmt: skip
    return Anchors(rows, weights, types)


@compiled
def _derive(  # type: ignore[no-untyped-def]
    now_ms, start, row, at, kind, trusts, type_weights, position_decay, half_life, rows, weights, types
):
    limit = rows.shape[1]
    strengths = np.empty(limit, np.float32)
    bases = np.empty(limit, np.float64)
    for i in range(len(now_ms)):
        count = 0
        factor = 1.0
        most = np.float32(0.0)
        if len(trusts) > 0:
            for j in range(start[i], start[i + 1]):
                if row[j] >= 0:
                    most = max(most, trusts[j])
        for j in range(start[i + 1] - 1, start[i] - 1, -1):
            if row[j] < 0:
                continue
            trust = trusts[j] / most if most > 0.0 else np.float32(1.0)
            if trust <= 0.0:
                continue
            strength = type_weights[kind[j]] * trust
            found = -1
            for a in range(count):
                if rows[i, a] == row[j]:
                    found = a
                    break
            if found >= 0:
                if strength > strengths[found]:
                    weights[i, found] = strength * bases[found]
                    strengths[found] = strength
                    types[i, found] = kind[j]
            elif count < limit:
                age = max(0.0, float(now_ms[i] - at[j]))
                rows[i, count] = row[j]
                types[i, count] = kind[j]
                strengths[count] = strength
                bases[count] = factor * 2.0 ** (-age / half_life)
                weights[i, count] = strength * bases[count]
                factor *= position_decay if trust == 1.0 else position_decay**trust
                count += 1
