"""Lists that do not say the same thing twenty times: maximal marginal relevance on projected item vectors."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.rules.arrays import close_full

#: Width of the projection. A random projection keeps a cosine to within 1/sqrt(64) = 0.125 (one standard deviation): enough to tell
#: a near-copy from another product, at a sixth of the work of 384 dimensions.
PROJECTED: Final = 64


class Projection:
    """Item vectors brought to ``PROJECTED`` dimensions (Johnson-Lindenstrauss, a seeded Gaussian), each once, as they are needed."""

    def __init__(self, dimensions: int, seed: int = 0) -> None:
        width = min(PROJECTED, dimensions)
        self.dimensions = dimensions
        self._matrix = np.random.default_rng(seed).standard_normal((dimensions, width)).astype(np.float32)
        self.values: NDArray[np.float32] = np.zeros((0, width), dtype=np.float32)
        self._done = np.zeros(0, dtype=np.bool_)

    def forget(self, row: int) -> None:
        """The vector of ``row`` changed."""
        if row < len(self._done):
            self._done[row] = False

    def ensure(self, rows: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        """Make ``values`` right for ``rows`` int32[n], from ``vectors`` float32[capacity, d]. Items without a vector get zeros."""
        if len(vectors) > len(self.values):
            extra = len(vectors) - len(self.values)
            self.values = np.concatenate([self.values, np.zeros((extra, self.values.shape[1]), dtype=np.float32)])
            self._done = np.concatenate([self._done, np.zeros(extra, dtype=np.bool_)])
        wanted = rows[~self._done[rows]]
        if len(wanted) == 0:
            return
        wanted = np.unique(wanted)
        projected = vectors[wanted] @ self._matrix
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        self.values[wanted] = projected / np.maximum(norms, 1e-9)
        self._done[wanted] = True


@compiled
def _best(score, nearest, diversity, start, stop):  # type: ignore[no-untyped-def]
    """Of the candidates ``start``..``stop`` the one that adds most to the list, -1 where none is left."""
    chosen = -1
    highest = np.float32(-np.inf)
    for c in range(start, stop):
        if score[c] >= 0.0:
            value = score[c] - diversity * nearest[c]
            if value > highest:
                highest = value
                chosen = c
    return chosen


@compiled
def diversify(  # type: ignore[no-untyped-def]
    rules, part, part_of, category, brand, pool, pool_rows, pool_shares, pool_because, pool_sizes, pool_before, vectors, diversity,
    rows, shares, because, pinned, sizes,
):  # fmt: skip
    """Fill the lists of the shoppers whose ``part_of`` int64[n] is ``part``, greedily by (1 - diversity) * score / best score -
    diversity * (greatest cosine to an item already listed).

    Carbonell and Goldstein, SIGIR 1998. Pools as ``fusion.fill_pools`` leaves them; ``vectors`` float32[rows, d] of unit length or zero.
    ``rules`` pin items to their places (a list that is too short for one ends with it) and hold categories and brands in check:
    what would be one too many is passed over, pinned items count and stay.
    """
    limit = rows.shape[1]
    pins = len(rules.pin_rows)
    caps = len(rules.cap_limits)
    score = np.empty(pool, np.float32)
    nearest = np.empty(pool, np.float32)
    taken = np.empty(limit, np.int32)
    for i in range(len(sizes)):
        if part_of[i] != part:
            continue
        size = pool_sizes[i]
        top = 1e-9
        for c in range(size):
            total = 0
            for s in range(pool_shares.shape[2]):
                total += pool_shares[i, c, s]
            score[c] = np.float32(total)
            top = max(top, score[c])
            nearest[c] = 0.0
        for c in range(size):
            score[c] = (1.0 - diversity) * score[c] / top
        if caps > 0:
            for p in range(pins):
                taken[p] = rules.pin_rows[p]
                close_full(rules, taken[p], taken, p + 1, pool_rows[i], score, size, category, brand)
        due = 0
        others = 0
        listed = 0
        while listed < limit:
            if due < pins and rules.pin_places[due] == listed:
                chosen = pool + due
            else:
                chosen = _best(score, nearest, diversity, 0, pool_before[i])
                if chosen < 0:
                    chosen = _best(score, nearest, diversity, pool_before[i], size)
                if chosen < 0:
                    if due == pins:
                        break
                    chosen = pool + due
            row = pool_rows[i, chosen]
            rows[i, listed] = row
            for s in range(pool_shares.shape[2]):
                shares[i, listed, s] = pool_shares[i, chosen, s]
                because[i, listed, s] = pool_because[i, chosen, s]
            listed += 1
            if chosen >= pool:
                pinned[i, listed - 1] = True
                due += 1
            else:
                score[chosen] = -1.0
                if caps > 0:
                    taken[pins + others] = row
                    others += 1
                    close_full(rules, row, taken, pins + others, pool_rows[i], score, size, category, brand)
            if diversity > 0.0 and listed < limit:
                for c in range(size):
                    if score[c] >= 0.0:
                        other = pool_rows[i, c]
                        cosine = np.float32(0.0)
                        for d in range(vectors.shape[1]):
                            cosine += vectors[row, d] * vectors[other, d]
                        nearest[c] = max(nearest[c], cosine)
        sizes[i] = listed
