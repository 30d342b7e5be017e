"""Lists that do not say the same thing twenty times: maximal marginal relevance on projected item vectors."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled

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
def diversify(pool_rows, pool_shares, pool_because, pool_sizes, vectors, diversity, rows, shares, because, sizes):  # type: ignore[no-untyped-def]
    """Fill lists greedily by (1 - diversity) * score / best score - diversity * (greatest cosine to an item already listed).

    Carbonell and Goldstein, SIGIR 1998. Pools as ``fusion.fill_pools`` leaves them; ``vectors`` float32[rows, d] of unit length or zero.
    """
    limit = rows.shape[1]
    pool = pool_rows.shape[1]
    score = np.empty(pool, np.float32)
    nearest = np.empty(pool, np.float32)
    for i in range(len(pool_sizes)):
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
        listed = min(limit, size)
        for k in range(listed):
            chosen = -1
            highest = np.float32(-np.inf)
            for c in range(size):
                if score[c] >= 0.0:
                    value = score[c] - diversity * nearest[c]
                    if value > highest:
                        highest = value
                        chosen = c
            row = pool_rows[i, chosen]
            rows[i, k] = row
            for s in range(pool_shares.shape[2]):
                shares[i, k, s] = pool_shares[i, chosen, s]
                because[i, k, s] = pool_because[i, chosen, s]
            score[chosen] = -1.0
            if diversity > 0.0 and k + 1 < listed:
                for c in range(size):
                    if score[c] >= 0.0:
                        other = pool_rows[i, c]
                        cosine = np.float32(0.0)
                        for d in range(vectors.shape[1]):
                            cosine += vectors[row, d] * vectors[other, d]
                        nearest[c] = max(nearest[c], cosine)
        sizes[i] = listed
