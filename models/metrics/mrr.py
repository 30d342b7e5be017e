"""Mean reciprocal rank at a cut-off."""

from __future__ import annotations

from models.metrics.ranks import RankMetric


class MRR(RankMetric):
    """Mean over tests of 1 / rank, and 0 where the item stood beyond ``k`` (Voorhees, TREC-8 Question Answering Track, 1999).

    >>> metric = MRR(5)
    >>> for rank in (1, 4, 6, None):
    ...     _ = metric.update(rank)
    >>> metric.get()
    0.3125
    """

    @staticmethod
    def gain(rank: int) -> float:
        """1 / rank."""
        return 1.0 / rank
