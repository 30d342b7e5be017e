from __future__ import annotations

import doctest
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.attribution import Memory, Touch, Windows, memory, sku_digest
from models.attribution.memory import LISTS_LIMIT, ORDER_LINES_LIMIT, TOUCH_LIMIT, list_digest

WINDOWS = Windows(click_s=1000, view_s=100)
HOUR_MS = 3_600_000


def digests(skus: str) -> bytes:
    return b"".join(sku_digest(sku) for sku in skus)


def remembered(*lists: tuple[str, int, str]) -> Memory:
    """After these lists: id, time in s, SKUs of one letter."""
    found = Memory()
    for identifier, at_s, skus in lists:
        found = found.sent(identifier, at_s * 1000, digests(skus), WINDOWS)
    return found


def touch(sku: str, at_s: int, identifier: str = "L", place: int = 1) -> Touch:
    return Touch(list_digest(identifier), at_s, sku_digest(sku), place)


def test_the_examples_hold() -> None:
    assert doctest.testmod(memory).failed == 0


def test_an_item_is_found_at_its_place_in_each_list_that_held_it() -> None:
    found = remembered(("L0", 10, "abc"), ("L1", 11, "ca"), ("L2", 12, ""))
    assert [found.place(name, sku, 0) for name, sku in [("L0", "c"), ("L1", "c"), ("L1", "b"), ("L2", "a"), ("made up", "a")]] == [
        3, 1, None, None, None,
    ]  # fmt: skip


def test_a_list_sent_before_the_window_holds_no_claim() -> None:
    found = remembered(("L0", 10, "a"), ("L1", 20, "b"))
    assert (found.place("L0", "a", 10), found.place("L0", "a", 11)) == (1, None)


def test_lists_alike_cost_nine_bytes_each_and_are_told_apart() -> None:
    found = remembered(("L0", 1, "z"), *((f"L{n}", n, "abc") for n in range(1, 41)), ("L41", 41, "y"))
    assert len(found.lists) == 2 * (10 + 3) + (10 + 9) + 39 * 9
    assert [found.place(f"L{n}", "b", 0) for n in range(42)] == [None, *[2] * 40, None]


letters = st.text("abcdef", max_size=5)


@given(st.lists(st.tuples(st.integers(0, 400), letters), max_size=60))
def test_it_answers_like_a_plain_table_of_the_lists_that_it_kept(steps: list[tuple[int, str]]) -> None:
    lists, at_s = [], 0
    for number, (wait, skus) in enumerate(steps):
        at_s += wait
        lists.append((f"L{number}", at_s, "".join(dict.fromkeys(skus))))
    found = remembered(*lists)
    assert len(found.lists) <= LISTS_LIMIT
    kept = found.sent_lists()
    assert [(sent.digest, sent.at_s) for sent in kept] == [(list_digest(name), at) for name, at, _ in lists[len(lists) - len(kept) :]]
    assert all(at < at_s - WINDOWS.click_s for _, at, _ in lists[: len(lists) - len(kept)])  # so few bytes that age alone cuts
    for name, at, skus in lists[len(lists) - len(kept) :]:
        for sku in "abcdef":
            assert found.place(name, sku, at) == (skus.index(sku) + 1 if sku in skus else None)
    assert Memory.from_hex(*found.to_hex()) == found


def test_the_oldest_lists_make_room() -> None:
    found = remembered(*((f"L{n}", 1, f"{n % 10}bcdefghijklmnopqrst") for n in range(100)))
    held = [n for n in range(100) if found.place(f"L{n}", "t", 0) is not None]
    assert held == list(range(78, 100))
    assert len(found.lists) <= LISTS_LIMIT


def test_the_newest_click_of_an_item_counts_and_the_oldest_items_make_room() -> None:
    found = Memory().clicked(touch("a", 50)).clicked(touch("a", 40))  # the second came late
    assert (found.was_clicked("a", 50), found.was_clicked("a", 51), found.was_viewed("a", 0)) == (True, False, False)
    for number in range(TOUCH_LIMIT):
        found = found.clicked(touch(str(number), 60)).viewed(touch("v", number))
    assert [found.was_clicked(sku, 0) for sku in ("a", "0", str(TOUCH_LIMIT - 1))] == [False, True, True]
    assert found.was_viewed("v", TOUCH_LIMIT - 1)


def test_an_item_taken_up_vouches_for_a_list_that_has_been_forgotten() -> None:
    found = Memory().clicked(touch("a", 50, "L0", 7)).viewed(touch("b", 60, "L1", 2))
    asked = [("L0", "a", 50), ("L0", "a", 51), ("L1", "a", 0), ("L1", "b", 60)]
    assert [found.place(*question) for question in asked] == [7, None, None, 2]


@pytest.mark.parametrize("margin", ["0", "1.25", "-0.000001", "999999999999999.999999", "-999999999999999.999999", None])
def test_an_order_line_remembers_what_a_unit_earned(margin: str | None) -> None:
    earned, today = None if margin is None else Decimal(margin), Decimal(7)
    found = (
        remembered(("L", 1, "a")).bought("o1", "a", "GBP", Decimal(3)).bought("o1", "b", "GBP", Decimal(4)).bought("o1", "a", "GBP", earned)
    )
    assert found.unit_margin("o1", "a", "GBP", today) == earned
    assert found.unit_margin("o1", "b", "GBP", today) == 4
    for other in (("o2", "a", "GBP"), ("o1", "c", "GBP"), ("o1", "a", "EUR")):
        assert found.unit_margin(*other, today) == today
    assert [margin for _, margin in found.order_lines()] == [4, earned]
    assert Memory.from_hex(*found.to_hex()) == found
    kept = found.clicked(touch("a", 50)).viewed(touch("b", 60)).sent("L1", 2_000, digests("b"), WINDOWS)
    assert kept.margins == found.margins
    assert found.without_orders() == remembered(("L", 1, "a"))


def test_the_newest_order_lines_are_remembered_also_of_a_session_that_became_the_shoppers() -> None:
    def bought(orders: range) -> Memory:
        found = Memory()
        for order in orders:
            found = found.bought(f"o{order}", "a", "GBP", Decimal(order))
        return found

    found = bought(range(ORDER_LINES_LIMIT + 2)).joined(bought(range(ORDER_LINES_LIMIT, ORDER_LINES_LIMIT + 3)))
    assert [margin for _, margin in found.order_lines()] == list(range(3, ORDER_LINES_LIMIT + 3))
    assert found.unit_margin("o2", "a", "GBP", None) is None


def test_two_memories_join_in_the_order_of_their_times() -> None:
    user = remembered(("U0", 10, "ab"), ("U1", 30, "ab")).clicked(touch("a", 10))
    session = remembered(("S0", 20, "ab"), ("S1", 40, "c")).clicked(touch("a", 20)).clicked(touch("b", 5)).viewed(touch("c", 7))
    joined = user.joined(session)
    assert [sent.digest for sent in joined.sent_lists()] == [list_digest(name) for name in ("U0", "S0", "U1", "S1")]
    assert [joined.place(name, "b", 0) for name in ("U0", "U1", "S0", "S1")] == [2, 2, 2, None]
    assert (joined.was_clicked("a", 20), joined.was_clicked("b", 5), joined.was_viewed("c", 7)) == (True, True, True)
    assert joined.joined(session) == joined  # a history that comes twice changes nothing
    after = joined.sent("U2", 50_000, digests("c"), WINDOWS)
    assert [after.place(name, "c", 0) for name in ("S1", "U2")] == [1, 1]


def test_both_sides_of_a_join_keep_within_the_limits() -> None:
    sides = [
        remembered(*((f"{side}{n}", n, f"{n % 10}bcdefghijklmnopqrst") for n in range(40))) for side in "US"
    ]  # fmt: skip
    joined = sides[0].joined(sides[1])
    assert len(joined.lists) <= LISTS_LIMIT
    times = [sent.at_s for sent in joined.sent_lists()]
    assert all(a <= b for a, b in pairwise(times))
    assert times[-1] == 39


@pytest.mark.parametrize(
    "texts",
    [
        ("00", "", "", ""),
        ("0000000000000000ff", "", "", ""),
        ("000000000000000001aabbcc02", "", "", ""),
        ("", "00", "", ""),
        ("", "", "0g", ""),
        ("", "", "", "00"),
    ],
)
def test_bytes_that_are_no_memory_are_refused(texts: tuple[str, str, str, str]) -> None:
    with pytest.raises(ValueError, match=r"memory|bytes|hex"):
        Memory.from_hex(*texts)
