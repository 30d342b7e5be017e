"""Single answers under rules are what the loops of ranking would make of the same candidates."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ranking.diversity import diversify
from models.ranking.lists import SOURCES
from models.rules.arranging import Placed, arrange
from models.rules.arrays import NO_RULES, RuleArrays

ROWS = 12


def ruled(**given: object) -> RuleArrays:
    return NO_RULES._replace(**given)  # type: ignore[arg-type]


def capped(limit: int, by_brand: bool = False) -> RuleArrays:
    """At most ``limit`` of each category (or brand), each code a group of its own."""
    groups = np.array([[0, 1, 2, -1]], dtype=np.int32)
    return ruled(cap_by_brand=np.array([by_brand]), cap_groups=groups, cap_limits=np.array([limit]))


CATEGORY = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1, -1], dtype=np.int32)
BRAND = np.full(ROWS, -1, dtype=np.int32)
BEST_FIRST = [(row, 1.0 - row / 100) for row in range(ROWS)]


def rows(found: list[Placed]) -> list[int]:
    return [one.row for one in found]


def test_without_rules_the_best_come_in_their_order() -> None:
    assert rows(arrange(NO_RULES, BEST_FIRST, 3, CATEGORY, BRAND)) == [0, 1, 2]
    assert arrange(NO_RULES, [], 3, CATEGORY, BRAND) == []


def test_caps_pass_over_what_is_one_too_many_and_leave_alone_what_has_no_group() -> None:
    assert rows(arrange(capped(1), BEST_FIRST, 9, CATEGORY, BRAND)) == [0, 3, 6, 9, 10, 11]
    assert rows(arrange(capped(2), BEST_FIRST, 4, CATEGORY, BRAND)) == [0, 1, 3, 4]


def test_pins_stand_at_their_places_count_and_stay() -> None:
    rules = capped(1)._replace(pin_rows=np.array([1, 2], np.int32), pin_places=np.array([0, 2]))
    found = arrange(rules, BEST_FIRST, 4, CATEGORY, BRAND)
    assert rows(found) == [1, 3, 2, 6]
    assert [one.pinned for one in found] == [True, False, True, False]
    assert found[0].score == 0.99
    assert rows(arrange(rules, BEST_FIRST[:3], 4, CATEGORY, BRAND)) == [1, 2]  # too short for the second's place


def test_what_is_buried_sinks_by_its_factor_or_to_the_end() -> None:
    demotion = np.ones(ROWS, dtype=np.float32)
    demotion[0], demotion[1] = 0.955, -1.0
    found = arrange(ruled(demotion=demotion), BEST_FIRST[:6], 6, CATEGORY, BRAND)
    assert rows(found) == [2, 3, 4, 0, 5, 1]


@st.composite
def arrays(draw: st.DrawFn) -> RuleArrays:
    pins = draw(st.lists(st.integers(0, ROWS - 1), max_size=3, unique=True))
    places = sorted(draw(st.lists(st.integers(0, 5), min_size=len(pins), max_size=len(pins), unique=True)))
    caps = draw(st.integers(0, 2))
    factors = draw(st.lists(st.sampled_from([1.0, 0.5, 0.25, -1.0, -0.5]), min_size=ROWS, max_size=ROWS))
    groups = draw(st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=caps, max_size=caps))
    return RuleArrays(
        np.array(factors, np.float32) if draw(st.booleans()) else np.empty(0, np.float32),
        np.array(pins, np.int32), np.array(places, np.int64),
        np.array(draw(st.lists(st.booleans(), min_size=caps, max_size=caps)), np.bool_),
        np.array([[*codes, -1] for codes in groups], np.int32).reshape(caps, 4 if caps else 0),
        np.array(draw(st.lists(st.integers(1, 3), min_size=caps, max_size=caps)), np.int64),
    )  # fmt: skip


@given(arrays(), st.permutations(range(ROWS)), st.integers(1, ROWS), st.integers(6, 8))
@settings(deadline=None, max_examples=150)
def test_any_rules_arrange_candidates_as_lists_do(rules: RuleArrays, order: list[int], count: int, k: int) -> None:
    rng = np.random.default_rng(count)
    brand = rng.integers(-1, 3, ROWS).astype(np.int32)
    candidates = [(row, 1.0 - place / 64) for place, row in enumerate(order[:count])]
    # A pool as ``fill_pools`` leaves it: buried already, pins apart.
    moved = [(rules.demotion[row] if len(rules.demotion) else 1.0, row, score) for row, score in candidates]
    moved = [(factor < 0, -score * abs(factor), row) for factor, row, score in moved if row not in rules.pin_rows]
    pool = sorted(moved, key=lambda one: one[:2])
    width = ROWS + len(rules.pin_rows)
    pool_rows, shares = np.full((1, width), -1, np.int32), np.zeros((1, width, len(SOURCES)), np.int32)
    for place, (_, score, row) in enumerate(pool):
        pool_rows[0, place], shares[0, place, 0] = row, round(-score * 1_000_000)
    pool_rows[0, ROWS:] = rules.pin_rows
    listed, sizes = np.full((1, k), -1, np.int32), np.zeros(1, np.int64)
    pinned = np.zeros((1, k), np.bool_)
    before = np.array([sum(not last for last, _, _ in pool)])
    diversify(
        rules, 0, np.zeros(1, np.int64), CATEGORY, brand, ROWS, pool_rows, shares, shares.copy(), np.array([len(pool)]), before,
        np.zeros((ROWS, 2), np.float32), np.float32(0.0), listed, np.zeros((1, k, len(SOURCES)), np.int32),
        np.zeros((1, k, len(SOURCES)), np.int32), pinned, sizes,
    )  # fmt: skip
    found = arrange(rules, candidates, k, CATEGORY, brand)
    assert rows(found) == listed[0, : sizes[0]].tolist()
    assert [one.pinned for one in found] == pinned[0, : sizes[0]].tolist()
