"""Sending records no faster than the workers apply them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from confluent_kafka import KafkaError, Producer

from schemas.topics import EVENTS
from streams.demo.feed import FeedRecord
from streams.runtime.partitioner import LIBRDKAFKA
from streams.settings import Settings
from streams.topics import TopicError

_CHUNK = 100
_FLUSH_S = 30.0


class Feeder:
    """Sends ``records`` to the event topic: at most ``limit`` of them (None: all), ``per_second`` (None: as fast as workers follow).

    ``applied`` gives for each event partition the offset of the last record that the workers have applied. At most ``max_lag`` records
    are ahead of it: the embedded broker keeps only the newest 5 MiB of a partition, and shoppers should react to fresh lists.
    """

    def __init__(
        self,
        settings: Settings,
        records: Iterator[FeedRecord],
        applied: Callable[[], Mapping[int, int]],
        *,
        limit: int | None,
        per_second: float | None,
        max_lag: int,
    ) -> None:
        self._topic = settings.topic(EVENTS.name)
        self._records = islice(records, limit)
        self._applied = applied
        self._per_second = per_second
        self._max_lag = max_lag
        self._failures: list[str] = []
        self._acknowledged: dict[int, int] = {}
        self._producer = Producer(
            settings.client_config()
            | {
                "enable.idempotence": True,
                "partitioner": LIBRDKAFKA[settings.partitioner],
                "compression.type": "lz4",
                "linger.ms": 2,
                "on_delivery": self._delivered,
                "log_level": 0,
            }
        )
        self.sent = 0
        #: Everything that there was to send has been sent.
        self.exhausted = False
        self._started: float | None = None
        self._applied_at: float | None = None

    def advance(self) -> bool:
        """Send what is due now, a chunk at most; whether anything was. Raises ``TopicError`` when the broker did not take a record."""
        self._producer.poll(0)
        if self._failures:
            raise TopicError(f"{len(self._failures)} events were not delivered, the first because: {self._failures[0]}")
        due = 0 if self.exhausted else min(_CHUNK, self._allowance())
        if due <= 0:
            return False
        chunk = list(islice(self._records, due))
        self.exhausted = len(chunk) < due
        if self._started is None:
            self._started = time.monotonic()
        for record in chunk:
            self._producer.produce(self._topic, value=record.value, key=record.key)
        self.sent += len(chunk)
        self._applied_at = None
        return bool(chunk)

    def _allowance(self) -> int:
        """How many records may be sent now, by lag and by pace."""
        room = self._max_lag - self.lag()
        if self._per_second is None or self._started is None:
            return room
        return min(room, int((time.monotonic() - self._started) * self._per_second) - self.sent + 1)

    def lag(self) -> int:
        """Records that were sent and not yet applied."""
        applied = self._applied()
        reached = sum(1 + min(applied.get(partition, -1), last) for partition, last in self._acknowledged.items())
        return self.sent - reached

    def done(self) -> bool:
        """Whether everything sent has been applied."""
        self._producer.poll(0)
        if self.lag() > 0:
            return False
        if self._applied_at is None:
            self._applied_at = time.monotonic()
        return True

    @property
    def seconds(self) -> float:
        """From the first record sent until all were applied, or until now."""
        if self._started is None:
            return 0.0
        return (self._applied_at or time.monotonic()) - self._started

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failures.append(error.str())
        else:
            self._acknowledged[message.partition()] = message.offset()

    def close(self) -> None:
        """Wait for the broker to acknowledge what was sent."""
        self._producer.flush(_FLUSH_S)
