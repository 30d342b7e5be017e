from __future__ import annotations

import numpy as np
import pytest

from models.ranking.features import ItemStatistics, Vectors, feature_names, pool
from models.ranking.learned import LearnedRanker
from models.ranking.tuning import tune


def ints(*values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_the_pool_is_the_union_and_every_feature_is_what_its_name_says() -> None:
    """Two sources, one session 3, 1, 3; items 0..4, item 9 unknown to the statistics."""
    statistics = ItemStatistics.of(np.array([0, 2, 4]), np.array([1, 3, 3, 0], np.int32), 5, half_life=0.5)
    found = [(ints([3, 4, -1]), np.array([[2.0, 1.0, 0.0]], np.float32)), (ints([1, 3]), np.array([[8.0, 2.0]], np.float32))]
    vectors = Vectors(np.array([[1.0, 0.0]], np.float32), np.array([[0, 1], [1, 0], [0, 1], [0.6, 0.8], [0, 1]], np.float32))
    names = feature_names(["one", "two"], True)
    made = pool(np.array([0, 3]), np.array([3, 1, 3], np.int32), found, statistics, vectors)
    assert made.starts.tolist() == [0, 3]
    assert made.rows.tolist() == [3, 4, 1]
    table = {int(row): dict(zip(names, line.tolist(), strict=True)) for row, line in zip(made.rows, made.features, strict=True)}
    assert table[3]["one_score"] == 1.0
    assert table[3]["two_score"] == 0.25
    assert (table[3]["one_place"], table[3]["two_place"], table[4]["two_place"]) == (1.0, 0.5, 0.0)
    assert all((line["one_best"], line["two_best"]) == (2.0, 8.0) for line in table.values())
    assert all((line["length"], line["distinct"]) == (3.0, 2.0) for line in table.values())
    assert [table[row]["own_place"] for row in (3, 1, 4)] == [1.0, 0.5, 0.0]
    assert [table[row]["own_count"] for row in (3, 1, 4)] == [2.0, 1.0, 0.0]
    assert [table[row]["is_last"] for row in (3, 1, 4)] == [1.0, 0.0, 0.0]
    assert table[3]["frequency"] == pytest.approx(np.log1p(2))
    assert table[4]["frequency"] == 0.0
    assert (table[3]["last_seen"], table[1]["last_seen"], table[4]["last_seen"]) == (0.0, 0.5, 1.0)
    assert table[1]["recent_frequency"] == pytest.approx(np.log1p(0.5))
    assert table[3]["trend"] == pytest.approx(1.5 / 3)
    assert [table[row]["cosine"] for row in (3, 1, 4)] == pytest.approx([0.6, 1.0, 0.0])
    assert [table[row]["cosine_last"] for row in (3, 1, 4)] == pytest.approx([1.0, 0.6, 0.8])


def test_pools_of_several_sessions_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    statistics = ItemStatistics.of(np.array([0, 40]), rng.integers(0, 30, 40).astype(np.int32), 30)
    sessions = [rng.integers(0, 35, rng.integers(1, 6)).astype(np.int32) for _ in range(20)]
    starts = np.cumsum([0, *map(len, sessions)])
    lists = np.stack([rng.permutation(35)[:8] for _ in sessions]).astype(np.int32)
    scores = np.sort(rng.random(lists.shape).astype(np.float32))[:, ::-1]
    together = pool(starts, np.concatenate(sessions), [(lists, scores), (lists[:, ::-1].copy(), scores)], statistics, None)
    for number, session in enumerate(sessions):
        one = slice(number, number + 1)
        found = [(lists[one], scores[one]), (lists[one, ::-1].copy(), scores[one])]
        alone = pool(np.array([0, len(session)]), session, found, statistics, None)
        part = slice(together.starts[number], together.starts[number + 1])
        assert together.rows[part].tolist() == alone.rows.tolist()
        assert np.array_equal(together.features[part], alone.features)


def lists(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The right candidate of ten is the one whose first feature is greatest; the second feature is noise."""
    rng = np.random.default_rng(seed)
    features = rng.random((count * 10, 2)).astype(np.float32)
    best = features[:, 0].reshape(count, 10).argmax(axis=1)
    right = np.zeros(count * 10, dtype=np.bool_)
    right[np.arange(count) * 10 + best] = True
    return np.arange(0, count * 10 + 1, 10), features, right


def test_the_order_is_learned_and_survives_writing() -> None:
    ranker = LearnedRanker.fit(["telling", "noise"], *lists(1500, 0))
    starts, features, right = lists(300, 1)
    again = LearnedRanker.from_text(ranker.to_text())
    assert again.names == ["telling", "noise"]
    scores = again.score(features)
    assert np.array_equal(scores, ranker.score(features))
    chosen = starts[:-1] + scores.reshape(300, 10).argmax(axis=1)
    assert right[chosen].mean() > 0.8
    assert len(ranker.score(features[:0])) == 0


def test_lists_without_a_right_candidate_teach_nothing_and_do_no_harm() -> None:
    starts, features, right = lists(500, 0)
    right[: starts[100]] = False
    with_them = LearnedRanker.fit(["telling", "noise"], starts, features, right)
    first = starts[100]
    without = LearnedRanker.fit(["telling", "noise"], starts[100:] - first, features[first:], right[first:])
    assert with_them.to_text() == without.to_text()


def test_nothing_to_learn_from_is_said() -> None:
    starts, features, right = lists(5, 0)
    with pytest.raises(ValueError, match="nothing to learn from"):
        LearnedRanker.fit(["telling", "noise"], starts, features, np.zeros_like(right))


def test_tuning_finds_what_helps_and_never_loses_to_equal_weights() -> None:
    def objective(weights: np.ndarray) -> float:
        return -float((weights[0] - 0.9) ** 2 + (weights[1] - 0.1) ** 2)

    best = tune(["a", "b"], objective, trials=40)
    assert best["a"] > 0.7
    assert best["b"] < 0.3
    assert tune(["a", "b"], lambda weights: -abs(float(weights[0] - weights[1])), trials=1) == {"a": 0.5, "b": 0.5}
    assert tune(["a", "b"], lambda weights: float(weights[1] - weights[0]), trials=3) == {"a": 0.0, "b": 1.0}
