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
    """The last ``limit`` distinct items of each shopper. weight = type weight * position_decay^place * 2^(-age / half-life), the
    first factor that of the item's strongest event among the recent ones.
    """
    size = len(columns)
    rows = np.full((size, limit), -1, dtype=np.int32)
    weights = np.zeros((size, limit), dtype=np.float32)
    types = np.zeros((size, limit), dtype=np.int8)
    _derive(
        columns.now_ms, columns.recent_start, columns.recent_row, columns.recent_at, columns.recent_type,
        TYPE_WEIGHTS, position_decay, float(HALF_LIFE_MS), rows, weights, types,
    )  # fmt: skip
    return Anchors(rows, weights, types)


@compiled
def _derive(now_ms, start, row, at, kind, type_weights, position_decay, half_life, rows, weights, types):  # type: ignore[no-untyped-def]
    limit = rows.shape[1]
    for i in range(len(now_ms)):
        count = 0
        factor = 1.0
        for j in range(start[i + 1] - 1, start[i] - 1, -1):
            if row[j] < 0:
                continue
            found = -1
            for a in range(count):
                if rows[i, a] == row[j]:
                    found = a
                    break
            if found >= 0:
                if type_weights[kind[j]] > type_weights[types[i, found]]:
                    weights[i, found] *= type_weights[kind[j]] / type_weights[types[i, found]]
                    types[i, found] = kind[j]
            elif count < limit:
                rows[i, count] = row[j]
                types[i, count] = kind[j]
                age = max(0.0, float(now_ms[i] - at[j]))
                weights[i, count] = type_weights[kind[j]] * factor * 2.0 ** (-age / half_life)
                factor *= position_decay
                count += 1
