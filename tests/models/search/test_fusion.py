from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.search import fusion
from models.search.fusion import BOOST, LEXICAL, PERSONAL, RANK_OFFSET, SEMANTIC, UNIT, WEIGHT, Fused, fuse

NOTHING: tuple[list[int], list[float]] = ([], [])
Ranking = tuple[list[int], list[float]]


def fused(lexical: Ranking, semantic: Ranking, affinities: dict[int, float] | None = None) -> Fused:
    arrays = [(np.array(rows, dtype=np.int64), np.array(scores, dtype=np.float32)) for rows, scores in (lexical, semantic)]
    known = affinities or {}
    of = None if affinities is None else lambda rows: np.array([known.get(row, 0.0) for row in rows.tolist()])
    return fuse(*arrays, of)


def share(rank: int) -> int:
    return round(UNIT * WEIGHT * (RANK_OFFSET + 1) / (RANK_OFFSET + rank))


def test_the_example_holds() -> None:
    assert doctest.testmod(fusion).failed == 0


def test_a_share_falls_with_the_rank_as_in_the_paper() -> None:
    found = fused(([4, 2, 9], [3.0, 2.0, 1.0]), NOTHING)
    assert found.rows.tolist() == [4, 2, 9]
    assert found.shares.tolist() == [[share(1), 0, 0], [share(2), 0, 0], [share(3), 0, 0]]
    assert share(1) == 400_000


def test_what_both_find_comes_before_what_one_finds() -> None:
    found = fused(([1, 2], [9.0, 8.0]), ([3, 2], [0.9, 0.8]))
    assert found.rows.tolist() == [2, 1, 3], "of equals the one found by word comes first"
    assert found.shares.tolist() == [[share(2), share(2), 0], [share(1), 0, 0], [0, share(1), 0]]


def test_equal_scores_share_a_rank_and_the_next_rank_counts_them() -> None:
    found = fused(([7, 5, 6, 1], [2.0, 2.0, 2.0, 1.0]), NOTHING)
    assert found.rows.tolist() == [5, 6, 7, 1]
    assert found.shares[:, LEXICAL].tolist() == [share(1)] * 3 + [share(4)]


def test_taste_lifts_in_proportion_and_brings_nothing_in() -> None:
    found = fused(([1, 2], [2.0, 1.0]), NOTHING, {2: 1.0, 3: 1.0})
    assert found.rows.tolist() == [2, 1]
    assert found.shares[:, PERSONAL].tolist() == [round(BOOST * share(2)), 0]


def test_a_full_taste_for_the_best_of_both_is_a_score_of_one() -> None:
    assert fused(([1], [1.0]), ([1], [1.0]), {1: 1.0}).scores().tolist() == [UNIT]


def test_nothing_found_is_an_empty_list() -> None:
    found = fused(NOTHING, NOTHING, {1: 1.0})
    assert (found.rows.tolist(), found.shares.shape) == ([], (0, 3))


@given(st.lists(st.integers(0, 30), unique=True, max_size=12), st.lists(st.integers(0, 30), unique=True, max_size=12), st.data())
def test_lists_are_sorted_whole_and_the_lift_is_bounded(lexical: list[int], semantic: list[int], data: st.DataObject) -> None:
    rankings = [
        (rows, sorted(data.draw(st.lists(st.floats(0, 1), min_size=len(rows), max_size=len(rows))), reverse=True))
        for rows in (lexical, semantic)
    ]
    likings = {row: data.draw(st.floats(0, 1)) for row in {*lexical, *semantic}}
    plain, lifted = fused(*rankings), fused(*rankings, likings)
    assert sorted(plain.rows.tolist()) == sorted(lifted.rows.tolist()) == sorted({*lexical, *semantic})
    assert (np.diff(lifted.scores()) <= 0).all()
    relevance = lifted.shares[:, LEXICAL] + lifted.shares[:, SEMANTIC]
    assert dict(zip(plain.rows.tolist(), plain.scores().tolist(), strict=True)) == dict(
        zip(lifted.rows.tolist(), relevance.tolist(), strict=True)
    )
    assert (lifted.shares[:, PERSONAL] <= BOOST * relevance + 1).all()
    for place in range(len(lifted.rows)):
        later = relevance[place + 1 :]
        assert (later <= relevance[place] * (1 + BOOST) + 2).all(), "nothing was passed that is more than BOOST more relevant"
        assert lifted.scores()[place] <= UNIT


def test_the_parts_are_named_as_in_the_reply() -> None:
    from typing import get_args

    from schemas.serving import SearchSource

    assert get_args(SearchSource) == fusion.PARTS


@pytest.mark.parametrize("rows", [[3], [3, 1]])
def test_a_product_in_both_rankings_appears_once(rows: list[int]) -> None:
    assert len(fused((rows, [1.0] * len(rows)), (rows, [0.5] * len(rows))).rows) == len(rows)
