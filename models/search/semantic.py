"""Search by meaning: the products whose vectors lie nearest, of those that may be shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.index.base import Float32, Int64, VectorIndex


def nearest(index: VectorIndex, vector: Float32, k: int, allowed: NDArray[np.bool_]) -> tuple[Int64, Float32]:
    """The at most ``k`` rows nearest to float32[d] ``vector`` for which bool-by-row ``allowed`` holds, best first: (rows int64[n],
    cosines float32[n]).

    An index cannot filter, so it is asked for more until enough is left: what is near each other often sells out together.
    """
    asked = k
    while True:
        scores, ids = index.search(vector[None, :], asked)
        usable = ids[0] >= 0
        usable[usable] = allowed[ids[0][usable]]
        rows, cosines = ids[0][usable], scores[0][usable]
        if len(rows) >= k or asked >= len(index):
            return rows[:k], cosines[:k]
        asked = min(4 * asked, len(index))
