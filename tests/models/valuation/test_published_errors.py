"""Errors that published versions of these formulas contain, each with what is right: no figure of ours may rest on one of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.evaluation.dataset import Sequences, split_tail
from models.valuation import centred, knn_shapley

CHANCES = np.linspace(0.01, 0.99, 99)


def test_binary_cross_entropy_has_a_minus_in_front() -> None:
    """Without it, of all constant forecasts for one click in 25 impressions, "always click" looks best."""
    clicks = np.repeat([1.0, 0.0], [4, 96])

    def loss(chance: NDArray[np.float64] | float, sign: float) -> float:
        return float(np.mean(sign * (clicks * np.log(chance) + (1 - clicks) * np.log(1 - chance))))

    forecast = np.random.default_rng(1).uniform(0.01, 0.99, size=100)
    reference = functional.binary_cross_entropy(torch.from_numpy(forecast), torch.from_numpy(clicks)).item()
    assert loss(forecast, -1.0) == pytest.approx(reference, abs=1e-12)
    assert CHANCES[np.argmin([loss(chance, -1.0) for chance in CHANCES])] == pytest.approx(0.04)
    assert CHANCES[np.argmin([loss(chance, 1.0) for chance in CHANCES])] == pytest.approx(0.99)


def test_a_lift_of_four_points_over_5000_outcomes_is_200() -> None:
    """0.04 x 5000 = 200, and no power of ten of it: the nearest row always matches, and so do 24 of the 25."""
    match = np.ones((5_000, 25))
    match[:, 24] = 0.0
    values = centred(knn_shapley(match, k=1), match)
    assert values.sum(axis=1) == pytest.approx(np.full(5_000, 0.04), abs=1e-12)
    assert values.sum() == pytest.approx(200.0, abs=1e-8)


def test_a_weighted_product_of_vectors_is_no_bilinear_form() -> None:
    """W (x * y) is a vector and x' W y a number; their entries do not even add up to each other."""
    weights, x, y = np.arange(1, 10).reshape(3, 3), np.array([1, 2, 3]), np.array([4, 5, 6])
    assert (weights @ (x * y)).tolist() == [78, 174, 270]
    assert x @ weights @ y == 552
    assert sum(x[i] * weights[i, j] * y[j] for i in range(3) for j in range(3)) == 552
    assert (weights @ (x * y)).sum() == 522


def test_matrix_factorisation_descends_along_twice_the_error_times_the_other_factor() -> None:
    """The gradient of ||R - Q P'||^2 in Q is 2 (Q P' - R) P, by finite differences; a step along minus it gains, along plus it loses."""
    chance = np.random.default_rng(2)
    ratings, items, users = chance.normal(size=(6, 5)), chance.normal(size=(6, 3)), chance.normal(size=(5, 3))

    def loss(q: NDArray[np.float64]) -> float:
        return float(((ratings - q @ users.T) ** 2).sum())

    gradient = 2 * (items @ users.T - ratings) @ users
    numeric, width = np.empty_like(items), 1e-6
    for place in np.ndindex(*items.shape):
        moved = np.zeros_like(items)
        moved[place] = width
        numeric[place] = (loss(items + moved) - loss(items - moved)) / (2 * width)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)
    refused = 2 * (ratings - items @ users.T) @ users
    assert loss(items - 1e-3 * gradient) < loss(items) < loss(items - 1e-3 * refused)


def test_a_random_split_of_ordered_sessions_leaks_the_future() -> None:
    """Every pair of items is in fashion for four sessions. Who has seen the past cannot know the next pair; a random split does."""
    sessions = Sequences.of([[2 * (number // 4), 2 * (number // 4) + 1] for number in range(400)])
    head, prefixes, targets = split_tail(sessions, 0.2)
    assert _foretold(head, prefixes, targets) == 0.0

    shuffled = np.random.default_rng(3).permutation(400)
    mixed = Sequences.of([sessions[number].tolist() for number in shuffled])
    assert _foretold(*split_tail(mixed, 0.2)) > 0.95


def _foretold(train: Sequences, prefixes: Sequences, targets: NDArray[np.int32]) -> float:
    """The share of targets that followed the same item in a training session."""
    sessions = (train[number].tolist() for number in range(len(train)))
    follows = {pair for session in sessions for pair in pairwise(session)}
    return float(np.mean([(int(prefixes[test][-1]), int(target)) in follows for test, target in enumerate(targets)]))
