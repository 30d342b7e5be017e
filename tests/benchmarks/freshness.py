"""How fresh is fresh: click produced -> record that reflects it, and product upserted -> its first recommendation.

The worker runs embed and recommend on a real Kafka under a steady load of half of what it was just measured to sustain. Latencies
count from the *scheduled* send time of an event, so a stalled sender does not hide a stall of the system (coordinated omission).
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from hdrh.histogram import HdrHistogram

from models.simulation import Storefront, StorefrontOptions
from schemas.topics import CATALOG, EMBEDDINGS, EVENTS, OUTCOMES, RECOMMENDATIONS
from streams.broker import RealKafka
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.benchmarks.measure import PARTITIONS, count_committed, preload, python_module, watch_topic, worker
from tests.benchmarks.report import Report

_PROBES = 30
#: What the probes are called: one text each, which no other product comes near.
_MAKES = (
    "Hand-carved walnut",
    "Solar-powered aluminium",
    "Glow-in-the-dark rubber",
    "Antique Bavarian",
    "Inflatable",
    "Miniature chocolate",
)
_THINGS = ("ukulele stand", "beehive", "trombone", "fishing rod", "chess clock")
_SECONDS = 20.0


class ListReader(threading.Thread):
    """Reads recommendations (read committed); notes when the record that covers an event, and a watched sku, was first seen."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"fresh-{uuid.uuid4().hex}", "fetch.wait.max.ms": 5, "fetch.queue.backoff.ms": 2}
        )
        ends = [self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)]
        self._consumer.assign([TopicPartition(topic, p, end) for p, end in enumerate(ends)])
        self.covered: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
        self.watched: dict[str, float] = {}
        self._watching: set[bytes] = set()
        self._stop_now = threading.Event()

    def watch(self, sku: str) -> None:
        """Note when ``sku`` is first listed."""
        self._watching.add(sku.encode())

    def run(self) -> None:
        while not self._stop_now.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error() or message.value() is None:
                continue
            now = time.perf_counter()
            value = message.value()
            cause = orjson.loads(value)["caused_by"]
            shopper = message.key().decode()
            self.covered.setdefault((shopper, cause["partition"]), []).append((cause["first_offset"], cause["last_offset"], now))
            for sku in [sku for sku in self._watching if b'"' + sku + b'"' in value]:
                self.watched[sku.decode()] = now
                self._watching.discard(sku)
        self._consumer.close()

    def finish(self) -> None:
        """Stop reading."""
        self._stop_now.set()
        self.join(10)


class PacedSender:
    """Sends events on a fixed schedule and remembers, by place in Kafka, when each was due."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 0,
                "compression.type": "lz4",
            }
        )
        self._topic = topic
        self.due: dict[tuple[str, int, int], float] = {}

    def send(self, key: bytes, value: bytes, due: float, shopper: str) -> None:
        """Produce one event that was due at ``due`` (perf_counter seconds)."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.due[(shopper, message.partition(), message.offset())] = due

        self._producer.produce(self._topic, value, key, on_delivery=delivered)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for all deliveries."""
        self._producer.flush(30)

    def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Produce to another topic at once."""
        self._producer.produce(topic, value, key)
        self._producer.flush(10)


def _valid_events(seed: int) -> tuple[list[tuple[bytes, bytes]], Iterator[tuple[bytes, bytes]]]:
    store = Storefront(seed, StorefrontOptions(products=1000, users=20_000, visit_interval_s=0.1, fault_share=0.0))
    products = [(p.sku.encode(), p.to_json()) for p in store.catalogue.products]

    def events() -> Iterator[tuple[bytes, bytes]]:
        for record in store.records():
            if record.key is None or record.value is None:
                raise AssertionError("the simulator was told to spoil nothing")
            yield record.key, record.value

    return products, events()


def _shopper(value: bytes) -> str | None:
    document = orjson.loads(value)
    if document["type"] == "login":
        return None  # answered in the user's partition, by the merge
    return str(document.get("user_id") or f"session:{document['session_id']}")


def run(*, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; ``events`` is the size of the preceding run that finds the sustainable rate. ``repetitions`` repeats the load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        if bootstrap_servers is None:
            bootstrap_servers = stack.enter_context(RealKafka(folder / "kafka")).bootstrap_servers
        settings = Settings(
            bootstrap_servers=bootstrap_servers, topic_prefix=f"fresh{uuid.uuid4().hex[:6]}.", app_id=f"fresh{uuid.uuid4().hex[:6]}"
        )
        TopicAdmin(settings).create()
        products, source = _valid_events(seed=11)
        preload(bootstrap_servers, settings.topic(CATALOG.name), products)
        flags = ["--bootstrap-servers", bootstrap_servers, "--topic-prefix", settings.topic_prefix, "--app-id", settings.app_id]
        process = stack.enter_context(
            worker(
                python_module("streams.cli", "worker", "--roles", "embed,recommend", *flags, "--data-dir", str(folder / "data")),
                folder / "worker.log",
            )
        )
        count_committed(bootstrap_servers, settings.topic(EMBEDDINGS.name), at_least=len(products))
        backlog = events or 30_000
        preload(bootstrap_servers, settings.topic(EVENTS.name), (next(source) for _ in range(backlog)))
        # Every event has exactly one outcome, so outcomes tell how far the worker is.
        watched = watch_topic(bootstrap_servers, settings.topic(OUTCOMES.name), backlog, process, timeout_s=300)
        sustainable = watched.records / watched.seconds
        rate = sustainable / 2
        rows = []
        for _ in range(repetitions):
            rows += _load(bootstrap_servers, settings, source, rate)
        remark = f"half load = {rate:,.0f} events/s (just sustained: {sustainable:,.0f}/s); broker, worker, sender, reader on one machine"
        return Report("freshness", rows, [remark])


def _load(bootstrap: str, settings: Settings, source: Iterator[tuple[bytes, bytes]], rate: float) -> list[dict[str, object]]:
    reader = ListReader(bootstrap, settings.topic(RECOMMENDATIONS.name))
    reader.start()
    sender = PacedSender(bootstrap, settings.topic(EVENTS.name))
    total, probe_every = int(rate * _SECONDS), _SECONDS / (_PROBES + 1)
    upserted: dict[str, float] = {}
    start, next_probe = time.perf_counter(), probe_every
    prepared = [next(source) for _ in range(total)]
    shoppers = [_shopper(value) for _, value in prepared]
    start = time.perf_counter()
    for number, (key, value) in enumerate(prepared):
        due = start + number / rate
        while (wait := due - time.perf_counter()) > 0:
            time.sleep(min(wait, 0.001))
        if shoppers[number] is not None:
            sender.send(key, value, due, shoppers[number] or "")
        if due - start >= next_probe and len(upserted) < _PROBES:
            _probe(settings, sender, reader, upserted)
            next_probe += probe_every
        if upserted and number % max(1, int(rate / 50)) == 0:
            _ask(sender, upserted, reader)
    sender.flush()
    deadline = time.perf_counter() + 15
    while any(sku not in reader.watched for sku in upserted) and time.perf_counter() < deadline:
        _ask(sender, upserted, reader)
        sender.flush()
        time.sleep(0.02)
    time.sleep(1.0)
    reader.finish()
    clicks = HdrHistogram(1, 600_000_000, 3)
    uncovered = 0
    for (shopper, partition, offset), due in sender.due.items():
        seen = [at for first, last, at in reader.covered.get((shopper, partition), ()) if first <= offset <= last]
        if seen:
            clicks.record_value(max(1, int((seen[0] - due) * 1e6)))
        else:
            uncovered += 1
    if uncovered:
        raise RuntimeError(f"{uncovered} of {len(sender.due)} events were never reflected in a record")
    fresh = np.array([reader.watched[sku] - at for sku, at in upserted.items() if sku in reader.watched]) * 1e3
    common: dict[str, object] = {"system": "assay", "guarantee": "exactly once", "unit": "ms", "rate": round(rate)}
    percentiles = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}
    return [
        common
        | {"job": "click -> recommendation record", "samples": clicks.get_total_count(), "missing": uncovered}
        | {name: clicks.get_value_at_percentile(percent) / 1e3 for name, percent in percentiles.items()},
        common
        | {"job": "product upsert -> first recommendation", "samples": len(fresh), "missing": len(upserted) - len(fresh)}
        | {name: float(np.percentile(fresh, percent)) if len(fresh) else None for name, percent in percentiles.items()},
    ]


def _probe(settings: Settings, sender: PacedSender, reader: ListReader, upserted: dict[str, float]) -> None:
    """Upsert a new product, and before it a twin with the same text for a shopper to look at."""
    number = uuid.uuid4().hex[:8]
    place = len(upserted)
    text = f"{_MAKES[place % len(_MAKES)]} {_THINGS[place // len(_MAKES) % len(_THINGS)]}"
    for sku in (f"twin-{number}", f"new-{number}"):
        if sku.startswith("new-"):
            upserted[sku] = time.perf_counter()
            reader.watch(sku)
        product = {"sku": sku, "title": text, "category_path": ["Music"], "price": "39.00", "currency": "GBP", "stock": 5}
        sender.put(settings.topic(CATALOG.name), sku.encode(), orjson.dumps(product))


def _ask(sender: PacedSender, upserted: dict[str, float], reader: ListReader) -> None:
    """Click on the twin of each new product that has not been listed yet."""
    for sku in upserted:
        if sku in reader.watched:
            continue
        number = sku.removeprefix("new-")
        shopper = f"probe-{number}"
        event = {
            "event_id": uuid.uuid4().hex, "type": "click", "user_id": shopper, "occurred_at": datetime.now(UTC).isoformat(),
            "channel": "probe", "sku": f"twin-{number}",
        }  # fmt: skip
        sender.send(shopper.encode(), orjson.dumps(event), time.perf_counter(), shopper)
