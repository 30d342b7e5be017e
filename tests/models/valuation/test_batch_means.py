"""The interval of a mean over panes: its arithmetic and its edges. What it covers: ``test_interval_coverage``."""

from __future__ import annotations

import doctest
import importlib
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.valuation.intervals import Interval, batch_means

PANES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 10**6)), max_size=100)


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(importlib.import_module("models.valuation.intervals.batch_means")).failed == 0


def test_without_correlation_it_is_the_interval_of_a_mean() -> None:
    generator = np.random.default_rng(1)
    sums = generator.normal(5.0, 2.0, 60)
    interval = batch_means(sums.tolist(), [10] * 60)
    assert interval.estimate == pytest.approx(sums.mean() / 10)
    assert interval.batches == 30
    assert interval.low is not None
    assert interval.high is not None
    assert interval.high - interval.low == pytest.approx(2 * 2.0 * 2.0 / math.sqrt(60) / 10, rel=0.4)


@pytest.mark.parametrize(("panes", "batches"), [(2, 2), (19, 19), (30, 20), (40, 20), (50, 25), (60, 30), (168, 30)])
def test_panes_are_folded_into_twenty_to_thirty_batches(panes: int, batches: int) -> None:
    assert batch_means([1.0, 2.0] * (panes // 2) + [1.0] * (panes % 2), [3] * panes).batches == batches


def test_equal_values_leave_no_doubt() -> None:
    for value in (0.1, 1 / 3, 1e9, 0.0):
        interval = batch_means([value * count for count in (7, 3, 11) * 20], [7, 3, 11] * 20)
        assert (interval.low, interval.high) == (interval.estimate, interval.estimate)
        assert interval.estimate == pytest.approx(value)
        assert not interval.insufficient


def test_empty_panes_are_as_good_as_absent() -> None:
    sums = [float(number % 5) for number in range(60)]
    padded = [0.0, *(value for number in sums for value in (number, 0.0))]
    counts = [0, *(count for _ in sums for count in (4, 0))]
    assert batch_means(padded, counts) == batch_means(sums, [4] * 60)


def test_decimals_and_floats_give_the_same() -> None:
    sums = [Decimal(number % 7) / 4 for number in range(60)]
    assert batch_means(sums, [5] * 60) == batch_means([float(value) for value in sums], [5] * 60)


def test_a_higher_level_is_a_wider_interval() -> None:
    widths = [
        (interval.high or 0) - (interval.low or 0)
        for interval in (batch_means([1.0, 4.0, 2.0] * 20, [5] * 60, level) for level in (0.5, 0.9, 0.99))
    ]
    assert 0 < widths[0] < widths[1] < widths[2]


def test_too_little_is_said_to_be_insufficient_with_what_there_is() -> None:
    assert batch_means([], []) == Interval(None, None, None, 0, insufficient=True)
    assert batch_means([0.0], [0]) == Interval(None, None, None, 0, insufficient=True)
    assert batch_means([3.0], [4]) == Interval(0.75, None, None, 1, insufficient=True)
    two = batch_means([3.0, 2.0], [4, 4])
    assert two.insufficient
    assert two.low is not None
    assert two.low < 0
    assert two.estimate == 0.625
    assert batch_means([1.0, 2.0] * 15, [3] * 30).insufficient
    assert batch_means([1.0] * 23, [300] * 23).insufficient
    assert not batch_means([1.0, 2.0] * 15, [4] * 30).insufficient


def test_one_pane_that_holds_nearly_everything_is_one_batch_and_no_evidence() -> None:
    crowded = batch_means([500.0, *[0.0, 1.0] * 30], [1000, *[1] * 60])
    assert crowded.estimate == pytest.approx(0.5)
    assert (crowded.low, crowded.high, crowded.insufficient) == (None, None, True)


@pytest.mark.parametrize(
    ("sums", "counts"), [([1.0, 2.0], [1]), ([1.0, 2.0], [1, -1]), ([math.nan, 1.0], [1, 1]), ([math.inf, 1.0], [1, 1])]
)
def test_what_is_no_pane_is_refused(sums: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"panes need|zip"):
        batch_means(sums, counts)


@given(panes=PANES)
def test_whatever_the_panes_hold_bounds_are_numbers_about_the_estimate(panes: list[tuple[float, int]]) -> None:
    interval = batch_means([value for value, _ in panes], [count for _, count in panes])
    if interval.low is None or interval.high is None:
        assert interval.insufficient
    else:
        assert interval.estimate is not None
        assert -math.inf < interval.low <= interval.estimate <= interval.high < math.inf
