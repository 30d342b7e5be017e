"""Normalised discounted cumulative gain at a cut-off, one relevant item a test."""

from __future__ import annotations

import math

from models.metrics.ranks import RankMetric


class NDCG(RankMetric):
    """Mean over tests of 1 / log2(rank + 1), and 0 beyond ``k``.

    With one relevant item the ideal list has it first, whose gain is 1, so DCG and NDCG are the same number
    (Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002).

    >>> metric = NDCG(5)
    >>> for rank in (1, 3, 6, None):
    ...     _ = metric.update(rank)
    >>> metric.get()
    0.375
    """

    @staticmethod
    def gain(rank: int) -> float:
        """1 / log2(rank + 1)."""
        return 1.0 / math.log2(rank + 1)
