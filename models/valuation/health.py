"""The health pair: how much better the lists look on what they have just learned than on what they had to foretell."""

from __future__ import annotations

from models.metrics import HitRate, RankCounts
from schemas.valuation import Health

#: Differences of less than one point of hit rate are not looked at.
EPSILON = 0.01
CUTOFF = 20


def health_of(before: RankCounts, after: RankCounts, epsilon: float = EPSILON) -> Health:
    """``gap`` = score_train - score_test and ``E`` = max(0, gap - epsilon), the score being hit rate at 20.

    ``before`` holds the ranks in the list emitted before the event, ``after`` those of the same tests in the list made once
    it had been learned. The pair measures over-fitting, so it is a signal, never a value (VALUATION, section 2).

    >>> before, after = RankCounts().update(None).update(3), RankCounts().update(1).update(1)
    >>> pair = health_of(before, after)
    >>> pair.gap, pair.E
    (0.5, 0.49)
    """
    return health_pair(HitRate(CUTOFF, after).get(), HitRate(CUTOFF, before).get(), epsilon)


def health_pair(score_train: float, score_test: float, epsilon: float = EPSILON) -> Health:
    """The pair of two scores, higher being better: on rows that were learned from, and on rows that were not.

    >>> health_pair(1.0, 0.5).E, health_pair(0.7, 0.7).E
    (0.49, 0.0)
    """
    gap = score_train - score_test
    return Health(gap=gap, E=max(0.0, gap - epsilon), epsilon=epsilon)
