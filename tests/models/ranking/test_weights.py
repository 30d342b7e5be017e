from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.ranking.candidates import NAMES
from models.ranking.fusion import DEFAULTS
from models.ranking.lists import SOURCES
from models.ranking.weights import Weights, WeightsError, mean_reciprocal_rank, reciprocal_ranks, tune_weights


def test_the_mean_reciprocal_rank_counts_missing_ones_as_nothing() -> None:
    starts = np.array([0, 3, 5, 8])
    scores = np.array([3.0, 2.0, 1.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    right = np.array([False, True, False, False, False, False, False, True])
    assert reciprocal_ranks(starts, scores, right).tolist() == [1 / 2, 0, 1]
    assert mean_reciprocal_rank(starts, scores, right) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert mean_reciprocal_rank(starts, scores, right, k=1) == pytest.approx(1 / 3)


def test_equal_scores_do_not_flatter() -> None:
    assert mean_reciprocal_rank(np.array([0, 4]), np.ones(4), np.array([True, False, False, False])) == 0.25


def snapshots(lists: int, telling: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What comes next is what ``telling`` says; the others say anything."""
    rng = np.random.default_rng(seed)
    values = rng.random((lists, 10, len(SOURCES))).astype(np.float32)
    features = np.zeros((lists, 10, len(NAMES)), dtype=np.float32)
    features[:, :, : len(SOURCES)] = values * [getattr(DEFAULTS, source) for source in SOURCES]
    right = np.zeros((lists, 10), dtype=np.bool_)
    right[np.arange(lists), values[:, :, SOURCES.index(telling)].argmax(axis=1)] = True
    return np.arange(lists + 1) * 10, features.reshape(-1, len(NAMES)), right.ravel()


@pytest.mark.parametrize("telling", ["similar", "trending"])
def test_the_source_that_knows_gets_the_weight(telling: str) -> None:
    weights, card = tune_weights(*snapshots(300, telling), trials=40)
    assert max(SOURCES, key=lambda source: getattr(weights, source)) == telling
    assert card["mrr_at_20"] > card["mrr_at_20_before"] + 0.2
    assert (card["lists"], card["held_out"], card["not_tuned"]) == (300, 60, [])


@pytest.mark.parametrize("seed", range(3))
def test_what_was_not_there_keeps_its_default_beside_what_was_tuned(seed: int) -> None:
    absent = ["sequence", "query", "factors"]
    starts, features, right = snapshots(300, "similar")
    features[:, [SOURCES.index(source) for source in absent]] = 0
    weights, card = tune_weights(starts, features, right, trials=20, seed=seed)
    assert card["not_tuned"] == absent
    assert [getattr(weights, source) for source in absent] == [getattr(DEFAULTS, source) for source in absent]
    rest = [source for source in SOURCES if source not in absent]
    assert sum(getattr(weights, source) for source in rest) == pytest.approx(sum(getattr(DEFAULTS, source) for source in rest), abs=1e-3)
    assert weights.similar > DEFAULTS.similar


def test_what_is_written_is_what_is_judged_though_a_source_speaks_on_the_newest_lists_alone() -> None:
    starts, features, right = snapshots(300, "similar")
    column = SOURCES.index("query")
    features[: 240 * 10, column] = 0
    weights, card = tune_weights(starts, features, right, trials=20)
    assert card["not_tuned"] == ["query"]
    held = features[240 * 10 :, : len(SOURCES)] / [getattr(DEFAULTS, source) for source in SOURCES]
    found = mean_reciprocal_rank(starts[240:] - 240 * 10, held @ [getattr(weights, source) for source in SOURCES], right[240 * 10 :])
    assert card["mrr_at_20"] == pytest.approx(found, abs=1e-4)


def test_nothing_to_tune_by_is_said() -> None:
    starts, features, right = snapshots(20, "again")
    with pytest.raises(ValueError, match="nothing to tune by"):
        tune_weights(starts, features, np.zeros_like(right), trials=3)
    with pytest.raises(ValueError, match="nothing to tune by"):
        tune_weights(np.array([0]), features[:0], right[:0], trials=3)
    with pytest.raises(ValueError, match="nothing to tune by"):
        tune_weights(starts, np.zeros_like(features), right, trials=3)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    weights = Weights(similar=0.1, together=0, sessions=2, trending=0.3, again=1)
    weights.save(tmp_path / "weights.json")
    assert Weights.load(tmp_path / "weights.json") == weights
    assert weights.parameters == DEFAULTS._replace(similar=0.1, together=0, sessions=2, trending=0.3, again=1)
    (tmp_path / "weights.json").write_text('{"again": 2}')
    assert Weights.load(tmp_path / "weights.json").parameters == DEFAULTS._replace(again=2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"similar": -1}', "similar: Input should be greater than or equal to 0"),
        ('{"similar": "much"}', "similar: "),
        ('{"colour": 1}', "colour: Extra inputs"),
        ("{", "file: Invalid JSON"),
        ("[]", "file: "),
        (json.dumps(dict.fromkeys(SOURCES, 0)), "at least one weight"),
        (None, "cannot be read"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / "weights.json").write_text(text)
    with pytest.raises(WeightsError, match=complaint):
        Weights.load(tmp_path / "weights.json")
