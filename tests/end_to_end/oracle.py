"""What a worker must have made of an event topic, recomputed from the topic itself in one clean pass."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from confluent_kafka import Message

from models.attribution import Windows
from models.profiles import Profile, apply, encode_profile, milliseconds
from models.profiles.history import SESSION_GAP_MS
from schemas.catalog import Product
from schemas.decoding import InvalidRecord, decode_event
from schemas.events import Event, Purchase, Refund
from schemas.operations import DeadLetter
from schemas.recommendation import Recommendations
from streams.agents.shoppers import Shopper, shopper_of
from tests.end_to_end import plain_showings
from tests.end_to_end.plain_showings import Act, Reach

Place = tuple[int, int]  # partition, offset


@dataclass
class Oracle:
    """The truth about one event topic without logins. ``known`` are the SKUs that the catalogue ever held."""

    known: frozenset[str]
    gap_ms: int = SESSION_GAP_MS
    applied: dict[Place, Event] = field(default_factory=dict)
    #: The bytes of the same events.
    raw: dict[Place, bytes] = field(default_factory=dict)
    duplicates: set[Place] = field(default_factory=set)
    refused: dict[Place, tuple[str, bytes | None]] = field(default_factory=dict)
    profiles: dict[tuple[int, bytes], Profile] = field(default_factory=dict)
    shoppers: dict[Place, Shopper] = field(default_factory=dict)
    revenue: Decimal = Decimal(0)
    refunds: Decimal = Decimal(0)

    @classmethod
    def of(cls, events: Iterable[Message], known: Iterable[str], gap_ms: int = SESSION_GAP_MS) -> Oracle:
        """Read the event topic's records, in each partition's order; ``gap_ms`` parts visits."""
        oracle = cls(frozenset(known), gap_ms)
        for message in sorted(events, key=lambda m: (m.partition(), m.offset())):
            oracle._take(message)
        return oracle

    def _take(self, message: Message) -> None:
        place = (message.partition(), message.offset())
        try:
            event = decode_event(message.key(), message.value(), received_ms=message.timestamp()[1])
            sku = getattr(event, "sku", None)
            if sku is not None and sku not in self.known:
                raise InvalidRecord("sku_unknown", "sku", "")
        except InvalidRecord as invalid:
            self.refused[place] = (invalid.code, message.value())
            return
        shopper = shopper_of(event)
        profile = self.profiles.setdefault((message.partition(), shopper.profile_key), Profile())
        if not apply(profile, event, self.gap_ms, min(milliseconds(event.occurred_at), message.timestamp()[1])):
            self.duplicates.add(place)
            return
        self.applied[place], self.raw[place] = event, message.value()
        self.shoppers[place] = shopper
        if isinstance(event, Purchase):
            self.revenue += event.unit_price * event.quantity
        elif isinstance(event, Refund):
            self.refunds += event.unit_price * event.quantity

    def state(self) -> dict[tuple[int, bytes], bytes]:
        """(partition, state key) -> the profile's bytes."""
        return {key: encode_profile(profile) for key, profile in self.profiles.items() if profile.events}


@dataclass(frozen=True)
class Difference:
    """Where the outputs part from the oracle. All empty: nothing was lost, doubled or altered. ``told`` counts records of lists shown."""

    missing: list[Place]
    duplicated: list[Place]
    dead_letters: list[str]
    state: list[tuple[int, bytes]]
    ranks: list[str]
    resolutions: list[str]
    told: int

    def counts(self) -> dict[str, int]:
        """Sizes, for one printed line."""
        return {
            "missing": len(self.missing),
            "duplicated": len(self.duplicated),
            "dead_letter_differences": len(self.dead_letters),
            "state_differences": len(self.state),
            "rank_differences": len(self.ranks),
            "resolution_differences": len(self.resolutions),
        }


def compare(
    oracle: Oracle,
    recommendations: Sequence[Message],
    dead_letters: Sequence[Message],
    outcomes: Sequence[Message],
    changelog: dict[tuple[int, bytes], bytes],
    emitted: dict[tuple[int, bytes], bytes],
    windows: Windows = Windows(),  # noqa: B008 - a tuple of numbers
    products: Sequence[Product] = (),
) -> Difference:
    """Hold all outputs (read committed, whole topics) and the state's profiles and lists against the oracle. ``products``: those with a
    category or a margin, which did not change.
    """
    lists: dict[tuple[int, str], list[Recommendations]] = defaultdict(list)
    identifiers: set[str] = set()
    doubled: list[Place] = []
    for message in recommendations:
        if message.value() is None:
            continue
        record = Recommendations.model_validate_json(message.value())
        cause = record.caused_by
        if record.recommendation_id in identifiers:
            doubled.append((cause.partition, cause.last_offset))
        identifiers.add(record.recommendation_id)
        lists[cause.partition, message.key().decode()].append(record)
    doubled += _out_of_place(lists)
    covered, missing = _coverage(oracle, {key: [r for r in own if r.occasion == "visit"] for key, own in lists.items()})
    doubled += covered
    doubled += _twice(outcomes)
    missing += sorted(set(oracle.applied) - {_place(orjson.loads(m.value())) for m in _outcomes(outcomes)})
    told = [orjson.loads(m.value()) for m in outcomes if b'"kind":"resolution"' in m.value()]
    reach = Reach(windows.click_s, windows.view_s, oracle.gap_ms // 1000)
    margins = {(product.sku, product.currency): product.margin for product in products if product.margin is not None}
    categories = {product.sku: " > ".join(product.category_path) for product in products if product.category_path}
    resolutions = plain_showings.differences(_shoppers(oracle, lists, outcomes), told, emitted, reach, margins, categories)
    ranks = _ranks(oracle, lists, outcomes)
    return Difference(missing, doubled, _dead_letters(oracle, dead_letters), _state(oracle, changelog), ranks, resolutions, len(told))


def _shoppers(
    oracle: Oracle, lists: dict[tuple[int, str], list[Recommendations]], outcomes: Sequence[Message]
) -> Iterator[tuple[tuple[int, bytes], list[dict[str, Any]], list[Act]]]:
    """Of each shopper: where their list is kept, all that they were sent, and their events, each with whether its claim holds."""
    cited = {_place(outcome): outcome.get("cited_rank") for outcome in (orjson.loads(m.value()) for m in _outcomes(outcomes))}
    acts: dict[tuple[int, Shopper], list[Act]] = defaultdict(list)
    for place, event in sorted(oracle.raw.items()):
        acts[place[0], oracle.shoppers[place]].append(Act(*place, orjson.loads(event), cited.get(place) is not None))
    for (partition, shopper), mine in acts.items():
        sent = [orjson.loads(record.to_json()) for record in lists[partition, shopper.topic_key.decode()]]
        yield (partition, shopper.list_key), sent, mine


def _out_of_place(lists: dict[tuple[int, str], list[Recommendations]]) -> list[Place]:
    """Lists for the next visit that do not follow the last one of a visit, at once and resting on its newest record."""
    wrong: list[Place] = []
    for own in lists.values():
        for before, record in zip([None, *own], own, strict=False):
            if record.occasion == "next_visit":
                cause = record.caused_by
                after = before is not None and before.caused_by.last_offset == cause.last_offset
                if not after or record.recommendation_id != f"{before.recommendation_id}-next":
                    wrong.append((cause.partition, cause.last_offset))
    return wrong


def _coverage(oracle: Oracle, lists: dict[tuple[int, str], list[Recommendations]]) -> tuple[list[Place], list[Place]]:
    doubled, missing = [], []
    rest: dict[tuple[int, str], int] = defaultdict(int)
    for (partition, offset), shopper in oracle.shoppers.items():
        own = lists.get((partition, shopper.topic_key.decode()), [])
        covering = sum(r.caused_by.first_offset <= offset <= r.caused_by.last_offset for r in own)
        if covering == 0:
            missing.append((partition, offset))
        elif covering > 1:
            doubled.append((partition, offset))
        rest[partition, shopper.topic_key.decode()] += 1
    for key, own in lists.items():
        if own and sum(r.caused_by.events for r in own) != rest[key]:
            doubled.append((key[0], own[-1].caused_by.last_offset))
    return doubled, missing


def _outcomes(messages: Sequence[Message]) -> list[Message]:
    return [m for m in messages if b'"kind":"outcome"' in m.value()]


def _place(outcome: dict[str, dict[str, int]]) -> Place:
    return outcome["origin"]["partition"], outcome["origin"]["offset"]


def _twice(messages: Sequence[Message]) -> list[Place]:
    places = [_place(orjson.loads(m.value())) for m in _outcomes(messages)]
    return sorted({place for place in places if places.count(place) > 1}) if len(places) != len(set(places)) else []


def _dead_letters(oracle: Oracle, messages: Sequence[Message]) -> list[str]:
    wrong: list[str] = []
    seen: set[Place] = set()
    for message in messages:
        letter = DeadLetter.model_validate_json(message.value())
        place = (letter.partition, letter.offset)
        if place in seen:
            wrong.append(f"{place} twice")
        seen.add(place)
        code, raw = oracle.refused.get(place, (None, None))
        if letter.code != code:
            wrong.append(f"{place}: {letter.code} instead of {code}")
        sent = None if letter.value is None else base64.b64decode(letter.value)
        if letter.truncated_bytes == 0 and sent != raw:
            wrong.append(f"{place}: raw bytes differ")
        if letter.truncated_bytes and (
            raw is None or sent != raw[: len(sent or b"")] or len(raw) != len(sent or b"") + letter.truncated_bytes
        ):
            wrong.append(f"{place}: truncated bytes do not add up")
    return wrong + [f"{place}: no dead letter" for place in sorted(set(oracle.refused) - seen)]


def _state(oracle: Oracle, changelog: dict[tuple[int, bytes], bytes]) -> list[tuple[int, bytes]]:
    expected = oracle.state()
    return sorted(key for key in expected.keys() | changelog.keys() if expected.get(key) != changelog.get(key))


def _ranks(oracle: Oracle, lists: dict[tuple[int, str], list[Recommendations]], outcomes: Sequence[Message]) -> list[str]:
    """Each item event was judged against the list that was last emitted to its shopper before it."""
    wrong: list[str] = []
    judged = ("browse", "click", "add_to_cart", "purchase")
    for message in _outcomes(outcomes):
        outcome = orjson.loads(message.value())
        place = _place(outcome)
        event, shopper = oracle.applied.get(place), oracle.shoppers.get(place)
        if event is None or shopper is None:
            wrong.append(f"{place}: an outcome of no valid event")
            continue
        if event.type not in judged:
            continue
        before = [r for r in lists[place[0], shopper.topic_key.decode()] if r.caused_by.last_offset < place[1]]
        shown = [item.sku for item in before[-1].items] if before else []
        sku = getattr(event, "sku", None)
        rank = shown.index(sku) + 1 if sku in shown else None
        if outcome.get("rank") != rank or outcome["list_size"] != len(shown):
            wrong.append(f"{place}: rank {outcome.get('rank')} of {outcome['list_size']}, should be {rank} of {len(shown)}")
    return wrong
