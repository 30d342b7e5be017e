"""A partition's state rebuilt from its changelog alone, on an empty disk: changelog records/s, with one partition and with four at once.

The changelog is written beforehand (the same records for every system: ``{count, last 20 items}`` of a user, each user several times,
in transactions where its worker writes them so), then a worker starts on an empty folder, and a feed waits for it in every partition.
Timed are the rebuilding, by what our worker's log and Kafka Streams' restore listener say of each partition (the longest counts: they are
rebuilt side by side), and the whole, from the start of the process to the last partition's first answer, beside the same with an empty
changelog. Stock Faust does not say, so its rate is from the difference of the two. The answers prove the state: their counts go on
where the changelog left them.

``opening`` is our runtime's own part, in this process: fence, read, write to RocksDB, one thread a partition. Stock Faust gets 1/50.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import orjson
from confluent_kafka import Consumer, Producer

from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.log import KafkaLog
from streams.runtime.marker import SourceExtent
from streams.runtime.partition import PartitionState
from streams.runtime.partitioner import murmur2_partition
from streams.runtime.producer import TransactionalProducer
from streams.runtime.store import Store
from tests.benchmarks.failover import expendable
from tests.benchmarks.load import quick_consumer
from tests.benchmarks.measure import PARTITIONS, broker, create_topics, delete_topics
from tests.benchmarks.pipeline import AT_LEAST_ONCE, EXACTLY_ONCE, Bench
from tests.benchmarks.report import Report, medians
from tests.benchmarks.state_job import StateJob
from tests.benchmarks.steady import event, user_key

RECORDS = 1_000_000
#: Changelog records of each user.
_VERSIONS = 4
#: Records in a transaction of the changelog.
_TRANSACTION = 2_000
_PATIENCE_S = 600.0
_RATE = "changelog records/s"
_REBUILT = re.compile(r"open, (\d+) changelog records in ([\d.]+) s")
SYSTEMS = {"assay": (EXACTLY_ONCE, 1), "kafka-streams": (EXACTLY_ONCE, 1), "faust": (AT_LEAST_ONCE, 50)}
_CHANGELOGS = {"assay": "{0}-state-changelog", "kafka-streams": "{0}-profiles-changelog", "faust": "{0}-{0}-profiles-changelog"}


def users_of(partition: int, count: int) -> list[int]:
    """The first ``count`` users whose events go to ``partition``."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        if murmur2_partition(user_key(number), PARTITIONS) == partition:
            found.append(number)
        number += 1
    return found


def changelog_records(users: list[int], count: int) -> Iterator[tuple[bytes, bytes]]:
    """``count`` states of ``users`` in turn, each with 20 items."""
    for number in range(count):
        state = {"count": 20 + number // len(users), "items": [f"n{number + place}" for place in range(20)]}
        yield user_key(users[number % len(users)]), orjson.dumps(state)


def write_changelog(bootstrap: str, topic: str, partition: int, users: list[int], count: int, *, transactional: bool) -> None:
    """Fill ``partition`` of ``topic`` as a worker would: in transactions of ``_TRANSACTION`` records, or without.

    Stock Faust writes none, and cannot recover from a changelog that ends in a commit: it waits for a record at that offset for ever.
    """
    config: dict[str, str | int] = {
        "bootstrap.servers": bootstrap,
        "compression.type": "lz4",
        "linger.ms": 20,
        "queue.buffering.max.messages": 2 * _TRANSACTION,
    }
    producer = Producer(config | {"transactional.id": f"{topic}-{partition}"} if transactional else config)
    if transactional:
        producer.init_transactions(60)
    records = changelog_records(users, count)
    while batch := list(islice(records, _TRANSACTION)):
        if transactional:
            producer.begin_transaction()
        for key, value in batch:
            producer.produce(topic, value, key, partition)
        if transactional:
            producer.commit_transaction(60)
        else:
            producer.flush(60)


class Rebuild:
    """One filled changelog and one event in each partition, for one system."""

    def __init__(self, bench: Bench, system: str, filled: int, records: int) -> None:
        self._bench, self.system, self._filled = bench, system, filled
        self.records = records
        self.name = f"rec{uuid.uuid4().hex[:6]}"
        self.source, self.sink = f"{self.name}-in", f"{self.name}-out"
        self.changelog = _CHANGELOGS[system].format(self.name)

    def prepare(self) -> None:
        """Make the topics and fill them: ``filled`` partitions share the records."""
        bootstrap = self._bench.bootstrap
        create_topics(bootstrap, [self.source, self.sink], compacted=[self.changelog])
        each = self.records // self._filled
        users = [users_of(partition, max(1, each // _VERSIONS)) for partition in range(PARTITIONS)]
        if each:
            with ThreadPoolExecutor(self._filled) as pool:
                fill = partial(write_changelog, transactional=SYSTEMS[self.system][0] == EXACTLY_ONCE)
                for done in [pool.submit(fill, bootstrap, self.changelog, p, users[p], each) for p in range(self._filled)]:
                    done.result()
        producer = Producer({"bootstrap.servers": bootstrap})
        for partition in range(PARTITIONS):
            key, value = event(users[partition][0], 0)
            producer.produce(self.source, value, key, partition)
        producer.flush(30)

    def run(self) -> tuple[float, float]:
        """Start a worker on an empty folder. Seconds until every partition has answered, going on from the changelog; and seconds of
        these that the worker itself says it took to rebuild (NaN if it does not say).
        """
        guarantee, _ = SYSTEMS[self.system]
        bench = self._bench
        command = bench.state_command(self.system, guarantee, self.name, self.source, self.sink)
        reader = quick_consumer(bench.bootstrap, self.sink)
        counts: dict[int, int] = {}
        started = time.perf_counter()
        log = bench.folder / f"{self.name}.log"
        with expendable(command, log):
            while len(counts) < PARTITIONS:
                message = reader.poll(0.1)
                if message is not None and message.error() is None:
                    counts[message.partition() or 0] = orjson.loads(message.value() or b"")["count"]
                if time.perf_counter() - started > _PATIENCE_S:
                    raise TimeoutError(f"{self.system} has not rebuilt {self.records} records within {_PATIENCE_S:.0f} s; see {log}")
            took = time.perf_counter() - started
        reader.close()
        wrong = [p for p in range(self._filled) if self.records and counts[p] <= 20]
        if wrong:
            raise RuntimeError(f"{self.system} answered from partitions {wrong} without the state of the changelog; see {log}")
        shutil.rmtree(bench.folder / self.name, ignore_errors=True)
        said = _REBUILT.findall(log.read_text(errors="replace"))
        return took, max((float(seconds) for records, seconds in said if int(records) or not self.records), default=math.nan)

    def clean(self) -> None:
        """Delete the topics."""
        delete_topics(self._bench.bootstrap, [self.source, self.sink, self.changelog])


def opening(bootstrap: str, changelog: str, partitions: int, folder: Path) -> tuple[int, float, float]:
    """Open ``partitions`` partitions at once on an empty disk: (changelog records, seconds, CPU seconds of this process)."""
    config = {"bootstrap.servers": bootstrap}
    probe = Consumer(reader_config(config, f"{changelog}-probe"))

    def state(number: int) -> PartitionState:
        def producer() -> TransactionalProducer:
            return TransactionalProducer(config, f"{changelog}-{number}", timeout_s=10, partitioner="murmur2", topic_names={})

        log = KafkaLog(
            config,
            group=changelog,
            changelog=changelog,
            partition=number,
            new_producer=producer,
            source_extent=lambda topic, partition: SourceExtent(*watermarks(probe, topic, partition)),
        )
        return PartitionState(number, Store(folder / str(number)), log, StateJob("out"), {})

    folder.mkdir()
    states = [state(number) for number in range(partitions)]
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(partitions) as pool:
        records = sum(restored.records for restored in pool.map(PartitionState.open, states))
    took, spent = time.perf_counter() - started, time.process_time() - cpu
    for opened in states:
        opened.close()
    probe.close()
    shutil.rmtree(folder, ignore_errors=True)
    return records, took, spent


def _row(system: str, job: str, unit: str, records: int, seconds: float, value: float) -> dict[str, object]:
    return {
        "system": system, "job": job, "guarantee": SYSTEMS[system][0], "unit": unit, "records": records,
        "seconds": round(seconds, 2), "value": value,
    }  # fmt: skip


def _rate(system: str, job: str, records: int, seconds: float) -> dict[str, object]:
    return _row(system, job, _RATE, records, seconds, round(records / seconds))


def _start(system: str, job: str, records: int, seconds: float) -> dict[str, object]:
    return _row(system, job, "s to the first answer", records, seconds, round(seconds, 2))


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Every system with one and four partitions filled, interleaved; medians of ``repetitions``. ``events``: changelog records of ours."""
    size = events or RECORDS
    rows: list[dict[str, object]] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        bench = Bench(bootstrap, folder)
        for _ in range(repetitions):
            for system, (_, share) in SYSTEMS.items():
                empty = Rebuild(bench, system, 1, 0)
                empty.prepare()
                start, _ = empty.run()
                empty.clean()
                rows.append(_start(system, "whole start, empty", 0, start))
                for filled in (1, PARTITIONS):
                    rebuild = Rebuild(bench, system, filled, size // share)
                    rebuild.prepare()
                    whole, seconds = rebuild.run()
                    label = f"{filled} partition{'s' * (filled > 1)}"
                    rows.append(_start(system, f"whole start, {label}", rebuild.records, whole))
                    rows.append(_rate(system, f"rebuild, {label}", rebuild.records, whole - start if math.isnan(seconds) else seconds))
                    if system == "assay":
                        records, seconds, _ = opening(bootstrap, rebuild.changelog, filled, folder / "opening")
                        rows.append(_rate(system, f"opening, {label}", records, seconds))
                    rebuild.clean()
    merged = medians(rows, ("system", "job"))
    rate = {(row["system"], row["job"]): float(str(row["value"])) for row in merged if row["unit"] == _RATE}
    remarks = [
        f"{job}: assay has {rate['assay', job] / other:.1f} x the rate of {system}"
        for (system, job), other in rate.items()
        if system != "assay"
    ]
    remarks.append(f"state of 20 items a user, each user {_VERSIONS} times; {os.cpu_count()} cores shared with the broker")
    return Report("recovery", merged, remarks)
