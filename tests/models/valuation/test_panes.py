"""Panes, windows, assets and money: the small laws that everything above rests on."""

from __future__ import annotations

import doctest
import importlib
from decimal import Decimal, Inexact

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import CatalogueCoverage, RankCounts
from models.valuation import (
    OTHER,
    TOTAL,
    WINDOWS,
    AssetBound,
    AssetNumbers,
    AssetPanes,
    PaneId,
    PaneSums,
    closed_until,
    health_of,
    is_kept,
    window_bounds,
)  # fmt: skip
from models.valuation.money import Takings, add_takings, takings_of
from models.valuation.panes import LATE_MS, MINUTE_S, TOTAL_S
from models.valuation.sums import COLUMNS

AMOUNTS = st.decimals(min_value=0, max_value=10**15, places=6)
TIMES = st.integers(946_684_800_000, 4_102_444_799_999)


@pytest.mark.parametrize("module", ["assets", "costs", "panes", "money", "health"])
def test_the_examples_in_the_documentation_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"models.valuation.{module}")).failed == 0


@pytest.mark.parametrize("name", [name for name, span in WINDOWS.items() if span.length_s != TOTAL_S])
@given(watermark_ms=TIMES)
def test_a_window_holds_the_watermark_and_only_panes_that_are_kept(name: str, watermark_ms: int) -> None:
    start, end = window_bounds(name, watermark_ms)
    length_s, panes = WINDOWS[name]
    assert end - length_s * 1000 <= watermark_ms < end
    assert end - start == panes * length_s * 1000
    assert is_kept(PaneId(length_s, start), watermark_ms)


def test_the_total_is_always_kept_and_has_no_bounds() -> None:
    assert is_kept(TOTAL, 4_102_444_799_999)
    with pytest.raises(ValueError, match="no bounds"):
        window_bounds("total", 0)


def test_assets_beyond_the_bound_are_counted_under_other_for_ever() -> None:
    bound = AssetBound(limit=2)
    assert [bound.kept("channel", name) for name in ("a", "b", "c", "d", "a", "c")] == ["a", "b", OTHER, OTHER, "a", OTHER]
    assert bound.kept("category", "c") == "c"


def test_an_asset_named_other_takes_no_place_from_those_that_are_told_apart() -> None:
    bound = AssetBound(limit=1)
    assert [bound.kept("channel", name) for name in (OTHER, "web", "app")] == [OTHER, "web", OTHER]


def test_numbers_read_back_go_on_where_they_were() -> None:
    numbers = AssetNumbers()
    for name in ("a", "b", "a"):
        numbers.number("channel", name)
    again = AssetNumbers(numbers.pairs)
    assert [again.number("channel", name) for name in "abc"] == [0, 1, 2]
    assert len(again) == 3


@given(watermarks=st.lists(TIMES, min_size=1, max_size=4))
def test_a_minute_is_closed_when_all_have_left_it_or_the_foremost_is_five_minutes_on(watermarks: list[int]) -> None:
    closed = closed_until(watermarks)
    assert closed % (MINUTE_S * 1000) == 0
    waited_for = [at for at in watermarks if at >= max(watermarks) - LATE_MS]
    assert closed <= min(waited_for)
    assert closed + MINUTE_S * 1000 > (min(watermarks) if waited_for == watermarks else max(watermarks) - LATE_MS)


def test_what_comes_for_a_minute_that_was_let_go_is_let_go_with_the_next_step_of_the_watermark() -> None:
    old, new = PaneId(MINUTE_S, 0), PaneId(MINUTE_S, 120 * 60_000)
    panes = AssetPanes()
    panes.add(0, new, PaneSums())
    assert panes.advance(new.start_ms) == []
    panes.add(1, old, PaneSums())
    assert panes.closed(0, MINUTE_S * 1000) == [old]
    assert panes.advance(new.start_ms) == [(1, old)]
    assert panes.advance(new.start_ms) == []


@given(amounts=st.lists(AMOUNTS, max_size=30), cut=st.integers(0, 30))
def test_money_adds_exactly_in_any_grouping(amounts: list[Decimal], cut: int) -> None:
    def total(part: list[Decimal]) -> dict[str, Takings]:
        into: dict[str, Takings] = {"GBP": Takings()}
        for amount in part:
            add_takings(into, {"GBP": takings_of(amount, attributed=True)})
        return into

    merged = total(amounts[:cut])
    add_takings(merged, total(amounts[cut:]))
    assert merged == total(amounts[::-1])
    assert merged["GBP"].revenue * 10**6 == sum(int(amount * 10**6) for amount in amounts)


def test_money_is_never_rounded_in_silence() -> None:
    with pytest.raises(Inexact):
        Takings(Decimal("1e120")).plus(Takings(Decimal("0.000001")))


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_an_amount_that_is_no_number_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        takings_of(Decimal(amount), attributed=False)


def test_health_is_a_signed_gap_and_never_a_negative_signal() -> None:
    better, worse = RankCounts().update(1).update(2), RankCounts().update(None).update(1)
    over = health_of(before=worse, after=better, epsilon=0.1)
    under = health_of(before=better, after=worse, epsilon=0.1)
    assert (over.gap, over.E) == (0.5, 0.4)
    assert (under.gap, under.E) == (-0.5, 0.0)
    assert over.orientation == "score_train - score_test"


@given(
    counts=st.lists(st.integers(0, 2**40), min_size=COLUMNS, max_size=COLUMNS),
    items=st.lists(st.text(max_size=8), max_size=5),
    revenue=AMOUNTS,
    served=st.none() | st.tuples(TIMES, st.text(max_size=5), st.text(max_size=5), st.integers(0, 10**7)),
)
def test_sums_survive_being_written_and_read(
    counts: list[int], items: list[str], revenue: Decimal, served: tuple[int, str, str, int] | None
) -> None:
    sketch = CatalogueCoverage().update(items).to_bytes()
    sums = PaneSums(money={"EUR": Takings(revenue)}, items=sketch, offset_low=3, offset_high=9, first_ms=7)
    sums.counts[:] = counts
    sums.served = served
    again = PaneSums.from_bytes(sums.to_bytes())
    assert again.counts.tolist() == counts
    assert (again.money, again.items, again.first_ms) == (sums.money, sketch, 7)
    assert (again.offset_low, again.offset_high, again.served) == (3, 9, served)
