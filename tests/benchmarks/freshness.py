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

import orjson

from schemas.topics import CATALOG, EMBEDDINGS, EVENTS, OUTCOMES, RECOMMENDATIONS
from streams.broker import RealKafka
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.benchmarks.load import PacedSender, cause_of, keep_pace, percentiles, quick_consumer, shopper_of, valid_events
from tests.benchmarks.measure import count_committed, preload, python_module, watch_topic, worker
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
        self._consumer = quick_consumer(bootstrap, topic)
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
            cause = cause_of(value)
            shopper = message.key().decode()
            self.covered.setdefault((shopper, cause["partition"]), []).append((cause["first_offset"], cause["last_offset"], now))
            for sku in [sku for sku in list(self._watching) if b'"' + sku + b'"' in value]:
                self.watched[sku.decode()] = now
                self._watching.discard(sku)
        self._consumer.close()

    def finish(self) -> None:
        """Stop reading."""
        self._stop_now.set()
        self.join(10)


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
        products, source = valid_events(seed=11)
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
    prepared = [next(source) for _ in range(total)]
    shoppers = [shopper_of(value) for _, value in prepared]
    for number, due in keep_pace(total, rate):
        key, value = prepared[number]
        if shoppers[number] is not None:
            sender.send(key, value, due, shoppers[number] or "")
        if number / rate >= (len(upserted) + 1) * probe_every and len(upserted) < _PROBES:
            _probe(settings, sender, reader, upserted)
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
    clicks = []
    uncovered = 0
    for (shopper, partition, offset), due in sender.due.items():
        seen = [at for first, last, at in reader.covered.get((shopper, partition), ()) if first <= offset <= last]
        if seen:
            clicks.append(seen[0] - due)
        else:
            uncovered += 1
    if uncovered:
        raise RuntimeError(f"{uncovered} of {len(sender.due)} events were never reflected in a record")
    fresh = [reader.watched[sku] - at for sku, at in upserted.items() if sku in reader.watched]
    common: dict[str, object] = {"system": "assay", "guarantee": "exactly once", "unit": "ms", "rate": round(rate)}
    return [
        common | {"job": "click -> recommendation record", "missing": uncovered} | percentiles(clicks),
        common | {"job": "product upsert -> first recommendation", "missing": len(upserted) - len(fresh)} | percentiles(fresh),
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
