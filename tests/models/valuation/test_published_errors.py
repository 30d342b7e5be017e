"""Errors that published versions of these formulas contain, each with what is right: no figure of ours may rest on one of them.

What our code says is held against numbers that were published, and against loops in plain Python that share nothing with it. Where no
source is named, the numbers are those of the project's design (valuation, section 2), which corrects the papers that it starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.dataset import Sequences, split_tail
from models.evaluation.responders import fit_linear, fit_trees
from models.factors.model import FactorModel
from models.index.factory import create_index
from models.valuation import centred, knn_shapley

CHANCES = [hundredth / 100 for hundredth in range(1, 100)]


def cross_entropy(happened: Sequence[bool], chances: Sequence[float], sign: int = -1) -> float:
    """The mean of -[y log p + (1 - y) log(1 - p)], term by term; ``sign`` 1: as it was misprinted."""
    return sum(sign * log(p if y else 1 - p) for y, p in zip(happened, chances, strict=True)) / len(happened)


def test_the_loops_have_the_published_cross_entropy() -> None:
    """The example in scikit-learn's documentation of ``sklearn.metrics.log_loss``: 0.21616."""
    assert cross_entropy([True, False, False, True], [0.9, 0.1, 0.2, 0.65]) == pytest.approx(0.21616, abs=5e-6)


@pytest.mark.parametrize("fit", [fit_linear, fit_trees])
def test_binary_cross_entropy_has_a_minus_in_front(fit: Callable[..., Callable[..., NDArray[np.float64]]]) -> None:
    """Without it, of all constant forecasts for one click in 25 impressions, "always click" looks best. What we fit is the other one."""
    clicks = [number < 4 for number in range(100)]
    nothing = np.zeros((100, 1), np.float32)
    assert min(CHANCES, key=lambda p: cross_entropy(clicks, [p] * 100)) == 0.04
    assert min(CHANCES, key=lambda p: cross_entropy(clicks, [p] * 100, sign=1)) == 0.99
    assert fit(nothing, np.array(clicks))(nothing) == pytest.approx(np.full(100, 0.04), abs=1e-4)


def test_a_lift_of_four_points_over_5000_outcomes_is_200() -> None:
    """0.04 x 5000 = 200, and no power of ten of it: the nearest row always matches, and so do 24 of the 25."""
    match = np.ones((5_000, 25))
    match[:, 24] = 0.0
    values = centred(knn_shapley(match, k=1), match)
    assert values.sum(axis=1) == pytest.approx(np.full(5_000, 0.04), abs=1e-12)
    assert values.sum() == pytest.approx(200.0, abs=1e-8)


def test_a_weighted_product_of_vectors_is_no_bilinear_form() -> None:
    """W (x * y) is a vector, one number for each row of W, and x' W y is a number: what an index says of three items and of one. The
    entries of the former do not even add up to the latter.
    """
    weights, x, y = np.arange(1, 10, dtype=np.float32).reshape(3, 3), np.float32([1, 2, 3]), np.float32([4, 5, 6])
    assert scores_of(weights, x * y) == [78, 174, 270]
    assert scores_of(y[None], x @ weights) == [552]
    assert sum(scores_of(weights, x * y)) == 522


def scores_of(items: NDArray[np.float32], query: NDArray[np.float32]) -> list[float]:
    """What an exact index says of each of ``items``."""
    index = create_index("flat", items.shape[1], "cpu")
    index.upsert(np.arange(len(items)), items)
    scores, rows = index.search(query[None], len(items))
    said: dict[int, float] = dict(zip(rows[0].tolist(), scores[0].tolist(), strict=True))
    return [said[item] for item in range(len(items))]


def test_matrix_factorisation_descends_along_twice_the_error_times_the_other_factor() -> None:
    """The gradient of ||R - Q P'||^2 in Q is 2 (Q P' - R) P. A step along minus it gains, along plus it loses; where it is 0 in a shopper's
    half, with confidences and a ridge, is the vector that we give the shopper.
    """
    chance = np.random.default_rng(2)
    model = FactorModel(chance.normal(size=(9, 3)).astype(np.float32), "abcdefghi", regularization=0.5, alpha=1.0)
    taken = {1: 4.0, 5: 2.5}

    def loss(x: Sequence[float]) -> float:
        """Item by item."""
        total = 0.5 * sum(part * part for part in x)
        for item, vector in enumerate(model.vectors.tolist()):
            error = (item in taken) - sum(a * b for a, b in zip(x, vector, strict=True))
            total += taken.get(item, 1.0) * error * error
        return total

    def slope(x: Sequence[float]) -> list[float]:
        """By differences, which of a square are exact but for rounding."""
        return [(loss(moved(x, d, 0.5)) - loss(moved(x, d, -0.5))) for d in range(3)]

    def moved(x: Sequence[float], d: int, by: float) -> list[float]:
        return [part + by * (place == d) for place, part in enumerate(x)]

    nowhere = [0.0, 0.0, 0.0]
    twice_the_error = [-2 * sum(c * float(model.vectors[item, d]) for item, c in taken.items()) for d in range(3)]
    assert slope(nowhere) == pytest.approx(twice_the_error, rel=1e-9)
    assert loss([-0.01 * part for part in slope(nowhere)]) < loss(nowhere) < loss([0.01 * part for part in slope(nowhere)])
    (found,) = model.fold_in(np.array([0, 2]), np.array(list(taken), np.int32), np.array(list(taken.values()), np.float32)).tolist()
    assert slope(found) == pytest.approx(nowhere, abs=1e-4)
    assert loss(found) < loss(nowhere)


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
