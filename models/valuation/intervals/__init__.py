"""How sure the books are: intervals of means over panes, of means since the beginning, and of money."""

from models.valuation.intervals.batch_means import LEAST_OUTCOMES, LEAST_PANES, Interval, batch_means
from models.valuation.intervals.bootstrap import (
    LEAST_BUYERS,
    REPLICATES,
    MoneyInterval,
    ReplicateSums,
    poisson_bootstrap,
    poisson_weights,
    weighted_sums,
)
from models.valuation.intervals.ladder import BINS, BatchLadder, LadderRecord

__all__ = [
    "BINS",
    "LEAST_BUYERS",
    "LEAST_OUTCOMES",
    "LEAST_PANES",
    "REPLICATES",
    "BatchLadder",
    "Interval",
    "LadderRecord",
    "MoneyInterval",
    "ReplicateSums",
    "batch_means",
    "poisson_bootstrap",
    "poisson_weights",
    "weighted_sums",
]
