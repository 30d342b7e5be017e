from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profiles.interest import ANCHOR_LIMIT, POSITION_DECAY
from models.retrieval.session_votes import BLENDED
from models.valuation.appraisal import (
    AGE,
    AGES,
    EVENT_DIMENSIONS,
    EVENT_LIMIT,
    OLDEST,
    OVERALL,
    UNKNOWN,
    Appraiser,
    Happening,
    Rules,
)
from models.valuation.asset_game import PLAYER_LIMIT
from models.valuation.asset_register import RICH, entries
from models.valuation.assets import OTHER
from models.valuation.costs import AssetCost
from models.valuation.intervals import ReplicateSums, poisson_bootstrap
from models.valuation.knn_shapley import knn_shapley
from models.valuation.margins import ClickMargins
from models.valuation.money import MONEY_NAMES, Margin
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL, PaneId
from models.valuation.windows import WorthPanes
from models.valuation.worth import REPLICATED, Credit, Worth, merged, to_bytes
from models.valuation.worth_record import value_register

START_MS = 1_700_000_040_000
HOUR_MS = 3_600_000
RULES = Rules(k=2, head=2, rows=5, gap_ms=30 * 60_000)
#: The same where a click is worth something until the item is bought, for three hours.
CLICKED = RULES._replace(
    clicks=ClickMargins(currency="GBP", default="0.05", categories={"pans": "0.20"}), click_window_ms=3 * HOUR_MS
)  # fmt: skip


def event(shopper: str, sku: str, at_ms: int = 0, kind: str = "click", channel: str = "web", **more: object) -> Happening:
    names = (channel, kind, more.pop("category", None), more.pop("country", None), more.pop("segment", None))
    return Happening(START_MS + at_ms, kind, shopper, sku, names, **more)


def taken(happenings: Sequence[Happening], rules: Rules = RULES) -> Appraiser:
    appraiser = Appraiser(rules)
    for offset, happening in enumerate(happenings):
        appraiser.take(offset, happening)
    return appraiser


def added_up(*parts: dict[PaneId, dict[str, Worth]]) -> dict[tuple[PaneId, str], bytes]:
    held: dict[tuple[PaneId, str], list[Worth]] = defaultdict(list)
    for part in parts:
        for pane, worths in part.items():
            for dimension, worth in worths.items():
                held[pane, dimension].append(worth)
    return {key: to_bytes(merged(worths)) for key, worths in held.items()}


class Row:
    def __init__(self, shopper: str) -> None:
        self.shopper, self.events, self.newest_ms = shopper, list[Happening](), 0

    def similarity(self, query: Sequence[str], now_ms: int) -> float:
        anchors = list(dict.fromkeys(query))[:ANCHOR_LIMIT]
        skus = {e.sku for e in self.events}
        shared = sum(POSITION_DECAY**place for place, sku in enumerate(anchors) if sku in skus)
        age_ms = max(0, now_ms // 1_000 - self.newest_ms // 1_000) * 1_000
        return shared / len(self.events) ** BLENDED.length * 2.0 ** (-age_ms / BLENDED.age_half_life)


def by_definition(happenings: Sequence[Happening], rules: Rules) -> tuple[float, dict[tuple[str, str], float]]:
    """Lift and points of every asset, by the words of the docstring: rows beyond the head in every order there is."""
    rows: list[Row] = []
    lift, points = 0.0, defaultdict[tuple[str, str], float](float)
    for e in happenings:
        if e.type == "refund":
            continue
        own = next((row for row in reversed(rows) if row.shopper == e.shopper), None)
        if own is not None and e.at_ms - own.newest_ms > rules.gap_ms:
            own = None
        others = [row for row in rows if row.shopper != e.shopper]
        if own is not None and others and e.tested:
            query = [past.sku for past in reversed(own.events)]
            ranked = sorted(others, key=lambda row: -row.similarity(query, e.at_ms))
            near = [row for row in ranked if row.similarity(query, e.at_ms) > 0][: rules.head]
            beyond = [row for row in others if row not in near]
            orders = [near + list(order) for order in itertools.permutations(beyond)]
            values = defaultdict[int, float](float)
            utility = 0.0
            for order in orders:
                match = [float(any(past.sku == e.sku for past in row.events)) for row in order]
                utility += sum(match[: rules.k]) / rules.k / len(orders)
                for row, value in zip(order, knn_shapley(match, rules.k), strict=True):
                    values[id(row)] += value / len(orders)
            holders = [row for row in others if any(past.sku == e.sku for past in row.events)]
            baseline = len(holders) / max(rules.k, len(others))
            lift += utility - baseline
            for row in others:
                # What it earns is what its own match adds to a vote, on average: its value if nothing came after it.
                earns = 0.0
                if row in holders and row in near:
                    place = near.index(row) + 1
                    earns = 1 / max(place, rules.k) if len(others) > rules.k else 1 / rules.k
                elif row in holders:
                    # Beyond the head: what it is worth more than a row there that does not hold the label, if there is one.
                    earns = values[id(row)] - next((values[id(r)] for r in beyond if r not in holders), 0.0)
                bears = values[id(row)] - earns - baseline / len(others)
                of_label = [past for past in row.events if past.sku == e.sku]
                for past in row.events:
                    share = bears / len(row.events) + (earns / len(of_label) if past.sku == e.sku and earns else 0.0)
                    for dimension, name in zip(EVENT_DIMENSIONS, past.names, strict=True):
                        points[dimension, name or UNKNOWN] += share
                age_s = (e.at_ms - row.newest_ms) / 1000
                points[AGE, next((name for name, bound in AGES if age_s < bound), OLDEST)] += earns + bears
        if own is None:
            own = Row(e.shopper)
            rows.append(own)
        own.events.append(e)
        own.newest_ms = max(own.newest_ms, e.at_ms)
        if len(rows) > rules.rows:
            rows.pop(0)
    return lift, points


def streams(size: int = 18) -> st.SearchStrategy[list[Happening]]:
    one = st.builds(
        event,
        st.sampled_from("abcdef"),
        st.sampled_from("uvwxyz"),
        st.sampled_from([0, 1_000, 60_000, 2 * HOUR_MS, 30 * HOUR_MS]),
        st.sampled_from(["browse", "click", "add_to_cart", "purchase", "refund"]),
        st.sampled_from(["web", "app", "store"]),
        amount=st.sampled_from([Decimal("3.50"), Decimal(20)]),
        currency=st.just("GBP"),
        category=st.sampled_from([None, "mugs", "pans"]),
        country=st.sampled_from([None, "GB"]),
        tested=st.sampled_from([True, True, False]),
    )
    one = one.map(lambda e: e._replace(amount=-e.amount) if e.type == "refund" else e)
    return st.lists(one, min_size=2, max_size=size).map(lambda events: sorted(events, key=lambda e: e.at_ms))


@settings(max_examples=120, deadline=None)
@given(happenings=streams())
def test_points_are_those_of_the_definition(happenings: list[Happening]) -> None:
    lift, points = by_definition(happenings, RULES)
    sums = taken(happenings).sums()
    if not sums:
        assert not points
        return
    worths = sums[TOTAL]
    assert float(worths[OVERALL].lift) == pytest.approx(lift, abs=1e-12)
    for dimension in (*EVENT_DIMENSIONS, AGE):
        found = {asset: float(credit.points) for asset, credit in worths[dimension].credits.items()}
        wanted = {asset: value for (of, asset), value in points.items() if of == dimension}
        for asset in found.keys() | wanted.keys():
            assert found.get(asset, 0.0) == pytest.approx(wanted.get(asset, 0.0), abs=1e-12), (dimension, asset)


@settings(max_examples=100, deadline=None)
@given(happenings=streams(60))
def test_in_every_pane_and_dimension_values_add_up_to_the_lift(happenings: list[Happening]) -> None:
    for worths in taken(happenings, Rules(k=3, head=4, rows=9)).sums().values():
        for worth in worths.values():
            assert abs(worth.residual()) < Decimal("1e-12")
            assert float(sum(credit.player for credit in worth.credits.values())) == pytest.approx(float(worth.lift), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    happenings=streams(40), cuts=st.lists(st.integers(0, 40), max_size=6), reloads=st.sets(st.integers(0, 40), max_size=3),
    rules=st.sampled_from([RULES, CLICKED]),
)  # fmt: skip
def test_it_does_not_matter_how_the_log_was_cut_nor_who_read_on(
    happenings: list[Happening], cuts: list[int], reloads: set[int], rules: Rules
) -> None:
    whole = added_up(taken(happenings, rules).sums())
    appraiser, names, lines, parts, points = Appraiser(rules), [], {}, [], {}
    for offset, happening in enumerate(happenings):
        if offset in cuts or offset in reloads:
            parts.append(appraiser.sums())
            changes = appraiser.changes()
            names = changes.names if changes.names is not None else names
            lines |= changes.lines
            points |= changes.points
        if offset in reloads:
            appraiser = Appraiser(rules)
            appraiser.load(names, [(number, line) for number, line in sorted(lines.items()) if line is not None])
        appraiser.stored = points.get
        appraiser.take(offset, happening)
    assert added_up(*parts, appraiser.sums()) == whole


def test_a_window_read_back_finds_the_same_neighbours_of_an_item_that_everybody_has() -> None:
    chance, at_ms, happenings = np.random.default_rng(2), 0, []
    for _ in range(4_000):
        at_ms += int(chance.integers(0, 2_000))
        sku = "hot" if chance.random() < 0.3 else f"i{chance.integers(40)}"
        happenings.append(event(f"u{chance.integers(700)}", sku, at_ms, channel=str(chance.choice(["web", "app"]))))
    one = taken(happenings[:3_500], Rules())
    one.sums()
    changes = one.changes()
    other = Appraiser(Rules())
    other.load(changes.names or (), [(number, line) for number, line in changes.lines.items() if line is not None])
    for which in (one, other):
        for offset, happening in enumerate(happenings[3_500:], 3_500):
            which.take(offset, happening)
    assert added_up(one.sums()) == added_up(other.sums())


def test_a_window_read_back_knows_assets_that_have_left_it_and_may_return() -> None:
    chance = np.random.default_rng(1)
    categories = ["base"] * 5 + [f"season{n}" for n in range(120)] + ["base"] * 80
    happenings = [
        event(f"u{number}", f"i{chance.integers(20)}", 4_000 * number + 1_000 * place, category=category)
        for number, category in enumerate([*categories, "season7", *["base"] * 20])
        for place in range(4)
    ]
    left, rules = 4 * len(categories), Rules(rows=60)
    one = taken(happenings[:left], rules)
    one.sums()
    changes = one.changes()
    other = Appraiser(rules)
    other.load(changes.names or (), [(number, line) for number, line in changes.lines.items() if line is not None])
    for which in (one, other):
        for offset, happening in enumerate(happenings[left:], left):
            which.take(offset, happening)
    assert added_up(one.sums()) == added_up(other.sums())


def test_what_a_purchase_brought_goes_to_the_rows_that_foretold_it_and_back_when_it_is_refunded() -> None:
    before = [event("ann", "mug", channel="app"), event("ann", "pan", channel="app"), event("bob", "hat"), event("bob", "tie")]
    bought = [event("cat", "mug"), event("cat", "pan", kind="purchase", amount=Decimal("20.00"), currency="GBP")]
    appraiser = taken([*before, *bought])
    worth = appraiser.sums()[TOTAL]["channel"]
    assert worth.money["GBP"] == 20 * (worth.lift - taken(before).sums()[TOTAL]["channel"].lift)
    assert sum(credit.money.get("GBP", 0) for credit in worth.credits.values()) == pytest.approx(worth.money["GBP"])
    assert worth.credits["app"].money["GBP"] > 0 > worth.credits["web"].money["GBP"]
    for offset, amount in enumerate(("-5.00", "-10.00", "-99.00"), 6):
        appraiser.take(offset, event("cat", "pan", kind="refund", amount=Decimal(amount), currency="GBP"))
    back = appraiser.sums()[TOTAL]["channel"]
    assert merged([worth, back]).money["GBP"] == 0
    assert all(not amount for credit in merged([worth, back]).credits.values() for amount in credit.money.values())
    assert worth.credits["app"].replicates["GBP"].gains
    assert worth.credits["web"].replicates["GBP"].losses
    assert {sums for credit in merged([worth, back]).credits.values() for sums in credit.replicates.values()} == {ReplicateSums()}
    assert (back.tests, back.lift) == (0, 0)


def test_a_refund_takes_back_as_large_a_part_of_the_margin() -> None:
    before = [event("ann", "mug"), event("ann", "pan"), event("bob", "hat"), event("bob", "tie"), event("dan", "hat"), event("dan", "tie")]
    before.append(event("cat", "mug"))
    for modelled in (False, True):
        margin = Margin(Decimal(7), modelled)
        appraiser = taken([*before, event("cat", "pan", kind="purchase", amount=Decimal(21), currency="GBP", margin=margin)])
        parts = [appraiser.sums()[TOTAL]["channel"]]
        lift = parts[0].lift - taken(before).sums()[TOTAL]["channel"].lift
        assert parts[0].money == {"GBP.margin": 7 * lift} | ({"GBP.modelled": 7 * lift} if modelled else {})
        for offset, (amount, left) in enumerate((("-1.00", "6.666667"), ("-9.50", "3.500000"), ("-99.00", "0")), 6):
            appraiser.take(offset, event("cat", "pan", kind="refund", amount=Decimal(amount), currency="GBP"))
            parts.append(appraiser.sums()[TOTAL]["channel"])
            whole = merged(parts)
            assert set(whole.money.values()) == {Decimal(left) * lift}
        assert {name for credit in whole.credits.values() for name in credit.replicates} == {"GBP.margin"}
        for credit in whole.credits.values():
            assert not any(credit.money.values())
            assert set(credit.replicates.values()) == {ReplicateSums()}


def expected_of_clicks(appraiser: Appraiser, so_far: Worth) -> tuple[Worth, Decimal]:
    """All that came of it with what it now tells, and what clicks are worth in it, all assets of the channels together."""
    told = appraiser.sums().get(TOTAL, {}).get("channel", Worth(money={}))
    whole = merged([so_far, told])
    return whole, sum((credit.money.get("GBP.clicks", Decimal(0)) for credit in whole.credits.values()), Decimal(0))


#: One session of three holds the pan, the one that is like another with a mug: half of two neighbours, where a third of all do.
BEFORE = [
    event(shopper, sku, credited=False)
    for shopper, skus in (("ann", ("mug", "pan")), ("bob", ("hat", "tie")), ("dan", ("hat", "tie")))
    for sku in skus
]


@pytest.mark.parametrize("how", ["bought", "bought elsewhere", "over", "let go", "clicked again"])
def test_a_click_is_worth_something_until_the_item_is_bought_or_the_window_is_over(how: str) -> None:
    clicked = [*BEFORE, event("cat", "mug"), event("cat", "pan", category="pans")]
    appraiser = taken(clicked, CLICKED)
    click = taken(clicked).sums()[TOTAL]["channel"].lift - taken(clicked[:-1]).sums()[TOTAL]["channel"].lift
    assert click > 0
    whole, worth = expected_of_clicks(appraiser, Worth(money={}))
    assert worth == pytest.approx(Decimal("0.20") * click)
    assert set(whole.money) == {"GBP.clicks"}
    later = {
        "bought": [event("cat", "pan", 1, kind="purchase", amount=Decimal(9), currency="GBP")],
        "bought elsewhere": [event("cat", "pan", 2 * HOUR_MS, kind="purchase", amount=Decimal(9), currency="EUR", credited=False)],
        "over": [event("eve", "hat", 3 * HOUR_MS + late, credited=False) for late in (0, 1)],
        "let go": [event(f"n{number}", "hat", 1) for number in range(RULES.rows)],
        "clicked again": [event("cat", "pan", 2)],
    }[how]
    for offset, happening in enumerate(later, len(clicked)):
        appraiser.take(offset, happening)
        whole, after = expected_of_clicks(appraiser, whole)
        if how == "over" and offset == len(clicked):
            assert after == worth  # at its last moment
    if how == "clicked again":
        assert after == worth
    else:
        assert after == 0
        assert not any(credit.replicates.get("GBP.clicks") for credit in whole.credits.values())
    if how == "bought":  # which has a sum of its own
        assert whole.money["GBP"] != 0
        assert whole.money["GBP.clicks"] == 0


@pytest.mark.parametrize("few", [8, 10_000])
def test_clicks_that_no_longer_wait_do_not_stay_until_their_window_is_over(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.valuation.appraisal._FEW_CLICKS", few)
    rules = Rules(rows=20, clicks=CLICKED.clicks, click_window_ms=HOUR_MS)
    clicked = [event(f"c{number}", sku, number) for number in range(300) for sku in ("mug", "pan")]
    appraiser = taken([*BEFORE, *clicked], rules)
    waiting = sum(bool(bought.amount) for line in appraiser._lines.values() for bought in line.purchases)
    assert waiting > 8
    assert (len(appraiser._clicks) <= 2 * waiting) == (few == 8)
    for number in range(2):
        appraiser.take(1_000 + number, event(f"late{number}", "hat", 3 * HOUR_MS, credited=False))
    (sums,) = [worths["channel"] for pane, worths in appraiser.sums().items() if pane == TOTAL]
    assert not any(sums.money.values())


def test_clicks_are_worth_nothing_unless_it_is_said_and_none_that_is_not_credited() -> None:
    clicked = [*BEFORE, event("cat", "mug")]
    for rules, click in (
        (RULES, event("cat", "pan")),
        (CLICKED, event("cat", "pan", credited=False)),
        (CLICKED, event("cat", "pan", tested=False)),
        (CLICKED, event("cat", "pan", kind="add_to_cart")),
        (CLICKED._replace(clicks=ClickMargins(currency="GBP", categories={"hats": 1})), event("cat", "pan", category="pans")),
    ):
        assert not taken([*clicked, click], rules).sums()[TOTAL]["channel"].money


def test_a_refund_takes_nothing_from_a_click() -> None:
    appraiser = taken([*BEFORE, event("cat", "mug"), event("cat", "pan")], CLICKED)
    whole, worth = expected_of_clicks(appraiser, Worth(money={}))
    appraiser.take(8, event("cat", "pan", kind="refund", amount=Decimal(-1), currency="GBP"))
    assert expected_of_clicks(appraiser, whole)[1] == worth


def test_what_clicks_are_worth_stands_by_itself_in_the_record_with_no_interval() -> None:
    bought = event("cat", "hat", 1, kind="purchase", amount=Decimal(9), currency="GBP", margin=Margin(Decimal(2)))
    appraiser = taken([*BEFORE, event("cat", "mug"), event("cat", "pan", category="pans"), bought], CLICKED)
    panes = WorthPanes()
    for pane, worths in appraiser.sums().items():
        panes.add(0, pane, worths["channel"])
    panes.advance(START_MS + 1)
    record = value_register("channel", panes.window("total"), START_MS + 1, "open", "outcomes", CLICKED)
    money = {(one.currency, one.basis): one for one in record.assets["web"].money}
    assert set(money) == {("GBP", "margin"), ("GBP", "clicks")}
    clicks = money["GBP", "clicks"]
    assert (clicks.modelled_fraction, clicks.low, clicks.high, clicks.method) == (1.0, None, None, None)
    assert money["GBP", "margin"].modelled_fraction == 0.0
    (entry,) = entries(record, {}, {})
    assert entry.money.keys() == {"GBP margin", "GBP of clicks, modelled"}
    # What comes in of clicks pays for nothing.
    cost = AssetCost(acquire=1, currency="GBP").of(1_000, record.assets["web"].money)
    assert cost.net == money["GBP", "margin"].attributable - 1.0


def test_who_is_shown_nothing_of_ours_teaches_and_is_no_test() -> None:
    before = [event("ann", "mug"), event("ann", "pan", tested=False), event("cat", "mug", tested=False)]
    held_out = event("cat", "pan", kind="purchase", amount=Decimal(20), currency="GBP", tested=False)
    assert not taken([*before, held_out]).sums()
    after = [*before, held_out, event("dan", "mug"), event("dan", "pan", kind="purchase", amount=Decimal(20), currency="GBP")]
    worth = taken(after).sums()[TOTAL]["channel"]
    # Two of two past sessions hold the pan, the one held out among them.
    assert (worth.tests, worth.utility, worth.credits["web"].rows) == (1, 1, Decimal(2))


def test_replicates_are_sums_of_what_each_purchase_brought_weighed_by_its_shopper() -> None:
    """Not in minutes, but in hours and the total, where each asset's are those of the bootstrap of its own money."""
    generator, happenings = np.random.default_rng(8), []
    for visit in range(60):
        channel, shopper = str(generator.choice(["web", "app"])), f"u{generator.integers(20)}"
        happenings += [event(shopper, f"i{generator.integers(5)}", 40 * 60_000 * visit, channel=channel) for _ in range(2)]
        amount = Decimal(int(generator.integers(1, 9_999))).scaleb(-2)
        item, at_ms = f"p{generator.integers(3)}", 40 * 60_000 * visit
        happenings.append(event(shopper, item, at_ms, "purchase", channel, amount=amount, currency="GBP"))
    held, parts = defaultdict[str, list[tuple[str, Decimal]]](list), defaultdict[PaneId, list[Worth]](list)
    appraiser = Appraiser(RULES)
    for offset, happening in enumerate(happenings):
        appraiser.take(offset, happening)
        for pane, worths in appraiser.sums().items():
            parts[pane].append(worths["channel"])
            for asset, credit in worths["channel"].credits.items():
                assert bool(credit.replicates) == (bool(credit.money) and pane.length_s != MINUTE_S)
                if pane == TOTAL and credit.money:
                    held[asset].append((happening.shopper, credit.money["GBP"].quantize(Decimal("1e-6"), ROUND_HALF_UP)))
    assert len(held) == 2
    for panes in ([TOTAL], [pane for pane in parts if pane.length_s == HOUR_S]):
        whole = merged([part for pane in panes for part in parts[pane]])
        for asset, money in held.items():
            assert whole.credits[asset].replicates == {"GBP": poisson_bootstrap(*zip(*money, strict=True))}


@given(names=st.lists(st.lists(st.sampled_from(sorted(MONEY_NAMES)[:24]), unique=True), min_size=1, max_size=6), cut=st.integers(0, 6))
def test_of_more_sums_than_have_replicates_the_same_have_them_in_any_cut(names: list[list[str]], cut: int) -> None:
    sums = poisson_bootstrap(["ann"], [Decimal(1)])
    parts = [
        Worth(credits={"web": Credit()}).with_replicates({"web": dict.fromkeys(held, sums)}) for held in names
    ]  # fmt: skip
    whole = merged(parts)
    kept = sorted({name for held in names for name in held})[:REPLICATED]
    assert {name: held.total for name, held in whole.credits["web"].replicates.items()} == {
        name: 10**6 * sum(name in held for held in names) for name in kept
    }
    assert merged([merged(parts[:cut]), merged(parts[cut:][::-1])]) == whole


def test_a_refund_of_something_else_takes_nothing_back() -> None:
    happenings = [event("ann", "mug"), event("ann", "pan"), event("cat", "mug")]
    happenings.append(event("cat", "pan", kind="purchase", amount=Decimal(20), currency="GBP"))
    appraiser = taken(happenings)
    appraiser.sums()
    appraiser.take(4, event("cat", "mug", kind="refund", amount=Decimal(-20), currency="GBP"))
    appraiser.take(5, event("cat", "pan", kind="refund", amount=Decimal(-20), currency="EUR"))
    appraiser.take(6, event("ann", "pan", kind="refund", amount=Decimal(-20), currency="GBP"))
    assert not appraiser.sums()


@pytest.mark.parametrize("how", ["not credited", "first of its session", "never foretold"])
def test_a_refund_of_a_purchase_that_earned_no_credit_takes_nothing_from_an_earlier_one(how: str) -> None:
    others = [event("ann", "mug"), event("ann", "pan"), event("bob", "hat"), event("bob", "tie"), event("dan", "hat"), event("dan", "tie")]
    appraiser = taken([*others, event("cat", "mug")])
    money = {"kind": "purchase", "amount": Decimal(20), "currency": "GBP"}
    appraiser.take(3, event("cat", "pan", **money))
    earned = appraiser.sums()[TOTAL]["channel"].money["GBP"]
    assert earned > 0
    later = 25 * HOUR_MS
    if how != "first of its session":
        appraiser.take(4, event("cat", "mug", later))
    appraiser.take(5, event("cat", "pan", later, **money, credited=how != "not credited", tested=how != "never foretold"))
    appraiser.sums()
    refund = event("cat", "pan", later, kind="refund", amount=Decimal(-20), currency="GBP")
    appraiser.take(6, refund)
    assert not appraiser.sums()
    appraiser.take(7, refund)  # nothing is left of the later one
    assert appraiser.sums()[TOTAL]["channel"].money["GBP"] == -earned


def test_what_truncation_moves_keeps_to_its_bound_where_few_tests_have_most_of_the_rows() -> None:
    """Forty tests with one row to draw on, and one with 22, of which those right behind the nearest all hold the label."""
    few = [event("ann", "vase"), *(event("bob", f"i{number}") for number in range(41))]
    far = [
        event(f"u{number}", sku, tested=False)
        for number in range(19)
        for sku in (("mug", "pan") if number < 10 else ("mug", "hat", "tie"))
    ]  # fmt: skip
    happenings = [*few, *far, event("cat", "mug", country="GB"), event("dan", "mug"), event("dan", "pan")]
    registers = []
    for head in (1, 50):
        panes, rules = WorthPanes(), Rules(k=1, head=head, rows=50)
        for pane, worths in taken(happenings, rules).sums().items():
            panes.add(0, pane, worths["country"])
        panes.advance(START_MS)
        registers.append(value_register("country", panes.window("total"), START_MS, "open", "outcomes", rules))
    truncated, exact = registers
    assert (truncated.game.tests, truncated.game.truncation_error_max) == (41, 1 - 1 / 22)
    assert exact.game.truncation_error_max == 0
    off = abs(truncated.assets["GB"].points - exact.assets["GB"].points)
    assert 0.3 < off * truncated.game.tests < truncated.game.truncation_error_max


def test_an_erased_shopper_is_in_no_row() -> None:
    happenings = [event(shopper, sku) for shopper in "abc" for sku in ("mug", "pan")]
    appraiser = taken(happenings)
    appraiser.changes()
    appraiser.erase("b")
    lines = appraiser.changes().lines
    assert (len(appraiser), lines) == (2, {1: None})
    others = taken([e for e in happenings if e.shopper != "b"])
    for which in (appraiser, others):
        which.sums()
        which.take(9, event("d", "mug"))
        which.take(10, event("d", "pan"))
    assert added_up(appraiser.sums()) == added_up(others.sums())


def test_a_robots_endless_session_neither_teaches_nor_tests_beyond_its_bound() -> None:
    appraiser = taken([event("ann", "mug"), event("ann", "pan"), *(event("bot", f"item{i}") for i in range(3 * EVENT_LIMIT))])
    assert appraiser.sums()[TOTAL]["channel"].tests == EVENT_LIMIT - 1


def test_more_assets_than_players_play_as_one_and_still_add_up() -> None:
    generator = np.random.default_rng(3)
    happenings = [
        event(
            f"u{generator.integers(60)}",
            f"i{generator.integers(8)}",
            int(generator.integers(10)) * 60_000,
            category=f"c{generator.integers(30)}",
        )
        for _ in range(600)
    ]
    worth = taken(sorted(happenings, key=lambda e: e.at_ms), Rules(rows=50)).sums()[TOTAL]["category"]
    assert len(worth.credits) > 2 * PLAYER_LIMIT
    assert worth.credits[OTHER].player != 0
    assert float(sum(credit.player for credit in worth.credits.values())) == pytest.approx(float(worth.lift), abs=1e-9)


def test_an_asset_that_no_session_is_mostly_of_has_the_rows_that_it_contributes() -> None:
    """A fifth of every session is of the app, whose events are like all others: a session of it is worth what any is."""
    generator = np.random.default_rng(5)
    happenings = []
    for visit in range(1_500):
        kind = 4 * int(generator.integers(10))
        channels = generator.permutation(["app", "web", "web", "web", "web"]).tolist()
        happenings += [
            event(f"u{visit}", f"i{kind + int(generator.integers(4))}", visit * 120_000 + 1_000 * place, channel=channel)
            for place, channel in enumerate(channels)
        ]
    panes = WorthPanes()
    for pane, worths in taken(happenings, Rules(rows=500)).sums().items():
        panes.add(0, pane, worths["channel"])
    panes.advance(happenings[-1].at_ms)
    register = value_register("channel", panes.window("7d"), happenings[-1].at_ms, "open", "outcomes")
    app, web = register.assets["app"], register.assets["web"]
    assert (app.owned, app.player, app.leave_one_out) == (0, 0, 0)
    assert 4 * app.rows == pytest.approx(web.rows)
    assert app.rows + web.rows == pytest.approx(web.owned)
    assert app.low is not None
    assert app.low > 0
    assert app.per_1k_rows == pytest.approx(web.per_1k_rows, rel=RICH - 1)
    assert {entry.asset: entry.action for entry in entries(register, {}, {})} == {"app": "keep", "web": "keep"}
