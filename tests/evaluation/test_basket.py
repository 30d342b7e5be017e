from __future__ import annotations

import pytest

from schemas.catalog import Product
from streams.evaluation.basket import HISTORY, OURS, POPULARITY, BasketResult, baskets_of, judge_baskets, purchases
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent, encode
from streams.settings import Settings

DAY = 86_400_000
START = 1_760_000_000_000


def line(user: str | None, order: str, sku: str, day: float, **fields) -> ReplayEvent:
    at = START + round(day * DAY)
    body = {
        "event_id": f"{user}-{order}-{sku}", "type": "purchase", "user_id": user, "session_id": None if user else order, "channel": "web",
        "occurred_at": f"2025-10-{9 + int(day):02d}T08:53:20Z", "sku": sku, "quantity": 1, "unit_price": "2.00", "currency": "GBP",
        "order_id": order,
    } | fields  # fmt: skip
    return encode(body, at)


def shop(k: int = 2) -> InProcessShop:
    return InProcessShop(Settings(index="flat", k=k, threads=1), [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefgh"], None)


def found(results: list[BasketResult]) -> dict[tuple[str, str, str], tuple[int, float]]:
    return {(result.method, result.state, result.baskets): (result.tests, result.hit_rate) for result in results}


def test_what_is_no_purchase_of_a_named_shopper_is_left_out() -> None:
    events = [
        line("u", "1", "a", 0), line(None, "2", "a", 0), line("u", "3", "a", 0, type="refund"), line("u", "4", "a", 0, quantity=0),
        line("u", "5", "b", 0, quantity=-3), ReplayEvent(b"u", b"not json", START, "malformed"), line("u", "6", None, 0),
        line("u", "7", "b", 0, order_id=None), line("u", "8", "b", 0, quantity=None),
    ]  # fmt: skip
    assert [(user, order, sku) for user, order, sku, _ in purchases(events)] == [("u", "1", "a"), ("u", "8", "b")]  # one, unless said


def test_an_order_of_two_shoppers_is_two_baskets_in_the_order_of_their_first_lines() -> None:
    events = [line("u", "1", "a", 0), line("v", "1", "b", 0.1), line("u", "1", "c", 0.2), line("u", "2", "a", 1)]
    baskets = baskets_of(purchases(events))
    assert [(basket.user, basket.order, sorted(basket.items), len(basket.events)) for basket in baskets] == [
        ("u", "1", ["a", "c"], 2), ("v", "1", ["b"], 1), ("u", "2", ["a"], 1),
    ]  # fmt: skip


EVENTS = [
    # Until the cut u buys a and b again and again, everybody else c and d.
    *(line("u", f"u{n}", sku, n * 0.1) for n in range(4) for sku in "ab"),
    *(line(f"w{n}", f"w{n}", sku, n * 0.1) for n in range(9) for sku in "cd"),
    # Then u goes on, w0 buys something that was never bought together with anything, and x is new.
    line("u", "later", "a", 3), line("w0", "later", "g", 3.1), line("x", "later", "c", 3.2), line("x", "latest", "h", 4),
]  # fmt: skip
CUT = START + 2 * DAY


def test_baskets_are_judged_by_group_against_the_same_baselines() -> None:
    results = found(judge_baskets(shop(), purchases(EVENTS), CUT, live=False))
    assert results[POPULARITY, "frozen", "known"] == (2, 0.0)
    assert results[POPULARITY, "frozen", "new"] == (2, 0.5)
    assert results[HISTORY, "frozen", "known"] == (2, 0.5)
    assert results[OURS, "frozen", "known"] == (2, 0.5)
    assert results[OURS, "frozen", "new"] == (2, 0.5)
    assert {tests for (_, _, group), (tests, _) in results.items() if group == "all"} == {4}
    # u's basket holds nothing new to u, x had bought nothing before the cut.
    assert results[OURS, "frozen", "discovery"][0] == 1


def test_a_live_shop_learns_between_baskets_and_a_frozen_one_does_not() -> None:
    later = [line("x", f"x{n}", "h", 3 + n) for n in range(4)]
    results = found(judge_baskets(shop(4), purchases([*EVENTS, *later]), CUT, live=True))
    assert results[HISTORY, "live", "new"][1] > results[HISTORY, "frozen", "new"][1]
    assert results[OURS, "live", "new"][1] > results[OURS, "frozen", "new"][1]


def test_items_bought_equally_often_stand_in_an_order_that_every_run_has() -> None:
    later = [*(line("n", "first", sku, 3) for sku in "hgfedcba"), line("n", "second", "a", 4)]
    results = found(judge_baskets(shop(), purchases([*EVENTS[:26], *later]), CUT, live=True))
    assert results[HISTORY, "live", "new"] == (2, 1.0)  # the first order holds everything, and a leads of what it held


def test_lists_without_what_was_bought_hold_none_of_it() -> None:
    made = shop()
    made.learn(event for _, _, _, event in purchases(EVENTS))
    assert set(made.lists(["u"], CUT)[0]) & set("ab")
    assert not set(made.lists(["u"], CUT, "drop_bought")[0]) & set("ab")
    assert made.lists(["nobody"], CUT)[0]


@pytest.mark.dataset
def test_online_retail_is_split_as_published(datasets) -> None:
    from streams.replay import open_dataset

    bought = purchases(open_dataset("online-retail", datasets.online_retail).events())
    cut = 1_316_986_380_000  # 2011-09-25 21:33
    later = baskets_of([line for line in bought if line[3].at_ms > cut])
    known = {user for user, _, _, event in bought if event.at_ms <= cut}
    assert (len(later), sum(basket.user in known for basket in later)) == (5759, 4551)
