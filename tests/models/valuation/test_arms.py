from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.valuation.arms import (
    HORIZON_MS,
    LEAST_SHOPPERS,
    Account,
    ArmSums,
    Ended,
    Forgotten,
    Running,
    Spending,
    added,
    booked,
    incremental,
)

NOW_MS = 1_700_000_000_000


def spent(shopper: str, amount: Decimal | int | None, arm: str = "treated", experiment: str = "e1", at_ms: int = NOW_MS) -> Spending:
    return Spending(shopper, experiment, arm, at_ms, {} if amount is None else {"GBP": Decimal(amount)})


SPENDING = st.builds(
    lambda shopper, arm, amount: spent(str(shopper), amount, arm),
    st.integers(0, 6),
    st.sampled_from(["treated", "holdout"]),
    st.none() | st.decimals(-50, 500, places=2),
)


@given(spendings=st.lists(SPENDING, max_size=30), cut=st.integers(0, 30))
def test_sums_are_those_over_shoppers_totals_wherever_the_stream_was_cut(spendings: list[Spending], cut: int) -> None:
    accounts: dict[bytes, Account | None] = {}
    held: dict[str, ArmSums] = {}
    sums = added(booked(accounts, held, spendings[:cut]), booked(accounts, held, spendings[cut:]))
    assert held == sums
    for arm in ("treated", "holdout"):
        totals: dict[object, Decimal] = {}
        for spending in spendings:
            if spending.arm == arm:
                totals[spending.account] = totals.get(spending.account, Decimal(0)) + spending.money.get("GBP", 0)
        book = f"e1:{arm}"
        if totals:
            assert sums[book].shoppers == len(totals)
            if "GBP" in sums[book].money:
                assert sums[book].money["GBP"].total == sum(totals.values())
                assert sums[book].money["GBP"].squares == sum(total**2 for total in totals.values())


def test_the_interval_is_welchs_over_shoppers_who_spent_nothing_too() -> None:
    generator = np.random.default_rng(1)
    treated, held_out = generator.lognormal(3, 1, 400).round(2), generator.lognormal(2.8, 1.2, 90).round(2)
    treated[:150] = 0
    spendings = [
        spent(str(n), Decimal(str(amount)) if amount else None, arm)
        for arm, amounts in (("treated", treated), ("holdout", held_out))
        for n, amount in enumerate(amounts)
    ]
    (found,) = incremental(booked({}, {}, spendings), NOW_MS)
    wanted = stats.ttest_ind(treated, held_out, equal_var=False).confidence_interval(0.95)
    assert found.amount == pytest.approx(400 * (treated.mean() - held_out.mean()))
    assert (found.low, found.high) == pytest.approx((400 * wanted.low, 400 * wanted.high))
    assert (found.treated, found.held_out) == (400, 90)


def test_all_that_were_not_held_out_are_treated() -> None:
    def forty(arm: str, amount: int) -> list[Spending]:
        return [spent(f"{n}", amount + n % 2, arm) for n in range(40)]

    (found,) = incremental(booked({}, {}, forty("control", 10) + forty("treatment", 20) + forty("holdout", 5)), NOW_MS)
    assert (found.treated, found.held_out) == (80, 40)
    assert found.amount == pytest.approx(80 * 10)


def test_nothing_is_said_without_a_hold_out_or_of_a_handful() -> None:
    def arm(name: str, shoppers: int) -> list[Spending]:
        return [spent(str(n), n, name) for n in range(shoppers)]

    assert incremental(booked({}, {}, arm("treated", 99)), NOW_MS) == []
    assert incremental(booked({}, {}, arm("treated", 99) + arm("holdout", LEAST_SHOPPERS - 1)), NOW_MS) == []
    assert len(incremental(booked({}, {}, arm("treated", 99) + arm("holdout", LEAST_SHOPPERS)), NOW_MS)) == 1


def test_who_comes_back_after_being_forgotten_is_a_new_shopper_wherever_the_stream_was_cut() -> None:
    entries = [spent("ann", 100), Forgotten("ann"), spent("ann", 5), spent("ann", 7)]
    for cut in range(5):
        accounts: dict[bytes, Account | None] = {}
        held: dict[str, ArmSums] = {}
        sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
        assert sums["e1:treated"].shoppers == 2
        assert sums["e1:treated"].money["GBP"].squares == 100**2 + 12**2


def test_experiments_have_books_of_their_own_and_none_once_they_are_over() -> None:
    def forty(experiment: str, extra: int, at_ms: int) -> list[Spending]:
        return [spent(f"{n}", 10 + n % 3 + (extra if n % 2 else 0), ("holdout", "treated")[n % 2], experiment, at_ms) for n in range(80)]

    late_ms = NOW_MS + HORIZON_MS
    books = booked({}, {}, forty("e1", 1, NOW_MS) + forty("e2", 5, late_ms))
    assert [(found.experiment, round(found.amount)) for found in incremental(books, late_ms)] == [("e1", 41), ("e2", 201)]
    assert [found.experiment for found in incremental(books, late_ms + 1)] == ["e2"]


def held_of(books: dict[str, ArmSums]) -> dict[str, tuple[int, dict[str, Decimal]]]:
    """Shoppers and money of the books that hold anything."""
    return {
        book: (sums.shoppers, {currency: moments.squares for currency, moments in sums.money.items() if moments.squares})
        for book, sums in books.items()
        if sums.shoppers
    }


@given(
    spendings=st.lists(SPENDING, max_size=12),
    others=st.lists(SPENDING, max_size=6),
    later=st.lists(SPENDING, max_size=8),
    cut=st.integers(0, 27),
)
def test_an_experiment_that_is_over_leaves_nothing_and_begins_anew(
    spendings: list[Spending], others: list[Spending], later: list[Spending], cut: int
) -> None:
    entries = [*spendings, *(one._replace(experiment="e2") for one in others), Ended("e1"), *later]
    accounts: dict[bytes, Account | None] = {}
    held: dict[str, ArmSums] = {}
    sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
    anew = booked({}, {}, [one for one in entries if isinstance(one, Spending) and one.experiment == "e2"] + later)
    assert held_of(sums) == held_of(anew)
    assert sum(account is not None for account in accounts.values()) == sum(found.shoppers for found in anew.values())


def test_an_experiment_is_over_when_nothing_was_heard_of_it_for_a_week_of_event_time() -> None:
    running = Running()
    assert running.ended(NOW_MS) == []
    running.heard("e1", NOW_MS)
    running.heard("e2", NOW_MS + 1)
    assert running.ended(NOW_MS + HORIZON_MS) == []
    assert running.ended(NOW_MS + HORIZON_MS + 1) == ["e1"]
    assert running.ended(NOW_MS) == []
    assert running.ended(NOW_MS + 2 * HORIZON_MS) == ["e2"]
    # With no books left nothing of it is kept, so that what is read back is what was known.
    assert running == Running()


def test_margin_and_the_revenue_of_what_has_none_are_told_apart() -> None:
    def bought(shopper: str, arm: str, money: dict[str, int]) -> Spending:
        return Spending(shopper, "e1", arm, NOW_MS, {name: Decimal(amount) for name, amount in money.items()})

    entries = [
        bought(f"{n}", arm, {"GBP.margin": 8 + n % 2, "GBP.modelled": 2, "GBP": 50} if arm == "treated" else {"GBP.margin": 4 + n % 2})
        for arm in ("treated", "holdout")
        for n in range(40)
    ]
    margin, revenue = incremental(booked({}, {}, entries), NOW_MS)
    assert [(found.currency, found.basis) for found in (margin, revenue)] == [("GBP", "margin"), ("GBP", "revenue")]
    assert (margin.amount, revenue.amount) == (pytest.approx(160), pytest.approx(2_000))
    assert margin.modelled_fraction == pytest.approx(80 / (40 * 8.5 + 40 * 4.5))
    assert revenue.modelled_fraction is None
