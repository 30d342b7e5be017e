"""Values of rows are the Shapley values of their games: held against the definition, coalition by coalition."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.valuation import centred, knn_shapley, soft_label_shapley, threshold_shapley
from tests.models.valuation.brute_force import shapley, vote, vote_of_those_there, vote_within

EXACT = 1e-12
GAMES = 500


def games(seed: int, soft: bool) -> list[NDArray[np.float64]]:
    """Matches of 1 to 7 rows."""
    chance = np.random.default_rng(seed)
    sizes = chance.integers(1, 8, size=GAMES)
    return [chance.random(size) if soft else chance.integers(0, 2, size=size).astype(np.float64) for size in sizes]


@pytest.mark.parametrize("module", ["matches", "knn_shapley", "truncation", "asset_game"])
def test_the_examples_in_the_documentation_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"models.valuation.{module}")).failed == 0


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_values_are_those_of_the_definition_for_every_k(soft: bool) -> None:
    for match in games(1, soft):
        for k in range(1, len(match) + 3):
            np.testing.assert_allclose(knn_shapley(match, k), shapley(len(match), vote(match, k)), rtol=0, atol=EXACT)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_values_of_the_vote_of_those_there_are_those_of_the_definition(soft: bool) -> None:
    for number, match in enumerate(games(2, soft)):
        guess = (0.0, 0.5, 0.1)[number % 3]
        for k in range(1, len(match) + 3):
            expected = shapley(len(match), vote_of_those_there(match, k, guess))
            np.testing.assert_allclose(soft_label_shapley(match, k, guess), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_values_within_a_radius_are_those_of_the_definition(soft: bool) -> None:
    chance = np.random.default_rng(3)
    for match in games(3, soft):
        within, guess = chance.random(len(match)) < chance.random(), chance.random()
        expected = shapley(len(match), vote_within(match, within, guess))
        np.testing.assert_allclose(threshold_shapley(match, within, guess), expected, rtol=0, atol=EXACT)


def test_a_radius_around_everything_is_a_vote_of_all() -> None:
    for match in games(4, soft=True):
        everything = threshold_shapley(match, np.ones(len(match), bool), guess=0.25)
        np.testing.assert_allclose(everything, soft_label_shapley(match, len(match), guess=0.25), rtol=0, atol=EXACT)


def test_rows_as_near_as_each_other_go_by_id() -> None:
    chance = np.random.default_rng(5)
    for match in games(5, soft=False):
        rows, ids = len(match), chance.permutation(len(match))
        similarity = chance.integers(0, 3, size=rows)
        order = np.lexsort((ids, -similarity))
        for k in range(1, rows + 1):

            def utility(members: tuple[int, ...], match: NDArray[np.float64] = match, k: int = k) -> float:
                nearest = sorted(members, key=lambda row: (-similarity[row], ids[row]))[:k]  # noqa: B023
                return float(sum(match[row] for row in nearest)) / k

            values = np.empty(rows)
            values[order] = knn_shapley(match[order], k)
            np.testing.assert_allclose(values, shapley(rows, utility), rtol=0, atol=EXACT)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 40, 10_000])
def test_values_add_up_to_the_vote_and_centred_ones_to_its_lift(rows: int) -> None:
    k, match = 4, np.random.default_rng(rows).random((3, rows))
    worth, popularity = match[:, :k].sum(axis=1) / k, match.mean(axis=1)
    values = knn_shapley(match, k)
    np.testing.assert_allclose(values.sum(axis=1), worth, rtol=0, atol=EXACT)
    np.testing.assert_allclose(centred(values, match).sum(axis=1), worth - popularity, rtol=0, atol=EXACT)
    np.testing.assert_allclose(
        soft_label_shapley(match, k, 0.1).sum(axis=1), match[:, :k].mean(axis=1) - 0.1, rtol=0, atol=EXACT
    )  # fmt: skip


def test_with_fewer_rows_than_votes_the_share_is_of_the_rows_there_are() -> None:
    """v(N) = 2/5 and p = 1: p / K a row, as if all K votes were cast, would leave 0 instead of v(N) - p."""
    values = centred(knn_shapley([1, 1], k=5), [1, 1])
    assert values.tolist() == pytest.approx([-0.3, -0.3], abs=EXACT)


def test_without_any_order_rows_are_worth_popularity_and_centred_ones_nothing() -> None:
    """The mean over all orders of the same rows: that is what centring takes away."""
    match = np.repeat([1.0, 0.0], [30, 70])
    shuffled = np.random.default_rng(6).permuted(np.tile(match, (20_000, 1)), axis=1)
    mean = centred(knn_shapley(shuffled, 5), shuffled).mean(axis=0)
    assert abs(mean.sum()) < 0.005
    assert np.abs(mean).max() < 0.003


Call = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CALLS: dict[str, Call] = {
    "knn": lambda match: knn_shapley(match, 3),
    "centred": lambda match: centred(knn_shapley(match, 3), match),
    "soft_label": lambda match: soft_label_shapley(match, 3, 0.5),
    "threshold": lambda match: threshold_shapley(match, match > 0.4, 0.5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_many_tests_at_once_are_each_by_itself(call: Call) -> None:
    match = np.random.default_rng(7).random((20, 9))
    np.testing.assert_allclose(call(match), [call(row) for row in match], rtol=0, atol=1e-15)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_rows_have_no_values(call: Call) -> None:
    assert call(np.empty(0)).shape == (0,)
    assert call(np.empty((4, 0))).shape == (4, 0)
    assert call(np.empty((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.float32])
def test_matches_are_of_any_number_type(dtype: type) -> None:
    match = np.random.default_rng(8).integers(0, 2, size=50)
    np.testing.assert_array_equal(knn_shapley(match.astype(dtype), 5), knn_shapley(match.astype(np.float64), 5))


def test_arrays_that_are_not_in_order_in_memory_are_read_right() -> None:
    match = np.random.default_rng(9).random((8, 6))
    np.testing.assert_array_equal(knn_shapley(match.T, 2), knn_shapley(match.T.copy(), 2))
    np.testing.assert_array_equal(knn_shapley(match[::2], 2), knn_shapley(match, 2)[::2])


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan, np.inf])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_matches_outside_nought_to_one_are_refused(call: Call, wrong: float) -> None:
    with pytest.raises(ValueError, match=r"matches lie in 0\.\.1, got " + str(wrong)):
        call(np.array([[0.0, 1.0], [wrong, 1.0]]))


@pytest.mark.parametrize("match", [np.zeros((2, 2, 2)), np.float64(1.0)])
def test_other_shapes_are_refused(match: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="rows or tests by rows"):
        knn_shapley(match, 1)


@pytest.mark.parametrize("k", [0, -3])
def test_a_vote_of_nobody_is_refused(k: int) -> None:
    for call in (knn_shapley, soft_label_shapley):
        with pytest.raises(ValueError, match=f"at least 1, got {k}"):
            call([1, 0], k)


def test_half_a_neighbour_is_refused() -> None:
    with pytest.raises(TypeError):
        knn_shapley([1, 0], 1.5)  # type: ignore[arg-type]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="values are of shape"):
        centred(np.zeros(3), [1, 0])
    with pytest.raises(ValueError, match="within is of shape"):
        threshold_shapley([1, 0], [True])
