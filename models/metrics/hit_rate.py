"""Hit rate at a cut-off."""

from __future__ import annotations

from models.metrics.ranks import RankMetric


class HitRate(RankMetric):
    """Share of tests whose item stood among the first ``k``; with one relevant item a test also called recall at k, or P@k.

    >>> metric = HitRate(5)
    >>> for rank in (1, 4, 6, None):
    ...     _ = metric.update(rank)
    >>> metric.get()
    0.5
    """

    @staticmethod
    def gain(rank: int) -> float:
        """1 at any rank within the cut-off."""
        return 1.0
