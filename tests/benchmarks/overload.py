"""Twice the rate at which the full job works off a backlog, for minutes: does memory stay flat, lag grow like a line, the group stay as
it is, and what follows?

First that rate is measured, then events are sent at twice it by a process of its own while the worker is sampled; then nothing is sent any
more, and the time until the lag is gone is measured. ``python -m tests.benchmarks.overload`` is the worker (it logs each opening of a
partition, from which rebalances are counted).
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from confluent_kafka import Producer

from schemas.topics import DEAD_LETTERS, EVENTS, OUTCOMES
from streams.broker.node import free_port
from streams.settings import Settings
from streams.worker import run_worker
from tests.benchmarks.load import keep_pace
from tests.benchmarks.measure import PARTITIONS, broker, preload, python_module, watch_topic, worker
from tests.benchmarks.pipeline import EXACTLY_ONCE, storefront_records
from tests.benchmarks.report import Report
from tests.benchmarks.shop import Shop
from tests.benchmarks.trend import trend
from tests.committed import read_settled

MINUTES = 10.0
#: Of the rate of a backlog.
OVERLOAD = 2.0
_BACKLOG = 40_000
_ROUNDS_OF_A_VISIT = 3
#: MB/min that still are flat: 100 MB in ten minutes.
_MEMORY_SLOPE = 10.0
#: Shoppers who come for the first time take room until ``live_sessions`` bounds them, which by default takes a million sessions, and hours.
#: So many are there before slopes are judged, so that what still grows then is not bounded by anything.
LIVE_SESSIONS = 10_000
#: So are visits, which are remembered until they are over: half an hour by default.
SESSION_GAP_S = 60
_LAG_LINEARITY = 0.95
_SAMPLE_S = 1.0
#: Slopes are judged from this share of the time on: until then caches fill and queues reach their bounds.
_SETTLED = 0.25
_CATCH_UP_S = 3_600.0
_APPLIED = re.compile(rb'^assay_events_total\{task="recommend"\} ([0-9.e+]+)$', re.MULTILINE)
_OPENED = re.compile(r"recommend/[0-9]+: open, ")


@dataclass(frozen=True, slots=True)
class Sample:
    """``seconds`` since the overload began; ``sent`` and ``applied`` events since then; resident bytes."""

    seconds: float
    sent: int
    applied: int
    rss: int

    @property
    def lag(self) -> int:
        """Events sent and not applied."""
        return self.sent - self.applied


def again(records: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """``records`` over and over, with event ids of their own each time, and other shoppers every third time: making new ones would take
    more time than the worker does, and the visit of one who never left would have no end.
    """
    round_ = 0
    while True:
        mark, visitor = b'"event_id":"%d-' % round_, b"%d-" % (round_ // _ROUNDS_OF_A_VISIT)
        for key, value in records:
            shopper = visitor + key
            yield shopper, value.replace(b'"event_id":"', mark, 1).replace(b'"%s"' % key, b'"%s"' % shopper, 1)
        round_ += 1


class Sender:
    """A process that sends at ``rate`` for ``seconds``, so that neither sampling nor the worker's pace holds it up."""

    def __init__(self, bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]], rate: float, seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_send, args=(bootstrap, topic, records, rate, seconds, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self.sent = 0
        self.done = False

    def look(self) -> None:
        """Take in how far it is. Raises ``EOFError`` where it ended before it was done."""
        while not self.done and self._pipe.poll():
            self.sent, self.done = self._pipe.recv()


def _send(bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]], rate: float, seconds: float, pipe: Connection) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 5,
            "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000,
        }
    )  # fmt: skip
    source = again(records)
    pipe.send(None)
    sent = 0
    burst = max(1, int(rate / 200))
    for _ in keep_pace(int(rate * seconds / burst), rate / burst):
        for _ in range(burst):
            key, value = next(source)
            producer.produce(topic, value, key)
        sent += burst
        producer.poll(0)
        if sent % (20 * burst) == 0:
            pipe.send((sent, False))
    if undelivered := producer.flush(120):
        raise RuntimeError(f"{undelivered} events were not delivered")
    pipe.send((sent, True))


class Worker:
    """The worker's process as its metrics and its log tell of it."""

    def __init__(self, process: psutil.Process, port: int, log: Path) -> None:
        self._process, self._url, self._log = process, f"http://127.0.0.1:{port}/metrics", log

    @property
    def applied(self) -> int:
        """Events applied and committed since its start."""
        with urllib.request.urlopen(self._url, timeout=30) as reply:
            found = _APPLIED.search(reply.read())
        return int(float(found[1])) if found else 0

    @property
    def rss(self) -> int:
        """Resident bytes. Raises ``psutil.NoSuchProcess`` if it is gone."""
        return int(self._process.memory_info().rss)

    @property
    def rebalances(self) -> float:
        """How often all partitions were opened anew after the first time."""
        return len(_OPENED.findall(self._log.read_text(errors="replace"))) / PARTITIONS - 1


def _measure(name: str, unit: str, value: float) -> dict[str, object]:
    return {"system": "assay", "job": "full", "guarantee": EXACTLY_ONCE, "measure": name, "unit": unit, "value": value}


def new_shoppers(records: Sequence[tuple[bytes, bytes]], events: float) -> float:
    """How many come for the first time with so many events of ``again``."""
    return events / len(records) / _ROUNDS_OF_A_VISIT * len({key for key, _ in records})


def rows_of(
    sustainable: float, rate: float, loaded: Sequence[Sample], caught_up: Sample, rebalances: float, records: Sequence[tuple[bytes, bytes]]
) -> list[dict[str, object]]:
    """What was measured, a row each."""
    settled = [sample for sample in loaded if sample.seconds >= _SETTLED * loaded[-1].seconds]
    rss = trend([sample.seconds for sample in settled], [sample.rss / 2**20 for sample in settled])
    lag = trend([sample.seconds for sample in settled], [sample.lag for sample in settled])
    applied = (settled[-1].applied - settled[0].applied) / (settled[-1].seconds - settled[0].seconds)
    came = new_shoppers(records, 60 * applied)
    took = caught_up.seconds - loaded[-1].seconds
    caught = (caught_up.applied - loaded[-1].applied) / took if took > 0 else 0.0
    return [
        _measure("rate of a backlog", "events/s", round(sustainable, 1)),
        _measure("rate asked for", "events/s", round(rate, 1)),
        _measure("rate sent", "events/s", round(loaded[-1].sent / loaded[-1].seconds, 1)),
        _measure("applied under overload", "events/s", round(applied, 1)),
        _measure("memory at the end", "MB", round(loaded[-1].rss / 2**20, 1)),
        _measure("memory at most", "MB", round(max(sample.rss for sample in [*loaded, caught_up]) / 2**20, 1)),
        _measure("memory slope", "MB/min", rss.per_minute),
        _measure("new shoppers applied", "1/min", round(came)),
        _measure("memory per new shopper", "bytes", round(rss.per_minute * 2**20 / came) if came else 0),
        _measure("lag slope", "events/min", lag.per_minute),
        _measure("lag linearity", "R^2", lag.r2),
        _measure("lag at the end", "events", loaded[-1].lag),
        _measure("rebalances", "times", rebalances),
        _measure("catch-up", "events/s", round(caught, 1)),
        _measure("catch-up beside the backlog's rate", "ratio", round(caught / sustainable, 3)),
        _measure("not applied in the end", "events", caught_up.lag),
    ]


def run(*, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None, minutes: float = MINUTES) -> Report:
    """Overload for ``minutes``, once. ``events`` is the size of the backlog that the sustainable rate is measured on."""
    with ExitStack() as stack:
        bootstrap, folder = stack.enter_context(broker(bootstrap_servers))
        backlog = events or _BACKLOG
        products, records = storefront_records(backlog)
        shop = Shop(bootstrap, folder, products)
        preload(bootstrap, shop.topic(EVENTS.name), records)
        port, log = free_port(), shop.log("recommend")
        chosen = {
            "BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": shop.settings.topic_prefix, "APP_ID": shop.name,
            "DATA_DIR": shop.data("recommend"), "METRICS_PORT": port, "LIVE_SESSIONS": LIVE_SESSIONS,
            "SESSION_GAP_S": SESSION_GAP_S,
        }  # fmt: skip
        environment = ["env", *(f"ASSAY_{key}={value}" for key, value in chosen.items())]
        process = stack.enter_context(worker([*environment, *python_module("tests.benchmarks.overload")], log))
        # Every event has exactly one outcome, so outcomes tell how far the worker is.
        watched = watch_topic(bootstrap, shop.topic(OUTCOMES.name), backlog, process, timeout_s=600)
        sustainable = watched.records / watched.seconds
        seen = Worker(process, port, log)
        loaded, caught_up = _overload(bootstrap, shop.topic(EVENTS.name), records, seen, OVERLOAD * sustainable, minutes)
        rebalances = seen.rebalances
        rows = rows_of(sustainable, OVERLOAD * sustainable, loaded, caught_up, rebalances, records)
        expected, answered = backlog + caught_up.sent, _answered(bootstrap, shop)
        rows.append(_measure("outcomes and dead letters less events", "records", answered - expected))
    remark = (
        f"{minutes:g} minutes at {OVERLOAD:g} x the rate of the backlog before; broker, worker and sender share this machine, so the "
        "worker has less of it under overload than in the measurement before; slopes from the second quarter of the time on; the newest "
        f"{LIVE_SESSIONS:,} sessions are held (a million by default), so that their bound is reached by then"
    )
    failed = [
        f"{rebalances:g} rebalances" if rebalances else "", f"{caught_up.lag} events more sent than applied" if caught_up.lag else "",
        f"{expected} events, {answered} outcomes and dead letters" if expected != answered else "",
        *(f"{row['measure']}: {row['value']} {row['unit']}" for row in rows if is_bad(str(row["measure"]), float(str(row["value"])))),
    ]  # fmt: skip
    return Report("overload", rows, [remark], "; ".join(filter(None, failed)))


def is_bad(measure: str, value: float) -> bool:
    """Whether a slope says that memory is not flat, or a lag that the worker stood still in between."""
    return (measure == "memory slope" and value > _MEMORY_SLOPE) or (measure == "lag linearity" and value < _LAG_LINEARITY)


def _answered(bootstrap: str, shop: Shop) -> int:
    """Committed outcomes and dead letters of the recommend role: each event has one of them."""
    outcomes = sum(
        b'"kind":"outcome"' in (message.value() or b"") for message in read_settled(bootstrap, shop.topic(OUTCOMES.name), PARTITIONS)
    )
    return outcomes + sum(1 for _ in read_settled(bootstrap, shop.topic(DEAD_LETTERS.name), PARTITIONS))


def _overload(
    bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]], seen: Worker, rate: float, minutes: float
) -> tuple[list[Sample], Sample]:
    """Samples while events come in, and the one at which all of them (or as many as ever will) are applied."""
    already = seen.applied
    sender = Sender(bootstrap, topic, records, rate, minutes * 60)
    started = time.perf_counter()
    loaded: list[Sample] = []

    def sample() -> Sample:
        applied = seen.applied - already
        sender.look()
        return Sample(time.perf_counter() - started, sender.sent, applied, seen.rss)

    while not sender.done:
        time.sleep(_SAMPLE_S)
        loaded.append(sample())
    deadline = time.perf_counter() + _CATCH_UP_S
    last = loaded[-1]
    while last.lag > 0 and time.perf_counter() < deadline:
        time.sleep(0.1)
        last = sample()
    return loaded, last


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(run_worker(Settings(), ["recommend"]))
