"""What a shopper did last, as anchors: the distinct items, newest first, and how much each counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.dataset import Sequences


def anchors_of_prefixes(prefixes: Sequences, limit: int, decay: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The last ``limit`` distinct items of each of n prefixes.

    Returns rows int32[n, limit] (-1: no more) and weights float32[n, limit]: exp(-clicks since / ``decay``).
    """
    anchors = np.full((len(prefixes), limit), -1, dtype=np.int32)
    weights = np.zeros((len(prefixes), limit), dtype=np.float32)
    _fill(prefixes.starts, prefixes.rows, np.float64(decay), anchors, weights)
    return anchors, weights


@compiled
def _fill(starts, rows, decay, anchors, weights):  # type: ignore[no-untyped-def]
    limit = anchors.shape[1]
    for i in range(len(starts) - 1):
        count = 0
        for p in range(starts[i + 1] - 1, starts[i] - 1, -1):
            if count == limit:
                break
            known = False
            for a in range(count):
                if anchors[i, a] == rows[p]:
                    known = True
                    break
            if not known:
                anchors[i, count] = rows[p]
                weights[i, count] = np.exp(-(starts[i + 1] - 1 - p) / decay)
                count += 1
