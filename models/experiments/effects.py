"""What a treatment does to the mean user: differences between two arms with intervals by the variance between users.

Users are the unit: what one user does is not independent of what else the same user does, so values are per user, all events
of a user in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference, treated less control: estimate, interval at ``level``, its standard error and degrees of freedom."""

    difference: float
    low: float
    high: float
    standard_error: float
    freedom: float
    level: float = 0.95

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference."""
        if self.standard_error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stdtr(self.freedom, -abs(self.difference) / self.standard_error))


@dataclass(frozen=True, slots=True)
class AdjustedEffect:
    """An effect after CUPED: ``theta`` is the slope on the covariate, ``variance_reduction`` the share of the variance that is gone."""

    effect: Effect
    theta: float
    variance_reduction: float


@dataclass(frozen=True, slots=True)
class ArmMoments:
    """What ``cuped_of`` needs of one arm of at least two users: the mean of the metric over them and of the covariate, the variances of
    both between users, and their covariance (all three of a sample: n - 1 below).
    """

    users: int
    mean: float
    variance: float
    before_mean: float
    before_variance: float
    covariance: float


@dataclass(frozen=True, slots=True)
class IncrementalMargin:
    """What treating ``users`` users brought in all, with an interval; in the unit of the metric."""

    users: int
    amount: float
    low: float
    high: float


def difference_of_means(treated: ArrayLike, control: ArrayLike, level: float = 0.95) -> Effect:
    """Welch's interval of the difference of two means (Biometrika, 1947); float arrays of shape (users of the arm,).

    Raises ``ValueError`` for an arm of fewer than two users, whose variance nobody knows.

    >>> effect = difference_of_means([3.0, 5.0, 4.0, 4.0], [1.0, 3.0, 2.0, 2.0])
    >>> effect.difference, round(effect.low, 2), round(effect.high, 2), round(effect.freedom, 1)
    (2.0, 0.59, 3.41, 6.0)
    """
    arms = _values(treated), _values(control)
    parts = [float(values.var(ddof=1)) / len(values) for values in arms]
    return welch(float(arms[0].mean() - arms[1].mean()), parts, [len(values) for values in arms], level)


def welch(difference: float, variances: Sequence[float], users: Sequence[int], level: float = 0.95) -> Effect:
    """The interval of ``difference_of_means`` from what is known of two arms: the ``variances`` of their means, and their ``users``."""
    variance = sum(variances)
    if variance == 0:
        return Effect(difference, difference, difference, 0.0, math.inf, level)
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in zip(variances, users, strict=True))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return Effect(difference, difference - half, difference + half, math.sqrt(variance), freedom, level)


def cuped(
    treated: ArrayLike, treated_before: ArrayLike, control: ArrayLike, control_before: ArrayLike, level: float = 0.95
) -> AdjustedEffect:
    """The difference of means less what a covariate from before the experiment foretold of it (Deng et al., WSDM 2013).

    The slope is the common one within arms, so that the effect itself does not bend it. The estimand is that of
    ``difference_of_means``; the covariate must not be affected by the treatment.
    """
    return cuped_of(_moments(_values(treated), _values(treated_before)), _moments(_values(control), _values(control_before)), level)


def cuped_of(treated: ArmMoments, control: ArmMoments, level: float = 0.95) -> AdjustedEffect:
    """``cuped`` from what is known of the two arms."""
    arms = treated, control
    covariance = sum((arm.users - 1) * arm.covariance for arm in arms)
    spread = sum((arm.users - 1) * arm.before_variance for arm in arms)
    theta = covariance / spread if spread else 0.0
    users = [arm.users for arm in arms]
    plain = welch(treated.mean - control.mean, [arm.variance / arm.users for arm in arms], users, level)
    means = [arm.mean - theta * arm.before_mean for arm in arms]
    # Rounding may leave less than nothing where the covariate tells all.
    left = [max(0.0, arm.variance - 2 * theta * arm.covariance + theta**2 * arm.before_variance) / arm.users for arm in arms]
    adjusted = welch(means[0] - means[1], left, users, level)
    reduction = 1 - (adjusted.standard_error / plain.standard_error) ** 2 if plain.standard_error else 0.0
    return AdjustedEffect(adjusted, theta, reduction)


def difference_of_ratios(
    treated: ArrayLike, treated_per: ArrayLike, control: ArrayLike, control_per: ArrayLike, level: float = 0.95
) -> Effect:
    """The difference of ratios of sums, such as clicks per list, by the delta method (Deng, Knoblich and Lu, KDD 2018).

    Each user's numerator and denominator; users whose denominator is 0 count with it. Raises ``ValueError`` where an arm's
    denominators add up to 0.
    """
    return difference_of_means(_linearised(treated, treated_per), _linearised(control, control_per), level)


def incremental_margin(effect: Effect, users: int) -> IncrementalMargin:
    """What the treatment brought over all ``users`` who had it: the effect on the mean user times their number.

    With the margin of each user as the metric this is the incremental margin, the only figure that may be called value created.

    >>> incremental_margin(Effect(2.0, 0.5, 3.5, 0.6, 6.0), 100)
    IncrementalMargin(users=100, amount=200.0, low=50.0, high=350.0)
    """
    return IncrementalMargin(users, effect.difference * users, effect.low * users, effect.high * users)


def _linearised(numerators: ArrayLike, denominators: ArrayLike) -> NDArray[np.float64]:
    """Values whose mean is the ratio of the sums and whose variance is, to first order, that of this ratio."""
    over, under = _values(numerators), _values(denominators)
    mean = float(under.mean())
    if mean == 0:
        raise ValueError("the denominators of an arm add up to 0")
    ratio = float(over.mean()) / mean
    return ratio + (over - ratio * under) / mean


def _moments(values: NDArray[np.float64], before: NDArray[np.float64]) -> ArmMoments:
    mean, before_mean, free = float(values.mean()), float(before.mean()), len(values) - 1
    covariance = float(np.dot(values - mean, before - before_mean)) / free
    return ArmMoments(len(values), mean, float(values.var(ddof=1)), before_mean, float(before.var(ddof=1)), covariance)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"an arm needs at least two users, got values of shape {array.shape}")
    return array
