"""The register: what its numbers add up to, and what chance says beside them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.valuation import register
from models.valuation.knn_shapley import centred, knn_shapley
from models.valuation.neighbours import EmbeddingNeighbours, Neighbours, SessionNeighbours
from models.valuation.register import Owners, Register, fold, owners_of, value_test


@st.composite
def drawn_tests(draw: st.DrawFn) -> tuple[Neighbours, np.ndarray, int, int]:
    """(what a window of n rows says, int64[n] owners, assets, K)."""
    size = draw(st.integers(1, 14))
    order = np.array(draw(st.permutations(range(size))), np.int64)
    head = draw(st.integers(0, size))
    out = draw(st.integers(0, size - head))
    matching = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    beyond = order[head + out :]
    found = Neighbours(order[:head], matching[order[:head]], np.sort(beyond[matching[beyond]]), np.sort(order[head : head + out]))
    assets = draw(st.integers(1, 4))
    owner = np.array(draw(st.lists(st.integers(0, assets - 1), min_size=size, max_size=size)), np.int64)
    return found, owner, assets, draw(st.integers(1, 5))


def split(found: Neighbours, owner: np.ndarray, assets: int) -> Owners:
    return Owners(owner[found.rows], owner[found.beyond], owner[found.left_out], np.bincount(owner, minlength=assets))


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(register).failed == 0


@settings(deadline=None)
@given(drawn_tests())
def test_points_and_players_add_up_to_the_lift(drawn: tuple[Neighbours, np.ndarray, int, int]) -> None:
    found, owner, assets, k = drawn
    values = value_test(found, split(found, owner, assets), k)
    assert values.points.sum() == pytest.approx(values.lift, abs=1e-12)
    assert values.player.sum() == pytest.approx(values.lift, abs=1e-12)
    rows = len(owner) - len(found.left_out)
    if not rows:
        assert values.lift == 0.0
        return
    popularity = (found.match.sum() + len(found.beyond)) / max(k, rows)
    if len(found.rows) >= min(k, rows):
        assert values.lift == pytest.approx(found.match[:k].sum() / k - popularity)
    if len(found.rows) == rows:
        each = lifts_of_rows(found.match, k)
        assert values.points == pytest.approx(np.bincount(owner[found.rows], weights=each, minlength=assets))


def lifts_of_rows(match: np.ndarray, k: int) -> np.ndarray:
    """Values less popularity, in equal parts; of no more rows than votes, all of which vote, that is everything."""
    if len(match) > k:
        return centred(knn_shapley(match, k), match)
    return knn_shapley(match, k) - match.sum() / k / max(1, len(match))


@settings(deadline=None)
@given(drawn_tests(), st.integers(0, 2**32))
def test_points_are_the_mean_over_the_orders_of_the_rows_beyond(drawn: tuple[Neighbours, np.ndarray, int, int], seed: int) -> None:
    found, owner, assets, k = drawn
    beyond = np.setdiff1d(np.arange(len(owner)), np.concatenate([found.rows, found.left_out]))
    matching = np.isin(np.arange(len(owner)), found.beyond)
    chance = np.random.default_rng(seed)
    sums = np.zeros(assets)
    orders = 400
    for _ in range(orders):
        rest = chance.permutation(beyond)
        match = np.concatenate([found.match, matching[rest]])
        each = lifts_of_rows(match, k)
        sums += np.bincount(np.concatenate([owner[found.rows], owner[rest]]), weights=each, minlength=assets)
    assert value_test(found, split(found, owner, assets), k).points == pytest.approx(sums / orders, abs=0.12)


@pytest.mark.parametrize("kind", ["sessions", "embeddings"])
def test_any_window_says_whose_its_rows_are(kind: str) -> None:
    if kind == "sessions":
        sessions = SessionNeighbours(10, dimensions=2)
        for number in range(5):
            sessions.add(f"s{number}", f"u{number}", ["a", "b"] if number % 2 else ["a"], 0, [0, number % 3])
        window, found = sessions, sessions.neighbours("s0", None, ["b"], "a", 0)
    else:
        embeddings = EmbeddingNeighbours(10, 2, head=2, asset_dimensions=2)
        for number in range(5):
            embeddings.add(f"s{number}", f"u{number}", np.array([1.0, 0.0] if number % 2 else [0.0, 1.0]), True, [0, number % 3])
        window, found = embeddings, embeddings.neighbours("s0", None, np.array([1.0, 0.0]), True)
    owners = owners_of(window, found, 1, 4)
    # Rows 1 and 3 are near, 2 and 4 are not, all of them match, 0 is the test's own.
    assert [column.tolist() for column in owners] == [[1, 0], [2, 1], [0], [2, 2, 1, 0]]
    values = value_test(found, owners, 2)
    assert values.points.sum() == pytest.approx(values.lift)
    assert values.points[3] == values.player[3] == values.leave_one_out[3] == 0.0


def test_assets_beyond_the_bound_are_the_smallest_and_fold_into_one() -> None:
    owner = np.repeat(np.arange(20), np.arange(1, 21))
    folded, names = fold(owner, [f"a{n}" for n in range(20)])
    assert names == [*(f"a{n}" for n in range(9, 20)), "other"]
    assert np.bincount(folded).tolist() == [*range(10, 21), 45]
    # An asset without rows is none.
    assert fold(np.array([2, 0]), ["a", "b", "c"])[1] == ["a", "c"]


def window(seed: int, rows: int, tests: int) -> list[Neighbours]:
    """The first half of the rows matches in 9 of 10 tests, the second in 1 of 10; the nearest 40 in any order."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(tests):
        near = chance.choice(rows, 40, replace=False)
        good = near < rows // 2
        match = chance.random(40) < np.where(good, 0.9, 0.1)
        found.append(Neighbours(near, match, np.empty(0, np.int64), np.empty(0, np.int64)))
    return found


def test_good_data_is_told_from_bad_and_both_from_chance() -> None:
    books = Register("channel", np.arange(200), np.arange(200) // 100, ["good", "bad"], k=5, shuffles=8, seed=1)
    for one in window(2, 200, 300):
        books.take(one)
    good, bad = books.lines()
    assert (good.asset, bad.asset, good.rows, bad.rows, books.tests) == ("good", "bad", 100, 100, 300)
    assert good.low is not None
    assert bad.high is not None
    assert good.low > 0 > bad.high
    assert not good.insufficient
    assert good.points + bad.points == pytest.approx(books.lift)
    assert good.share is not None
    assert bad.share is not None
    assert good.share + bad.share == pytest.approx(1.0)
    assert good.player + bad.player == pytest.approx(books.lift)
    assert good.leave_one_out > 0 > bad.leave_one_out
    # By chance either would have half, give or take its spread.
    assert good.random_share == pytest.approx(0.5, abs=2 * (good.random_spread or 0))
    assert good.random_player == pytest.approx(0.5, abs=2 * (good.random_player_spread or 0))
    assert good.share > 0.5 + 4 * (good.random_spread or 0)
    assert books.residual < 1e-12


def test_of_no_tests_there_are_no_lines_and_of_few_no_certainty() -> None:
    books = Register("channel", np.arange(200), np.zeros(200, int), ["all"], k=5, shuffles=0)
    assert books.lines() == []
    for one in window(3, 200, 10):
        books.take(one)
    (line,) = books.lines()
    assert line.insufficient
    assert (line.random_share, line.random_spread, line.random_player) == (None, None, None)
