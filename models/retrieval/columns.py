"""What columns of growing arrays have in common: room for more rows, and the best of a few thousand scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled


def longer(column: NDArray, size: int, fill: int, limit: int | None = None) -> NDArray:  # type: ignore[type-arg]
    """``column`` [n, ...] itself if it has ``size`` rows, else a copy of at least that many and of half as many again, the new ones
    ``fill``; never more than ``limit``.
    """
    if size <= len(column):
        return column
    target = max(size, len(column) + len(column) // 2)
    if limit is not None:
        target = min(target, limit)
    grown = np.full((target, *column.shape[1:]), fill, dtype=column.dtype)
    grown[: len(column)] = column
    return grown


@compiled
def keep_best(scores, count, best):  # type: ignore[no-untyped-def]
    """Into ``best`` int32[k] the places of the k highest of ``scores[:count]``, best first; of equal ones the earlier stays ahead.

    Returns how many there are. By insertion: most scores fail against the last one kept.
    """
    size = len(best)
    kept = 0
    for c in range(count):
        if kept == size and scores[c] <= scores[best[kept - 1]]:
            continue
        at = kept if kept < size else size - 1
        while at > 0 and scores[best[at - 1]] < scores[c]:
            best[at] = best[at - 1]
            at -= 1
        best[at] = c
        if kept < size:
            kept += 1
    return kept
