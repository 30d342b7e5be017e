"""Splits of rows in time that leak no future: the newest part, and blocks of consecutive rows with a gap around the one that is tested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


class Split(NamedTuple):
    """Places of the rows to learn from and of those to be judged, each rising."""

    train: Int64
    test: Int64


def newest_part(at_ms: Int64, share: float, gap_ms: int = 0) -> Split:
    """The newest ``share`` of rows at rising times ``at_ms`` int64[n] is judged; those less than ``gap_ms`` before it are left out.

    >>> newest_part(np.arange(10) * 1_000, share=0.2, gap_ms=1_500)
    Split(train=array([0, 1, 2, 3, 4, 5, 6]), test=array([8, 9]))
    """
    cut = len(at_ms) - round(len(at_ms) * share)
    test = np.arange(cut, len(at_ms))
    return Split(np.flatnonzero(at_ms[:cut] < at_ms[cut] - gap_ms) if len(test) else np.arange(cut), test)


def blocked_folds(at_ms: Int64, folds: int, gap_ms: int) -> Iterator[Split]:
    """``folds`` blocks of equally many consecutive rows at rising times ``at_ms`` int64[n]: each is judged by what is learned from all
    others, but for rows less than ``gap_ms`` before it or after it. What is learned may be newer than what is judged, so this tells how
    much results vary from time to time, not what would have been known.

    >>> [(train.tolist(), test.tolist()) for train, test in blocked_folds(np.arange(6) * 1_000, folds=3, gap_ms=1_000)]
    [([3, 4, 5], [0, 1]), ([0, 5], [2, 3]), ([0, 1, 2], [4, 5])]
    """
    bounds = np.linspace(0, len(at_ms), folds + 1).astype(int)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if first == last:
            continue
        outside = (at_ms < at_ms[first] - gap_ms) | (at_ms > at_ms[last - 1] + gap_ms)
        outside[first:last] = False
        yield Split(np.flatnonzero(outside), np.arange(first, last))
