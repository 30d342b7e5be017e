"""The value of rows of which only the number is known is the mean over every order that they could have."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from models.valuation import knn_shapley, truncated, truncation_error_max

EXACT = 1e-12
SHAPES = [(head, beyond) for head in range(6) for beyond in range(6)]


@pytest.mark.parametrize(("rows", "beyond"), SHAPES)
def test_values_are_the_mean_over_all_orders_beyond_the_head(rows: int, beyond: int) -> None:
    chance = np.random.default_rng(rows)
    for matching in range(beyond + 1):
        head = chance.integers(0, 2, size=rows).astype(np.float64)
        labels = np.repeat([1.0, 0.0], [matching, beyond - matching])
        orders = np.array(list(permutations(range(beyond))), dtype=np.int64).reshape(math.factorial(beyond), beyond)
        match = np.column_stack((np.tile(head, (len(orders), 1)), labels[orders]))
        for k in range(1, rows + beyond + 3):
            each = knn_shapley(match, k)
            found = truncated(head, matching, beyond, k)
            np.testing.assert_allclose(found.head, each[:, :rows].mean(axis=0), rtol=0, atol=EXACT)
            of_matching = [values[rows + place] for values, order in zip(each, orders, strict=True) for place in range(beyond)
                           if order[place] < matching]  # fmt: skip
            of_others = [values[rows + place] for values, order in zip(each, orders, strict=True) for place in range(beyond)
                         if order[place] >= matching]  # fmt: skip
            assert found.matched == pytest.approx(np.mean(of_matching) if of_matching else 0.0, abs=EXACT)
            assert found.unmatched == pytest.approx(np.mean(of_others) if of_others else 0.0, abs=EXACT)


@pytest.mark.parametrize(("rows", "beyond"), [(3, 4), (1, 5), (0, 3)])
def test_rows_beyond_with_soft_labels_lie_on_the_line_between(rows: int, beyond: int) -> None:
    chance = np.random.default_rng(beyond)
    head, labels = chance.random(rows), chance.random(beyond)
    orders = np.array(list(permutations(range(beyond))), dtype=np.int64)
    match = np.column_stack((np.tile(head, (len(orders), 1)), labels[orders]))
    for k in range(1, rows + beyond + 3):
        each = knn_shapley(match, k)
        found = truncated(head, float(labels.sum()), beyond, k)
        np.testing.assert_allclose(found.head, each[:, :rows].mean(axis=0), rtol=0, atol=EXACT)
        for row, label in enumerate(labels):
            mean = each[:, rows:][orders == row].mean()
            assert found.unmatched + label * (found.matched - found.unmatched) == pytest.approx(mean, abs=EXACT)


@pytest.mark.parametrize(("rows", "beyond", "k"), [(256, 9_744, 10), (256, 1_000_000, 10), (3, 9_997, 10), (256, 1, 10), (10, 10, 10)])
def test_the_total_is_that_of_the_vote(rows: int, beyond: int, k: int) -> None:
    head, matching = np.random.default_rng(rows).integers(0, 2, size=rows), beyond * 3 // 10
    found = truncated(head, matching, beyond, k)
    vote = (head[:k].sum() + max(0, k - rows) * matching / beyond) / k
    assert found.head.sum() + matching * found.matched + (beyond - matching) * found.unmatched == pytest.approx(vote, abs=1e-11)


def test_a_head_of_everything_is_exact() -> None:
    match = np.random.default_rng(10).integers(0, 2, size=30)
    found = truncated(match, 0, 0, 5)
    np.testing.assert_array_equal(found.head, knn_shapley(match, 5))
    assert (found.matched, found.unmatched) == (0.0, 0.0)


@pytest.mark.parametrize(("rows", "k"), [(12, 5), (3, 7)])
def test_an_order_beyond_moves_the_head_by_one_constant_within_its_bound(rows: int, k: int) -> None:
    chance = np.random.default_rng(11)
    beyond, worst = 20, 0.0
    bound = truncation_error_max(rows, beyond, k)
    assert bound == pytest.approx(1 / max(rows, k) - 1 / (rows + beyond))
    for matching in range(beyond + 1):
        labels = np.repeat([1, 0], [matching, beyond - matching])
        for order in (labels, labels[::-1], *(chance.permutation(labels) for _ in range(20))):
            match = np.concatenate((chance.integers(0, 2, size=rows), order))
            off = knn_shapley(match, k)[:rows] - truncated(match[:rows], matching, beyond, k).head
            assert np.ptp(off) < EXACT
            worst = max(worst, abs(off[0]))
    assert 0.0 < worst <= bound


def test_the_bound_is_nearly_met_by_the_worst_order() -> None:
    """A thousand matches right behind the head, and a hundred thousand rows without: the bound could not be much lower."""
    match = np.concatenate((np.zeros(10), np.ones(1_000), np.zeros(99_000)))
    off = knn_shapley(match, 10)[0] - truncated(match[:10], 1_000, 100_000, 10).head[0]
    assert 0.95 < abs(off) / truncation_error_max(10, 100_000, 10) <= 1.0


@pytest.mark.parametrize(("matching", "beyond"), [(3, 2), (-1, 2), (1, 0), (0, -1), (float("nan"), 2)])
def test_more_matches_than_rows_are_refused(matching: float, beyond: int) -> None:
    with pytest.raises(ValueError, match="rows beyond the head match"):
        truncated([1, 0], matching, beyond, 1)


def test_what_the_head_may_not_be_is_refused() -> None:
    with pytest.raises(ValueError, match="array of rows"):
        truncated(np.zeros((2, 2)), 0, 0, 1)
    with pytest.raises(ValueError, match="got 2"):
        truncated([2], 0, 0, 1)
    with pytest.raises(ValueError, match="at least 1"):
        truncated([1], 0, 0, 0)
