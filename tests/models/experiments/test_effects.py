"""Differences between arms: against scipy, against what was planted, and at the edges."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import ttest_ind

from models.experiments import Effect, cuped, difference_of_means, difference_of_ratios, effects, incremental_margin


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(effects).failed == 0


def test_a_difference_of_means_is_that_of_welch() -> None:
    generator = np.random.default_rng(1)
    treated, control = generator.normal(2.0, 3.0, 400), generator.normal(1.5, 1.0, 35)
    effect = difference_of_means(treated, control, 0.9)
    expected = ttest_ind(treated, control, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    assert effect.p_value == pytest.approx(expected.pvalue)
    assert (effect.freedom, effect.level) == (pytest.approx(expected.df), 0.9)


def test_equal_values_differ_for_certain_or_not_at_all() -> None:
    effect = difference_of_means([3.0, 3.0, 3.0], [1.0, 1.0])
    assert (effect.difference, effect.low, effect.high, effect.p_value) == (2.0, 2.0, 2.0, 0.0)
    assert difference_of_means([1.0, 1.0], [1.0, 1.0]).p_value == 1.0


def test_an_arm_of_one_user_says_nothing() -> None:
    with pytest.raises(ValueError, match="at least two users"):
        difference_of_means([1.0], [1.0, 2.0])


def test_a_covariate_takes_away_the_variance_that_it_foretells_and_leaves_the_effect() -> None:
    generator = np.random.default_rng(2)
    before = generator.gamma(1.0, 10.0, 20_000)
    after = before + generator.normal(0.0, 5.0, 20_000)
    after[10_000:] += 0.4
    plain = difference_of_means(after[10_000:], after[:10_000])
    adjusted = cuped(after[10_000:], before[10_000:], after[:10_000], before[:10_000])
    assert adjusted.theta == pytest.approx(1.0, abs=0.02)
    assert adjusted.variance_reduction == pytest.approx(1 - 25 / 125, abs=0.02)
    assert adjusted.effect.low < 0.4 < adjusted.effect.high
    assert adjusted.effect.standard_error < plain.standard_error / 2


def test_a_covariate_that_says_nothing_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    treated, control = generator.normal(size=500), generator.normal(size=500)
    for covariate in (np.zeros(500), np.full(500, 7.5)):
        adjusted = cuped(treated, covariate, control, covariate)
        assert (adjusted.theta, adjusted.variance_reduction) == (0.0, 0.0)
        assert adjusted.effect == difference_of_means(treated, control)


def test_ratios_differ_by_their_users_and_not_by_their_events() -> None:
    """Clicks of a user hang together, so the variance between events is far too small."""
    generator = np.random.default_rng(4)
    covered, events_cover, replays = 0, 0, 400
    for _ in range(replays):
        lists = 1 + generator.poisson(20.0, (2, 300))
        clicks = generator.binomial(lists, generator.beta(0.5, 4.5, lists.shape))
        effect = difference_of_ratios(clicks[0], lists[0], clicks[1], lists[1])
        covered += effect.low <= 0 <= effect.high
        shares = clicks.sum(axis=1) / lists.sum(axis=1)
        events_cover += abs(shares[0] - shares[1]) <= 1.96 * np.sqrt((shares * (1 - shares) / lists.sum(axis=1)).sum())
    assert effect.difference == pytest.approx(shares[0] - shares[1])
    assert 0.92 <= covered / replays <= 0.98
    assert events_cover / replays < 0.8


def test_a_ratio_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to 0"):
        difference_of_ratios([1, 2], [0, 0], [1, 2], [1, 1])


def test_the_incremental_margin_is_the_effect_on_all_who_were_treated() -> None:
    total = incremental_margin(Effect(0.5, -0.1, 1.1, 0.3, 100.0), 2_000)
    assert (total.users, total.amount, total.low, total.high) == (2_000, 1_000.0, -200.0, 2_200.0)
