"""The oracles that share no code with the product agree with it, and complain of whatever is not as it should be."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson
import pytest

from models.profiles import Profile, decode_profile, encode_profile
from schemas.catalog import Product
from schemas.decoding import decode_event
from schemas.internal import Resolution
from tests.agents.pipeline import START_MS, Pipeline, event
from tests.end_to_end import list_content, plain_profiles
from tests.end_to_end.list_content import Shelf
from tests.end_to_end.plain_profiles import Place
from tests.end_to_end.shown import Act, misnamed

GAP_MS = 600_000
SHELF = Shelf(frozenset("abcdefghijkl"), frozenset("z"), k=5)
ITEM = ("sku", "category")
KINDS = ("browse", "click", "add_to_cart", "purchase", "purchase", "refund", "search")

Events = list[tuple[Place, dict[str, Any]]]


def shopped(seed: int = 3) -> tuple[Pipeline, Events]:
    """Visits of five users and of sessions of nobody, in micro-batches of up to eight events, some late and some sent twice."""
    chance = random.Random(seed)
    worker = Pipeline("abcdefghijkl", vectors=False, k=5, session_gap_s=GAP_MS / 1000)
    worker.publish(Product(sku="z", title="Gone", category_path=("Shop", "Aisle"), stock=0))
    read: Events = []
    sent: list[tuple[bytes, bytes]] = []
    for batch in range(60):
        pairs: list[tuple[bytes, bytes]] = []
        for number in range(chance.randrange(1, 9)):
            kind = chance.choice(KINDS)
            sku = {} if kind == "search" else {"sku": chance.choice("aabbcdefghijklz")}
            many = {"quantity": chance.randrange(1, 4)} if kind in ("purchase", "refund") else {}
            user = chance.choice(["u1", "u2", "u3", "u4", "u5", None])
            session = {"session_id": f"s{batch // 20}"}
            at = batch * 240 + chance.choice([0, 0, 0, -3_000])
            pairs.append(event(kind, 10 * batch + number, user, second=at, country=chance.choice(["GB", "FR"]), **sku, **many, **session))
            sent.append(pairs[-1])
            if chance.random() < 0.2:
                pairs.append(chance.choice(sent[-20:]))
        records = worker.records(pairs)
        read += [((record.partition, record.offset), orjson.loads(record.value or b"")) for record in records]
        worker.process(records)
    return worker, read


def lists_of(worker: Pipeline) -> list[bytes]:
    return [output.value for output in worker.outputs if output.topic == "recommendations" and output.value is not None]


def profiles_of(worker: Pipeline) -> dict[plain_profiles.Key, bytes]:
    return {(2, key): value for key, value in worker.state.data.items() if key.startswith(b"p|")}


def test_they_agree_with_what_is_right() -> None:
    for seed in range(5):
        worker, events = shopped(seed)
        assert plain_profiles.differences(events, profiles_of(worker), GAP_MS) == []
        lists = lists_of(worker)
        assert list_content.faults(lists, events, SHELF, GAP_MS) == []
        assert sum(b'"source":"again"' in value for value in lists) > len(lists) / 2


def shift_a_share(record: dict[str, Any]) -> None:
    item = next(item for item in record["items"] if {"again", "trending"} <= {reason["source"] for reason in item["reasons"]})
    for reason in item["reasons"]:
        reason["score"] += {"again": Decimal("-0.00001"), "trending": Decimal("0.00001")}.get(reason["source"], 0)


def forget_an_own_item(record: dict[str, Any]) -> None:
    """Another product in the place of the one that the shopper's own history speaks for most."""
    items = record["items"]
    own = max(items, key=lambda item: sum(reason["score"] for reason in item["reasons"] if reason["source"] == "again"))
    stranger = min(set("abcdefghijkl") - {item["sku"] for item in items})
    own |= {"sku": stranger, "explanation": "Popular right now", "reasons": [{"source": "trending", "score": own["score"]}]}


def blame_a_stranger(record: dict[str, Any]) -> None:
    reason = next(reason for item in record["items"] for reason in item["reasons"] if reason["source"] in ("together", "sessions"))
    reason["because"] = "z?"


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "an item twice": lambda record: record["items"][1].update(sku=record["items"][0]["sku"]),
    "positions": lambda record: record["items"][0].update(position=2),
    "z is sold out": lambda record: record["items"][4].update(sku="z"),
    "y is no product": lambda record: record["items"][4].update(sku="y"),
    "no rules are called r": lambda record: record["versions"].update(rules="r"),
    "no weights are called w": lambda record: record["versions"].update(weights="w"),
    "made by blend-2": lambda record: record["versions"].update(model="blend-2"),
    "not by falling score": lambda record: record["items"][0].update(score=Decimal(0)),
    "do not sum to": lambda record: record["items"][2]["reasons"][0].update(score=Decimal("0.000001")),
    "reasons \\['hunch'": lambda record: record["items"][0]["reasons"][0].update(source="hunch"),
    "again counts": shift_a_share,
    "are missing": forget_an_own_item,
    "because of z\\?": blame_a_stranger,
    "policy cold_start": lambda record: record.update(policy="cold_start"),
    "policy empty of 5 items": lambda record: record.update(policy="empty"),
    "rests on no event": lambda record: record["caused_by"].update(last_offset=10_000),
}


@pytest.mark.parametrize("complaint", SPOILT)
def test_a_list_that_is_not_as_it_should_be_is_complained_of(complaint: str) -> None:
    worker, events = shopped()
    values = lists_of(worker)

    def fits(record: dict[str, Any]) -> bool:
        sources = [{reason["source"] for reason in item["reasons"]} for item in record["items"]]
        both = any({"again", "trending"} <= found for found in sources)
        return len(sources) == 5 and both and any(found & {"together", "sessions"} for found in sources)

    place, record = next((place, record) for place, value in enumerate(values) if fits(record := json.loads(value, parse_float=Decimal)))
    SPOILT[complaint](record)
    values[place] = json.dumps(record, default=float).encode()
    found = list_content.faults(values, events, SHELF, GAP_MS)
    assert any(re.search(complaint, fault) for fault in found)


def test_lists_of_one_micro_batch_by_two_versions_are_complained_of() -> None:
    worker, events = shopped()
    records = [orjson.loads(value) for value in lists_of(worker)]
    twin = next(later for former, later in pairwise(records) if former["generated_at"] == later["generated_at"])
    twin["versions"]["index"] += 1
    (found,) = list_content.faults(map(orjson.dumps, records), events, SHELF, GAP_MS)
    assert "made by 2 versions" in found


def test_rules_weights_and_models_are_held_to_what_each_version_of_them_says() -> None:
    worker, events = shopped()
    records = [orjson.loads(value) for value in lists_of(worker)]
    for record in records:
        record["versions"] |= {"rules": "r", "weights": "w", "model": "ranker-1+sequence-1"}
    values = list(map(orjson.dumps, records))

    def complaints(**fields: Any) -> str:
        told = {"excluded": {"r": frozenset()}, "weights": {"w": list_content.BUILT_IN}}
        shelf = Shelf(SHELF.on_sale, SHELF.sold_out, 5, **(told | {"rankers": {"ranker-1"}, "sequences": {"sequence-1"}} | fields))
        return "\n".join(list_content.faults(values, events, shelf, GAP_MS))

    assert complaints() == ""
    assert "['a'] are ruled out by r" in complaints(excluded={"r": frozenset("a")})
    assert "again counts nothing by its weight" in complaints(weights={"w": list_content.BUILT_IN | {"again": 0.0}})
    assert "made by ranker-1+sequence-1" in complaints(rankers={"ranker-2"})
    assert "made by ranker-1+sequence-1" in complaints(sequences=frozenset())


FORGED: dict[str, Callable[[Profile], object]] = {
    "events": lambda profile: setattr(profile, "events", profile.events + 1),
    "first_ms": lambda profile: setattr(profile, "first_ms", profile.first_ms - 1),
    "last_ms": lambda profile: setattr(profile, "last_ms", profile.last_ms + 1),
    "visit_start_ms": lambda profile: setattr(profile, "session_start_ms", profile.session_start_ms + 1),
    "visit_last_ms": lambda profile: setattr(profile, "session_last_ms", profile.session_last_ms + 1),
    "visit_items": lambda profile: setattr(profile, "session_length", profile.session_length + 1),
    "known ids": lambda profile: setattr(profile, "event_ids", profile.event_ids[8:]),
    "recent": lambda profile: profile.recent_skus.reverse(),
    "bought": lambda profile: setattr(profile, "bought", profile.bought[:-16] + bytes(16)),
    "seen": lambda profile: profile.seen_skus.reverse(),
    "country": lambda profile: setattr(profile, "country", "DE"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_profile_that_is_not_as_it_should_be_is_complained_of(what: str) -> None:
    worker, events = shopped()
    state = profiles_of(worker)
    key = (2, b"p|u|u1")
    profile = decode_profile(state[key])
    FORGED[what](profile)
    (found,) = plain_profiles.differences(events, state | {key: encode_profile(profile)}, GAP_MS)
    assert f": {what} is " in found
    lacking = plain_profiles.differences(events, {place: value for place, value in state.items() if place != key}, GAP_MS)
    assert lacking
    assert plain_profiles.differences([], {key: state[key]}, GAP_MS) == [f"{key}: a profile of nobody"]


@pytest.mark.parametrize(
    "spoilt",
    [{}, {"channel": "app"}, {"country": None}, {"segment": "new"}, {"corrects": "shown-2-8"}, {"sku": "b"}, {"category": "Aisle"}],
)
def test_where_and_of_what_a_list_was_shown_is_held_against_its_event_and_the_catalogue(spoilt: dict[str, Any]) -> None:
    key, value = event("search", 1, channel="web", country="GB")
    acts = [Act(2, 7, decode_event(key, value, received_ms=START_MS), None)]
    products = [Product(sku="a", category_path=("Shop", "Aisle")), Product(sku="b")]
    items = ({"sku": "a", "place": 1, "result": "ignored", "category": "Shop > Aisle"} | {k: v for k, v in spoilt.items() if k in ITEM},)
    told = {
        "resolution_id": "shown-2-7", "reason": "window", "origin": {"topic": "storefront.events", "partition": 2, "offset": 7},
        "shopper": "u", "recommendation_id": "r", "watermark": "2026-03-02T12:00:00Z", "channel": "web", "country": "GB", "items": items,
    } | {k: v for k, v in spoilt.items() if k not in ITEM}  # fmt: skip
    assert bool(misnamed([Resolution.model_validate_json(orjson.dumps(told))], acts, products)) is bool(spoilt)
