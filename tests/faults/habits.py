"""How producers misbehave: a clean stream of events made into what really arrives."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

import orjson

from models.simulation.faults import SimulatedRecord
from tests.end_to_end.test_online_retail import poison

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record as it is sent. ``again``: an earlier one with the same event id was sent already, so it must count for nothing."""

    key: bytes | None
    value: bytes | None
    event_id: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Habits:
    """``poison_share`` of all records are refused ones. An event is sent 1 to ``copies`` times, arrives up to ``shuffle_s`` of event time
    after its turn, and with ``late_share`` says that it happened a day before. Each shopper's clock is off by one of ``clocks_s``, and
    each record claims one of ``versions`` (those of a newer minor bring a field that nobody knows yet).
    """

    poison_share: float = 0.0
    copies: int = 1
    shuffle_s: float = 0.0
    late_share: float = 0.0
    clocks_s: tuple[int, ...] = ()
    versions: tuple[str, ...] = ()

    def arrivals(self, records: Iterable[SimulatedRecord], count: int, chance: random.Random, sku: str) -> Iterator[Arrival]:
        """The next ``count`` of ``records``, as they arrive; bad ones are about ``sku``."""
        turns = [(record.occurred_ms + 1000 * self.shuffle_s * chance.random(), record) for record in islice(records, count)]
        if self.shuffle_s:
            turns.sort(key=lambda turn: turn[0])
        bad = poison(1, sku)
        waiting: list[Arrival] = []
        for _, record in turns:
            arrival = self._sent(record, chance)
            yield arrival
            if arrival.event_id:
                waiting += [replace(arrival, again=True)] * chance.randrange(self.copies)
            # What is sent again comes at once or a little later, never so late that its shopper's profile has forgotten its id.
            while waiting and chance.random() < 0.6:
                yield waiting.pop(chance.randrange(len(waiting)))
            if chance.random() < self.poison_share:
                yield Arrival(*chance.choice(bad))
        yield from waiting

    def _sent(self, record: SimulatedRecord, chance: random.Random) -> Arrival:
        if record.fault is not None or record.value is None:
            return Arrival(record.key, record.value)
        fields = orjson.loads(record.value)
        shift = -_DAY_S if chance.random() < self.late_share else 0
        if self.clocks_s:
            # By shopper, like one device: a clock that is wrong is wrong for all that it says.
            shift += self.clocks_s[sum(record.key or b"") % len(self.clocks_s)]
        if shift:
            fields["occurred_at"] = (datetime.fromisoformat(fields["occurred_at"]) + timedelta(seconds=shift)).isoformat()
        if self.versions:
            fields["schema_version"] = chance.choice(self.versions)
            if fields["schema_version"] != "1.0":
                fields["mood"] = {"of_the_shopper": "curious"}
        return Arrival(record.key, orjson.dumps(fields), fields["event_id"])


#: All at once.
EVERYTHING = Habits(
    poison_share=0.03, copies=3, shuffle_s=300, late_share=0.01, clocks_s=(0, 3_600, -_DAY_S), versions=("1.0", "1.0", "1.7")
)
