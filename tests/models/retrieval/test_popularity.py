from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.popularity import BASELINE_WEIGHTS, CATEGORY_LIMIT, OVERALL_LIMIT, TRENDING_WEIGHTS, Popularity

BROWSE, CLICK, CART, PURCHASE = range(4)


def add(popularity: Popularity, *events: tuple[int, int, int]) -> None:
    """(row, time, type) triples."""
    rows, times, types = (np.array(column) for column in zip(*events, strict=True))
    popularity.add(rows.astype(np.int32), times.astype(np.int64), types.astype(np.int8))


def lists(popularity: Popularity, active, category=None, categories: int = 1, now_ms: int = 0, version: int = 0):
    active = np.array(active, dtype=np.bool_)
    category = np.zeros(len(active), dtype=np.int32) if category is None else np.array(category, dtype=np.int32)
    return popularity.lists(active, category, categories, now_ms, version)


def test_a_purchase_counts_more_than_a_view_and_the_baseline_counts_clicks_and_purchases_alike() -> None:
    trending, baseline = Popularity(1000.0), Popularity(1000.0, BASELINE_WEIGHTS)
    for popularity in (trending, baseline):
        add(popularity, (0, 0, BROWSE), (1, 0, CLICK), (2, 0, CART), (3, 0, PURCHASE))
    assert lists(trending, [True] * 4).overall.tolist() == [3, 2, 1, 0]
    found = lists(baseline, [True] * 4)
    assert found.overall.tolist() == [1, 3, 0, 2]
    assert found.overall_values.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_what_cannot_be_shown_is_in_no_list() -> None:
    popularity = Popularity(1000.0)
    add(popularity, (0, 0, CLICK), (1, 0, CLICK))
    found = lists(popularity, [False, True], [0, 0])
    assert found.overall.tolist() == [1]
    assert [row for row in found.categories[0].tolist() if row >= 0] == [1]


def test_another_choice_of_rows_has_lists_and_a_pace_of_its_own() -> None:
    popularity = Popularity(1000.0)
    add(popularity, (0, 0, PURCHASE), (1, 0, CLICK))
    active, some, category = np.ones(10_000, dtype=np.bool_), np.ones(10_000, dtype=np.bool_), np.zeros(10_000, dtype=np.int32)
    some[0] = False
    listing = popularity.listing()
    assert popularity.lists(active, category, 1, 0).overall[0] == 0
    assert listing.lists(some, category, 1, 20).overall[0] == 1
    add(popularity, (2, 0, PURCHASE), (2, 0, PURCHASE))
    assert popularity.lists(active, category, 1, 50).overall[0] == 2
    assert listing.lists(some, category, 1, 50).overall[0] == 1
    assert listing.lists(some, category, 1, 70).overall[0] == 2


def test_categories_have_lists_of_their_own_and_uncategorised_items_only_the_overall_one() -> None:
    popularity = Popularity(1000.0)
    add(popularity, (0, 0, CLICK), (1, 0, PURCHASE), (2, 0, CART))
    found = lists(popularity, [True] * 3, [0, 1, -1], 2)
    assert found.categories[:, 0].tolist() == [0, 1]
    assert found.overall.tolist() == [1, 2, 0]


def test_lists_are_bounded_and_sorted_with_earlier_rows_first_among_equals() -> None:
    popularity = Popularity(1000.0)
    add(popularity, *((row, row % 7 * 100, CLICK) for row in range(500)))
    found = lists(popularity, [True] * 500)
    assert len(found.overall) == OVERALL_LIMIT
    assert found.categories.shape == (1, CATEGORY_LIMIT)
    assert found.overall[:3].tolist() == [6, 13, 20]
    assert (np.diff(found.overall_values) <= 0).all()


def test_lists_are_made_anew_after_a_while_when_there_is_news() -> None:
    popularity = Popularity(1000.0)
    many = [True] * 1000
    add(popularity, (1, 0, CLICK))
    assert lists(popularity, many).overall[0] == 1
    add(popularity, (2, 0, PURCHASE))
    assert lists(popularity, many, now_ms=4).overall[0] == 1
    assert lists(popularity, many, now_ms=5).overall[0] == 2
    sold_out = [True, True, False] + [True] * 997
    assert lists(popularity, sold_out, now_ms=9, version=1).overall[0] == 2
    assert lists(popularity, sold_out, now_ms=10, version=1).overall[0] == 1


def test_a_category_that_came_since_the_lists_were_made_has_an_empty_one() -> None:
    popularity = Popularity(1000.0)
    add(popularity, (1, 0, CLICK))
    assert lists(popularity, [True] * 1000).categories[0, 0] == 1
    found = lists(popularity, [True] * 1001, [0] * 1000 + [2], 3, now_ms=4, version=1)
    assert found.categories[:, 0].tolist() == [1, -1, -1]
    assert found.category_values.shape == found.categories.shape
    assert lists(popularity, [True] * 1001, [0] * 1000 + [2], 3, now_ms=5, version=1).categories[:, 0].tolist() == [1, -1, 1000]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10_000_000), st.integers(0, 3)), min_size=1, max_size=40), st.integers(1, 40))
@settings(deadline=None)
def test_scores_equal_the_formula_whatever_the_order_and_the_span(events: list[tuple[int, int, int]], cut: int) -> None:
    popularity = Popularity(10_000.0)
    add(popularity, *events[:cut])
    if events[cut:]:
        add(popularity, *events[cut:])
    newest = max(at for _, at, _ in events)
    expected = np.zeros(6)
    for row, at, kind in events:
        expected[row] += TRENDING_WEIGHTS[kind] * 2.0 ** ((at - newest) / 10_000.0)
    found = lists(popularity, [True] * 6)
    values = np.zeros(6)
    values[found.overall] = found.overall_values
    assert values == pytest.approx(expected / expected.max(), rel=1e-4, abs=1e-6)


def test_a_mass_sell_out_is_seen_at_once() -> None:
    popularity = Popularity(1000.0)
    add(popularity, *((row, 0, CLICK) for row in range(150)))
    active, category = [True] * 100_000, [-1] * 100_000
    assert lists(popularity, active, category).overall.tolist() == list(range(100))
    for gone in (49, 51):
        sold_out = [row >= gone for row in range(100_000)]
        found = lists(popularity, sold_out, category, now_ms=1, version=gone)
        assert found.overall[0] == (0 if gone < 50 else gone)
        assert len(found.overall) == OVERALL_LIMIT


def test_a_category_that_sold_out_what_was_popular_shows_the_rest() -> None:
    popularity = Popularity(1000.0)
    add(popularity, *((row, 0, PURCHASE) for row in range(200)), *((row, 0, CLICK) for row in range(200, 300)))
    category = [0] * 200 + [1] * 100 + [0] * 99_700
    assert lists(popularity, [True] * 100_000, category, 2).categories[1, 0] == 200
    sold_out = [not 200 <= row < 216 for row in range(100_000)]
    found = lists(popularity, sold_out, category, 2, now_ms=1, version=1)
    assert found.categories[1].tolist() == list(range(216, 246))


def test_a_list_that_held_all_there_was_keeps_its_pace() -> None:
    popularity = Popularity(1000.0)
    add(popularity, (0, 0, CLICK), (1, 0, CLICK))
    few = [True, True] + [False] * 99_998
    assert lists(popularity, few).overall.tolist() == [0, 1]
    assert lists(popularity, [False, True, True] + [False] * 99_997, now_ms=1, version=1).overall.tolist() == [0, 1]


def test_what_is_popular_without_a_part_of_the_events_is_as_if_they_had_counted_that_much_less() -> None:
    chance = np.random.default_rng(9)
    rows, types = chance.integers(0, 8, 300).astype(np.int32), chance.integers(0, 4, 300).astype(np.int8)
    at_ms, parts = np.sort(chance.integers(0, 900_000, 300)), chance.choice([0.0, 0.5, 1.0], 300).astype(np.float32)
    whole, weighed, told = Popularity(1000.0), Popularity(1000.0), Popularity(1000.0)
    for part in (slice(0, 100), slice(100, 300)):
        whole.add(rows[part], at_ms[part], types[part])
        told.add(rows[part], at_ms[part], types[part], parts[part])
    changes = weighed.changes
    weighed.become(whole, rows, at_ms.astype(np.float64), types, parts)
    assert weighed.changes > changes
    assert weighed.relative(8) == pytest.approx(told.relative(8), rel=1e-6)
    assert not np.allclose(weighed.relative(8), whole.relative(8))
    more = (np.array([3], np.int32), np.array([900_500]), np.array([PURCHASE], np.int8), np.array([0.5], np.float32))
    weighed.add(*more)
    told.add(*more)
    assert weighed.relative(8) == pytest.approx(told.relative(8), rel=1e-6)
