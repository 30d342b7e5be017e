"""What a learned ranker is told of each candidate of a shopper's pool: one row of features each, float32."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.compilation import compiled
from models.profiles.columns import ProfileColumns
from models.profiles.interest import Anchors
from models.ranking.lists import SOURCES, UNIT

#: Of each source its share; the blend's sum and 1 / place; the distinct recent items; of the candidate among them 1 / place, weight and
#: type; purchases of it, log1p, and days since the last, log1p (-1: none); share of the recent items in its category; log of its price
#: over the recent items' geometric mean (0 where either is unknown); log of its popularity over the leader's.
NAMES: Final = (
    *SOURCES, "blend", "blend_place", "recent", "recent_place", "recent_weight", "recent_type", "purchases", "days_since",
    "category_share", "price_ratio", "popularity",
)  # fmt: skip
_DAY_MS: Final = 86_400_000.0
#: Popularity of an item of which nothing is known, over the leader's.
_UNKNOWN: Final = 1e-6


def describe(
    rows: NDArray[np.int32],
    shares: NDArray[np.int32],
    sizes: NDArray[np.int64],
    columns: ProfileColumns,
    anchors: Anchors,
    items: ItemTable,
    popularity: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(starts int64[n + 1], features float32[c, len(NAMES)]) of n pools as ``fusion.fill_pools`` leaves them: ``rows`` int32[n, p],
    ``shares`` int32[n, p, 6], ``sizes`` int64[n]. ``popularity`` float32[m] over the leader's; a row beyond it is unknown.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    features = np.zeros((int(starts[-1]), len(NAMES)), dtype=np.float32)
    _describe(
        rows, shares, sizes, columns.now_ms, columns.bought_start, columns.bought_row, columns.bought_purchases, columns.bought_at,
        anchors.rows, anchors.weights, anchors.types, items.category, items.price, popularity, starts, features,
    )  # fmt: skip
    return starts, features


@compiled
def _describe(  # type: ignore[no-untyped-def]
    rows, shares, sizes, now_ms, bought_start, bought_row, bought_purchases, bought_at,
    anchor_rows, anchor_weights, anchor_types, category, price, popularity, starts, features,
):  # fmt: skip
    count = shares.shape[2]
    for i in range(len(sizes)):
        recent = 0
        prices = 0
        log_price = 0.0
        for a in range(anchor_rows.shape[1]):
            if anchor_rows[i, a] < 0:
                break
            recent += 1
            known = price[anchor_rows[i, a]]
            if known > 0.0:
                prices += 1
                log_price += np.log(known)
        for j in range(sizes[i]):
            row = rows[i, j]
            f = features[starts[i] + j]
            blend = 0
            for s in range(count):
                f[s] = shares[i, j, s] / UNIT
                blend += shares[i, j, s]
            f[count] = blend / UNIT
            f[count + 1] = 1.0 / (j + 1)
            f[count + 2] = recent
            alike = 0
            for a in range(recent):
                anchor = anchor_rows[i, a]
                if anchor == row:
                    f[count + 3] = 1.0 / (a + 1)
                    f[count + 4] = anchor_weights[i, a]
                    f[count + 5] = anchor_types[i, a] + 1
                alike += category[anchor] == category[row] and category[row] >= 0
            f[count + 7] = -1.0
            for b in range(bought_start[i], bought_start[i + 1]):
                if bought_row[b] == row:
                    f[count + 6] = np.log1p(float(bought_purchases[b]))
                    f[count + 7] = np.log1p(max(0.0, now_ms[i] - bought_at[b]) / _DAY_MS)
                    break
            f[count + 8] = alike / max(1, recent)
            if prices > 0 and price[row] > 0.0:
                f[count + 9] = np.log(price[row]) - log_price / prices
            f[count + 10] = np.log(max(popularity[row] if row < len(popularity) else 0.0, _UNKNOWN))


@compiled
def reorder(rules, part, part_of, rows, shares, because, sizes, before, starts, scores, probabilities):  # type: ignore[no-untyped-def]
    """Put the pools of the shoppers whose ``part_of`` is ``part`` into the order of ``scores`` float64[c], in place, and scale their shares
    so that they sum to ``probabilities``, times the factor by which ``rules`` bury the item; those behind all others stay there.
    """
    demoted = len(rules.demotion) > 0
    for i in range(len(sizes)):
        if part_of[i] != part:
            continue
        first, size = starts[i], sizes[i]
        order = np.argsort(-scores[first : first + size], kind="mergesort")
        old_rows = rows[i, :size].copy()
        old_shares = shares[i, :size].copy()
        old_because = because[i, :size].copy()
        values = probabilities[first : first + size].copy()
        if demoted:
            places = values.copy()
            for j in range(size):
                factor = rules.demotion[old_rows[j]]
                values[j] *= abs(factor)
                places[j] = values[j] if factor >= 0.0 else values[j] - 2.0
            order = order[np.argsort(-places[order], kind="mergesort")]
        for j in range(size):
            at = order[j]
            rows[i, j] = old_rows[at]
            total = 0
            for s in range(shares.shape[2]):
                total += old_shares[at, s]
            for s in range(shares.shape[2]):
                because[i, j, s] = old_because[at, s]
                shares[i, j, s] = np.int32(np.rint(values[at] * UNIT * old_shares[at, s] / max(1, total)))
