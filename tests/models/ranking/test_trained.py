from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from models.ranking.candidates import NAMES
from models.ranking.trained import RankerFileError, TrainedRanker, calibrate, watch_ranker
from models.ranking.weights import mean_reciprocal_rank

CANDIDATES = 12


def lists(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each list the right candidate is likelier the one most recently viewed than the one that the blend says."""
    rng = np.random.default_rng(seed)
    features = rng.random((count, CANDIDATES, len(NAMES))).astype(np.float32)
    told = (
        3 * features[:, :, NAMES.index("recent_place")]
        + features[:, :, NAMES.index("blend")]
        + 0.3 * rng.standard_normal((count, CANDIDATES))
    )
    right = np.zeros((count, CANDIDATES), dtype=np.bool_)
    right[np.arange(count), told.argmax(axis=1)] = rng.random(count) < 0.8
    return np.arange(count + 1) * CANDIDATES, features.reshape(-1, len(NAMES)), right.ravel()


@pytest.fixture(scope="module")
def fitted() -> tuple[TrainedRanker, dict[str, float]]:
    starts, features, right = lists(1500)
    return TrainedRanker.fit(starts, features, right, bought=right)


def test_it_learns_what_the_blend_does_not_know(fitted: tuple[TrainedRanker, dict[str, float]]) -> None:
    trained, card = fitted
    assert (card["lists"], card["held_out"]) == (1500, 150)
    assert card["gain"] == pytest.approx(card["mrr_at_20"] - card["mrr_at_20_blend"], abs=1e-4)
    assert 0.2 < card["gain_low"] < card["gain"] < card["gain_high"]
    starts, features, right = lists(500, seed=1)
    scores, probabilities = trained.judge(features)
    assert mean_reciprocal_rank(starts, scores, right) > 0.5
    # What it holds for probable is as frequent on lists that it never saw.
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 1.0)):
        among = (probabilities >= low) & (probabilities < high)
        assert among.sum() > 50
        assert right[among].mean() == pytest.approx(probabilities[among].mean(), abs=0.08)


def noise(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which candidate is right has nothing to do with its features."""
    rng = np.random.default_rng(seed)
    right = np.zeros((count, CANDIDATES), dtype=np.bool_)
    right[np.arange(count), rng.integers(0, CANDIDATES, count)] = True
    return np.arange(count + 1) * CANDIDATES, rng.random((count * CANDIDATES, len(NAMES)), dtype=np.float32), right.ravel()


def test_of_pure_noise_nothing_is_surely_better_than_the_blend_and_the_card_flatters_nobody() -> None:
    stated, found = [], []
    for seed in range(12):
        trained, card = TrainedRanker.fit(*noise(1500, seed))
        assert card["gain_low"] <= 0
        starts, features, right = noise(1500, seed + 100)
        stated.append(card["mrr_at_20"])
        found.append(mean_reciprocal_rank(starts, trained.judge(features)[0], right))
    # A list's reciprocal rank varies by .25, so the mean of 12 times 150 by .006.
    assert np.mean(stated) == pytest.approx(np.mean(found), abs=0.012)


def test_the_lists_that_judge_have_no_say_in_the_order() -> None:
    starts, features, right = lists(1500)
    other = right.copy()
    other[1350 * CANDIDATES :] = np.roll(other[1350 * CANDIDATES :], 1)
    one, its_card = TrainedRanker.fit(starts, features, right, bought=right)
    two, other_card = TrainedRanker.fit(starts, features, other, bought=other)
    assert one.name == two.name
    assert other_card["mrr_at_20"] < its_card["mrr_at_20"] - 0.2


def test_the_lists_that_stop_the_training_have_no_say_in_what_scores_mean(
    fitted: tuple[TrainedRanker, dict[str, float]],
) -> None:
    trained, _ = fitted
    _, features, right = lists(1500)
    newest = slice(1350 * CANDIDATES, None)
    for knots, expected in zip((trained.score_knots, trained.probability_knots), calibrate(
        trained.learned.score(features[newest]), right[newest]), strict=True):  # fmt: skip
        np.testing.assert_array_equal(knots, expected)


def test_a_higher_score_is_never_less_probable() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal(3000)
    knots, values = calibrate(scores, rng.random(3000) < 1 / (1 + np.exp(-scores)))
    assert (np.diff(knots) > 0).all()
    assert (np.diff(values) > 0).all()
    assert np.interp([-9.0, 0.0, 9.0], knots, values).tolist() == pytest.approx([values[0], 0.5, values[-1]], abs=0.1)


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        TrainedRanker.fit(np.array([0, 2, 4]), np.zeros((4, len(NAMES)), np.float32), np.zeros(4, np.bool_))
    with pytest.raises(ValueError, match="nothing to learn from"):
        TrainedRanker.fit(np.array([0]), np.zeros((0, len(NAMES)), np.float32), np.zeros(0, np.bool_))
    with pytest.raises(ValueError, match="9 lists are too few"):
        TrainedRanker.fit(*lists(9))
    starts, features, right = lists(20)
    with pytest.raises(ValueError, match="fewer than two lists hold a right candidate"):
        TrainedRanker.fit(starts, features, np.zeros_like(right))


def test_a_folder_gives_back_what_was_saved(fitted: tuple[TrainedRanker, dict[str, float]], tmp_path: Path) -> None:
    trained, card = fitted
    trained.save(tmp_path / "new" / "ranker", dict(card))
    again = TrainedRanker.load(tmp_path / "new" / "ranker")
    _, features, _ = lists(20, seed=3)
    for one, other in zip(trained.judge(features), again.judge(features), strict=True):
        np.testing.assert_array_equal(one, other)
    assert trained.buying is not None
    assert again.buying is not None
    np.testing.assert_array_equal(trained.buying.probabilities(features), again.buying.probabilities(features))
    assert again.name == trained.name


@pytest.mark.parametrize("damage", ["missing", "card", "trees", "version", "knots", "purchases", "other purchases"])
def test_what_is_no_ranker_is_refused_with_what_to_do(fitted: tuple[TrainedRanker, dict[str, float]], tmp_path: Path, damage: str) -> None:
    trained, card = fitted
    trained.save(tmp_path, dict(card))
    document = json.loads((tmp_path / "ranker.json").read_text())
    match damage:
        case "missing":
            (tmp_path / "ranker.txt").unlink()
        case "card":
            (tmp_path / "ranker.json").write_text("{")
        case "trees":
            (tmp_path / "ranker.txt").write_text("tree")
        case "version":
            (tmp_path / "ranker.json").write_text(json.dumps(document | {"features": ["colour"]}))
        case "purchases":
            (tmp_path / "purchases.txt").unlink()
        case "other purchases":
            (tmp_path / "purchases.txt").write_text("tree")
        case "knots":
            (tmp_path / "ranker.json").write_text(json.dumps(document | {"score_knots": "many"}))
    with pytest.raises(RankerFileError, match=r"train"):
        TrainedRanker.load(tmp_path)


def test_a_new_ranker_is_taken_up_and_a_broken_one_is_not(
    fitted: tuple[TrainedRanker, dict[str, float]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained, card = fitted
    trained.save(tmp_path, dict(card))
    folder = watch_ranker(tmp_path)
    assert folder.poll() is None
    other, card = TrainedRanker.fit(*lists(600, seed=5))
    other.save(tmp_path, dict(card))
    found = folder.poll()
    assert found is folder.current
    assert folder.current.name == other.name != trained.name
    (tmp_path / "ranker.json").write_text("{}")
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        assert folder.poll() is None
        assert folder.poll() is None  # and says so once
    assert len(caplog.records) == 1
    assert "the one read before stays in use" in caplog.text
    assert folder.current.name == other.name


def test_how_probable_a_purchase_is_is_as_frequent_on_lists_that_it_never_saw() -> None:
    starts, features, right = lists(1500)
    rng = np.random.default_rng(9)
    trained, card = TrainedRanker.fit(starts, features, right, bought=right & (rng.random(len(right)) < 0.3))
    assert card["purchases"] > 50
    assert card["purchase_brier"] < card["purchase_brier_constant"]
    assert card["purchase_probability"] == pytest.approx(card["purchase_frequency"], rel=0.4)
    _, features, right = lists(500, seed=1)
    bought = right & (rng.random(len(right)) < 0.3)
    _, probabilities = trained.judge(features)
    assert trained.buying is not None
    purchases = trained.buying.probabilities(features)
    assert purchases.mean() == pytest.approx(bought.mean(), rel=0.25)
    likely = probabilities > 0.3
    assert purchases[likely].mean() == pytest.approx(bought[likely].mean(), abs=0.08)
    assert purchases[likely].mean() > 5 * purchases[~likely].mean()


def test_nothing_is_said_of_purchases_where_there_were_few(tmp_path: Path) -> None:
    starts, features, right = lists(300)
    for bought in (None, np.zeros_like(right)):
        trained, card = TrainedRanker.fit(starts, features, right, bought=bought)
        assert trained.buying is None
        assert "purchases" not in card
        trained.save(tmp_path, dict(card))
        assert TrainedRanker.load(tmp_path).buying is None
