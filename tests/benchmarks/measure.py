"""What the broker benchmarks share: preloading a topic, watching a topic fill, and the CPU time of a worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import RealKafka

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One flat result row. ``cpu_us_per_event`` is CPU time of the worker process alone, all its threads; ``records_per_event``
    says how many main output records (in the full job: lists of 20 explained items) an event came to."""

    system: str
    job: str
    guarantee: str
    events: int
    events_per_second: float
    cpu_us_per_event: float
    records_per_event: float
    unit: str = "events/s"


@contextmanager
def broker(bootstrap_servers: str | None) -> Iterator[tuple[str, Path]]:
    """(bootstrap servers, a folder that is gone afterwards), of the Kafka given or else of one started for this run."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        yield bootstrap_servers or stack.enter_context(RealKafka(folder / "kafka")).bootstrap_servers, folder


def create_topics(bootstrap: str, names: Iterable[str], *, compacted: Iterable[str] = ()) -> None:
    """Create topics with ``PARTITIONS`` partitions and wait until they exist."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, PARTITIONS, 1, config={"max.message.bytes": "8388608"}) for name in names]
    wanted += [NewTopic(name, PARTITIONS, 1, config={"cleanup.policy": "compact"}) for name in compacted]
    for future in admin.create_topics(wanted).values():
        future.result(30)


def delete_topics(bootstrap: str, names: Iterable[str]) -> None:
    """Delete topics, so that a later repetition does not share the broker's page cache and cleaner with them."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics(list(names)).values():
        future.result(30)


def preload(bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Produce (key, value) records, keys mapped as Java clients map them; returns how many."""
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    count = 0
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=lambda err, _msg: failed.append(str(err)) if err else None)
                break
            except BufferError:
                producer.poll(0.1)
        count += 1
        if count % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)
    if failed:
        raise RuntimeError(f"{len(failed)} records were not delivered: {failed[0]}")
    return count


def end_offsets(consumer: Consumer, topic: str) -> int:
    """Sum of the topic's end offsets (transaction markers included)."""
    return sum(consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS))


def count_committed(bootstrap: str, topic: str, at_least: int = 0, deadline_s: float = 120.0) -> int:
    """Number of records that a read-committed reader finds in ``topic`` from beginning to end, once there are ``at_least`` so many.

    Raises ``TimeoutError`` when that takes longer than ``deadline_s``.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-count", "isolation.level": "read_committed", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    seen, ended, deadline = 0, set(), time.monotonic() + deadline_s
    while len(ended) < PARTITIONS or seen < at_least:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic}: {seen} records read within {deadline_s:.0f} s, at least {at_least} were due")
        for message in consumer.consume(20_000, timeout=1.0):
            if message.error():
                ended.add(message.partition())
            else:
                seen += 1
    consumer.close()
    return seen


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs ``module`` in this environment."""
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def worker(command: Sequence[str], log: Path) -> Iterator[psutil.Process]:
    """A worker as a process of its own, stopped by SIGTERM at the end."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
        try:
            yield psutil.Process(process.pid)
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {log.read_text()[-2000:]}")
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """User and system CPU time of the process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Run:
    """What ``watch_topic`` saw: records between the first and the last sighting, seconds, CPU seconds."""

    records: int
    seconds: float
    cpu_seconds: float


def watch_topic(bootstrap: str, topic: str, expected: int, process: psutil.Process, *, timeout_s: float, skip: float = 0.1) -> Run:
    """Measure how fast ``topic`` fills up to ``expected`` records.

    End offsets are polled rather than records consumed, so that the observer takes no share of the machine. Start-up is left out:
    the clock starts once a share ``skip`` of the records is there. It stops when ``expected`` is reached (offsets also count
    transaction markers, so the caller verifies the exact number of records afterwards with ``count_committed``).
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-watch"})
    deadline = time.monotonic() + timeout_s
    first: tuple[float, int, float] | None = None
    last = (time.monotonic(), 0, 0.0)
    try:
        while True:
            now, offset, cpu = time.monotonic(), end_offsets(consumer, topic), cpu_seconds(process)
            if first is None and offset >= skip * expected:
                first = (now, offset, cpu)
            if offset > last[1]:
                last = (now, offset, cpu)
            # Offsets run ahead of records by the markers, so the end is where they stand still, not where they pass a number.
            if offset >= expected and now - last[0] > 2.0:
                break
            if now > deadline:
                raise TimeoutError(f"{topic} holds {offset} of {expected} records after {timeout_s:.0f} s")
            time.sleep(0.02)
    finally:
        consumer.close()
    if first is None or last[1] <= first[1]:
        raise RuntimeError(f"{topic} filled too quickly to be timed: use more events")
    share = (last[1] - first[1]) / last[1]
    return Run(int(expected * share), last[0] - first[0], last[2] - first[2])


def row(system: str, job: str, guarantee: str, run: Run, records_per_event: float = 1.0) -> Row:
    """A result row from a run."""
    return Row(
        system, job, guarantee, run.records, run.records / run.seconds, 1e6 * run.cpu_seconds / run.records, round(records_per_event, 3)
    )


def as_dict(result: Row) -> dict[str, object]:
    """A row as JSON-ready values."""
    values = asdict(result)
    values["events_per_second"] = round(result.events_per_second, 1)
    values["cpu_us_per_event"] = round(result.cpu_us_per_event, 2)
    return values
