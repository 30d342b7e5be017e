from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from models.valuation.accounts import (
    PERIOD_MS,
    PERIODS,
    Account,
    Brought,
    Ended,
    Entry,
    Forgotten,
    Lapsed,
    Running,
    Spending,
    booked,
    past_keys,
    period_of,
)
from models.valuation.arms import HORIZON_MS, ArmSums, Moments, added

NOW_MS = 1_700_000_000_000
NOW = period_of(NOW_MS)


def spent(shopper: str, amount: Decimal | int | None, arm: str = "treated", experiment: str = "e1", at_ms: int = NOW_MS) -> Spending:
    return Spending(shopper, experiment, arm, at_ms, {} if amount is None else {"GBP": Decimal(amount)}, period_of(at_ms))


def brought(shopper: str, amount: Decimal | int, periods_ago: int = 0) -> Brought:
    return Brought(shopper, NOW - periods_ago, {"GBP": Decimal(amount)})


SPENDING = st.builds(
    lambda shopper, arm, amount: spent(str(shopper), amount, arm),
    st.integers(0, 6),
    st.sampled_from(["treated", "holdout"]),
    st.none() | st.decimals(-50, 500, places=2),
)
BROUGHT = st.builds(
    lambda shopper, amount, ago: brought(str(shopper), amount, ago),
    st.integers(0, 6),
    st.decimals(-50, 500, places=2),
    st.integers(0, PERIODS),
)


@settings(deadline=None)
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


@settings(deadline=None)
@given(entries=st.lists(SPENDING | BROUGHT, max_size=40), cut=st.integers(0, 40))
def test_a_past_is_what_was_brought_in_no_arm_before_the_first_meeting_and_stays_wherever_the_stream_was_cut(
    entries: list[Entry], cut: int
) -> None:
    accounts: dict[bytes, Account | None] = {}
    held: dict[str, ArmSums] = {}
    sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
    assert held == sums
    before: dict[str, Decimal] = {}
    pasts: dict[tuple[str, str], Decimal] = {}
    totals: dict[tuple[str, str], Decimal] = {}
    for entry in entries:
        if isinstance(entry, Brought):
            before[entry.shopper] = before.get(entry.shopper, Decimal(0)) + entry.money["GBP"]
        elif isinstance(entry, Spending):
            shopper = entry.arm, entry.shopper
            pasts.setdefault(shopper, before.get(entry.shopper, Decimal(0)))
            totals[shopper] = totals.get(shopper, Decimal(0)) + entry.money.get("GBP", 0)
    for arm in {arm for arm, _ in totals}:
        mine = [shopper for shopper in totals if shopper[0] == arm]
        assert sums[f"e1:{arm}"].shoppers == len(mine)
        moments = sums[f"e1:{arm}"].money.get("GBP", Moments())
        assert moments == Moments(
            Decimal(sum(totals[one] for one in mine)),
            Decimal(sum(totals[one] ** 2 for one in mine)),
            Decimal(sum(pasts[one] for one in mine)),
            Decimal(sum(pasts[one] ** 2 for one in mine)),
            Decimal(sum(totals[one] * pasts[one] for one in mine)),
        )


def test_each_currency_and_basis_has_a_past_of_its_own() -> None:
    entries: list[Entry] = [
        Brought("ann", NOW, {"GBP": Decimal(5), "GBP.margin": Decimal(2)}),
        Spending("ann", "e1", "treated", NOW_MS, {"GBP.margin": Decimal(3)}, NOW),
    ]
    money = booked({}, {}, entries)["e1:treated"].money
    assert money["GBP"] == Moments(past=Decimal(5), past_squares=Decimal(25))
    assert money["GBP.margin"] == Moments(Decimal(3), Decimal(9), Decimal(2), Decimal(4), Decimal(6))


def test_a_past_of_too_long_ago_counts_no_more_and_is_kept_no_more() -> None:
    accounts: dict[bytes, Account | None] = {}
    running = Running()
    assert NOW - PERIODS not in running.lapsed(NOW_MS)
    booked(accounts, {}, [brought("ann", 7, PERIODS), brought("ann", 2)])
    assert running.keeps(NOW_MS - PERIODS * PERIOD_MS)
    assert not running.keeps(NOW_MS - (PERIODS + 1) * PERIOD_MS)
    later_ms = NOW_MS + PERIOD_MS
    # It does not count, whether or not the state was rid of it yet.
    assert booked(dict(accounts), {}, [spent("ann", 1, at_ms=later_ms)])["e1:treated"].money["GBP"].past == 2
    assert [*running.lapsed(later_ms)] == [NOW - PERIODS]
    assert [*running.lapsed(later_ms)] == [*running.lapsed(NOW_MS)] == []
    booked(accounts, {}, [Lapsed(NOW - PERIODS)])
    assert [key for key, account in accounts.items() if account is not None] == past_keys("ann", NOW)[-1:]
    # After a pause of years all that was kept lapses, each period once.
    assert [*running.lapsed(NOW_MS + 100 * PERIOD_MS)] == [NOW + 1 - PERIODS + n for n in range(PERIODS + 1)]


def test_who_is_forgotten_has_no_past_any_more_and_whose_name_begins_alike_keeps_theirs() -> None:
    accounts: dict[bytes, Account | None] = {}
    booked(accounts, {}, [brought("ann", 7), brought("ann", 5, 2), brought("anna", 3), Forgotten("ann", NOW)])
    assert [key for key, account in accounts.items() if account is not None] == past_keys("anna", NOW)[-1:]
    money = booked(accounts, {}, [spent("ann", 1), spent("anna", 1)])["e1:treated"].money["GBP"]
    assert (money.past, money.past_squares) == (3, 9)


def test_who_comes_back_after_being_forgotten_is_a_new_shopper_wherever_the_stream_was_cut() -> None:
    entries = [spent("ann", 100), Forgotten("ann"), spent("ann", 5), spent("ann", 7)]
    for cut in range(5):
        accounts: dict[bytes, Account | None] = {}
        held: dict[str, ArmSums] = {}
        sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
        assert sums["e1:treated"].shoppers == 2
        assert sums["e1:treated"].money["GBP"].squares == 100**2 + 12**2


def held_of(books: dict[str, ArmSums]) -> dict[str, tuple[int, dict[str, Moments]]]:
    """Shoppers and money of the books that hold anything."""
    return {
        book: (sums.shoppers, {name: moments for name, moments in sums.money.items() if moments.squares or moments.past_squares})
        for book, sums in books.items()
        if sums.shoppers
    }


@settings(deadline=None)
@given(
    befores=st.lists(BROUGHT, max_size=6),
    spendings=st.lists(SPENDING, max_size=12),
    others=st.lists(SPENDING, max_size=6),
    later=st.lists(SPENDING, max_size=8),
    cut=st.integers(0, 33),
)
def test_an_experiment_that_is_over_leaves_nothing_and_begins_anew(
    befores: list[Brought], spendings: list[Spending], others: list[Spending], later: list[Spending], cut: int
) -> None:
    entries: list[Entry] = [*befores, *spendings, *(one._replace(experiment="e2") for one in others), Ended("e1"), *later]
    accounts: dict[bytes, Account | None] = {}
    held: dict[str, ArmSums] = {}
    sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
    anew = booked({}, {}, [*befores, *(one for one in entries if isinstance(one, Spending) and one.experiment == "e2"), *later])
    assert held_of(sums) == held_of(anew)
    open_accounts = [key for key, account in accounts.items() if key.startswith(b"account") and account is not None]
    assert len(open_accounts) == sum(found.shoppers for found in anew.values())


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
