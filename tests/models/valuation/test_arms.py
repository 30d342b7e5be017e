from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.valuation.arms import LEAST_SHOPPERS, Forgotten, Spending, added, booked, incremental

SPENDING = st.builds(
    lambda shopper, arm, amount: Spending(b"%d-%s" % (shopper, arm.encode()), arm, "GBP", amount),
    st.integers(0, 6),
    st.sampled_from(["treated", "holdout"]),
    st.none() | st.decimals(-50, 500, places=2),
)


@given(spendings=st.lists(SPENDING, max_size=30), cut=st.integers(0, 30))
def test_sums_are_those_over_shoppers_totals_wherever_the_stream_was_cut(spendings: list[Spending], cut: int) -> None:
    accounts: dict = {}
    sums = added(booked(accounts, spendings[:cut]), booked(accounts, spendings[cut:]))
    for arm in ("treated", "holdout"):
        totals: dict[object, Decimal] = {}
        for spending in spendings:
            if spending.arm == arm:
                totals[spending.account] = totals.get(spending.account, Decimal(0)) + (spending.amount or 0)
        if totals:
            assert sums[arm].shoppers == len(totals)
            if "GBP" in sums[arm].money:
                assert sums[arm].money["GBP"].total == sum(totals.values())
                assert sums[arm].money["GBP"].squares == sum(total**2 for total in totals.values())


def test_the_interval_is_welchs_over_shoppers_who_spent_nothing_too() -> None:
    generator = np.random.default_rng(1)
    treated, held_out = generator.lognormal(3, 1, 400).round(2), generator.lognormal(2.8, 1.2, 90).round(2)
    treated[:150] = 0
    spendings = [
        Spending(b"%d-%s" % (n, arm.encode()), arm, "GBP" if amount else None, Decimal(str(amount)) if amount else None)
        for arm, amounts in (("treated", treated), ("holdout", held_out))
        for n, amount in enumerate(amounts)
    ]
    (found,) = incremental(booked({}, spendings))
    wanted = stats.ttest_ind(treated, held_out, equal_var=False).confidence_interval(0.95)
    assert found.amount == pytest.approx(400 * (treated.mean() - held_out.mean()))
    assert (found.low, found.high) == pytest.approx((400 * wanted.low, 400 * wanted.high))
    assert (found.treated, found.held_out) == (400, 90)


def test_all_that_were_not_held_out_are_treated() -> None:
    def spent(arm: str, amount: int) -> list[Spending]:
        return [Spending(b"%s-%d" % (arm.encode(), n), arm, "GBP", Decimal(amount + n % 2)) for n in range(40)]

    (found,) = incremental(booked({}, spent("control", 10) + spent("treatment", 20) + spent("holdout", 5)))
    assert (found.treated, found.held_out) == (80, 40)
    assert found.amount == pytest.approx(80 * 10)


def test_nothing_is_said_without_a_hold_out_or_of_a_handful() -> None:
    def arm(name: str, shoppers: int) -> list[Spending]:
        return [Spending(b"%d-%s" % (n, name.encode()), name, "GBP", Decimal(n)) for n in range(shoppers)]

    assert incremental(booked({}, arm("treated", 99))) == []
    assert incremental(booked({}, arm("treated", 99) + arm("holdout", LEAST_SHOPPERS - 1))) == []
    assert len(incremental(booked({}, arm("treated", 99) + arm("holdout", LEAST_SHOPPERS)))) == 1


def test_who_comes_back_after_being_forgotten_is_a_new_shopper_wherever_the_stream_was_cut() -> None:
    def spent(amount: int) -> Spending:
        return Spending(b"ann-treated", "treated", "GBP", Decimal(amount))

    entries = [spent(100), Forgotten(b"ann-"), spent(5), spent(7)]
    for cut in range(5):
        accounts: dict = {}
        sums = added(booked(accounts, entries[:cut]), booked(accounts, entries[cut:]))
        assert sums["treated"].shoppers == 2
        assert sums["treated"].money["GBP"].squares == 100**2 + 12**2
