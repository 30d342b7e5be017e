"""Weights from registers: what is uncertain counts in full, what does harm counts less, and nothing flaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retrieval import Source
from models.valuation.appraisal import UNKNOWN
from models.valuation.assets import OTHER
from models.valuation.feedback import (
    DIMENSIONS,
    LEAST_ROWS,
    LEAST_TESTS,
    FeedbackRule,
    SourceWeights,
    weigh,
    weight_of,
)
from schemas.valuation import AssetValue, Checks, Game, ValueRegister, Window
from streams.settings import Settings

AT = datetime(2026, 3, 1, tzinfo=UTC)
GAME = Game(k=10, head=256, tests=1, utility=0.0, baseline=0.0, lift=0.0, truncation_error_max=0.0)


def value(s: float, **instead: object) -> AssetValue:
    """Of an asset whose points are ``s`` half widths of their interval."""
    fields = {"points": s, "low": s - 1, "high": s + 1, "insufficient": False, "tests": LEAST_TESTS, "rows": LEAST_ROWS}
    return AssetValue(**{"player": 0.0, "leave_one_out": 0.0, **fields, **instead})


def register(assets: Mapping[str, AssetValue | float], dimension: str = "channel") -> ValueRegister:
    values = {asset: one if isinstance(one, AssetValue) else value(one) for asset, one in assets.items()}
    window = Window(kind="horizon", start=AT, end=AT, length=604_800)
    return ValueRegister(
        dimension=dimension, window=window, watermark=AT, game=GAME, assets=values, checks=Checks(efficiency_residual=0.0), lineage=()
    )


@pytest.mark.parametrize(
    ("s", "weight"), [(5.0, 1.0), (0.0, 1.0), (-0.99, 1.0), (-1.0, 1.0), (-1.5, 0.5), (-1.9, 0.1), (-2.0, 0.0), (-50.0, 0.0)]
)
def test_an_asset_counts_less_only_as_far_as_its_interval_lies_below_zero(s: float, weight: float) -> None:
    assert weight_of(value(s)) == pytest.approx(weight)


@pytest.mark.parametrize(
    "instead",
    [
        {"insufficient": True}, {"low": None}, {"high": None}, {"tests": LEAST_TESTS - 1}, {"rows": LEAST_ROWS - 0.5},
        {"low": -9.0, "high": -9.0, "points": -9.0},
    ],
)  # fmt: skip
def test_without_evidence_an_asset_counts_what_it_did_before(instead: dict[str, object]) -> None:
    assert (weight_of(value(-9.0)), weight_of(value(9.0), former=0.3)) == (0.0, 1.0)
    assert weight_of(value(-9.0, **instead)) == 1.0
    assert weight_of(value(-9.0, **instead), former=0.3) == 0.3


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_a_weight_lies_in_0_to_1_and_never_falls_with_the_points(one: float, other: float, half: float) -> None:
    low, high = (weight_of(value(points, points=points, low=points - half, high=points + half)) for points in sorted((one, other)))
    assert 0.0 <= low <= high <= 1.0


def follow(*ss: float, former: float = 1.0) -> list[float]:
    """What the asset ``relay`` counts as register follows register."""
    held = {"relay": former}
    seen = []
    for s in ss:
        held = weigh(register({"web": 9.0, "relay": s}), held)
        seen.append(held.get("relay", 1.0))
    return seen


def test_a_weight_falls_below_zero_and_rises_only_as_the_interval_reaches_it_again() -> None:
    assert follow(-1.5, -1.2, -1.7, -1.2, -1.0) == [0.5, 0.5, 0.3, 0.3, 0.3]
    assert follow(-9.0, -1.9, -1.0, -0.75, -0.25, -0.5, 0.0) == [0.0, 0.0, 0.0, 0.25, 0.75, 0.75, 1.0]
    assert follow(-0.99, 0.5, -0.99) == [1.0] * 3


@given(st.lists(st.floats(0, 0.98), min_size=1, max_size=30), st.floats(-3, 1), st.floats(0, 1))
def test_evidence_that_moves_by_less_than_a_half_width_never_moves_a_weight_both_ways(moves: list[float], s: float, former: float) -> None:
    """The first register may move it either way, whatever it was."""
    seen = follow(*(s + move for move in [0.0, *moves]), former=round(20 * former) / 20)
    steps = [after - before for before, after in pairwise(seen)]
    assert all(step <= 0 for step in steps) or all(step >= 0 for step in steps)


@given(st.floats(-4, 2), st.floats(0, 1))
def test_the_same_register_again_changes_nothing(s: float, former: float) -> None:
    once, again = follow(s, s, former=round(20 * former) / 20)
    assert once == again


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=8))
def test_where_anything_counts_less_something_of_worth_counts_in_full(ss: Sequence[float]) -> None:
    assets = {f"a{number}": s for number, s in enumerate(ss)}
    below = weigh(register(assets), {})
    assert all(0.0 <= weight < 1.0 for weight in below.values())
    if below:
        assert any(s > 0 for asset, s in assets.items() if asset not in below)


def test_what_is_no_source_of_its_own_always_counts() -> None:
    assert weigh(register({"web": 9.0, OTHER: -9.0, UNKNOWN: -9.0, "relay": -9.0}), {}) == {"relay": 0.0}


def test_an_asset_that_left_the_register_counts_in_full_again() -> None:
    assert weigh(register({"web": 9.0}), {"relay": 0.0}) == {}


def test_an_event_counts_what_the_worst_of_its_assets_does() -> None:
    weights = SourceWeights({"channel": {"relay": 0.3}, "event_type": {"browse": 0.6}, "country": {"IE": 0.0}, "segment": {}})
    assert weights.of(Source("web", "click", "GB", "new")) == 1.0
    assert weights.of(Source("web", "browse", "", "")) == 0.6
    assert weights.of(Source("relay", "browse", "", "")) == 0.3
    assert weights.of(Source("relay", "browse", "IE", "new")) == 0.0
    assert weights.of(("relay", "click")) == 0.3
    assert bool(weights)
    assert not SourceWeights({"channel": {}})


def test_dimensions_are_those_of_a_source_and_of_the_setting() -> None:
    assert Source._fields == DIMENSIONS
    assert Settings(feedback_dimensions=",".join(DIMENSIONS)).feedback_dimensions == ",".join(DIMENSIONS)
    with pytest.raises(ValueError, match="feedback_dimensions"):
        Settings(feedback_dimensions="channel,category")


def test_the_rule_follows_each_dimension_and_tells_what_changed() -> None:
    rule = FeedbackRule(["channel", "event_type"])
    first = rule.weights
    assert rule.take(register({"web": 9.0, "relay": 0.0})) == []
    assert rule.weights is first
    (change,) = rule.take(register({"web": 9.0, "relay": -1.5}))
    assert (change.dimension, change.asset, change.before, change.now) == ("channel", "relay", 1.0, 0.5)
    assert str(change) == "channel relay counts 0.50 (was 1.00): -1.50000 points a test, 95 % interval -2.50000 to -0.50000, 500 tests"
    rule.take(register({"click": 9.0, "browse": -9.0}, "event_type"))
    assert rule.weights.below == {"channel": {"relay": 0.5}, "event_type": {"browse": 0.0}}
    (gone,) = rule.take(register({"web": 9.0}))
    assert str(gone) == "channel relay counts 1.00 (was 0.50)"
    assert rule.weights.below == {"channel": {}, "event_type": {"browse": 0.0}}
