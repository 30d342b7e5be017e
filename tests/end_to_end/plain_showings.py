"""What becomes of the lists that one shopper is shown, by rules written down anew from the README and ``schemas``; shares no code with the
product, and knows its events as JSON.

For shoppers whose channels send no impressions, who log in nowhere, and in less event time than a list is kept: then a list is given up
only to make room.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

RESULTS = ("ignored", "clicked", "added", "bought")
_COUNTS = {"browse": 1, "click": 1, "add_to_cart": 2, "purchase": 3}
#: What is followed of a shopper at most: lists, and bytes as they are stored; sales of one list, and of those that are given up.
_LISTS, _BYTES, _SALES, _SOLD = 20, 4_096, 20, 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Act(NamedTuple):
    """An event that counted, and whether the list that it cites was sent to its shopper and holds its item."""

    partition: int
    offset: int
    event: Mapping[str, Any]
    claim_holds: bool


class Reach(NamedTuple):
    """How long after it a click and a showing count, and a visit lasts in silence, in seconds."""

    click_s: int
    view_s: int
    gap_s: int


@dataclass(slots=True)
class Sale:
    """Units of an order in one currency, at one margin a unit."""

    order: str
    currency: str
    unit_margin: Decimal | None
    units: int
    revenue: Decimal


@dataclass(slots=True)
class Taken:
    """What became of an item: ``touched_s`` is its newest click, 0 for none. ``told``: sales for which there was no room, so that no refund
    takes back.
    """

    result: int
    first_s: int
    touched_s: int = 0
    sales: list[Sale] = field(default_factory=list)
    told: list[Sale] = field(default_factory=list)


@dataclass(slots=True)
class Showing:
    """A list in front of a shopper: first shown by the event at ``partition`` and ``offset``, whose channel, country and segment are its
    ``source``.
    """

    partition: int
    offset: int
    recommendation_id: str
    shown_s: int
    arm: str | None
    source: tuple[str | None, ...]
    skus: list[str]
    taken: dict[str, Taken] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"shown-{self.partition}-{self.offset}"

    @property
    def touched_s(self) -> int:
        return max((taken.touched_s for taken in self.taken.values()), default=0)

    def over_s(self, reach: Reach) -> int:
        """When its window ends."""
        return max(self.shown_s + reach.view_s, self.touched_s + reach.click_s if self.touched_s else 0)

    @property
    def size(self) -> int:
        """Its bytes as they are stored: MessagePack, an order as a number of 63 bits, an amount as text, before the items their places."""
        taken = [
            [sku, item.result, item.first_s, item.touched_s, [
                [1 << 62, sale.units, f"{sale.revenue:f}", sale.currency, None if sale.unit_margin is None else f"{sale.unit_margin:f}"]
                for sale in item.sales
            ]]
            for sku, item in self.taken.items()
        ]  # fmt: skip
        head = [self.partition, self.offset, self.recommendation_id, self.shown_s, self.arm, self.source, False, taken, b"", self.skus]
        return len(msgspec.msgpack.encode(head))


class Shopper:
    """Takes events and lists in their order. ``showings``: all that were, oldest first; ``followed`` those that did not make room."""

    def __init__(self, reach: Reach, margins: Mapping[tuple[str, str], Decimal]) -> None:
        self._reach = reach
        self._margins = margins
        self.showings: list[Showing] = []
        self.followed: list[Showing] = []
        #: Sales of those that made room, oldest first.
        self._sold: list[tuple[str, Sale]] = []

    def live(self, lists: Sequence[Mapping[str, Any]], acts: Sequence[Act]) -> None:
        """All that they were sent and did, by micro-batch: each list but one for the next visit tells the events that it rests on."""
        stands: Mapping[str, Any] | None = None
        made_s = newest_s = 0
        for record in lists:
            if record.get("occasion") == "next_visit":
                stands = record
                continue
            cause = record["caused_by"]
            mine = [act for act in acts if cause["first_offset"] <= act.offset <= cause["last_offset"]]
            for number, act in enumerate(mine):
                if act.event["type"] == "refund":
                    self._refund(act.event)
                    continue
                # What stood when they acted is shown: since it was made, or, if they come in another visit, since now.
                if stands is not None and not any(earlier.event["type"] != "refund" for earlier in mine[:number]):
                    at_s = _seconds(act.event)
                    self._show(act, stands, made_s if at_s <= made_s + self._reach.gap_s else at_s)
                self._take(act)
            self._make_room(self.followed)
            newest_s = max([newest_s, *(_seconds(act.event) for act in mine)])
            made_s, stands = newest_s, record

    def _show(self, act: Act, record: Mapping[str, Any], shown_s: int) -> None:
        skus = [item["sku"] for item in record["items"]]
        if not skus:
            return
        if self.followed:
            last = self.followed[-1]
            same = last.skus == skus or last.recommendation_id == record["recommendation_id"]
            if same and shown_s <= last.over_s(self._reach):
                return
        self._make_room(self.followed)
        shown = Showing(act.partition, act.offset, record["recommendation_id"], shown_s, record.get("arm"), _source(act.event), skus)
        self.followed.append(shown)
        self.showings.append(shown)

    def _take(self, act: Act) -> None:
        event, kind, at_s = act.event, act.event["type"], _seconds(act.event)
        if kind not in _COUNTS or (kind == "browse" and not act.claim_holds):
            return
        sku = event["sku"]
        shown = self._spoken_for(sku, at_s, event["recommendation_id"] if act.claim_holds else None, alone=kind == "browse")
        if shown is None:
            return
        item = shown.taken.setdefault(sku, Taken(_COUNTS[kind], at_s))
        item.result, item.first_s = max(item.result, _COUNTS[kind]), min(item.first_s, at_s)
        if kind == "purchase":
            _sell(shown, item, _sale(event, self._margins.get((sku, event["currency"]))))
        else:
            item.touched_s = max(item.touched_s, at_s)
        if shown is not self.followed[-1]:
            self._make_room(self.followed[:-1])

    def _spoken_for(self, sku: str, at_s: int, cited: str | None, *, alone: bool) -> Showing | None:
        """Which of the lists that hold the item an event speaks for; ``alone``: for the one that it cites, or none."""
        holding = [shown for shown in reversed(self.followed) if sku in shown.skus]
        touched = {id(shown): shown.taken[sku].touched_s if sku in shown.taken else 0 for shown in holding}
        for shown in holding:
            if shown.recommendation_id == cited and at_s <= max(shown.shown_s, touched[id(shown)]) + self._reach.click_s:
                return shown
        if alone:
            return None
        clicked = [shown for shown in holding if 0 < touched[id(shown)] <= at_s <= touched[id(shown)] + self._reach.click_s]
        if clicked:
            return max(clicked, key=lambda shown: touched[id(shown)])
        return next((shown for shown in holding if shown.shown_s <= at_s <= shown.shown_s + self._reach.view_s), None)

    def _refund(self, event: Mapping[str, Any]) -> None:
        refund = _sale(event, None)
        held = [sale for shown in reversed(self.followed) if event["sku"] in shown.taken for sale in shown.taken[event["sku"]].sales]
        held += [sale for sku, sale in reversed(self._sold) if sku == event["sku"]]
        for sale in held:
            units = min(sale.units, refund.units)
            if units > 0 and (sale.order, sale.currency) == (refund.order, refund.currency):
                sale.revenue -= refund.revenue * units / refund.units
                sale.units -= units
                return

    def _make_room(self, stored: Sequence[Showing]) -> None:
        """The oldest go while there are too many, or too many bytes, but for the newest."""
        stored = list(stored)
        while len(stored) > _LISTS or (len(stored) > 1 and sum(shown.size for shown in stored) > _BYTES):
            gone = stored.pop(0)
            self.followed.remove(gone)
            self._sold = [*self._sold, *((sku, sale) for sku, item in gone.taken.items() for sale in item.sales)][-_SOLD:]


def _sale(event: Mapping[str, Any], margin: Decimal | None) -> Sale:
    units = event.get("quantity", 1)
    return Sale(event["order_id"], event["currency"], margin, units, Decimal(event["unit_price"]) * units)


def _sell(shown: Showing, item: Taken, sale: Sale) -> None:
    for held in item.sales:
        if (held.order, held.currency, held.unit_margin) == (sale.order, sale.currency, sale.unit_margin):
            held.units += sale.units
            held.revenue += sale.revenue
            return
    kept = sum(len(other.sales) for other in shown.taken.values()) < _SALES
    (item.sales if kept else item.told).append(sale)


def _source(said: Mapping[str, Any]) -> tuple[str | None, ...]:
    return tuple(said.get(name) for name in ("channel", "country", "segment"))


def _seconds(event: Mapping[str, Any]) -> int:
    elapsed = datetime.fromisoformat(event["occurred_at"]) - _EPOCH
    return elapsed.days * 86_400 + elapsed.seconds


class Item(NamedTuple):
    """What a list came to for one item: ``sales`` by currency are units, revenue and margin, where units are left."""

    place: int
    result: str
    sales: Mapping[str, tuple[int, Decimal, Decimal]]


def came_to(shown: Showing) -> dict[str, Item]:
    """Of every item of a list."""
    found = {}
    for place, sku in enumerate(shown.skus, 1):
        item = shown.taken.get(sku)
        sales = [] if item is None else [*item.sales, *item.told]
        found[sku] = Item(place, RESULTS[item.result] if item else RESULTS[0], _sums(
            (sale.currency, sale.units, sale.revenue, (sale.unit_margin or Decimal(0)) * sale.units) for sale in sales
        ))  # fmt: skip
    return found


def told(records: Iterable[Mapping[str, Any]]) -> dict[str, Item]:
    """What all records of one list come to together: the whole, and what corrects it."""
    places: dict[str, int] = {}
    results: dict[str, int] = {}
    money: dict[str, list[tuple[str, int, Decimal, Decimal]]] = defaultdict(list)
    for record in records:
        for item in record["items"]:
            places.setdefault(item["sku"], item["place"])
            results[item["sku"]] = max(results.get(item["sku"], 0), RESULTS.index(item["result"]))
            for sale in item.get("sales") or ():
                money[item["sku"]].append((sale["currency"], sale["quantity"], Decimal(sale["revenue"]), Decimal(sale.get("margin") or 0)))
    return {sku: Item(place, RESULTS[results[sku]], _sums(money[sku])) for sku, place in places.items()}


def _sums(sales: Iterable[tuple[str, int, Decimal, Decimal]]) -> dict[str, tuple[int, Decimal, Decimal]]:
    sums: dict[str, tuple[int, Decimal, Decimal]] = {}
    for currency, units, revenue, margin in sales:
        before = sums.get(currency, (0, Decimal(0), Decimal(0)))
        sums[currency] = (before[0] + units, before[1] + revenue, before[2] + margin)
    return {currency: sum_ for currency, sum_ in sums.items() if sum_[0]}


def stored(data: bytes | None) -> dict[str, tuple[bool, dict[str, Item]]]:
    """Of each list that a stored state follows: whether it was told of, and what it has come to. Sixth of what is kept beside a shopper's
    list: the encoded lists joined, and the bytes of each (uint32).
    """
    kept = msgspec.msgpack.decode(data) if data is not None else []
    if len(kept) < 7:
        return {}
    joined, sizes = kept[6][:2]
    found, start = {}, 0
    for at in range(0, len(sizes), 4):
        end = start + int.from_bytes(sizes[at : at + 4], "little")
        partition, offset, _, _, _, _, resolved, taken, _, skus = msgspec.msgpack.decode(joined[start:end])
        start = end
        known = {sku: (result, sales) for sku, result, _, _, sales in taken}
        found[f"shown-{partition}-{offset}"] = resolved, {
            sku: Item(place, RESULTS[known[sku][0]] if sku in known else RESULTS[0], _sums(
                (currency, units, Decimal(revenue), Decimal(margin or 0) * units)
                for _, units, revenue, currency, margin in (known[sku][1] if sku in known else ())
            ))
            for place, sku in enumerate(skus, 1)
        }  # fmt: skip
    return found


def combined(first: Mapping[str, Item], then: Mapping[str, Item]) -> dict[str, Item]:
    """What is followed still, and what was told of it meanwhile."""
    both = dict(first)
    for sku, item in then.items():
        before = both.get(sku, Item(item.place, RESULTS[0], {}))
        sales = [(currency, *sums) for part in (before, item) for currency, sums in part.sales.items()]
        both[sku] = Item(before.place, max(before.result, item.result, key=RESULTS.index), _sums(sales))
    return both


def differences(
    shoppers: Iterable[tuple[tuple[int, bytes], Sequence[Mapping[str, Any]], Sequence[Act]]],
    records: Sequence[Mapping[str, Any]],
    state: Mapping[tuple[int, bytes], bytes],
    reach: Reach,
    margins: Mapping[tuple[str, str], Decimal],
    categories: Mapping[str, str],
) -> list[str]:
    """Where the resolutions told and the lists that ``state`` still follows part from what ``shoppers`` were shown and did: of each the
    place of their state, all that they were sent, and what they did. ``categories`` by SKU, of those that have one.
    """
    times: dict[str, int] = defaultdict(int)
    of_list: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        times[record["resolution_id"]] += 1
        of_list[record.get("corrects") or record["resolution_id"]].append(record)
    wrong = [f"{name} told {count} times" for name, count in times.items() if count > 1]
    expected: set[str] = set()
    for place, lists, acts in shoppers:
        shopper = Shopper(reach, margins)
        shopper.live(lists, acts)
        held = stored(state.get(place))
        should = sorted(shown.name for shown in shopper.followed)
        if sorted(held) != should:
            wrong.append(f"{place}: follows {sorted(held)}, should follow {should}")
        for shown in shopper.showings:
            expected.add(shown.name)
            over, still = held.get(shown.name, (True, {}))
            whole = [record for record in of_list[shown.name] if record.get("corrects") is None]
            if len(whole) != over:
                wrong.append(f"{shown.name}: told {len(whole)} times, and {'over' if over else 'open'}")
            found, right = combined({} if over else still, told(of_list[shown.name])), came_to(shown)
            if found != right:
                wrong.append(f"{shown.name}: {found}, should be {right}")
            wrong += [f"{shown.name}: {fault}" for record in whole for fault in _head_faults(shown, record)]
            wrong += [
                f"{shown.name}: of {_source(record)}, shown by {shown.source}"
                for record in of_list[shown.name]
                if _source(record) != shown.source
            ]
            wrong += [
                f"{shown.name}: {item['sku']} is said to be of {item.get('category')}"
                for record in of_list[shown.name]
                for item in record["items"]
                if item.get("category") != categories.get(item["sku"])
            ]
    return wrong + [f"{name}: no such list was shown" for name in sorted(of_list.keys() - expected)]


def _head_faults(shown: Showing, record: Mapping[str, Any]) -> list[str]:
    """What is said of the whole list. Whoever adds a field to it adds what it should be."""
    shown_at = record.get("shown_at")
    found = {
        "recommendation_id": record["recommendation_id"],
        "arm": record.get("arm"),
        "shown_s": None if shown_at is None else _seconds({"occurred_at": shown_at}),
    }
    right = {"recommendation_id": shown.recommendation_id, "arm": shown.arm, "shown_s": shown.shown_s}
    return [f"{name} is {found[name]}, should be {right[name]}" for name in right if found[name] != right[name]]
