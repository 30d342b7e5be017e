from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from models.metrics import MRR
from schemas.catalog import Product
from schemas.topics import OUTCOMES, RECOMMENDATIONS
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.prequential import (
    ALL,
    FRESH,
    LAST_ITEM,
    METHODS,
    OURS,
    POPULARITY,
    REPEAT,
    SEQUENTIAL,
    Prequential,
    PrequentialResult,
    SplitResult,
    judge_log,
)
from streams.evaluation.shop import InProcessShop
from streams.evaluation.splits import COLD
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
    value = {
        "kind": "outcome", "event_id": f"e{number}", "shopper": shopper, "type": type_, "sku": sku, "list_size": 50,
        "occurred_at": f"{np.datetime64(START + 1000 * number, 'ms')}Z", **fields,
    }  # fmt: skip
    return Output(OUTCOMES.name, shopper.encode(), orjson.dumps(value | ({"rank": rank} if rank else {})))


def judge(catalogue_size: int = 10) -> Prequential:
    return Prequential(["click"], gap_ms=1_800_000, catalogue_size=catalogue_size)


def test_the_places_of_a_longer_list_beyond_the_twentieth_are_misses() -> None:
    found = judge()
    found.take([outcome(number, 30 if number % 2 else 1) for number in range(600)])
    ours = found.results()[0]
    assert ours.hit_rate_at_20 == 0.5
    assert ours.low < 0.5 < ours.high < 0.6
    assert {rate for _, rate in found.curve(OURS, points=10)} == {0.5}


def by_method(found: Prequential, items: str = ALL) -> dict[str, PrequentialResult]:
    return {result.method: result for result in found.results() if result.items == items}


def by_group(found: Prequential, dimension: str, method: str = OURS) -> dict[str, SplitResult]:
    return {one.group: one for one in found.splits() if (one.dimension, one.method) == (dimension, method)}


def sent(shopper: str, *skus: str) -> Output:
    return Output(RECOMMENDATIONS.name, shopper.encode(), orjson.dumps({"user_id": shopper, "items": [{"sku": sku} for sku in skus]}))


def test_sequential_rules_look_beyond_the_next_item_of_the_visit() -> None:
    found = judge()
    for number, (shopper, sku) in enumerate((("u", "a"), ("u", "b"), ("u", "c"), ("v", "a"), ("v", "c"))):
        found.take([outcome(number, 0, sku, shopper)])
    ranks = by_method(found)
    # a was followed by b at once and then by c, which v takes next: second by the rules, nowhere by what followed at once.
    assert ranks[SEQUENTIAL].mrr_at_20 == pytest.approx(0.5 / 5)
    assert ranks[LAST_ITEM].mrr_at_20 == 0.0


def test_rules_end_with_the_visit_and_what_followed_an_item_does_not() -> None:
    hour_later = f"{np.datetime64(START + 3_600_000, 'ms')}Z"
    found = judge()
    found.take([outcome(0, 0, "a")])
    found.take([outcome(1, 0, "b", occurred_at=hour_later)])
    found.take([outcome(2, 0, "a", "v"), outcome(3, 0, "z", "w")])
    found.take([outcome(4, 0, "b", "v")])
    ranks = by_method(found)
    assert (ranks[LAST_ITEM].hit_rate_at_20, ranks[SEQUENTIAL].hit_rate_at_20) == (0.2, 0.0)


def test_a_micro_batch_teaches_nobody_before_all_of_it_is_judged() -> None:
    events = [outcome(0, 0, "a"), outcome(1, 0, "b"), outcome(2, 0, "a"), outcome(3, 0, "b")]
    at_once, one_by_one = judge(), judge()
    at_once.take(events)
    for event in events:
        one_by_one.take([event])
    assert {result.hit_rate_at_20 for result in by_method(at_once).values()} == {0.0}
    assert by_method(one_by_one)[REPEAT].hit_rate_at_20 == by_method(one_by_one)[SEQUENTIAL].hit_rate_at_20 * 2 == 0.5
    assert by_method(at_once, COLD)[OURS].tests == 4  # by what was known before
    assert by_group(at_once, "repeat")["in this visit"].tests == 2  # in the order of the events


def test_cutoffs_are_those_of_the_ranks() -> None:
    found = judge()
    for number, rank in enumerate((1, 4, 8, 16, 0)):
        found.take([outcome(number, rank)])
    ours = by_method(found)[OURS]
    assert (ours.hit_rate_at_5, ours.hit_rate_at_10, ours.hit_rate_at_20) == (0.4, 0.6, 0.8)
    assert [ours.mrr_at_5, ours.mrr_at_10, ours.mrr_at_20] == [0.25, 0.275, 0.2875]
    assert [ours.ndcg_at_5, ours.ndcg_at_10, ours.ndcg_at_20] == pytest.approx([0.2861, 0.3492, 0.3981], abs=1e-4)


def test_the_mrr_has_an_interval_and_a_curve_of_its_own() -> None:
    rng = np.random.default_rng(0)
    found = judge()
    for number in range(600):
        found.take([outcome(number, int(rng.integers(0, 4)))])
    ours = by_method(found)[OURS]
    assert ours.mrr_low < ours.mrr_at_20 < ours.mrr_high < ours.mrr_low + 0.1
    assert ours.high < 1.0
    assert ours.mrr_high < ours.low
    curve = found.curve(OURS, MRR, points=6)
    assert curve[-1][0] == 600
    assert np.mean([value for _, value in curve]) == pytest.approx(ours.mrr_at_20, abs=0.01)


def test_coverage_and_novelty_are_of_the_lists_that_tests_were_judged_by() -> None:
    found = judge(catalogue_size=8)
    found.take([outcome(0, 0, "a", type_="browse"), sent("u", "a", "b"), sent("v", "c", "d", "e")], ["a"])
    found.take([outcome(1, 1, "a"), sent("u", "f")], ["a"])
    ranks = by_method(found)
    # v's list, and the one that came after, were never judged. Of touches, and one for each of the five known: a has 2 of 6, b 1 of 6.
    assert ranks[OURS].coverage == 2 / 8
    assert ranks[POPULARITY].coverage == ranks[REPEAT].coverage == 1 / 8
    assert ranks[LAST_ITEM].coverage == 0.0
    assert ranks[OURS].novelty == pytest.approx(np.log2(6) - 0.5, abs=0.005)
    assert ranks[POPULARITY].novelty == pytest.approx(np.log2(3), abs=0.005)
    assert ranks[LAST_ITEM].novelty is None
    assert by_method(found, COLD)[OURS].coverage is None
    assert found.lists(OURS).coverage_curve() == [(1, 2 / 8)]


def test_repeats_are_told_from_what_is_new_to_the_shopper() -> None:
    hour_later = f"{np.datetime64(START + 3_600_000, 'ms')}Z"
    found = judge()
    for number, (rank, sku) in enumerate(((0, "a"), (3, "a"), (0, "b"), (1, "a"))):
        found.take([outcome(number, rank, sku)])
    found.take([outcome(4, 1, "a", occurred_at=hour_later)])
    found.take([outcome(5, 2, "c", occurred_at=hour_later)])
    groups = by_group(found, "repeat")
    assert {group: (one.tests, one.hit_rate_at_20) for group, one in groups.items()} == {
        "in this visit": (2, 1.0), "in an earlier visit": (1, 1.0), "never before": (3, pytest.approx(0.3333)),
    }  # fmt: skip
    ours = by_method(found)[OURS]
    assert (ours.tests, ours.repeats) == (6, 0.75)
    fresh = by_method(found, FRESH)[OURS]
    assert (fresh.tests, fresh.hit_rate_at_20, fresh.repeats) == (4, 0.5, None)
    assert by_method(found, FRESH)[REPEAT].hit_rate_at_20 == 0.25


def test_every_dimension_parts_all_tests() -> None:
    found = judge()
    stamps = [0, 60_000, 7_200_000, 3 * 86_400_000, 15 * 86_400_000, 60 * 86_400_000]
    for number, at_ms in enumerate(stamps):
        at = f"{np.datetime64(START + at_ms, 'ms')}Z"
        found.take([outcome(number, 1, "a", occurred_at=at, **({"category": "Kitchen"} if number % 2 else {}))])
    for number in range(25):
        found.take([outcome(100 + number, 0, f"s{number}", "w", type_="click" if number else "browse", category=f"c{number}")])
    assert {group: one.tests for group, one in by_group(found, "item_age").items()} == {
        "cold": 25, "under 1 hour": 1, "1 to 24 hours": 1, "1 to 7 days": 1, "1 to 4 weeks": 1, "over 4 weeks": 1,
    }  # fmt: skip
    # The browse event was no test, but is the first of its visit.
    assert {group: one.tests for group, one in by_group(found, "position").items()} == {
        "1": 5, "2": 2, "3": 1, "4 to 5": 2, "6 to 10": 5, "11 to 20": 10, "over 20": 5,
    }  # fmt: skip
    assert {group: one.tests for group, one in by_group(found, "event_type").items()} == {"click": 30}
    categories = by_group(found, "category")
    assert list(categories)[:3] == ["Kitchen", "uncategorised", "c1"]  # by tests
    assert categories["Kitchen"].hit_rate_at_20 == 1.0
    for dimension in ("event_type", "category", "item_age", "position", "repeat"):
        for method in METHODS:
            assert sum(one.tests for one in by_group(found, dimension, method).values()) == 30


def test_categories_beyond_the_bound_are_counted_together() -> None:
    found = judge()
    for number in range(80):
        found.take([outcome(number, 1, "a", category=f"c{number}")])
    categories = by_group(found, "category")
    assert len(categories) == 65
    assert categories["other"].tests == 16


def test_what_is_kept_does_not_grow_with_the_log() -> None:
    found = judge()
    for number in range(3_000):
        found.take([outcome(number, number % 20, f"s{number % 500}"), sent("u", "a")])
    assert len(found._trails["u"].own) == 128
    assert found._trails["u"].newest == [found._numbers[f"s{number}"] for number in range(499, 489, -1)]
    assert by_method(found)[REPEAT].hit_rate_at_20 == 0.0


@pytest.mark.parametrize("ticks", [False, True])
def test_the_lists_that_are_noted_are_those_that_ranks_are_of(ticks: bool) -> None:
    rng = np.random.default_rng(0)
    names = [f"s{number}" for number in range(300)]
    events = clicks(*((f"u{rng.integers(8)}", names[int(300 * rng.random() ** 2)]) for _ in range(200)))
    products = [Product(sku=sku, title=f"Title {sku}") for sku in names]
    shop = InProcessShop(Settings(index="flat", threads=1, session_gap_s=5), products, None)
    found, now_ms, compared = judge(), 0, 0

    def clocked() -> Iterator[ReplayEvent]:
        nonlocal now_ms
        for event in events:
            now_ms = event.at_ms
            yield event

    def told(outputs: Sequence[Output]) -> None:
        nonlocal compared
        popular = shop.popular(now_ms)
        for one in item_outcomes(outputs):
            if one["list_size"]:
                listed, number = found._sent[one["shopper"]], found._number(one["sku"])
                assert (listed.index(number) + 1 if number in listed else None) == one.get("rank")
                assert (popular.index(one["sku"]) + 1 if one["sku"] in popular else None) == one.get("popularity_rank")
                compared += 1
        found.take(outputs, popular)

    shop.learn(clocked(), 4, told, ticks=ticks)
    assert by_method(found)[OURS].tests == compared > 150


def test_lists_of_a_shop_have_coverage_novelty_and_repeats() -> None:
    rng = np.random.default_rng(0)
    events = clicks(*((f"u{rng.integers(8)}", "abcdefgh"[int(8 * rng.random() ** 2)]) for _ in range(200)))
    products = [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefghijklmnop"]
    ranks = by_method(judge_log(InProcessShop(Settings(index="flat", k=3, threads=1), products, None), events, ("click",), batch=4))
    assert 3 / 16 <= ranks[OURS].coverage <= 1.0
    assert ranks[REPEAT].coverage == 0.5
    # What is popular is what is touched most.
    assert ranks[POPULARITY].novelty < ranks[REPEAT].novelty
    assert 0.5 < ranks[OURS].repeats < ranks[REPEAT].repeats == 1.0
