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
    assert of_mean(0.3, 0.1, 0) == (0.0, 1.0)
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
    assert batch_means([1.0] * 60) == (1.0, 1.0)
