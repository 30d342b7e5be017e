"""What became of lists shown: each rule by example, then any sequence of events against a plain reading of the rules."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attribution import Correction, Fact, Follower, Resolved, Sale, ShownList, ShownLists, Source, Windows, following, order_digest
from models.attribution.following import BYTES_LIMIT, LISTS_LIMIT, SALES_LIMIT, SOLD_LIMIT
from models.attribution.shown import ADDED, BOUGHT, CLICKED, IGNORED, Sold, Taken, pack, read_list

WINDOWS = Windows(click_s=1000, view_s=100)
WEB, APP = Source("web", "GB", "new"), Source("app")
ALL = 10**9


def sale(order: str = "o", quantity: int = 1, revenue: str = "5.00", currency: str = "GBP", margin: str | None = None) -> Sale:
    return Sale(order_digest(order), quantity, revenue, currency, margin)


class Shopper:
    """One shopper, an event a micro-batch: the state goes through its bytes each time."""

    def __init__(self) -> None:
        self.state = ShownLists()
        self.offset = 0
        self.resolved: list[Resolved] = []
        self.corrections: list[Correction] = []

    def do(self, what: str, *arguments: Any) -> None:
        follower = Follower(ShownLists.from_hex(self.state.to_hex()), WINDOWS)
        if what in ("show", "impress"):
            getattr(follower, what)(0, self.offset, *arguments)
        elif what in ("take", "refund"):
            getattr(follower, what)((0, self.offset), *arguments)
        else:
            getattr(follower, what)(*arguments)
        self.offset += 1
        self.state = follower.close()
        self.resolved += follower.resolved
        self.corrections += follower.corrections

    def show(self, name: str, at_s: int, skus: str, arm: str | None = None, source: Source = WEB) -> None:
        self.do("show", name, at_s, list(skus), arm, source)

    def impress(self, name: str, at_s: int, sku: str, place: int, source: Source = WEB) -> None:
        self.do("impress", name, at_s, sku, place, None, source)

    def take(self, kind: str, sku: str, at_s: int, cited: str | None = None, **sold: Any) -> None:
        self.do("take", Fact(kind, sku, at_s, cited, sale(**sold) if kind == "purchase" else None))

    def results(self) -> dict[str, dict[str, int]]:
        """By list told of: what became of its items."""
        return {
            shown.recommendation_id: {sku: taken.result if (taken := shown.of(sku)) else IGNORED for sku in shown.skus}
            for shown, _ in self.resolved
        }


def test_a_list_is_told_of_once_when_its_views_window_is_over() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc", "holdout")
    shopper.do("settle", 110)
    assert shopper.resolved == []
    shopper.do("settle", 111)
    shopper.do("settle", ALL)
    (only,) = shopper.resolved
    assert (only.reason, only.shown.skus, only.shown.taken, only.shown.arm) == ("window", ["a", "b", "c"], [], "holdout")
    assert (only.shown.partition, only.shown.offset, only.shown.shown_s) == (0, 0, 10)
    assert shopper.state == ShownLists()


def test_a_click_keeps_the_list_open_for_its_purchase() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc")
    shopper.take("click", "b", 60)
    shopper.do("settle", 500)
    shopper.take("purchase", "b", 1060, quantity=2, revenue="9.00", margin="1.50")
    shopper.do("settle", 1060)
    assert shopper.resolved == []
    shopper.do("settle", 1061)
    assert shopper.results() == {"L": {"a": IGNORED, "b": BOUGHT, "c": IGNORED}}
    taken = shopper.resolved[0].shown.of("b")
    assert taken is not None
    assert (taken.first_s, taken.touched_s) == (60, 60)
    assert [(sold.quantity, sold.revenue, sold.margin()) for sold in taken.sales] == [(2, "9.00", Decimal("3.00"))]


@pytest.mark.parametrize(
    ("kind", "at_s", "cited", "result"),
    [
        ("click", 110, None, CLICKED),
        ("click", 111, None, IGNORED),  # the view's window is over, and nothing cites the list
        ("click", 9, None, IGNORED),  # before it was shown
        ("add_to_cart", 50, "made up", ADDED),
        ("browse", 50, None, IGNORED),
        ("browse", 50, "L", CLICKED),
        ("browse", 50, "made up", IGNORED),
        ("click", 1010, "L", CLICKED),
        ("click", 1011, "L", IGNORED),
        ("purchase", 110, None, BOUGHT),
        ("purchase", 111, None, IGNORED),
    ],
)
def test_what_counts_as_taken_up(kind: str, at_s: int, cited: str | None, result: int) -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc")
    shopper.take(kind, "a", at_s, cited)
    shopper.do("settle", ALL)
    assert shopper.results()["L"] == {"a": result, "b": IGNORED, "c": IGNORED}


def test_an_event_speaks_for_one_list_the_cited_then_the_clicked_then_the_newest() -> None:
    shopper = Shopper()
    shopper.show("L1", 10, "ab")
    shopper.show("L2", 20, "ca")
    shopper.show("L3", 30, "ad")
    shopper.take("click", "a", 31, "L1")
    shopper.take("add_to_cart", "a", 40)  # where it was clicked
    shopper.take("purchase", "a", 41, "L2")  # what it cites
    shopper.take("purchase", "d", 42)
    shopper.do("settle", ALL)
    assert shopper.results() == {"L1": {"a": ADDED, "b": IGNORED}, "L2": {"c": IGNORED, "a": BOUGHT}, "L3": {"a": IGNORED, "d": BOUGHT}}


@pytest.mark.parametrize("told", [True, False])
def test_the_same_items_shown_again_are_the_same_showing_until_its_window_is_over(told: bool) -> None:
    shopper = Shopper()
    for number in range(5):
        shopper.show(f"L{number}", 10 + number, "abc")
    shopper.show("other", 20, "bac")
    shopper.show("L8", 120, "bac")
    if told:
        shopper.do("settle", 121)
    shopper.show("L8", 120, "bac")  # an event that comes late
    shopper.show("L9", 121, "bac")
    shopper.show("L10", 122, "abc")
    shopper.do("settle", ALL)
    assert [(shown.recommendation_id, shown.shown_s) for shown, _ in shopper.resolved] == [
        ("L0", 10), ("other", 20), ("L9", 121), ("L10", 122),
    ]  # fmt: skip


def test_impressions_make_a_list_of_what_was_seen_of_it() -> None:
    shopper = Shopper()
    for at_s, sku, place in [(10, "c", 3), (11, "a", 1), (12, "c", 3)]:
        shopper.impress("L", at_s, sku, place)
    shopper.take("click", "a", 20, "L")
    shopper.take("click", "b", 21, "L")  # it was in the list, but not seen
    shopper.do("settle", ALL)
    (only,) = shopper.resolved
    assert ([only.shown.place(sku) for sku in "ca"], only.shown.shown_s) == ([3, 1], 10)
    assert shopper.results() == {"L": {"c": IGNORED, "a": CLICKED}}


def test_an_impression_after_the_list_was_told_of_is_another_part_of_it_unless_the_item_was_in_it() -> None:
    shopper = Shopper()
    shopper.impress("L", 10, "a", 1)
    shopper.do("settle", 111)
    shopper.impress("L", 112, "a", 1)
    shopper.impress("L", 113, "b", 2)
    shopper.take("click", "b", 114, "L")
    shopper.do("settle", ALL)
    assert [shown.skus for shown, _ in shopper.resolved] == [["a"], ["b"]]
    assert shopper.corrections == []


def test_what_comes_late_is_a_correction_that_names_the_list() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc")
    shopper.do("settle", 111)
    shopper.take("click", "b", 50)  # older than the watermark
    shopper.take("click", "b", 51)  # which changes nothing more
    shopper.take("purchase", "b", 60, order="p", quantity=2, revenue="7.00")
    (click, purchase) = shopper.corrections
    assert (click.partition, click.offset, click.by, click.recommendation_id) == (0, 0, (0, 2), "L")
    assert (click.sku, click.place, click.result, click.reason, click.delay_s, click.sale) == ("b", 2, CLICKED, "late", 40, None)
    assert (purchase.result, purchase.reason, purchase.delay_s) == (BOUGHT, "late", 50)
    assert purchase.sale == sale("p", 2, "7.00")
    assert len(shopper.resolved) == 1
    assert shopper.results() == {"L": {"a": IGNORED, "b": IGNORED, "c": IGNORED}}


def test_a_refund_in_time_makes_the_sale_less_and_one_after_it_takes_back_what_was_told() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc")
    shopper.take("purchase", "a", 20, order="o1", quantity=3, revenue="30.00", margin="4.00")
    shopper.do("refund", "a", sale("o1", 1, "10.00"))
    shopper.do("refund", "a", sale("o2", 1, "10.00"))  # of another order
    shopper.do("refund", "b", sale("o1", 1, "10.00"))  # of another item
    shopper.do("refund", "a", sale("o1", 1, "10.00", "EUR"))
    shopper.do("settle", 111)
    taken = shopper.resolved[0].shown.of("a")
    assert taken is not None
    assert (taken.sales[0].quantity, taken.sales[0].revenue, taken.sales[0].margin()) == (2, "20.00", Decimal("8.00"))
    assert shopper.corrections == []
    for watermark_s in (112, ALL):  # first while the list is kept, then from what is remembered of it
        shopper.do("settle", watermark_s)
        shopper.do("refund", "a", sale("o1", 1, "10.00"))
    assert not shopper.state.lists
    shopper.do("refund", "a", sale("o1", 5, "50.00"))  # nothing is left
    for correction in shopper.corrections:
        assert (correction.offset, correction.sku, correction.place, correction.result) == (0, "a", 1, BOUGHT)
        assert (correction.reason, correction.delay_s) == ("refund", None)
        assert correction.sale == Sale(order_digest("o1"), -1, "-10.00", "GBP", "4.00")
        assert correction.sale.margin() == Decimal("-4.00")
    assert len(shopper.corrections) == 2


def test_no_more_is_taken_back_than_was_credited() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "a")
    shopper.take("purchase", "a", 20, quantity=2, revenue="10.00")
    shopper.do("settle", 111)
    shopper.do("refund", "a", sale(quantity=3, revenue="15.00"))
    assert [correction.sale for correction in shopper.corrections] == [sale(quantity=-2, revenue="-10.00")]


def test_more_lists_than_are_followed_are_told_of_early_and_their_sales_can_be_taken_back() -> None:
    shopper = Shopper()
    shopper.show("L0", 10, "z")
    shopper.take("purchase", "z", 11)
    for number in range(1, LISTS_LIMIT + 3):
        shopper.show(f"L{number}", 20 + number, f"a{chr(97 + number)}")
    assert [(shown.recommendation_id, reason) for shown, reason in shopper.resolved] == [(f"L{n}", "evicted") for n in range(3)]
    assert len(shopper.state.lists) == LISTS_LIMIT
    shopper.do("refund", "z", sale())
    assert [(correction.recommendation_id, correction.reason) for correction in shopper.corrections] == [("L0", "refund")]
    shopper.do("end")
    assert len(shopper.resolved) == LISTS_LIMIT + 3
    assert not shopper.state.lists


def test_bytes_are_bounded_whatever_the_items_are_called() -> None:
    shopper = Shopper()
    for number in range(LISTS_LIMIT):
        shopper.do("show", f"L{number}", 10 + number, [f"{number}-{place}-" + "x" * 100 for place in range(20)], None, WEB)
        assert sum(map(len, shopper.state.lists)) <= BYTES_LIMIT
    shopper.do("show", "huge", 50, ["y" * 120 + str(place) for place in range(100)], None, WEB)
    assert len(shopper.state.lists) == 1
    assert [shown.recommendation_id for shown, _ in shopper.resolved] == [f"L{number}" for number in range(LISTS_LIMIT)]


def test_sales_that_find_no_room_are_told_at_once() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "ab")
    for number in range(SALES_LIMIT + 2):
        shopper.take("purchase", "a", 20, order=f"o{number}", revenue="1.00")
    shopper.take("purchase", "a", 21, order="o0", revenue="1.00")  # there is a line of this order already
    assert [correction.sale for correction in shopper.corrections] == [sale(f"o{SALES_LIMIT + n}", 1, "1.00") for n in range(2)]
    shopper.do("settle", ALL)
    assert sum(sold.quantity for sold in shopper.resolved[0].shown.taken[0].sales) == SALES_LIMIT + 1
    assert len(shopper.state.sales) == SOLD_LIMIT


def test_a_list_says_whence_the_event_came_that_showed_it_and_so_do_its_corrections() -> None:
    shopper = Shopper()
    shopper.show("L", 10, "abc", source=WEB)
    shopper.show("M", 11, "abc", source=APP)  # the same showing
    shopper.impress("N", 12, "a", 1, APP)
    shopper.impress("N", 13, "d", 2, WEB)
    shopper.take("purchase", "a", 20, "L", order="o1", quantity=2, revenue="10.00")
    shopper.do("settle", 500)
    assert [(shown.recommendation_id, shown.source) for shown, _ in shopper.resolved] == [("L", WEB), ("N", APP)]
    shopper.take("click", "d", 30, "N")
    shopper.do("refund", "a", sale("o1"))
    shopper.do("settle", ALL)
    assert not shopper.state.lists
    shopper.do("refund", "a", sale("o1"))
    assert [(correction.sku, correction.source) for correction in shopper.corrections] == [("d", APP), ("a", WEB), ("a", WEB)]


def test_lists_that_were_stored_before_they_said_whence_they_came_are_read_and_go_on() -> None:
    taken = [Taken("b", CLICKED, 12, 12)]
    stored = pack((0, 7, "L", 10, "holdout", False, taken, b"", msgspec.Raw(pack(["a", "b"]))))
    sold = pack([(0, 3, "K", 1, "z", sale("o1"), None)])
    old = pack((stored, len(stored).to_bytes(4, "little"), msgspec.Raw(sold), 110, ["b"])).hex()
    shopper = Shopper()
    shopper.state = ShownLists.from_hex(old)
    shopper.do("refund", "z", sale("o1"))
    shopper.show("M", 20, "ab")  # the same items in the list after it
    shopper.take("add_to_cart", "b", 30)
    shopper.do("settle", ALL)
    assert [(c.recommendation_id, c.source, c.sale) for c in shopper.corrections] == [("K", Source(), sale("o1", -1, "-5.00"))]
    assert shopper.results() == {"L": {"a": IGNORED, "b": ADDED}}
    (only,) = shopper.resolved
    assert (only.shown.offset, only.shown.arm, only.shown.source) == (7, "holdout", Source())
    with pytest.raises(msgspec.ValidationError):
        read_list(pack((0, 7, "L", 10, None, "no", [], b"", [])))


def test_a_sessions_lists_go_on_under_its_user() -> None:
    session, user = Shopper(), Shopper()
    session.show("S", 20, "ab", "treated")
    session.take("click", "a", 25)
    user.offset = 50
    user.show("U", 30, "ac", "holdout")
    user.do("join", session.state)
    user.do("join", session.state)  # told twice, taken up once
    user.take("purchase", "a", 500)
    user.do("settle", ALL)
    assert user.results() == {"S": {"a": BOUGHT, "b": IGNORED}, "U": {"a": IGNORED, "c": IGNORED}}
    assert [shown.arm for shown, _ in user.resolved] == ["treated", "holdout"]


def test_the_text_of_nothing_is_empty_and_no_other_text_is_taken_for_lists() -> None:
    assert ShownLists().to_hex() == ""
    shopper = Shopper()
    shopper.impress("L", 10, "a", 1)
    text = shopper.state.to_hex()
    assert ShownLists.from_hex(text) == shopper.state

    def forgotten(*sold: Sold) -> ShownLists:
        return ShownLists(sold=msgspec.Raw(pack(sold)))

    def lists(*taken: Taken, skus: list[str], places: bytes = b"", touched: tuple[str, ...] = (), source: Source = WEB) -> ShownLists:
        data = pack(ShownList(0, 0, "L", 1, None, source, False, list(taken), places, msgspec.Raw(pack(skus))))
        return ShownLists(data, len(data).to_bytes(4, "little"), touched=msgspec.Raw(pack(touched)))

    wrong = [
        ShownLists(b"\x00", b"\x01\x00\x00\x00"),
        ShownLists(shopper.state.data, shopper.state.sizes[:-1]),
        ShownLists(shopper.state.data, shopper.state.sizes * 2),
        ShownLists(shopper.state.data + b"\x00", shopper.state.sizes),
        lists(skus=[]),
        lists(skus=["a", "b"], places=b"\x01"),
        lists(skus=["a", "b"], places=b"\x01\x00"),
        lists(skus=["a", ""]),
        ShownLists(shopper.state.data, shopper.state.sizes, wake_s=-1),
        lists(skus=["a"], source=Source("")),
        lists(skus=["a"], source=Source("web", "x" * 129)),
        lists(Taken("a", 1, 1), skus=["a"]),
        lists(Taken("b", 1, 1), skus=["a"], touched=("b",)),
        lists(Taken("a", 4, 1), skus=["a"], touched=("a",)),
        forgotten(Sold(0, 0, "L", 1, "a", Sale(1, 1, "much", "GBP"))),
        forgotten(Sold(0, 0, "L", 1, "a", Sale(1, 1, "1", "GBP", "NaN"))),
        forgotten(Sold(0, 0, "L", 1, "a", Sale(1, 1, "1", "pounds"))),
        forgotten(Sold(0, 0, "L", 1, "a", Sale(1, 1, "1e99", "GBP"))),
        forgotten(Sold(0, 0, "L", 0, "a", Sale(1, 1, "1", "GBP"))),
    ]
    for bad in (text[:-2], "00", text + "00", "zz", *(bad.to_hex() for bad in wrong)):
        with pytest.raises(ValueError, match=r"."):
            ShownLists.from_hex(bad)


# -- Any sequence of events ---------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """A list as the oracle keeps it. ``told``: the result at which each item was told of, or None before that."""

    number: int
    name: str
    shown_s: int
    skus: list[str]
    parts: bool
    kinds: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))  # result, time
    units: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    open: bool = True
    kept: bool = True

    def touched_s(self, sku: str) -> int:
        return max((at_s for kind, at_s in self.kinds[sku] if kind != BOUGHT), default=0)

    def due_s(self) -> int:
        touched_s = max((self.touched_s(sku) for sku in self.skus), default=0)
        return max(self.shown_s + WINDOWS.view_s, touched_s + WINDOWS.click_s if touched_s else 0)

    def gone_s(self) -> int:
        return max(self.due_s(), self.shown_s + WINDOWS.click_s) + WINDOWS.view_s


class Oracle:
    """The rules, read one after the other over all lists that there ever were."""

    def __init__(self) -> None:
        self.lists: list[Plain] = []
        self.forgotten: list[Plain] = []

    def show(self, number: int, name: str, at_s: int, skus: list[str]) -> None:
        kept = [plain for plain in self.lists if plain.kept]
        alike = kept and (kept[-1].name == name or (kept[-1].skus == skus and not kept[-1].parts))
        if alike and at_s <= kept[-1].due_s():
            return
        self.lists.append(Plain(number, name, at_s, list(skus), parts=False))

    def impress(self, number: int, name: str, at_s: int, sku: str) -> None:
        parts = [plain for plain in self.lists if plain.kept and plain.name == name]
        if any(sku in plain.skus for plain in parts):
            return
        for plain in reversed(parts):
            if plain.open and at_s <= plain.due_s():
                plain.skus.append(sku)
                plain.parts = True
                return
        self.lists.append(Plain(number, name, at_s, [sku], parts=True))

    def take(self, kind: str, sku: str, at_s: int, cited: str | None, order: str, quantity: int) -> None:
        holding = [plain for plain in self.lists if plain.kept and sku in plain.skus]
        named = [p for p in holding if p.name == cited and at_s <= max(p.shown_s, p.touched_s(sku)) + WINDOWS.click_s]
        clicked = [p for p in holding if p.touched_s(sku) and 0 <= at_s - p.touched_s(sku) <= WINDOWS.click_s and kind != "browse"]
        seen = [p for p in holding if 0 <= at_s - p.shown_s <= WINDOWS.view_s and kind != "browse"]
        if named:
            plain = named[-1]
        elif clicked:
            plain = max(clicked, key=lambda p: (p.touched_s(sku), self.lists.index(p)))
        elif seen:
            plain = seen[-1]
        else:
            return
        plain.kinds[sku].append(({"browse": CLICKED, "click": CLICKED, "add_to_cart": ADDED, "purchase": BOUGHT}[kind], at_s))
        if kind == "purchase":
            plain.units[sku, order] += quantity

    def refund(self, sku: str, order: str, quantity: int) -> None:
        for plain in [*reversed([p for p in self.lists if p.kept]), *reversed(self.forgotten)]:
            if plain.units[sku, order] > 0:
                plain.units[sku, order] -= min(quantity, plain.units[sku, order])
                return

    def settle(self, watermark_s: int) -> None:
        for plain in self.lists:
            plain.open = plain.open and plain.due_s() >= watermark_s
            if plain.kept and plain.gone_s() < watermark_s:
                plain.kept = False
                self.forgotten.append(plain)


#: One is a part of another, as SKUs may be.
SKUS = ["a", "b", "ab", "c"]
names = st.sampled_from(["L1", "L2", "L3", "L4"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("show"), names, st.lists(st.sampled_from(SKUS), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("impress"), names, st.sampled_from(SKUS)),
        st.tuples(
            st.sampled_from(["browse", "click", "add_to_cart", "purchase"]), st.sampled_from(SKUS),
            st.sampled_from([None, None, "L1", "L2", "L3"]), st.sampled_from(["o1", "o2"]), st.integers(1, 3),
        ),
        st.tuples(st.just("refund"), st.sampled_from(SKUS), st.sampled_from(["o1", "o2"]), st.integers(1, 3)),
        st.tuples(st.just("settle")),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(steps, st.lists(st.tuples(st.integers(0, 120), st.integers(-150, 0), st.booleans()), min_size=40, max_size=40))
def test_all_that_is_told_of_a_list_adds_up_to_what_a_plain_reading_of_the_rules_says(no_limits, sequence, times):
    shopper, oracle, clock_s = Shopper(), Oracle(), 1_000
    for (what, *arguments), (passed_s, late_s, settled) in zip(sequence, times, strict=False):
        clock_s += passed_s
        at_s = clock_s + late_s
        if settled or what == "settle":
            shopper.do("settle", clock_s)
            oracle.settle(clock_s)
        number = shopper.offset
        if what == "show":
            name, skus = arguments
            shopper.do("show", name, at_s, skus, None, WEB)
            oracle.show(number, name, at_s, skus)
        elif what == "impress":
            name, sku = arguments
            shopper.impress(name, at_s, sku, SKUS.index(sku) + 1)
            oracle.impress(number, name, at_s, sku)
        elif what == "refund":
            sku, order, quantity = arguments
            shopper.do("refund", sku, sale(order, quantity, f"{5 * quantity}.00"))
            oracle.refund(sku, order, quantity)
        elif what != "settle":
            sku, cited, order, quantity = arguments
            shopper.take(what, sku, at_s, cited, order=order, quantity=quantity, revenue=f"{5 * quantity}.00")
            oracle.take(what, sku, at_s, cited, order, quantity)
        # Nobody is looked at too late.
        waiting = [plain.due_s() if plain.open else plain.gone_s() for plain in oracle.lists if plain.kept]
        assert not waiting or 0 < shopper.state.wake_s <= min(waiting)
    shopper.do("end")

    told = {shown.offset: shown for shown, _ in shopper.resolved}
    assert len(told) == len(shopper.resolved)  # one for each list
    assert {number: shown.skus for number, shown in told.items()} == {plain.number: plain.skus for plain in oracle.lists}
    for plain in oracle.lists:
        shown = told[plain.number]
        assert (shown.recommendation_id, shown.shown_s) == (plain.name, plain.shown_s)
        corrections = [correction for correction in shopper.corrections if correction.offset == plain.number]
        for sku in shown.skus:
            taken, mine = shown.of(sku), [correction for correction in corrections if correction.sku == sku]
            assert max([taken.result if taken else IGNORED, *(correction.result for correction in mine)]) == max(
                (kind for kind, _ in plain.kinds[sku]), default=IGNORED
            )
            sales = [*(taken.sales if taken else ()), *(correction.sale for correction in mine if correction.sale)]
            units = sum(quantity for (of, _), quantity in plain.units.items() if of == sku)
            assert sum(sold.quantity for sold in sales) == units
            assert sum(Decimal(sold.revenue) for sold in sales) == 5 * units


@pytest.fixture(scope="module")
def no_limits():
    """No list makes room for another one: the oracle forgets by time alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LISTS_LIMIT", "BYTES_LIMIT", "SOLD_LIMIT", "SALES_LIMIT"):
            patch.setattr(following, name, 10**6)
        yield
