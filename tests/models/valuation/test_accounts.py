from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import product

import msgspec
import pytest
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
    Running,
    Scan,
    Spending,
    account_place,
    booked,
    past_places,
    period_of,
)
from models.valuation.arms import HORIZON_MS, ArmSums, Moments, added

NOW_MS = 1_700_000_000_000
NOW = period_of(NOW_MS)

#: Numbers of books.
BOOKS = {book: number for number, book in enumerate(product(("e1", "e2"), ("treated", "holdout", "control", "treatment")))}


def spent(shopper: str, amount: Decimal | int | None, arm: str = "treated", experiment: str = "e1", at_ms: int = NOW_MS) -> Spending:
    money = {} if amount is None else {"GBP": Decimal(amount)}
    return Spending(shopper, experiment, arm, at_ms, money, period_of(at_ms), BOOKS[experiment, arm])


def forgotten(shopper: str) -> Forgotten:
    return Forgotten(shopper, Running(period=NOW, books={f"{e}:{arm}": number for (e, arm), number in BOOKS.items()}).places())


def scan_of(accounts: dict[bytes, Account | None]) -> Scan:
    """What a state that holds the accounts finds."""

    def scan(place: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(key for key, account in accounts.items() if account is not None and key.startswith(place) and key >= start)
        return ((key, b"") for key in keys)

    return scan


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
                totals[spending.shopper] = totals.get(spending.shopper, Decimal(0)) + spending.money.get("GBP", 0)
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
        spent("ann", None)._replace(money={"GBP.margin": Decimal(3)}),
    ]
    money = booked({}, {}, entries)["e1:treated"].money
    assert money["GBP"] == Moments(past=Decimal(5), past_squares=Decimal(25))
    assert money["GBP.margin"] == Moments(Decimal(3), Decimal(9), Decimal(2), Decimal(4), Decimal(6))


def test_a_past_of_too_long_ago_counts_no_more_and_is_kept_no_more() -> None:
    accounts: dict[bytes, Account | None] = {}
    running = Running()
    running.lapse(NOW_MS)
    assert running.closed == []
    booked(accounts, {}, [brought("ann", 7, PERIODS), brought("ann", 2)])
    assert running.keeps(NOW_MS - PERIODS * PERIOD_MS)
    assert not running.keeps(NOW_MS - (PERIODS + 1) * PERIOD_MS)
    later_ms = NOW_MS + PERIOD_MS
    # It does not count, whether or not the state was rid of it yet.
    assert booked(dict(accounts), {}, [spent("ann", 1, at_ms=later_ms)])["e1:treated"].money["GBP"].past == 2
    running.lapse(later_ms)
    assert [place for place, _ in running.closed] == past_places(NOW)[:1]
    running.lapse(later_ms)
    running.lapse(NOW_MS)
    assert len(running.closed) == 1
    assert running.clear(scan_of(accounts), 10) == [past_places(NOW)[0] + b"ann"]
    assert running.closed == []
    # After a pause of years all that was kept lapses, each period once.
    running.lapse(NOW_MS + 100 * PERIOD_MS)
    assert [place for place, _ in running.closed] == past_places(NOW + 1)


def test_who_is_forgotten_has_no_past_any_more_and_whose_name_begins_alike_keeps_theirs() -> None:
    accounts: dict[bytes, Account | None] = {}
    booked(accounts, {}, [brought("ann", 7), brought("ann", 5, 2), brought("anna", 3), forgotten("ann")])
    assert [key for key, account in accounts.items() if account is not None] == [past_places(NOW)[-1] + b"anna"]
    money = booked(accounts, {}, [spent("ann", 1), spent("anna", 1)])["e1:treated"].money["GBP"]
    assert (money.past, money.past_squares) == (3, 9)


def test_who_comes_back_after_being_forgotten_is_a_new_shopper_wherever_the_stream_was_cut() -> None:
    entries = [spent("ann", 100), forgotten("ann"), spent("ann", 5), spent("ann", 7)]
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
    others = [one._replace(experiment="e2", book=BOOKS["e2", one.arm]) for one in others]
    # They are heard of when the books that were open before have been closed.
    later = [one._replace(book=len(BOOKS) + one.book) for one in later]
    entries: list[Entry] = [*befores, *spendings, *others, Ended("e1"), *later]
    accounts: dict[bytes, Account | None] = {}
    held: dict[str, ArmSums] = {}
    sums = added(booked(accounts, held, entries[:cut]), booked(accounts, held, entries[cut:]))
    anew = booked({}, {}, [*befores, *(one for one in entries if isinstance(one, Spending) and one.experiment == "e2"), *later])
    assert held_of(sums) == held_of(anew)
    closed = (account_place(BOOKS["e1", "treated"]), account_place(BOOKS["e1", "holdout"]))
    left = [key for key in accounts if key.startswith(b"account") and not key.startswith(closed)]
    assert len(left) == sum(found.shoppers for found in anew.values())


def test_an_experiment_is_over_when_nothing_was_heard_of_it_for_a_week_of_event_time() -> None:
    running = Running()
    assert running.ended(NOW_MS) == []
    assert running.heard("e1", "treated", NOW_MS) == 0
    assert running.heard("e2", "treated", NOW_MS + 1) == 1
    assert running.heard("e1", "holdout", NOW_MS) == 2
    assert running.heard("e1", "treated", NOW_MS - 1) == 0
    assert running.ended(NOW_MS + HORIZON_MS) == []
    assert running.ended(NOW_MS + HORIZON_MS + 1) == ["e1"]
    assert running.ended(NOW_MS) == []
    # A book that begins anew has another number, so nothing that is left of the former is taken for its own.
    assert running.heard("e1", "treated", NOW_MS + HORIZON_MS + 1) == 3
    assert running.books == {"e2:treated": 1, "e1:treated": 3}
    assert running.ended(NOW_MS + 3 * HORIZON_MS) == ["e1", "e2"]
    assert [place for place, _ in running.closed] == [account_place(book) for book in (0, 2, 3, 1)]
    # With no books left nothing of them is kept but how many there were.
    assert running.clear(lambda _place, _start: (), 1) == []
    assert running == Running(opened=4)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_what_is_closed_is_deleted_a_few_at_a_time_all_of_it_once_and_nothing_else(limit: int) -> None:
    accounts: dict[bytes, Account | None] = {}
    running = Running(period=NOW)
    entries: list[Entry] = [
        spent(str(number), 1, arm, experiment)._replace(book=running.heard(experiment, arm, NOW_MS))
        for experiment, arm in BOOKS
        for number in range(4)
    ]
    entries += [brought(str(number), 1, ago) for number in range(3) for ago in (0, PERIODS)]
    booked(accounts, {}, entries)
    before = sorted(accounts)
    running.heard("e2", "treated", NOW_MS + PERIOD_MS)
    assert running.ended(NOW_MS + PERIOD_MS) == ["e1"]
    running.lapse(NOW_MS + PERIOD_MS)
    deleted: list[bytes] = []
    while running.closed:
        # Who is killed goes on from what was written.
        running = msgspec.msgpack.decode(msgspec.msgpack.encode(running), type=Running)
        keys = running.clear(scan_of(accounts), limit)
        assert len(keys) <= limit
        accounts.update(dict.fromkeys(keys))
        deleted += keys
    kept = (*(account_place(number) for (experiment, _), number in BOOKS.items() if experiment == "e2"), past_places(NOW)[-1])
    assert sorted(deleted) == [key for key in before if not key.startswith(kept)]
    assert len(deleted) == 16 + 3


def test_who_is_forgotten_is_so_at_once_in_what_is_about_to_be_deleted_too() -> None:
    accounts: dict[bytes, Account | None] = {}
    running = Running(period=NOW)
    book = running.heard("e1", "treated", NOW_MS)
    booked(accounts, {}, [*(spent(name, 1)._replace(book=book) for name in ("ann", "bob")), brought("ann", 3, PERIODS)])
    running.lapse(NOW_MS + PERIOD_MS)
    running.ended(NOW_MS + PERIOD_MS)
    booked(accounts, {}, [Forgotten("ann", running.places())])
    assert [key for key, account in accounts.items() if account is not None] == [account_place(book) + b"bob"]
