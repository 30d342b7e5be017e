"""Values of assets are the Shapley values of their game, and what dropping each would lose: held against the definition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.valuation import PLAYER_LIMIT, asset_game, centred, knn_shapley, leave_one_out, soft_label_shapley, threshold_shapley
from tests.models.valuation.brute_force import lift_of_assets, shapley

EXACT = 1e-12


class Game(NamedTuple):
    owner: NDArray[np.int64]
    match: NDArray[np.float64]
    k: int
    beyond: list[list[float]]  # the match of every row outside the head, by asset

    @property
    def arguments(self) -> tuple[Any, ...]:
        rows, matching = [len(rows) for rows in self.beyond], [sum(rows) for rows in self.beyond]
        return self.owner, self.match, self.k, rows, matching, len(self.beyond)


def random_games(count: int, seed: int) -> list[Game]:
    """Heads of 0 to 9 rows, assets that own any part of them or nothing, up to two rows of each beyond, fewer rows than votes too."""
    chance, games = np.random.default_rng(seed), []
    for _ in range(count):
        assets, rows = int(chance.integers(1, 6)), int(chance.integers(0, 10))
        soft = chance.random() < 0.3

        def labels(size: int, soft: bool = soft) -> NDArray[np.float64]:
            return chance.random(size) if soft else chance.integers(0, 2, size).astype(np.float64)

        beyond = [labels(int(chance.integers(0, 3))).tolist() for _ in range(assets)]
        games.append(Game(chance.integers(0, assets, rows), labels(rows), int(chance.integers(1, 12)), beyond))
    return games


def test_values_are_those_of_the_definition() -> None:
    for game in random_games(500, seed=1):
        expected = shapley(len(game.beyond), lift_of_assets(game.owner.tolist(), game.match.tolist(), game.k, game.beyond))
        np.testing.assert_allclose(asset_game(*game.arguments), expected, rtol=0, atol=EXACT)


def test_an_absence_is_what_the_definition_says() -> None:
    for game in random_games(500, seed=2):
        utility = lift_of_assets(game.owner.tolist(), game.match.tolist(), game.k, game.beyond)
        assets = range(len(game.beyond))
        expected = [utility(tuple(assets)) - utility(tuple(other for other in assets if other != asset)) for asset in assets]
        np.testing.assert_allclose(leave_one_out(*game.arguments), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("assets", [1, 3, 4, 11, PLAYER_LIMIT])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_values_add_up_to_the_lift_of_all(assets: int, k: int) -> None:
    chance = np.random.default_rng(assets)
    owner, match = chance.integers(0, assets, 256), chance.integers(0, 2, 256)
    beyond = chance.integers(0, 5_000, assets)
    matching = beyond // 3
    filled = max(0, k - 256) * matching.sum() / beyond.sum()
    lift = (match[:k].sum() + filled) / k - (match.sum() + matching.sum()) / (256 + beyond.sum())
    assert asset_game(owner, match, k, beyond, matching, assets).sum() == pytest.approx(lift, abs=EXACT)


def test_as_many_players_as_there_may_be_get_the_values_of_the_definition() -> None:
    """With skewed assets: one owns half of the head, some own none of it."""
    chance = np.random.default_rng(3)
    owner = np.minimum(chance.geometric(0.5, 40) - 1, PLAYER_LIMIT - 1)
    game = Game(owner, chance.integers(0, 2, 40).astype(np.float64), 4, [[1.0] if asset % 3 == 0 else [] for asset in range(PLAYER_LIMIT)])
    expected = shapley(PLAYER_LIMIT, lift_of_assets(owner.tolist(), game.match.tolist(), game.k, game.beyond))
    np.testing.assert_allclose(asset_game(*game.arguments), expected, rtol=0, atol=EXACT)


def test_assets_of_one_row_are_the_rows_themselves() -> None:
    """Then the game is the vote's less that of the plain share, which is a vote of all within a radius around everything."""
    chance = np.random.default_rng(4)
    for rows in range(1, PLAYER_LIMIT + 1):
        match, nothing = chance.integers(0, 2, rows), np.zeros(rows, np.int64)
        for k in range(1, rows + 2):
            values = asset_game(np.arange(rows), match, k, nothing, nothing, rows)
            expected = soft_label_shapley(match, k) - threshold_shapley(match, np.ones(rows, bool))
            np.testing.assert_allclose(values, expected, rtol=0, atol=EXACT)


def test_an_asset_without_rows_is_worth_nothing_and_assets_alike_are_worth_the_same() -> None:
    owner, match = np.array([0, 2, 0, 2, 3]), np.array([1, 1, 0, 0, 1])
    beyond, matching = [2, 0, 2, 4], [1, 0, 1, 4]
    for k in (6, 20):  # large enough that who comes first does not matter between 0 and 2
        values, absences = (function(owner, match, k, beyond, matching, 4) for function in (asset_game, leave_one_out))
        assert values[1] == pytest.approx(0.0, abs=EXACT)
        assert absences[1] == 0.0
        assert values[0] == pytest.approx(values[2], abs=EXACT)


def test_copies_of_an_assets_rows_do_not_multiply_what_it_is_worth() -> None:
    """Four assets of like data; one of them is sent ten times. Its rows' own values swell, its value as a player hardly moves."""
    chance = np.random.default_rng(5)
    assets, rows, k, outcomes = 4, 400, 10, 200
    sums, players = np.zeros((2, assets)), np.zeros((2, assets))
    for _ in range(outcomes):
        quality = chance.random(rows) < np.linspace(0.9, 0.3, rows)  # nearer rows match more often
        asset = chance.integers(0, assets, rows)
        for sent, copies in enumerate((1, 10)):
            times = np.where(asset == 0, copies, 1)
            owner, match = np.repeat(asset, times), np.repeat(quality, times)
            sums[sent] += np.bincount(owner, centred(knn_shapley(match, k), match), minlength=assets) / outcomes
            players[sent] += asset_game(owner, match, k, np.zeros(assets), np.zeros(assets), assets) / outcomes
    assert sums[1, 0] > 2.5 * sums[0, 0] > 0.1
    assert np.abs(players[1] - players[0]).max() < 0.02  # two points of utility


def test_any_number_of_assets_can_be_left_out() -> None:
    chance = np.random.default_rng(6)
    owner, match, beyond = chance.integers(0, 500, 2_000), chance.integers(0, 2, 2_000), np.full(500, 7)
    values = leave_one_out(owner, match, 10, beyond, beyond // 2, 500)
    rows, matching = 2_000 + beyond.sum(), match.sum() + (beyond // 2).sum()
    whole = match[:10].mean() - matching / rows
    for asset in range(0, 500, 50):
        stays = owner != asset
        without = match[stays][:10].mean() - (match[stays].sum() + 499 * 3) / (stays.sum() + 499 * 7)
        assert values[asset] == pytest.approx(whole - without, abs=EXACT)
    with pytest.raises(ValueError, match=r"at most 12 assets, got 500"):
        asset_game(owner, match, 10, beyond, beyond // 2, 500)


def test_no_assets_have_no_values() -> None:
    for function in (asset_game, leave_one_out):
        assert function([], [], 3, [], [], 0).shape == (0,)
        assert function([], [], 3, [0, 0], [0, 0], 2).tolist() == [0.0, 0.0]
        with pytest.raises(ValueError, match="one of 0 assets"):
            function([0], [1], 3, [], [], 0)


@pytest.mark.parametrize(
    ("owner", "match", "k", "beyond", "matching", "complaint"),
    [
        ([0], [1], 0, [0, 0], [0, 0], "at least 1, got 0"),
        ([0, 1], [1], 1, [0, 0], [0, 0], "arrays of the head's rows"),
        ([0], [1], 1, [0], [0, 0], "one entry an asset"),
        ([0], [1], 1, [0, 0], [0, 0, 0], "one entry an asset"),
        ([2], [1], 1, [0, 0], [0, 0], "number of one of 2 assets"),
        ([-1], [1], 1, [0, 0], [0, 0], "number of one of 2 assets"),
        ([0], [1.5], 1, [0, 0], [0, 0], r"0\.\.1"),
        ([0], [float("nan")], 1, [0, 0], [0, 0], r"0\.\.1"),
        ([0], [1], 1, [0, 2], [0, 3], "of asset 1 beyond the head match"),
        ([0], [1], 1, [0, -1], [0, -1], "of asset 1 beyond the head match"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    owner: list[int], match: list[float], k: int, beyond: list[int], matching: list[int], complaint: str
) -> None:
    for function in (asset_game, leave_one_out):
        with pytest.raises(ValueError, match=complaint):
            function(owner, match, k, beyond, matching, 2)
