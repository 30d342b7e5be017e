"""What is known of a shopper when they search: the newest list made for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from schemas.recommendation import Recommendations

#: Parts of an affinity, set by hand: being in the list is the surest sign, its categories and its neighbourhood are hints.
LISTED, CATEGORY, SIMILAR = 0.5, 0.25, 0.25
#: Cosine to the list's centre from which on a product counts as like it; as for text neighbours in ``models.ranking.fusion``.
FLOOR: Final = 0.3


@dataclass(frozen=True, slots=True)
class Taste:
    """The SKUs of a personal list and what each weighs: its score over the best one's, 0..1."""

    skus: tuple[str, ...]
    weights: tuple[float, ...]


def taste_of(recommendations: Recommendations) -> Taste | None:
    """None for a list that does not come from what the shopper did (``policy`` other than personal), and for an empty one."""
    items = [item for item in recommendations.items if item.score > 0]
    if recommendations.policy != "personal" or not items:
        return None
    best = max(item.score for item in items)
    return Taste(tuple(item.sku for item in items), tuple(item.score / best for item in items))


def affinity(taste: Taste, table: ItemTable, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much the products at int64[n] ``rows`` are to the shopper's taste: float64[n] in 0..1.

    ``0.5 listed + 0.25 category + 0.25 similar``: the product's own weight in the list; the weight of its category in the list over
    that of the heaviest; and the cosine of its vector to the weighted mean of the list's, from ``FLOOR`` = 0 to 1. A category of the
    list lends nothing to another one below or above it. SKUs that the table does not know say nothing.
    """
    liked = table.rows(taste.skus)
    weights = np.array(taste.weights)[liked >= 0]
    liked = liked[liked >= 0]
    if not len(liked):
        return np.zeros(len(rows))
    listed = ((rows[:, None] == liked[None, :]) * weights).max(axis=1, initial=0.0)
    centre = weights @ table.vectors[liked]
    length = float(np.linalg.norm(centre))
    cosines = table.vectors[rows] @ (centre / length) if length else np.zeros(len(rows))
    similar = np.clip((cosines - FLOOR) / (1.0 - FLOOR), 0.0, 1.0)
    return np.asarray(LISTED * listed + CATEGORY * _category_weights(table.category, liked, weights, rows) + SIMILAR * similar)


def _category_weights(
    category: NDArray[np.int32], liked: NDArray[np.int32], weights: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64[n]: the list's weight in the category of each of ``rows``, over that of its heaviest category."""
    codes = category[liked]
    if not (codes >= 0).any():
        return np.zeros(len(rows))
    sums = np.bincount(codes[codes >= 0], weights[codes >= 0]).astype(np.float64)
    sums = sums / sums.max()
    wanted = category[rows]
    inside = (wanted >= 0) & (wanted < len(sums))
    return np.where(inside, sums[np.where(inside, wanted, 0)], 0.0)
