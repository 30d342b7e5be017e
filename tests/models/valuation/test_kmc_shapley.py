"""The Monte Carlo peer of `assay bench kmc` estimates what the closed form says, so that the comparison is one of equals."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from models.evaluation.dataset import Sequences
from models.valuation.neighbours import Neighbours
from tests.benchmarks.kmc_shapley import Asked, _one_order, asked, exact, joined, monte_carlo, ours


def test_over_all_orders_monte_carlo_is_the_closed_form() -> None:
    tests = Asked(np.array([0, 4, 6]), np.array([2, 0, 1, 3, 3, 1]), np.array([True, False, True, False, False, True]))
    gained = np.zeros(4)
    orders = list(permutations(range(4)))
    for order in orders:
        _one_order(np.array(order), *tests, 2, gained)
    closed = exact(
        [_found(tests.rows[:4], tests.match[:4]), _found(tests.rows[4:], tests.match[4:])], 4, 2
    )  # fmt: skip
    assert gained / len(orders) / 2 == pytest.approx(closed, abs=1e-12)


def _found(rows: np.ndarray, match: np.ndarray) -> Neighbours:
    nobody = np.empty(0, np.int64)
    return Neighbours(rows, match, nobody, nobody)


def test_it_converges_on_sessions_and_the_books_rank_them_alike() -> None:
    chance = np.random.default_rng(1)
    sessions = Sequences.of([(5 * int(theme) + chance.integers(0, 5, 4)).tolist() for theme in chance.integers(0, 6, 260)])
    whole = list(asked(sessions.slice(0, 200), sessions.slice(200, 260), 150, head=200))
    estimated, orders, _ = monte_carlo(joined(whole), 200, 5, most=600, tolerance=0.0)
    closed = exact(whole, 200, 5)
    assert orders == 600
    assert np.abs(estimated - closed).max() < 0.15 * np.abs(closed).max()
    assert np.corrcoef(estimated, closed)[0, 1] > 0.98
    assert np.corrcoef(ours(whole, 200, 5), closed)[0, 1] > 0.98
    # What is in the books adds up to the lift over popularity.
    lift = np.mean([one.match[:5].sum() / 5 - (one.match.sum() + len(one.beyond)) / 200 for one in whole if len(one.rows) >= 5])
    assert all(len(one.rows) >= 5 for one in whole)
    assert ours(whole, 200, 5).sum() == pytest.approx(lift, abs=1e-12)


def test_it_stops_where_running_means_stand_still() -> None:
    still = Asked(np.array([0, 1]), np.array([0]), np.array([True]))
    values, orders, error = monte_carlo(still, 1, 3)
    assert (values.tolist(), orders, error) == ([pytest.approx(1 / 3)], 100, pytest.approx(0.0, abs=1e-9))
