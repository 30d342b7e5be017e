from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from schemas.catalog import Product
from schemas.topics import OUTCOMES, RECOMMENDATIONS
from streams.evaluation.prequential import LAST_ITEM, OURS, POPULARITY, REPEAT, Prequential, PrequentialResult, judge_log
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent, encode
from streams.runtime.processor import Output
from streams.settings import Settings
from tests.evaluation.test_basket import line

START = 1_760_000_000_000


def clicks(*pairs: tuple[str, str]) -> list[ReplayEvent]:
    """(user, SKU), a second apart."""
    made = []
    for number, (user, sku) in enumerate(pairs):
        stamp = f"{np.datetime64(START + 1000 * number, 'ms')}Z"
        body = {"event_id": f"e{number}", "type": "click", "user_id": user, "channel": "web", "occurred_at": stamp, "sku": sku}
        made.append(encode(body, START + 1000 * number))
    return made


def judged(events: list[ReplayEvent], types: tuple[str, ...] = ("click",)) -> dict[tuple[str, str], PrequentialResult]:
    shop = InProcessShop(Settings(index="flat", k=3, threads=1), [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefgh"], None)
    return {(result.method, result.items): result for result in judge_log(shop, events, types, batch=1).results()}


def test_only_events_after_a_list_are_tests_and_each_is_judged_before_it_is_learned() -> None:
    results = judged(clicks(("u", "a"), ("u", "a"), ("v", "b"), ("u", "b")))
    # The first of each shopper met no list. u's second was in its own items, its third had been clicked by v alone.
    assert {result.tests for (_, items), result in results.items() if items == "all"} == {2}
    assert results[REPEAT, "all"].hit_rate_at_20 == 0.5
    assert results[LAST_ITEM, "all"].hit_rate_at_20 == 0.0
    assert results[OURS, "all"].hit_rate_at_20 == 1.0
    assert results[POPULARITY, "all"].hit_rate_at_20 == 1.0


def test_who_has_left_by_the_logs_own_time_is_judged_by_the_list_for_the_next_visit() -> None:
    """v comes an hour after u, a buyer, who comes back another hour later."""
    hour = 1 / 24
    events = [line("u", "1", "a", 0), line("u", "1", "b", 0), line("v", "2", "c", hour), line("u", "3", "a", 2 * hour)]
    lists: dict[bool, list[dict[str, Any]]] = {}
    for ticks in (False, True):
        shop = InProcessShop(Settings(index="flat", k=3, threads=1), [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefgh"], None)
        told: list[Output] = []
        shop.learn(events, 1, told.extend, ticks=ticks)
        lists[ticks] = [orjson.loads(one.value) for one in told if one.topic == RECOMMENDATIONS.name and one.value]
    assert [record.get("occasion", "visit") for record in lists[False] if record["user_id"] == "u"] == ["visit"] * 3
    assert [record.get("occasion", "visit") for record in lists[True] if record["user_id"] == "u"] == [
        "visit",
        "visit",
        "next_visit",
        "visit",
    ]


def test_what_followed_the_last_item_is_learned_from_everybody() -> None:
    results = judged(clicks(("u", "a"), ("u", "b"), ("v", "a"), ("v", "b")))
    assert results[LAST_ITEM, "all"].tests == 2
    assert results[LAST_ITEM, "all"].hit_rate_at_20 == 0.5
    assert results[LAST_ITEM, "all"].mrr_at_20 == 0.5


def test_cold_items_are_those_that_nobody_touched_before() -> None:
    results = judged(clicks(("u", "a"), ("u", "b"), ("u", "a"), ("v", "a"), ("v", "c")))
    assert results[OURS, "cold"].tests == 2  # b and c
    assert results[OURS, "all"].tests == 3


def test_other_types_teach_but_are_no_tests() -> None:
    results = judged(clicks(("u", "a"), ("u", "a")), types=("purchase",))
    assert results[OURS, "all"].tests == 0
    assert results[OURS, "all"].hit_rate_at_20 == 0.0


def test_a_curve_and_an_interval_cover_the_tests() -> None:
    rng = np.random.default_rng(0)
    events = clicks(*((f"u{rng.integers(8)}", "abcdefgh"[rng.integers(8)]) for _ in range(400)))
    shop = InProcessShop(Settings(index="flat", k=3, threads=1), [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefgh"], None)
    found = judge_log(shop, events, ("click",), batch=4)
    ours = found.results()[0]
    assert ours.low < ours.hit_rate_at_20 < ours.high
    curve = found.curve(OURS, points=10)
    assert curve[-1][0] == ours.tests
    assert sum(rate for _, rate in curve) / len(curve) == pytest.approx(ours.hit_rate_at_20, abs=0.02)


def outcome(number: int, rank: int, sku: str = "a", shopper: str = "u", type_: str = "click", **fields: Any) -> Output:
    """What became of a list, with the item at ``rank`` (0: it was not in the list)."""
    value = {"kind": "outcome", "event_id": f"e{number}", "shopper": shopper, "type": type_, "sku": sku, "list_size": 50, **fields}
    return Output(OUTCOMES.name, shopper.encode(), orjson.dumps(value | ({"rank": rank} if rank else {})))


def test_the_places_of_a_longer_list_beyond_the_twentieth_are_misses() -> None:
    found = Prequential(["click"])
    found.take([outcome(number, 30 if number % 2 else 1) for number in range(600)])
    ours = found.results()[0]
    assert ours.hit_rate_at_20 == 0.5
    assert ours.low < 0.5 < ours.high < 0.6
    assert {rate for _, rate in found.curve(OURS, points=10)} == {0.5}
