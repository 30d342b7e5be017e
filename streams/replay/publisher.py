"""Sending a data set to Kafka: catalogue, then events, at the log's own pace or as fast as the broker takes them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.catalog import Product
from schemas.topics import CATALOG, EMBEDDINGS, EVENTS
from streams.replay.record import ReplayError, ReplayEvent
from streams.runtime.names import group_id
from streams.runtime.partitioner import LIBRDKAFKA
from streams.runtime.producer import MAX_RECORD_BYTES
from streams.settings import Settings

_FLUSH_S = 60.0
_FULL_QUEUE_WAIT_S = 0.1
_POLL_EVERY = 500
_LAG_EVERY = 2_000
_LAG_WAIT_S = 0.05
#: A working group commits every second or so, even while a model loads or a group rebalances.
_STALL_S = 60.0


@dataclass(slots=True)
class Summary:
    """What was sent. ``revenue``: kind -> currency -> sum of quantity x price, exact; ``kinds``: how many events of each kind."""

    products: int = 0
    events: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    revenue: dict[str, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Decimal)))

    def add(self, event: ReplayEvent) -> None:
        """Count one event."""
        self.events += 1
        self.kinds[event.kind] += 1
        if event.amount is not None:
            self.revenue[event.kind][event.currency or ""] += event.amount

    def as_json(self) -> dict[str, Any]:
        """Plain values; amounts as decimal strings."""
        revenue = {kind: {currency: str(amount) for currency, amount in sums.items()} for kind, sums in self.revenue.items()}
        rate = round(self.events / self.seconds, 1) if self.seconds else 0.0
        return {
            "products": self.products,
            "events": self.events,
            "kinds": dict(self.kinds),
            "revenue": revenue,
            "seconds": round(self.seconds, 3),
            "events_per_second": rate,
        }


class Pace:
    """Waits until a log's time has come. ``speed`` is log seconds a second; None does not wait. Clock and waiting are arguments."""

    def __init__(self, speed: float | None, *, clock: Callable[[], float], wait: Callable[[float], None]) -> None:
        self._speed = speed
        self._clock = clock
        self._wait = wait
        self._start: tuple[float, int] | None = None

    def await_time(self, at_ms: int) -> None:
        """Return when the event of ``at_ms`` is due; an event that is earlier than the first is due at once."""
        if self._speed is None:
            return
        if self._start is None:
            self._start = (self._clock(), at_ms)
        began, first_ms = self._start
        due = began + (at_ms - first_ms) / 1000 / self._speed
        while (left := due - self._clock()) > 0:
            self._wait(left)


class Publisher:
    """An idempotent producer for the storefront's side of the topics. Use as a context manager: leaving it flushes.

    ``max_lag``: wait while the recommend workers' group is more than this many events behind, for a broker that forgets
    what is not read in time (the embedded one); None does not look. Any delivery error raises ``ReplayError``.
    """

    def __init__(self, settings: Settings, *, max_lag: int | None = None) -> None:
        self._settings = settings
        self._failures: list[str] = []
        self._producer = Producer(
            settings.client_config()
            | {
                "enable.idempotence": True,
                "partitioner": LIBRDKAFKA[settings.partitioner],
                "compression.type": "lz4",
                "linger.ms": 10,
                "message.max.bytes": MAX_RECORD_BYTES,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                "error_cb": self._client_error,
                "log_level": 0,
            }
        )
        self._sent = 0
        self._lag = None if max_lag is None else _GroupLag(settings, max_lag)

    def publish_products(self, products: Iterable[Product], progress: Callable[[int], None] = lambda _: None) -> int:
        """Send the catalogue and wait until the broker has it all; return how many."""
        topic, count = self._settings.topic(CATALOG.name), 0
        for product in products:
            self._produce(topic, product.sku.encode(), product.to_json())
            count += 1
            progress(1)
        self.flush()
        return count

    def publish_events(
        self,
        events: Iterable[ReplayEvent],
        summary: Summary,
        *,
        speed: float | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Send events in order, at ``speed`` times their own pace (None: as fast as the broker takes them), and wait for the broker."""
        topic = self._settings.topic(EVENTS.name)
        pace = Pace(speed, clock=time.monotonic, wait=self._wait)
        for event in events:
            pace.await_time(event.at_ms)
            self._produce(topic, event.key, event.value)
            summary.add(event)
            progress(1)
            if self._lag is not None and summary.events % _LAG_EVERY == 0:
                self.flush()
                self._await_workers(self._lag)
        self.flush()

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything sent so far. Raises ``ReplayError``."""
        deadline = time.monotonic() + _FLUSH_S
        while (left := self._producer.flush(1.0)) and time.monotonic() < deadline:
            self._raise_failures()
        self._raise_failures()
        if left:
            raise ReplayError(
                f"{left} records were not acknowledged within {_FLUSH_S:g} s by {self._settings.bootstrap_servers}; see `assay doctor`"
            )

    def close(self) -> None:
        """Stop, without waiting for what is unsent."""
        self._producer.purge()
        self._producer.flush(0)
        if self._lag is not None:
            self._lag.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _produce(self, topic: str, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value=value, key=key)
                break
            except BufferError:  # the local queue is full: the broker is slower than we are
                self._wait(_FULL_QUEUE_WAIT_S)
            except KafkaException as error:
                raise ReplayError(f"could not send to {topic}: {error.args[0].str()}") from error
        self._sent += 1
        if self._sent % _POLL_EVERY == 0:
            self._producer.poll(0)
            self._raise_failures()

    def _await_workers(self, lag: _GroupLag) -> None:
        """Return once the workers are close enough behind. Raises ``ReplayError`` when they stand still."""
        least, deadline = lag.events(), time.monotonic() + _STALL_S
        while (behind := lag.events()) > lag.limit:
            if behind < least:
                least, deadline = behind, time.monotonic() + _STALL_S
            elif time.monotonic() > deadline:
                raise ReplayError(
                    f"the workers are {behind} events behind and took none for {_STALL_S:g} s; "
                    "is one running? `assay worker --roles recommend`"
                )
            self._wait(_LAG_WAIT_S)

    def _wait(self, seconds: float) -> None:
        """Wait, serving delivery reports meanwhile."""
        self._producer.poll(min(seconds, 1.0))
        self._raise_failures()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}: {error.str()}")

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failures.append(error.str())

    def _raise_failures(self) -> None:
        if self._failures:
            raise ReplayError(f"{len(self._failures)} records were not delivered, the first: {self._failures[0]}. Run `assay topics check`")


class _GroupLag:
    """How far the recommend workers' group is behind the end of the event topic."""

    def __init__(self, settings: Settings, limit: int) -> None:
        self.limit = limit
        self._reader = Consumer(
            settings.client_config() | {"group.id": group_id(settings, "recommend"), "enable.auto.commit": False, "log_level": 0}
        )
        self._partitions = _partitions_of(self._reader, settings.topic(EVENTS.name))

    def events(self) -> int:
        """Events between the group's committed offsets and the ends (none committed counts as the start)."""
        behind = 0
        for place in self._reader.committed(self._partitions, timeout=10):
            low, high = self._reader.get_watermark_offsets(place, timeout=10)
            behind += high - max(place.offset, low)
        return behind

    def close(self) -> None:
        """Close the reader; it never joined the group."""
        self._reader.close()


def _partitions_of(reader: Consumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions, from their beginning. Raises ``ReplayError`` where there is no such topic."""
    found = reader.list_topics(topic, timeout=10).topics[topic].partitions
    if not found:
        raise ReplayError(f"there is no topic {topic}; run `assay topics create`")
    return [TopicPartition(topic, number, 0) for number in found]


def await_embeddings(
    settings: Settings,
    skus: set[str],
    *,
    timeout_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Return once ``catalog.embeddings`` holds a vector for each of ``skus``.

    Raises ``ReplayError`` when ``timeout_s`` pass without any new vector.
    """
    config = {
        "group.id": f"{settings.app_id}-replay",
        "enable.auto.commit": False,
        "enable.partition.eof": False,
        "isolation.level": "read_committed",
    }
    reader = Consumer(settings.client_config() | config | {"log_level": 0})
    try:
        reader.assign(_partitions_of(reader, settings.topic(EMBEDDINGS.name)))
        missing, deadline = set(skus), time.monotonic() + timeout_s
        while missing:
            before = len(missing)
            for message in reader.consume(1000, timeout=0.5):
                if message.error() is None and message.value() is not None:
                    missing.discard((message.key() or b"").decode(errors="replace"))
            if len(missing) < before:
                deadline = time.monotonic() + timeout_s
                progress(before - len(missing))
            elif time.monotonic() > deadline:
                raise ReplayError(
                    f"{len(missing)} of {len(skus)} products have no vector yet, and none came in {timeout_s:g} s "
                    f"(for example {min(missing)!r}); is an embed worker running? `assay worker --roles embed`"
                )
    finally:
        reader.close()
