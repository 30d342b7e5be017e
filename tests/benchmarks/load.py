"""Load on a schedule: events that are due at set times, and when each of them was answered."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import orjson
import psutil
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from hdrh.histogram import HdrHistogram

from models.simulation import Storefront, StorefrontOptions
from schemas.topics import EVENTS, OUTCOMES, RECOMMENDATIONS
from streams.runtime.changelog import watermarks
from tests.benchmarks.measure import PARTITIONS, preload, watch_topic
from tests.benchmarks.shop import Shop

#: The part of a list that says which events it answers.
_CAUSE = re.compile(rb'"caused_by":(\{[^}]*\})')
#: Of an event: shopper, partition, offset.
Place = tuple[str, int, int]
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
_POLL_S = 0.1
_QUIET_S = 3.0
#: How long answers may take before they count as missing.
_PATIENCE_S = 120.0
#: A rate is tried for so long, then the next is so much lower, and none below the floor; answers that come later by more than this each
#: second do not keep up, nor do those of which one in a hundred takes longer than the bound.
_TRIAL_S = 12.0
_HALVINGS = 5
_STEP = 0.85
_FLOOR = 100.0
_GROWTH = 0.01
_BOUND_S = 1.0


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
        self.due: dict[Place, float] = {}
        self._lost = 0

    def send(self, key: bytes, value: bytes, due: float, shopper: str) -> None:
        """Produce one event that was due at ``due`` (perf_counter seconds)."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.due[(shopper, message.partition(), message.offset())] = due
            else:
                self._lost += 1

        self._producer.produce(self._topic, value, key, on_delivery=delivered)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for all deliveries. Raises ``RuntimeError`` if one did not come: what was not sent would be neither late nor missing."""
        waiting = self._producer.flush(30)
        if waiting or self._lost:
            raise RuntimeError(f"{waiting + self._lost} events were not delivered to the broker")

    def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Produce to another topic at once."""
        self._producer.produce(topic, value, key)
        self._producer.flush(10)


def valid_events(seed: int) -> tuple[list[tuple[bytes, bytes]], Iterator[tuple[bytes, bytes]]]:
    store = Storefront(seed, StorefrontOptions(products=1000, users=20_000, visit_interval_s=0.1, fault_share=0.0))
    products = [(p.sku.encode(), p.to_json()) for p in store.catalogue.products]

    def events() -> Iterator[tuple[bytes, bytes]]:
        for record in store.records():
            if record.key is None or record.value is None:
                raise AssertionError("the simulator was told to spoil nothing")
            yield record.key, record.value

    return products, events()


def shopper_of(value: bytes) -> str | None:
    document = orjson.loads(value)
    if document["type"] == "login":
        return None  # answered in the user's partition, by the merge
    return str(document.get("user_id") or f"session:{document['session_id']}")


def keep_pace(count: int, rate: float) -> Iterator[tuple[int, float]]:
    """The numbers 0 .. ``count`` - 1, each when it is due at ``rate`` a second, with that time (perf_counter seconds).

    Who takes too long over one finds the next ones overdue, and counts their latency from when they were due: a stalled sender hides
    nothing (coordinated omission).
    """
    start = time.perf_counter()
    for number in range(count):
        due = start + number / rate
        while (wait := due - time.perf_counter()) > 0:
            time.sleep(min(wait, 0.0005))
        yield number, due


def quick_consumer(bootstrap: str, topic: str) -> Consumer:
    """Reads ``topic`` from its present end, committed records only, each as soon as it is there."""
    config = {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "fetch.wait.max.ms": 5, "fetch.queue.backoff.ms": 2}
    consumer = Consumer(config)
    ends = [watermarks(consumer, topic, p)[1] for p in range(PARTITIONS)]
    consumer.assign([TopicPartition(topic, p, end) for p, end in enumerate(ends)])
    return consumer


def cause_of(value: bytes) -> dict[str, Any]:
    """``caused_by`` of a list, without parsing the rest."""
    found = _CAUSE.search(value)
    if found is None:
        raise ValueError(f"no list: {value[:200]!r}")
    cause: dict[str, Any] = orjson.loads(found[1])
    return cause


def covered(due: Mapping[Place, float], answers: Iterable[tuple[Any, float]]) -> tuple[list[float], int]:
    """Seconds from each event's due time to the first list that covers it, and how many events no list covers."""
    lists: dict[tuple[str, int], list[tuple[int, int, float]]] = defaultdict(list)
    for (shopper, partition, first, last), at in answers:
        lists[shopper, partition].append((first, last, at))
    latencies, missing = [], 0
    for (shopper, partition, offset), since in due.items():
        seen = next((at for first, last, at in lists[shopper, partition] if first <= offset <= last), None)
        if seen is None:
            missing += 1
        else:
            latencies.append(seen - since)
    return latencies, missing


def backlog_rate(shop: Shop, events: Iterator[tuple[bytes, bytes]], backlog: int, process: psutil.Process) -> float:
    """Events/s at which ``process`` works off a backlog: a ceiling, because a micro-batch of a backlog has few shoppers for its events."""
    bootstrap = shop.settings.bootstrap_servers
    preload(bootstrap, shop.topic(EVENTS.name), (next(events) for _ in range(backlog)))
    # Every event has exactly one outcome, so outcomes tell how far the worker is.
    watched = watch_topic(bootstrap, shop.topic(OUTCOMES.name), backlog, process, timeout_s=300)
    return watched.records / watched.seconds


def sustained(shop: Shop, events: Iterator[tuple[bytes, bytes]], ceiling: float) -> float:
    """The highest rate below ``ceiling`` that arrives evenly and is answered within a second (p99) and without a growing delay, found by
    halving ``_HALVINGS`` times, and then once more for certain.

    That is the sustainable throughput of Karimov et al., "Benchmarking Distributed Stream Data Processing Systems" (ICDE 2018), which asks
    for a bounded latency. Raises ``TimeoutError`` if not even ``_FLOOR`` events/s are.
    """
    low, high = 0.0, ceiling
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        low, high = (rate, high) if _growth(shop, events, rate) <= _GROWTH else (low, rate)
    while low >= _FLOOR:
        if _growth(shop, events, low) <= _GROWTH:
            return low
        low *= _STEP
    raise TimeoutError(f"the worker does not sustain even {_FLOOR:.0f} events/s; see {shop.log('recommend')}")


def _growth(shop: Shop, events: Iterator[tuple[bytes, bytes]], rate: float) -> float:
    """Seconds by which answers to events at ``rate`` come later with each second: 0 if they keep up, 0.1 if a tenth is left over, infinite
    if some never come or one in a hundred of the newest takes more than ``_BOUND_S``.
    """
    due, found = offer(shop, events, rate, _TRIAL_S)
    start, quarter = min(due.values()), _TRIAL_S / 4
    medians = []
    for since in (start + quarter, start + 3 * quarter):
        latencies, missing = covered({place: at for place, at in due.items() if since <= at < since + quarter}, found)
        if missing:
            return float("inf")
        medians.append(statistics.median(latencies))
    tail = percentiles(latencies)
    if (tail["p99"] or tail["max"] or 0.0) > 1e3 * _BOUND_S:
        return float("inf")
    return (medians[1] - medians[0]) / (2 * quarter)


def offer(
    shop: Shop, events: Iterator[tuple[bytes, bytes]], rate: float, seconds: float
) -> tuple[dict[Place, float], list[tuple[Any, float]]]:
    """Send ``events`` evenly at ``rate`` for so long: when each was due (perf_counter seconds), and the lists that came."""
    prepared = [(key, value, shopper_of(value)) for key, value in (next(events) for _ in range(int(rate * seconds)))]
    bootstrap = shop.settings.bootstrap_servers
    answers = Answers(bootstrap, shop.topic(RECOMMENDATIONS.name), "list")
    sender = PacedSender(bootstrap, shop.topic(EVENTS.name))
    for number, due in keep_pace(len(prepared), rate):
        key, value, shopper = prepared[number]
        if shopper is not None:
            sender.send(key, value, due, shopper)
    sender.flush()
    return sender.due, answers.finish(_PATIENCE_S)


class Answers:
    """A process of its own that notes when each record of ``topic`` was read, so that reading does not hold up sending."""

    def __init__(self, bootstrap: str, topic: str, kind: str, marked: str = "") -> None:
        """``kind``: "count" (of the state-only job) or "list". ``marked``: note too when each sku that begins so is first listed."""
        self.listed: dict[str, float] = {}
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_note_answers, args=(bootstrap, topic, kind, marked, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def finish(self, patience_s: float) -> list[tuple[Any, float]]:
        """Read until nothing has come for ``_QUIET_S`` (at most ``patience_s``); what was read, in order: (what identifies the answer,
        perf_counter seconds).
        """
        self._pipe.send(patience_s)
        answers: list[tuple[Any, float]]
        answers, self.listed = self._pipe.recv()
        self._process.join(10)
        return answers


def _note_answers(bootstrap: str, topic: str, kind: str, marked: str, pipe: Connection) -> None:
    consumer = quick_consumer(bootstrap, topic)
    consumer.poll(_POLL_S)
    pipe.send(None)
    found: list[tuple[float, bytes, bytes]] = []
    watched = re.compile(b'"sku":"(' + re.escape(marked.encode()) + b'[^"]*)"') if marked else None
    listed: dict[str, float] = {}
    ends = float("inf")
    newest = time.perf_counter()
    while time.perf_counter() < min(ends, newest + _QUIET_S):
        if ends == float("inf"):
            newest = time.perf_counter()
            if pipe.poll():
                ends = newest + pipe.recv()
        message = consumer.poll(_POLL_S)
        if message is not None and message.error() is None and message.value() is not None:
            value: bytes = message.value()
            newest = time.perf_counter()
            found.append((newest, message.key(), value if kind == "count" else _CAUSE.search(value)[1]))  # type: ignore[index]
            for sku in watched.findall(value) if watched else ():
                listed.setdefault(sku.decode(), newest)
    consumer.close()
    answers: list[tuple[Any, float]] = []
    for at, key, value in found:
        content = orjson.loads(value)
        if kind == "count":
            answers.append(((content["user"], content["count"]), at))
        else:
            answers.append(((key.decode(), content["partition"], content["first_offset"], content["last_offset"]), at))
    pipe.send((answers, listed))


def percentiles(seconds: Iterable[float]) -> dict[str, float | int | None]:
    """Percentiles in ms, the number of samples that they rest on, and the slowest. A percentile that fewer than one sample lies beyond is
    None: it would be the slowest again, under a name that promises more.
    """
    histogram = HdrHistogram(1, 600_000_000, 3)
    for latency in seconds:
        histogram.record_value(max(1, int(latency * 1e6)))
    samples = histogram.get_total_count()
    found: dict[str, float | int | None] = {
        name: round(histogram.get_value_at_percentile(at) / 1e3, 2) if round(samples * (100 - at), 6) >= 100 else None
        for name, at in _PERCENTILES.items()
    }
    return found | {"samples": samples, "max": round(histogram.get_max_value() / 1e3, 2)}
