from __future__ import annotations

import doctest

import numpy as np
import pytest

from models.evaluation import intervals
from models.evaluation.intervals import batch_means, of_mean, wilson


def test_the_interval_holds_where_a_naive_one_would_not() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    assert wilson(0.3, 0) == (0.0, 1.0)


def test_the_interval_of_a_mean_stays_in_its_range() -> None:
    assert of_mean(0.01, 0.01, 10)[0] == 0.0
    assert of_mean(0.0, 0.0, 0) == (0.0, 1.0)
    assert doctest.testmod(intervals).failed == 0


def test_batches_allow_for_tests_that_depend_on_each_other() -> None:
    rng = np.random.default_rng(3)
    alone = rng.random(6_000) < 0.3
    in_runs = np.repeat(rng.random(200) < 0.3, 30)
    ends = [batch_means(values.astype(float).tolist()) for values in (alone, in_runs)]
    naive = 2 * 1.96 * np.sqrt(0.3 * 0.7 / 6_000)
    assert ends[0][1] - ends[0][0] == pytest.approx(naive, rel=0.4)
    assert ends[1][1] - ends[1][0] > 3 * naive


def test_few_tests_tell_nothing() -> None:
    assert batch_means([1.0] * 59) == (0.0, 1.0)
    assert batch_means([1.0] * 59, -1.0) == (-1.0, 1.0)


def test_equal_values_leave_room_for_others() -> None:
    assert batch_means([1.0] * 60) == of_mean(1.0, 1.0, 60) == (pytest.approx(0.929, abs=1e-3), 1.0)
    assert batch_means([0.0] * 600) == (0.0, pytest.approx(0.0077, abs=1e-4))
    low, high = batch_means([0.0] * 600, -1.0)
    assert low == -high == pytest.approx(-0.0064, abs=1e-4)
    assert batch_means([0.0, 1.0] * 300) == of_mean(0.5, 0.5, 600)  # batches that are all alike


@pytest.mark.parametrize("tests", [30, 200, 2_000])
@pytest.mark.parametrize(("hit_rate", "spread"), [(0.53, True), (0.05, True), (0.005, False), (0.99, False)])
def test_the_interval_of_a_mean_holds_it(hit_rate: float, spread: bool, tests: int) -> None:
    """Reciprocal ranks: of items in the list, at any place with a chance that falls with it, or all at the first."""
    reciprocal = np.append(1.0 / np.arange(1, 21), 0.0)
    chances = np.zeros(21)
    chances[:20] = hit_rate * reciprocal[:20] / reciprocal.sum() if spread else hit_rate * (reciprocal[:20] == 1.0)
    chances[20] = 1.0 - hit_rate
    drawn = np.random.default_rng(0).multinomial(tests, chances, size=2_000)
    ends = [of_mean(float(counts @ reciprocal) / tests, float(counts @ reciprocal**2) / tests, tests) for counts in drawn]
    assert np.mean([low <= chances @ reciprocal <= high for low, high in ends]) > 0.935


def test_one_test_tells_next_to_nothing() -> None:
    low, high = of_mean(0.5, 0.25, 1)
    assert low < 0.11
    assert high > 0.89
