"""The demo's figures, read back from the topics as any consumer would: read committed, nothing computed on the side."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from confluent_kafka import Message

from models.simulation import Shelf
from schemas.topics import DEAD_LETTERS, RECOMMENDATIONS, VALUATION
from schemas.valuation import RollingValuation
from streams.reading import TopicReader
from streams.settings import Settings

_TOTAL_KEY = b"overall|all|total"
#: Lists kept for the closed loop: more than there are shoppers in the shop at once.
_SHELVES = 20_000


@dataclass(slots=True)
class Figures:
    """What the topics say so far."""

    recommendations: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    total: RollingValuation | None = None
    newest: dict[str, Any] | None = None

    @property
    def outcomes(self) -> int:
        """Valid events that valuation has counted."""
        return 0 if self.total is None else self.total.funnel.events

    def money(self) -> tuple[str | None, Decimal, Decimal, Decimal]:
        """Currency, revenue, refunds and attributable revenue, in the currency with the most revenue."""
        flows = () if self.total is None else self.total.money
        if not flows:
            return None, Decimal(0), Decimal(0), Decimal(0)
        main = max(flows, key=lambda flow: flow.revenue)
        return main.currency, main.revenue, main.refunds, main.attributable


class Readings:
    """Follows recommendations, valuation and dead letters from their beginning. Not for several threads."""

    def __init__(self, settings: Settings) -> None:
        self._table = {settings.topic(topic.name): topic.name for topic in (RECOMMENDATIONS, VALUATION, DEAD_LETTERS)}
        self._reader = TopicReader(settings, list(self._table))
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()
        self.figures = Figures()

    def poll(self, timeout: float = 0.0) -> int:
        """Take in what has arrived, waiting up to ``timeout`` seconds; how many records."""
        messages = self._reader.poll(timeout)
        for message in messages:
            self._take(message)
        return len(messages)

    def _take(self, message: Message) -> None:
        value = message.value()
        name = self._table[message.topic()]
        if name == RECOMMENDATIONS.name:
            self._recommendation(message.key(), value)
        elif name == DEAD_LETTERS.name and value is not None:  # without a value: one of them was sent again
            self.figures.dead_letters[orjson.loads(value)["code"]] += 1
        elif message.key() == _TOTAL_KEY and value is not None:
            self.figures.total = RollingValuation.model_validate_json(value)

    def _recommendation(self, key: bytes, value: bytes | None) -> None:
        who = key.decode()
        self._shelves.pop(who, None)
        if value is None:
            return
        fields = orjson.loads(value)
        self.figures.recommendations += 1
        if fields["items"]:
            self._shelves[who] = Shelf(fields["recommendation_id"], tuple(item["sku"] for item in fields["items"]))
            if len(self._shelves) > _SHELVES:
                self._shelves.popitem(last=False)
            if fields["policy"] == "personal" or self.figures.newest is None:
                self.figures.newest = fields

    def shelf(self, key: str) -> Shelf | None:
        """The newest list of a shopper, by their key on the topic ``recommendations``."""
        return self._shelves.get(key)

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()
