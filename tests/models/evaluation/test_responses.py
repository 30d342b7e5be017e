"""Whether what was shown is taken up: ROC and what a threshold makes of it, splits in time, and the classic E as a sign of over-fitting."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.blocks import blocked_folds, newest_part
from models.evaluation.classification import area, best_threshold, confusion, roc
from models.evaluation.responders import RESPONDERS, fit_linear
from models.evaluation.responses import Shown, TooFewResponses, judge_folds, judge_replay, learning_curve
from models.valuation.health import health_pair

SCORED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize("module", ["classification", "blocks"])
def test_the_examples_in_the_documentation_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"models.evaluation.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)


@given(SCORED)
def test_the_area_is_the_chance_that_a_yes_scores_above_a_no(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([float(score) for score, _ in rows]), np.array([label for _, label in rows])
    pairs = [(yes > no) + (yes == no) / 2 for yes in scores[labels] for no in scores[~labels]]
    found = area(scores, labels)
    assert found.auc == pytest.approx(np.mean(pairs) if pairs else 0.5)
    assert 0.0 <= found.low <= found.auc <= found.high <= 1.0
    curve = roc(scores, labels)
    if pairs:
        assert np.trapezoid(curve.true_positive, curve.false_positive) == pytest.approx(found.auc)
    for x, y, threshold in zip(*curve, strict=True):
        said = confusion(scores, labels, threshold)
        assert said.true_positives == pytest.approx(y * labels.sum())
        assert said.false_positives == pytest.approx(x * (~labels).sum())
        assert sum(said) == len(rows)


@given(SCORED)
def test_no_threshold_has_a_higher_f1_than_the_best(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([float(score) for score, _ in rows]), np.array([label for _, label in rows])
    best = confusion(scores, labels, best_threshold(scores, labels)).f1
    assert best == pytest.approx(max(confusion(scores, labels, threshold).f1 for threshold in np.unique(scores)))
    assert best <= 1.0


def test_the_interval_of_the_area_holds_its_level_where_rows_depend_on_their_neighbours() -> None:
    chance = np.random.default_rng(5)
    held = []
    for _ in range(400):
        # Whole hours are good or bad for the model: 60 of them, 50 rows each.
        signal = np.repeat(chance.normal(1.0, 0.7, 60), 50)
        labels = chance.random(3_000) < 0.3
        found = area(chance.normal(0, 1, 3_000) + signal * labels, labels)
        # P(N(0, 1) < N(1, 1 + 0.49)) = Phi(1 / sqrt(2.49)).
        held.append(found.low <= 0.7369 <= found.high)
    assert np.mean(held) >= 0.90


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=60).map(sorted), st.integers(2, 8), st.integers(0, 300))
def test_folds_judge_every_row_once_and_keep_their_distance(times: list[int], folds: int, gap: int) -> None:
    at = np.array(times, np.int64)
    splits = list(blocked_folds(at, folds, gap))
    assert np.concatenate([test for _, test in splits]).tolist() == list(range(len(at)))
    for train, test in splits:
        first, last = at[test[0]], at[test[-1]]
        assert set(train.tolist()) == {row for row in range(len(at)) if row not in test and not first - gap <= at[row] <= last + gap}


def test_the_newest_part_is_judged_by_what_was_over_before_the_gap() -> None:
    train, test = newest_part(np.arange(100) * 10, 0.2, 25)
    assert (train.tolist(), test.tolist()) == (list(range(77 + 1)), list(range(80, 100)))
    assert [part.tolist() for part in newest_part(np.arange(3), 0.01)] == [[0, 1, 2], []]


def shown(features: np.ndarray, taken: np.ndarray) -> Shown:
    """Lists of one item, a second apart."""
    count = len(taken)
    return Shown(np.arange(count) * 1_000, np.arange(count + 1), features.astype(np.float32), taken)


def planted(labels: str, count: int = 4_000, width: int = 18) -> Shown:
    chance = np.random.default_rng(3)
    features = chance.normal(size=(count, width))
    clean = features @ chance.normal(size=width) > 0
    return shown(features, clean if labels == "clean" else chance.random(count) < 0.5)


def over_fitting(data: Shown, model: str) -> float:
    judged = judge_replay(data, RESPONDERS[model], 0.2, 0.01)
    return health_pair(judged.p_train, judged.p_test.auc).E


def test_e_is_a_half_for_a_model_that_learns_noise_by_heart_and_nothing_for_one_that_fits() -> None:
    noise, clean = planted("noise"), planted("clean")
    assert over_fitting(noise, "nearest") == pytest.approx(0.49, abs=0.03)
    # Clean labels, and still a gap: E says how a model takes in its data, not what the data is worth.
    assert over_fitting(clean, "nearest") == pytest.approx(0.24, abs=0.03)
    assert over_fitting(clean, "linear") == 0.0
    assert over_fitting(clean, "trees") < over_fitting(clean, "nearest")


def test_a_linear_model_finds_the_line() -> None:
    data = planted("clean")
    judged = judge_replay(data, fit_linear, 0.2, 0.01)
    assert judged.p_test.auc > 0.99
    assert judged.confusion.f1 > 0.95
    assert (judged.train_lists, judged.lists, judged.rows) == (3_161, 800, 800)
    given = judge_replay(data, fit_linear, 0.2, 0.01, threshold=1.0)
    assert (given.threshold, given.confusion.true_positives, given.confusion.false_positives) == (1.0, 0, 0)


def test_folds_and_curves_are_of_the_same_lists() -> None:
    data = planted("clean", 600)
    folds = list(judge_folds(data, fit_linear, 3, 0.01))
    assert [one.protocol for one in folds] == ["fold 1", "fold 2", "fold 3"]
    assert [one.lists for one in folds] == [200, 200, 200]
    assert sum(one.taken for one in folds) == data.taken.sum()
    curve = list(learning_curve(data, fit_linear, 0.2, 0.0, (0.1, 1.0)))
    assert [one.train_lists for one in curve] == [48, 480]
    assert curve[0].p_test.auc < curve[1].p_test.auc
    assert curve[0].p_train - curve[0].p_test.auc > curve[1].p_train - curve[1].p_test.auc
    whole = judge_replay(data, fit_linear, 0.2, 0.0)
    np.testing.assert_array_equal(whole.scores, curve[1].scores)


def test_lists_are_taken_whole() -> None:
    data = Shown(np.arange(4), np.array([0, 2, 2, 5, 6]), np.arange(6, dtype=np.float32)[:, None], np.arange(6) % 2 == 0)
    features, taken = data.of(np.array([0, 2]))
    assert features[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert taken.tolist() == [True, False, True, False, True]


def test_nothing_to_learn_or_to_judge_is_said() -> None:
    nothing = shown(np.zeros((100, 2)), np.zeros(100, bool))
    with pytest.raises(TooFewResponses, match=r"replay: of the 80 items shown that are learned from, 0 were taken up"):
        judge_replay(nothing, fit_linear, 0.2, 0.01)
    late = shown(np.zeros((100, 2)), np.arange(100) % 50 == 0)
    with pytest.raises(TooFewResponses, match=r"of the 20 items shown that are judged, 0 were taken up"):
        judge_replay(late, fit_linear, 0.2, 0.01)
    assert list(learning_curve(late, fit_linear, 0.6, 0.0, (0.01,))) == []
