"""Online metrics: each takes one observation (or an array of them) at a time and can be asked for its value at any moment.

All merge exactly: the parts of a stream, counted apart in any order, give the metric of the whole.
"""

from models.metrics.coverage import CatalogueCoverage
from models.metrics.funnel import FunnelCounts
from models.metrics.hit_rate import HitRate
from models.metrics.mrr import MRR
from models.metrics.ndcg import NDCG
from models.metrics.ranks import ABSENT, DEPTH, RankCounts, RankMetric

__all__ = ["ABSENT", "DEPTH", "MRR", "NDCG", "CatalogueCoverage", "FunnelCounts", "HitRate", "RankCounts", "RankMetric"]
