from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import METHODS, UNKNOWN, Sequences, SessionDataset, create_method, judge
from models.evaluation.judge import ranks
from models.evaluation.rules import count_rules


def dataset(train: list[list[int]], tests: list[tuple[list[int], int]]) -> SessionDataset:
    names = tuple(str(row) for row in range(1 + max(row for session in train for row in session)))
    prefixes = Sequences.of([prefix for prefix, _ in tests])
    return SessionDataset(names, Sequences.of(train), prefixes, np.array([target for _, target in tests], np.int32))


def lists(name: str, train: list[list[int]], prefix: list[int], limit: int = 4) -> list[int]:
    method = create_method(name)
    method.learn(Sequences.of(train), 1 + max(row for session in train for row in session))
    return method.recommend(Sequences.of([prefix]), limit)[0].tolist()


TRAIN = [[0, 1, 2], [0, 1], [3, 1], [1, 0, 4]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("popularity", [1, 0, 2, 3]),
        ("session-popularity", [0, 4, 1, 2]),
        ("repeat-only", [0, 4, -1, -1]),
        ("returns", [0, 4, -1, -1]),
        ("co-occurrence", [1, 2, 4, -1]),
        ("sequential-rules", [1, 4, 2, -1]),
    ],
)
def test_baselines_by_hand(name: str, expected: list[int]) -> None:
    """0 was clicked twice, 4 once in between; of the pairs with 0 (the last item): 1 thrice, 2 and 4 once."""
    assert lists(name, TRAIN, [0, 4, 0]) == expected


def test_older_items_of_the_prefix_count_less() -> None:
    train = [[0, 5], [1, 6], [1, 6]]
    assert lists("decayed-rules", train, [1, 0]) == [6, 5, -1, -1]
    assert lists("decayed-rules", train, [0, 1]) == [6, 5, -1, -1]
    assert lists("decayed-rules", [[0, 5], [1, 6]], [1, 0]) == [5, 6, -1, -1]


def test_rules_count_by_distance_within_the_window() -> None:
    rules = count_rules(Sequences.of([[0, 1, 2, 3], [0, 2]]), 4, window=2, both_ways=False, by_distance=True)
    sources = np.repeat(np.arange(4), np.diff(rules.starts))
    pairs = {(int(item), int(row)): float(weight) for item, row, weight in zip(sources, rules.rows, rules.weights, strict=True)}
    assert pairs == {(0, 1): 1.0, (0, 2): 1.5, (1, 2): 1.0, (1, 3): 0.5, (2, 3): 1.0}


def test_a_list_is_judged_by_the_place_of_the_target() -> None:
    found = ranks(np.array([[4, 7], [4, 7], [4, 7], [-1, -1]], np.int32), np.array([4, 7, 5, UNKNOWN], np.int32))
    assert found.tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("ranked", "ranked-live", "sequence")])
def test_every_method_is_judged_on_every_test(name: str) -> None:
    result = judge(create_method(name), dataset([[0, 1], [0, 1], [1, 0], [2, 3]], [([0], 1), ([9 % 4], UNKNOWN)]))
    assert result.method == name
    assert result.tests == 2
    assert 0 <= result.hit_rate_low <= result.hit_rate_at_20 <= result.hit_rate_high <= 100
    assert 0 <= result.mrr_low <= result.mrr_at_20 <= result.mrr_high <= 100
    assert result.hit_rate_at_20 == (0.0 if name in ("repeat-only", "returns") else 50.0)
    assert result.p50_us > 0


def test_equal_tests_are_not_taken_for_certainty() -> None:
    method = create_method("repeat-only")
    one = judge(method, dataset([[0, 1]], [([0, 1], 0)]))
    assert one.mrr_low < one.mrr_at_20 == 50.0 < one.mrr_high
    many = judge(method, dataset([[0, 1]], [([1, 0], 0)] * 200))
    assert 97.0 < many.mrr_low < many.mrr_at_20 == many.mrr_high == 100.0
