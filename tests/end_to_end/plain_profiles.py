"""What is to be known of each shopper, reckoned from the JSON of their events by rules written down anew: this shares no code with the
product, neither what reads events nor what applies them, nor what writes profiles.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message

Place = tuple[int, int]  # partition, offset
#: Of a shopper: the partition, and the key of their profile in the state.
Key = tuple[int, bytes]

_KINDS = ("browse", "click", "add_to_cart", "purchase")
_RECENT, _BOUGHT, _SEEN, _IDS = 50, 500, 200, 256
#: Channels that a profile tells apart; those of further ones are not known.
_CHANNELS = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Where the fields of a stored profile stand.
_FIELDS = (
    "format", "flags", "first_ms", "last_ms", "events", "visit_start_ms", "visit_last_ms", "visit_items", "ids", "recent_skus", "recent",
    "bought_skus", "bought", "seen_skus", "seen", "categories", "affinities", "affinity_ms", "aliases", "country",
    "channels", "recent_channels", "query", "query_ms", "consent_ms",
)  # fmt: skip


class Bought(NamedTuple):
    """How often and how many of an item, and when last (ms)."""

    times: int
    units: int
    at_ms: int


@dataclass
class Shopper:
    """One shopper after so many events; ``recent`` is (sku, ms, type) oldest first, ``bought`` and ``seen`` by last use."""

    events: int = 0
    first_ms: int = 0
    last_ms: int = 0
    visit_start_ms: int = 0
    visit_last_ms: int = 0
    visit_items: int = 0
    ids: list[str] = field(default_factory=list)
    recent: list[tuple[str, int, str]] = field(default_factory=list)
    bought: dict[str, Bought] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    country: str = ""
    #: Of each of ``recent`` the channel that it came by.
    channels: list[str] = field(default_factory=list)
    #: When they searched for words last; 0: never.
    searched_ms: int = 0
    #: Every item that was ever looked at, put in the basket or bought.
    touched: set[str] = field(default_factory=set)

    def take(self, event: Mapping[str, Any], gap_ms: int) -> bool:
        """One more event; False if it was taken before."""
        if event["event_id"] in self.ids:
            return False
        assert "consent" not in event, "shoppers who do not agree to a history are not reckoned here"
        self.ids = [*self.ids, event["event_id"]][-_IDS:]
        at = _ms(event["occurred_at"])
        self.first_ms = min(self.first_ms, at) if self.events else at
        self.last_ms = max(self.last_ms, at) if self.events else at
        self.events += 1
        if event.get("country") and (at == self.last_ms or not self.country):
            self.country = event["country"]
        sku, kind = event.get("sku"), event["type"]
        if kind == "search" and any(sign.isalnum() for sign in event["query"]):
            self.searched_ms = max(self.searched_ms, at)
        if sku is not None and kind in _KINDS:
            self._meet(sku, kind, at, event.get("quantity", 1), gap_ms)
            self.channels = [*self.channels, event["channel"]][-_RECENT:]
        elif kind == "refund" and sku in self.bought:
            held, units = self.bought[sku], event.get("quantity", 1)
            if units >= held.units:
                del self.bought[sku]
            else:
                self.bought[sku] = held._replace(units=held.units - units)
        return True

    def _meet(self, sku: str, kind: str, at: int, quantity: int, gap_ms: int) -> None:
        self.touched.add(sku)
        self.recent = [*self.recent, (sku, at, kind)][-_RECENT:]
        if self.visit_items == 0 or at - self.visit_last_ms > gap_ms:
            self.visit_start_ms = self.visit_last_ms = at
            self.visit_items = 1
        elif self.visit_start_ms - at <= gap_ms:
            self.visit_last_ms = max(self.visit_last_ms, at)
            self.visit_items += 1
        if kind == "purchase":
            times, units, last = self.bought.pop(sku, Bought(0, 0, at))
            self.bought[sku] = Bought(times + 1, units + quantity, max(last, at))
            self.bought = dict(list(self.bought.items())[-_BOUGHT:])
        else:
            self.seen[sku] = max(self.seen.pop(sku, at), at)
            self.seen = dict(list(self.seen.items())[-_SEEN:])


def _ms(moment: str) -> int:
    elapsed = datetime.fromisoformat(moment) - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000


def key_of(event: Mapping[str, Any]) -> bytes:
    """Where the state keeps the profile of the event's shopper."""
    user = event.get("user_id")
    return b"p|u|" + user.encode() if user is not None else b"p|s|" + event["session_id"].encode()


def events_of(messages: Iterable[Message], refused: Container[Place]) -> list[tuple[Place, dict[str, Any]]]:
    """The events of a topic that were not ``refused``, in the order of each partition."""
    read = sorted(messages, key=lambda message: (message.partition(), message.offset()))
    placed = [((message.partition(), message.offset()), message.value()) for message in read]
    return [(place, json.loads(value)) for place, value in placed if place not in refused]


def differences(events: Iterable[tuple[Place, Mapping[str, Any]]], state: Mapping[Key, bytes], gap_ms: int) -> list[str]:
    """Where the stored profiles part from what ``events``, in order, without logins, erasures and clocks that are ahead, come to."""
    shoppers: dict[Key, Shopper] = {}
    for (partition, _), event in events:
        shoppers.setdefault((partition, key_of(event)), Shopper()).take(event, gap_ms)
    wrong = [f"{key}: a profile of nobody" for key in state.keys() - shoppers.keys()]
    for key, shopper in shoppers.items():
        expected, found = _expected(shopper), _stored(state[key]) if key in state else {}
        wrong += [f"{key}: {name} is {found.get(name)}, should be {value}" for name, value in expected.items() if found.get(name) != value]
    return wrong


def _expected(shopper: Shopper) -> dict[str, object]:
    return {
        "events": shopper.events, "first_ms": shopper.first_ms, "last_ms": shopper.last_ms, "visit_start_ms": shopper.visit_start_ms,
        "visit_last_ms": shopper.visit_last_ms, "visit_items": shopper.visit_items, "known ids": len(shopper.ids), "recent": shopper.recent,
        "bought": list(shopper.bought.items()), "seen": list(shopper.seen.items()), "country": shopper.country,
        "by channel": _told_apart(shopper.channels), "query_ms": shopper.searched_ms,
    }  # fmt: skip


def _told_apart(channels: list[str]) -> list[str]:
    known = list(dict.fromkeys(channels))[:_CHANNELS]
    return [channel if channel in known else "" for channel in channels]


def _stored(data: bytes) -> dict[str, Any]:
    """A stored profile as plain values."""
    raw = dict(zip(_FIELDS, msgspec.msgpack.decode(data), strict=True))
    times = struct.unpack(f"<{len(raw['recent_skus'])}q", raw["recent"])
    bought = [Bought(*entry) for entry in struct.iter_unpack("<IIq", raw["bought"])]
    seen = [at for (at,) in struct.iter_unpack("<q", raw["seen"])]
    return raw | {
        "known ids": len(raw["ids"]) / 8,
        "recent": [(sku, packed >> 3, _KINDS[packed & 7]) for sku, packed in zip(raw["recent_skus"], times, strict=True)],
        "bought": list(zip(raw["bought_skus"], bought, strict=True)),
        "seen": list(zip(raw["seen_skus"], seen, strict=True)),
        "by channel": [raw["channels"][code] if code < len(raw["channels"]) else "" for code in raw["recent_channels"]],
    }
