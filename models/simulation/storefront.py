"""The simulated shop in operation: visits arrive, overlap and end; what their shoppers do comes out as records in time order."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import numpy as np
import orjson

from models.simulation.catalogue import Catalogue, generate_catalogue
from models.simulation.chance import Chance
from models.simulation.faults import FAULTS, Fields, SimulatedRecord, spoil
from models.simulation.shopper import Shopper, Trends, appeal, draw_shopper
from models.simulation.visit import CHANNELS, DEFAULT_ATTENTION, Attention, Attribution, Visit, examine, next_product
from models.simulation.vocabulary import CATEGORIES, STYLES

_DAY_MS = 86_400_000
_REFUND_SOON_S, _REFUND_LATE_S = 15 * 60.0, 3 * 86_400.0
_MAX_BOUGHT = 20
_FAULT_CODES = tuple(FAULTS)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The newest list of a shopper, as the shop shows it."""

    recommendation_id: str
    skus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StorefrontOptions:
    """Size and habits of the shop. Shares are probabilities; ``start`` is the event time of the opening.

    ``visit_interval_s`` (mean time between new visits) and ``step_s`` (between two steps of one) are simulated seconds: the
    defaults give about 5 events a second from 250 visits at once. ``run_id`` prefixes event, session and order ids.
    """

    products: int = 1_000
    users: int = 1_500
    currency: str = "GBP"
    start: datetime = datetime(2025, 1, 6, 8, tzinfo=UTC)
    visit_interval_s: float = 2.4
    step_s: float = 55.0
    anonymous_share: float = 0.35
    login_share: float = 0.5
    refund_share: float = 0.08
    fault_share: float = 0.003
    run_id: str = "sim"
    attention: Attention = DEFAULT_ATTENTION


@dataclass(frozen=True, slots=True)
class _Return:
    """A purchase line on its way back."""

    key: str
    fields: Fields


def _nothing_shown(_key: str) -> Shelf | None:
    return None


class Storefront:
    """A shop with ``catalogue`` and an endless stream of ``records()``.

    ``shelf(key)`` closes the loop: given a shopper's key on the topic ``recommendations`` it returns their newest list, which they
    may look at and click through, with ``recommendation_id`` and ``position``. Without it the loop is open. Equal seeds, options
    and lists give equal records.
    """

    def __init__(
        self, seed: int = 7, options: StorefrontOptions | None = None, shelf: Callable[[str], Shelf | None] = _nothing_shown
    ) -> None:
        self.options = options or StorefrontOptions()
        generator = np.random.default_rng(seed)
        self.catalogue: Catalogue = generate_catalogue(generator, self.options.products, self.options.currency)
        self._trends = Trends.draw(generator)
        self._chance = Chance(generator)
        self._shelf = shelf
        self._users = [self._member(number) for number in range(self.options.users)]
        self._activity = list(accumulate(1.0 / (rank + 1) ** 0.6 for rank in range(len(self._users))))
        self._channels = list(accumulate(channel.share for channel in CHANNELS))
        self._present: set[str] = set()
        self._sequence = 0
        self._visits = 0
        self._orders = 0

    def records(self) -> Iterator[SimulatedRecord]:
        """Records in event-time order, without end; call once."""
        start_ms = int(self.options.start.timestamp() * 1000)
        agenda: list[tuple[int, int, Visit | _Return | None]] = [(start_ms, 0, None)]
        pushed = 0
        while True:
            now, _, what = heapq.heappop(agenda)
            later: list[tuple[float, Visit | _Return | None]] = []
            if what is None:
                later.append((self._chance.wait(self.options.visit_interval_s / _rhythm(now)), None))
                what = self._arrive()
            if isinstance(what, _Return):
                yield self._record(what.key, {**what.fields, "event_id": self._event_id(), "occurred_at": _iso(now)}, now)
            else:
                for record in self._advance(what, now, (now - start_ms) / _DAY_MS, later):
                    yield record
                    if self._chance.happens(self.options.fault_share):
                        yield self._spoilt(what, now)
            for wait_s, entry in later:
                pushed += 1
                heapq.heappush(agenda, (now + max(1, int(wait_s * 1000)), pushed, entry))

    def _member(self, number: int) -> Shopper:
        return draw_shopper(self._chance, f"user-{number:05d}", "loyal" if number < self.options.users // 10 else "regular")

    def _arrive(self) -> Visit:
        self._visits += 1
        chance = self._chance
        anonymous = chance.happens(self.options.anonymous_share)
        will_log_in = anonymous and chance.happens(self.options.login_share)
        shopper = None
        if not anonymous or will_log_in:
            shopper = self._users[chance.pick(self._activity)]
            if shopper.user_id in self._present:
                shopper = None
        if shopper is None:
            anonymous, will_log_in = True, False
            shopper = draw_shopper(chance, None, "new")
        elif shopper.user_id:
            self._present.add(shopper.user_id)
        steps = 3 + int(chance.wait(8.0))
        return Visit(
            shopper=shopper,
            session_id=f"{self.options.run_id}-s{self._visits}",
            channel=CHANNELS[chance.pick(self._channels)],
            known=not anonymous,
            steps=steps,
            login_at=1 + chance.below(steps) if will_log_in else 0,
        )

    def _advance(self, visit: Visit, now: int, days: float, later: list[tuple[float, Visit | _Return | None]]) -> Iterator[SimulatedRecord]:
        if visit.login_at and visit.steps == visit.login_at:
            yield self._record(visit.session_id, self._fields(visit, "login", now, user_id=visit.shopper.user_id), now)
            visit.known, visit.login_at = True, 0
        if visit.steps == 0:
            yield from self._check_out(visit, now, later)
            self._present.discard(visit.shopper.user_id or "")
            return
        visit.steps -= 1
        if not visit.viewed and visit.channel.name == "search":
            yield self._event(visit, "search", now, query=self._query(visit.shopper))
        shelf = self._shelf(visit.recommendation_key) if self._chance.happens(self.options.attention.look_at_list) else None
        if shelf is not None and shelf.skus:
            yield from self._look_at(visit, shelf, now)
        else:
            row = next_product(self._chance, self.catalogue, self._trends, self.options.attention, visit, days)
            yield from self._view(visit, row, now, None)
        later.append((self._chance.wait(self.options.step_s), visit))

    def _look_at(self, visit: Visit, shelf: Shelf, now: int) -> Iterator[SimulatedRecord]:
        read, clicked = examine(self._chance, self.catalogue, self.options.attention, visit.shopper, shelf.skus)
        for position in range(1, min(read, 3) + 1):
            yield self._event(
                visit, "impression", now, sku=shelf.skus[position - 1], recommendation_id=shelf.recommendation_id, position=position
            )
        if clicked is not None:
            row = self.catalogue.rows[shelf.skus[clicked - 1]]
            yield from self._view(visit, row, now, Attribution(shelf.recommendation_id, clicked))

    def _view(self, visit: Visit, row: int, now: int, attribution: Attribution | None) -> Iterator[SimulatedRecord]:
        sku = self.catalogue.products[row].sku
        kind = "click" if attribution or self._chance.happens(0.35) else "browse"
        yield self._event(visit, kind, now, sku=sku, **_attributed(attribution))
        visit.viewed.append(row)
        wanted = self.options.attention.add_to_cart * appeal(visit.shopper, self.catalogue, row)
        if row not in visit.basket and self._chance.happens(wanted):
            visit.basket[row] = attribution
            yield self._event(visit, "add_to_cart", now, sku=sku, quantity=1, **_attributed(attribution))

    def _check_out(self, visit: Visit, now: int, later: list[tuple[float, Visit | _Return | None]]) -> Iterator[SimulatedRecord]:
        if not visit.basket or not self._chance.happens(self.options.attention.check_out):
            return
        self._orders += 1
        for row, attribution in visit.basket.items():
            product = self.catalogue.products[row]
            line = {
                "sku": product.sku,
                "quantity": 1 + int(self._chance.wait(0.4)),
                "unit_price": str(product.price),
                "currency": product.currency,
                "order_id": f"{self.options.run_id}-o{self._orders}",
            }
            yield self._event(visit, "purchase", now, **line, **_attributed(attribution))
            visit.shopper.bought.append(row)
            del visit.shopper.bought[:-_MAX_BOUGHT]
            if self._chance.happens(self.options.refund_share):
                # Half are orders cancelled at once, half are parcels sent back days later.
                wait = self._chance.wait(_REFUND_SOON_S if self._chance.happens(0.5) else _REFUND_LATE_S)
                later.append((wait, _Return(visit.key, self._fields(visit, "refund", now, **line))))

    def _spoilt(self, visit: Visit, now: int) -> SimulatedRecord:
        sku = self.catalogue.products[self._chance.below(len(self.catalogue))].sku
        return spoil(self._chance.one_of(_FAULT_CODES), visit.key.encode(), self._fields(visit, "click", now, sku=sku), now)

    def _query(self, shopper: Shopper) -> str:
        category = CATEGORIES[self._chance.pick(shopper.category_cumulative)]
        style = STYLES[int(np.argmax(shopper.style_weight))]
        noun, _ = category.goods[self._chance.below(len(category.goods))]
        return f"{self._chance.one_of(style.adjectives)} {noun}"

    def _event(self, visit: Visit, kind: str, now: int, **more: Any) -> SimulatedRecord:
        return self._record(visit.key, self._fields(visit, kind, now, **more), now)

    def _fields(self, visit: Visit, kind: str, now: int, **more: Any) -> Fields:
        fields: Fields = {
            "event_id": self._event_id(),
            "type": kind,
            "session_id": visit.session_id,
            "occurred_at": _iso(now),
            "channel": visit.channel.name,
            "schema_version": "1.0",
            "country": visit.shopper.country,
            "segment": visit.shopper.segment,
        }
        if visit.known:
            fields["user_id"] = visit.shopper.user_id
        fields.update(more)
        return fields

    def _event_id(self) -> str:
        self._sequence += 1
        return f"{self.options.run_id}-{self._sequence}"

    def _record(self, key: str, fields: Fields, now: int) -> SimulatedRecord:
        return SimulatedRecord(key.encode(), orjson.dumps(fields), now)


def _attributed(attribution: Attribution | None) -> Fields:
    return {} if attribution is None else {"recommendation_id": attribution.recommendation_id, "position": attribution.position}


def _iso(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _rhythm(now_ms: int) -> float:
    """How busy the shop is by the hour (UTC): quiet at 3 in the morning, busy at 15 in the afternoon; 1 on average."""
    hour = now_ms / 3_600_000 % 24
    return 1.0 - 0.6 * math.cos(2 * math.pi * (hour - 3.0) / 24)
