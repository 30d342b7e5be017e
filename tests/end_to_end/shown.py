"""What must have been told of every list that was shown, recomputed in one clean pass over each shopper's events and lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from models.attribution import Fact, Follower, Sale, ShownList, ShownLists, Source, Windows, order_digest
from models.attribution.shown import RESULTS, read_list
from models.profiles import milliseconds
from schemas.catalog import Product
from schemas.events import Event, Purchase, Refund
from schemas.internal import Resolution
from schemas.recommendation import Recommendations
from streams.agents.shoppers import decode_list

#: Of an item: its place, the best that became of it, and by currency how many units it sold for how much, and what they earned.
Item = tuple[int, int, tuple[tuple[str, int, Decimal, Decimal], ...]]
Margins = Mapping[tuple[str, str | None], Decimal]


class Act(NamedTuple):
    """An applied event, and the place of its item in the list that it cites, if its claim holds."""

    partition: int
    offset: int
    event: Event
    place: int | None


class Books:
    """Adds up what is said of one list."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.results: dict[str, int] = defaultdict(int)
        self.units: Counter[tuple[str, str]] = Counter()
        self.money: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.margin: dict[tuple[str, str], Decimal] = defaultdict(Decimal)

    def add_list(self, shown: ShownList) -> None:
        """As the state or the clean pass knows it."""
        for sku in shown.skus:
            taken = shown.of(sku)
            self.add(sku, shown.place(sku), 0 if taken is None else taken.result)
            for sale in () if taken is None else taken.sales:
                self.sell(sku, sale.currency, sale.quantity, Decimal(sale.revenue), sale.margin())

    def add_record(self, record: Resolution) -> None:
        """As it was told."""
        for item in record.items:
            self.add(item.sku, item.place, RESULTS.index(item.result))
            for sale in item.sales:
                self.sell(item.sku, sale.currency, sale.quantity, sale.revenue, sale.margin)

    def add(self, sku: str, place: int, result: int) -> None:
        self.places.setdefault(sku, place)
        self.results[sku] = max(self.results[sku], result)

    def sell(self, sku: str, currency: str, units: int, revenue: Decimal, margin: Decimal | None) -> None:
        self.units[sku, currency] += units
        self.money[sku, currency] += revenue
        self.margin[sku, currency] += margin or 0

    def items(self) -> dict[str, Item]:
        sold: dict[str, list[tuple[str, int, Decimal, Decimal]]] = defaultdict(list)
        for (sku, currency), units in sorted(self.units.items()):
            if units:
                sold[sku].append((currency, units, self.money[sku, currency], self.margin[sku, currency]))
        return {sku: (place, self.results[sku], tuple(sold[sku])) for sku, place in self.places.items()}


def differences(
    shoppers: Iterable[tuple[tuple[int, bytes], Sequence[Recommendations], Sequence[Act]]],
    told: Sequence[Resolution],
    emitted: dict[tuple[int, bytes], bytes],
    windows: Windows,
    gap_ms: int,
    products: Iterable[Product],
) -> list[str]:
    """Where the records told and the lists that the state still follows (``emitted``: values by place) part from the clean pass.

    For shoppers whose channels send no impressions, in less event time than a list is kept.
    """
    wrong = [f"{name} told {count} times" for name, count in Counter(record.resolution_id for record in told).items() if count > 1]
    records: dict[str, list[Resolution]] = defaultdict(list)
    for record in told:
        records[record.corrects or record.resolution_id].append(record)
    expected: set[str] = set()
    products = list(products)
    shoppers = list(shoppers)
    wrong += misnamed(told, [act for _, _, acts in shoppers for act in acts], products)
    margins = {(product.sku, product.currency): product.margin for product in products if product.margin is not None}
    for place, lists, acts in shoppers:
        clean = _followed(lists, acts, windows, gap_ms, margins)
        followed = {_name(shown): shown for shown in map(read_list, clean.close().lists)}
        held = {_name(shown): shown for shown in map(read_list, decode_list(emitted.get(place)).shown.lists)}
        if held.keys() != followed.keys():
            wrong.append(f"{place}: follows {sorted(held)}, should follow {sorted(followed)}")
        for shown in [*followed.values(), *(resolved.shown for resolved in clean.resolved)]:
            name = _name(shown)
            expected.add(name)
            right, found = Books(), Books()
            right.add_list(shown)
            for correction in clean.corrections:
                if (correction.partition, correction.offset) == (shown.partition, shown.offset):
                    right.add(correction.sku, correction.place, correction.result)
                    if correction.sale is not None:
                        sale = correction.sale
                        right.sell(correction.sku, sale.currency, sale.quantity, Decimal(sale.revenue), sale.margin())
            whole = [record for record in records[name] if record.corrects is None]
            still_open = name in held and not held[name].resolved
            if len(whole) != 1 - still_open:
                wrong.append(f"{name}: told {len(whole)} times, and {'open' if still_open else 'over'}")
            if still_open:
                found.add_list(held[name])
            for record in records[name]:
                found.add_record(record)
            if found.items() != right.items():
                wrong.append(f"{name}: {found.items()}, should be {right.items()}")
            said = [(record.recommendation_id, record.shown_at and int(record.shown_at.timestamp())) for record in whole]
            if any(pair != (shown.recommendation_id, shown.shown_s) for pair in said):
                wrong.append(f"{name}: {said}, should be {shown.recommendation_id} at {shown.shown_s}")
    return wrong + [f"{name}: no such list was shown" for name in sorted(records.keys() - expected)]


def misnamed(told: Sequence[Resolution], acts: Sequence[Act], products: Sequence[Product]) -> list[str]:
    """Where a record does not say whence the event came that showed its list, or what kind of product an item is. The event is found by
    the name of the record, and nothing else is asked of the product.
    """
    events = {f"shown-{act.partition}-{act.offset}": act.event for act in acts}
    categories = {product.sku: " > ".join(product.category_path) or None for product in products}
    wrong = []
    for record in told:
        event = events.get(record.corrects or record.resolution_id)
        if event is None:
            wrong.append(f"{record.resolution_id}: no event showed it")
        elif (record.channel, record.country, record.segment) != (event.channel, event.country, event.segment):
            wrong.append(f"{record.resolution_id}: of {record.channel}, {record.country}, {record.segment}, shown by {event}")
        said = {item.sku: item.category for item in record.items}
        wrong += [
            f"{record.resolution_id}: {sku} is said to be of {category}, is of {categories.get(sku)}"
            for sku, category in said.items()
            if category != categories.get(sku)
        ]
    return wrong


def _name(shown: ShownList) -> str:
    return f"shown-{shown.partition}-{shown.offset}"


def _followed(lists: Sequence[Recommendations], acts: Sequence[Act], windows: Windows, gap_ms: int, margins: Margins) -> Follower:
    """All that a shopper did, set against what stood when they did it."""
    follower = Follower(ShownLists(), windows)
    made_s = newest_ms = 0
    before: Recommendations | None = None
    for record in lists:
        if record.occasion == "next_visit":
            before = record
            continue
        cause = record.caused_by
        mine = [act for act in acts if cause.first_offset <= act.offset <= cause.last_offset]
        first = True
        for act in mine:
            event, at_s = act.event, milliseconds(act.event.occurred_at) // 1000
            by = (act.partition, act.offset)
            if isinstance(event, Refund):
                follower.refund(by, event.sku, _sale(event, None))
                continue
            if first and before is not None:
                shown_s = made_s if at_s <= made_s + gap_ms // 1000 else at_s
                follower.show(*by, before.recommendation_id, shown_s, [item.sku for item in before.items], before.arm, _source(event))
            first = False
            if event.type in ("click", "add_to_cart", "purchase") or (event.type == "browse" and act.place is not None):
                cited = event.recommendation_id if act.place is not None else None
                assert event.sku is not None
                sale = _sale(event, margins.get((event.sku, event.currency))) if isinstance(event, Purchase) else None
                follower.take(by, Fact(event.type, event.sku, at_s, cited, sale))
        follower.close()  # what has to make room does so at the end of a micro-batch
        newest_ms = max([newest_ms, *(milliseconds(act.event.occurred_at) for act in mine)])
        made_s, before = newest_ms // 1000, record
    return follower


def _source(event: Event) -> Source:
    return Source(event.channel, event.country, event.segment)


def _sale(event: Purchase | Refund, margin: Decimal | None) -> Sale:
    revenue = f"{event.unit_price * event.quantity:f}"
    return Sale(order_digest(event.order_id), event.quantity, revenue, event.currency, None if margin is None else f"{margin:f}")
