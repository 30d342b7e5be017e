"""A whole worker in this process, on the embedded broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import group_coordinator
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError, KafkaError
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.broker import EmbeddedBroker
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable, DataDirTaken, Stuck, TopicsWrong
from streams.runtime.names import changelog_topic, group_id
from streams.runtime.partitioner import murmur2_partition
from streams.runtime.processor import Batch, Output, Record, State, Step
from streams.runtime.task import Broadcast, CatchUpNeeded, Task
from streams.settings import Settings
from streams.worker import RunningWorker, build_host
from tests.runtime.processors import Counter

PATIENCE_S = 60.0

STUCK_WORKER = """
import sys, threading
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import run_tasks
from tests.runtime.processors import Counter
stuck = Task("task", ("in",), Counter(lambda _batch: threading.Event().wait()))
sys.exit(run_tasks(Settings(), [stuck], {"in": "in"}))
"""

# Its event loop hangs in a signal handler, which runs in the loop's thread.
HANGING_WORKER = """
import os, signal, sys, time
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import run_tasks
from tests.runtime.processors import Counter
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
hanging = Task("task", ("in",), Counter(lambda _batch: os.kill(os.getpid(), signal.SIGUSR1)))
sys.exit(run_tasks(Settings(), [hanging], {"in": "in"}))
"""

STARTING_WORKER = """
import sys
from streams.runtime import broadcast
from streams.runtime.task import Broadcast, Task
from streams.settings import Settings
from streams.worker import run_tasks
from tests.runtime.processors import Counter

def ends(_admin, places, _timeout_s):
    print("reading", flush=True)
    return dict.fromkeys(places, 1_000)

broadcast.ends = ends
task = Task("task", ("in",), Counter(), broadcasts=(Broadcast("known", lambda _records: None),), close=lambda: None)
sys.exit(run_tasks(Settings(), [task], {"in": "in", "known": "known"}))
"""


class Bench:
    """An embedded broker with a source, a sink and a broadcast topic, and workers over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = EmbeddedBroker(["in", "out", "known", "events.dead-letter"])
        self._producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers})
        self._reader = Consumer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "judge", "isolation.level": "read_committed"}
        )
        self._reader.assign([TopicPartition("out", p, 0) for p in range(4)])
        self.seen: list[str] = []
        self.workers: list[RunningWorker] = []

    def settings(self, name: str = "w0", **overrides: object) -> Settings:
        return Settings(
            bootstrap_servers=self.broker.bootstrap_servers, app_id="app", data_dir=self.folder / name, session_timeout_s=6, **overrides
        )

    def worker(self, processor: object, name: str = "w0", broadcasts: tuple[Broadcast, ...] = (), **overrides: object) -> RunningWorker:
        settings = self.settings(name, **overrides)
        self.broker.touch([changelog_topic(settings, "task")])
        task = Task("task", ("in",), processor, broadcasts)  # type: ignore[arg-type]
        table = {topic: topic for topic in ("in", "out", "known", "events.dead-letter")}
        worker = RunningWorker(settings, build=lambda: build_host(settings, [task], table))
        self.workers.append(worker)
        return worker

    def send(self, *keys: str, topic: str = "in") -> None:
        for key in keys:
            self._producer.produce(topic, b"1", key.encode(), murmur2_partition(key.encode(), 4))
        assert self._producer.flush(10) == 0

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}; seen {self.seen[-5:]}"
            message = self._reader.poll(0.05)
            if message is not None and message.error() is None:
                self.seen.append(f"{(message.key() or b'').decode()}={(message.value() or b'').decode().partition('@')[0]}")

    def work_once(self) -> None:
        """One event, and a worker that answers it."""
        self.send("a")
        with self.worker(Counter()) as worker:
            worker.wait_ready(2 * PATIENCE_S)
            self.wait(lambda: self.seen == ["a=1"], "the output")

    def close(self) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.stop()
        self._reader.close()
        self.broker.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_events_become_outputs_and_positions_and_a_second_worker_goes_on_where_the_first_stopped(bench: Bench) -> None:
    bench.send("a", "b", "a")
    with bench.worker(Counter()) as first:
        first.wait_ready(PATIENCE_S)
        bench.wait(lambda: len(bench.seen) == 3, "three outputs")
        bench.wait(lambda: sum(offset + 1 for offset in first.positions()["task"].values()) == 3, "positions")
        assert set(first.positions()["task"]) == {("in", p) for p in range(4)}
    bench.send("a")
    with bench.worker(Counter(), "w1") as second:
        second.wait_ready(PATIENCE_S)
        bench.wait(lambda: len(bench.seen) == 4, "the fourth output")
    assert sorted(bench.seen) == ["a=1", "a=2", "a=3", "b=1"]


def test_without_a_marker_everything_is_read_whatever_the_group_had_committed(bench: Bench) -> None:
    bench.send("a", "a", "a")
    group = Consumer({"bootstrap.servers": bench.broker.bootstrap_servers, "group.id": group_id(bench.settings(), "task")})
    partition = murmur2_partition(b"a", 4)
    group.commit(offsets=[TopicPartition("in", partition, 2)], asynchronous=False)
    assert group.committed([TopicPartition("in", partition)], timeout=10)[0].offset == 2
    group.close()
    with bench.worker(Counter()) as worker:
        worker.wait_ready(PATIENCE_S)
        bench.wait(lambda: len(bench.seen) == 3, "all three, the state of an earlier life being gone")
    assert bench.seen == ["a=1", "a=2", "a=3"]


def test_a_failing_record_is_dead_lettered_and_its_partition_goes_on(bench: Bench) -> None:
    def refuse(batch: Batch) -> None:
        if any(record.key == b"bad" for record in batch.records):
            raise ValueError("bad")

    bench.send("a", "bad", "a")
    with bench.worker(Counter(refuse)) as worker:
        worker.wait_ready(PATIENCE_S)
        bench.wait(lambda: len(bench.seen) == 2, "both good records")
        bench.wait(lambda: sum(offset + 1 for offset in worker.positions()["task"].values()) == 3, "positions")
    letters = Consumer({"bootstrap.servers": bench.broker.bootstrap_servers, "group.id": "judge"})
    letters.assign([TopicPartition("events.dead-letter", p, 0) for p in range(4)])
    message = letters.poll(PATIENCE_S)
    assert message is not None
    assert json.loads(message.value() or b"")["code"] == "processing_failed"
    letters.close()


class Shopkeeper(Counter):
    """Knows a key once the topic ``known`` has named it; at first sight of another it wants to catch up, then calls it a stranger."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[bytes | None] = set()

    def learn(self, records: list[Record]) -> None:
        self.known |= {record.key for record in records}

    def process(self, state: State, batch: Batch) -> Step:
        strangers = [record for record in batch.records if record.key not in self.known]
        if strangers and not batch.caught_up:
            raise CatchUpNeeded("known")
        return Step([Output("out", r.key, b"stranger" if r in strangers else b"friend") for r in batch.records])


def test_what_was_published_before_an_event_is_known_when_the_event_is_processed(bench: Bench) -> None:
    shopkeeper = Shopkeeper()
    with bench.worker(shopkeeper, broadcasts=(Broadcast("known", shopkeeper.learn),)) as worker:  # type: ignore[arg-type]
        worker.wait_ready(PATIENCE_S)
        for i in range(10):
            bench.send(f"k{i}", topic="known")
            bench.send(f"k{i}")
        bench.send("nobody")
        bench.wait(lambda: len(bench.seen) == 11, "all outputs")
    assert sorted(bench.seen) == sorted([*(f"k{i}=friend" for i in range(10)), "nobody=stranger"])


def test_a_stranger_in_a_bulk_publish_keeps_only_its_own_partition_waiting(bench: Bench) -> None:
    shopkeeper = Shopkeeper()
    go_on = threading.Event()

    def learn(records: list[Record]) -> None:
        go_on.wait(len(records) * 1e-3)
        shopkeeper.learn(records)

    with bench.worker(shopkeeper, broadcasts=(Broadcast("known", learn),), watchdog_s=4.0) as worker:  # type: ignore[arg-type]
        worker.wait_ready(PATIENCE_S)
        bench.send("friend", topic="known")
        bench.send("friend")
        bench.wait(lambda: bench.seen == ["friend=friend"], "the first output")
        strange = murmur2_partition(b"stranger", 4)
        others = [key for key in map(str, range(20)) if murmur2_partition(key.encode(), 4) != strange]
        bench.send(*others, topic="known")
        bench.send(*others)
        bench.wait(lambda: len(bench.seen) == 1 + len(others), "the outputs of all others")
        for part in range(60):
            bench.send(*(f"{part}-{i}" for i in range(200)), topic="known")
        bench.send("stranger", topic="known")
        bench.send("stranger")
        for other in others[:3]:
            bench.send(other)
            bench.wait(lambda: bench.seen.count(f"{other}=friend") == 2, "the output of another partition")  # noqa: B023
        assert "stranger=friend" not in bench.seen
        go_on.set()
        bench.wait(lambda: "stranger=friend" in bench.seen, "the stranger, who has been introduced")
        worker.check()


@pytest.mark.parametrize("fault", [KeyError("in apply"), MemoryError("in apply")])
def test_events_are_not_blamed_for_a_broadcast_record_that_cannot_be_applied(bench: Bench, fault: Exception) -> None:
    shopkeeper = Shopkeeper()

    def fail(_records: list[Record]) -> None:
        raise fault

    worker = bench.worker(shopkeeper, broadcasts=(Broadcast("known", fail),))  # type: ignore[arg-type]
    worker.start()
    worker.wait_ready(PATIENCE_S)
    bench.send("a", topic="known")
    bench.send("a")
    bench.wait(lambda: not worker.alive, "the worker ends")
    with pytest.raises(BroadcastFailed, match=f"{type(fault).__name__}: .*in apply"):
        worker.check()
    assert bench.seen == []


def test_events_go_on_while_more_is_published_than_can_be_applied(bench: Bench) -> None:
    over = threading.Event()

    def learn(records: list[Record]) -> None:
        over.wait(len(records) * 1e-3)

    def publish() -> None:
        while not over.wait(0.01):
            bench.send(*[f"k{i}" for i in range(100)], topic="known")

    publisher = threading.Thread(target=publish)
    with bench.worker(Counter(), broadcasts=(Broadcast("known", learn),), watchdog_s=4.0) as worker:  # type: ignore[arg-type]
        worker.wait_ready(PATIENCE_S)
        publisher.start()
        try:
            for count in range(1, 6):
                bench.send("a")
                bench.wait(lambda: len(bench.seen) == count or not worker.alive, "the output")  # noqa: B023
                worker.check()
        finally:
            over.set()
            publisher.join()
    assert bench.seen == [f"a={count}" for count in range(1, 6)]


def test_a_worker_process_whose_start_still_reads_ends_with_exit_code_0_when_told_to(bench: Bench) -> None:
    settings = bench.settings("starting")
    bench.broker.touch([changelog_topic(settings, "task")])
    environment = {**os.environ, "ASSAY_BOOTSTRAP_SERVERS": settings.bootstrap_servers, "ASSAY_DATA_DIR": str(settings.data_dir)}
    with subprocess.Popen(
        [sys.executable, "-c", STARTING_WORKER], env={**environment, "ASSAY_APP_ID": "app"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n", process.communicate()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


def test_a_processor_that_never_returns_is_noticed_and_stops_the_worker(bench: Bench) -> None:
    release = threading.Event()

    def wait(_batch: Batch) -> None:
        release.wait(60)

    worker = bench.worker(Counter(wait), watchdog_s=1.0)
    worker.start()
    worker.wait_ready(PATIENCE_S)
    bench.send("a")
    bench.wait(lambda: not worker.alive, "the worker stops")
    release.set()
    with pytest.raises(Stuck, match="has not moved on"):
        worker.check()


@pytest.mark.parametrize("stuck", [STUCK_WORKER, HANGING_WORKER], ids=["processor", "event loop"])
def test_a_worker_process_whose_processor_or_event_loop_hangs_still_ends_with_exit_code_five(bench: Bench, stuck: str) -> None:
    settings = bench.settings("stuck", watchdog_s=1.0)
    bench.broker.touch([changelog_topic(settings, "task")])
    bench.send("a")
    environment = {**os.environ, "ASSAY_BOOTSTRAP_SERVERS": settings.bootstrap_servers, "ASSAY_DATA_DIR": str(settings.data_dir)}
    process = subprocess.run(
        [sys.executable, "-c", stuck],
        env={**environment, "ASSAY_WATCHDOG_S": "1", "ASSAY_APP_ID": "app"},
        capture_output=True,
        check=False,
        timeout=90,
    )
    assert process.returncode == 5
    assert b"has not moved on in in/" in process.stderr


def test_a_data_dir_in_use_and_a_missing_topic_and_an_absent_broker_are_said_at_the_start(bench: Bench) -> None:
    with bench.worker(Counter()) as worker:
        worker.wait_ready(PATIENCE_S)
        with pytest.raises(DataDirTaken):
            bench.worker(Counter()).start().wait_ready(PATIENCE_S)
    settings = bench.settings("w2")
    task = Task("other", ("nowhere",), Counter())
    with pytest.raises(TopicsWrong, match=r"missing topics: app-other-changelog, nowhere; create them with `assay topics create`"):
        build_host(settings, [task], {"nowhere": "nowhere"})
    absent = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        build_host(absent, [task], {"nowhere": "nowhere"})


def test_an_error_in_group_membership_is_tried_again_instead_of_leaving_a_consumer_that_never_reads(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = group_coordinator.CoordinatorGroupRebalance._send_sync_group_request
    refused: list[bool] = []

    async def refuse_once(self: object, request: object) -> object:
        if not refused:
            refused.append(True)
            raise KafkaError("refused")
        return await send(self, request)

    monkeypatch.setattr(group_coordinator.CoordinatorGroupRebalance, "_send_sync_group_request", refuse_once)
    bench.work_once()
    assert refused


def test_a_fetcher_that_an_unknown_error_ended_stops_the_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Fetcher._get_actions_per_node
    broken = threading.Event()

    def breaks(self: Fetcher, assignment: object) -> object:
        if broken.is_set():
            raise ValueError("nobody expects this")
        return fetch(self, assignment)

    monkeypatch.setattr(Fetcher, "_get_actions_per_node", breaks)
    worker = bench.worker(Counter())
    worker.start()
    worker.wait_ready(PATIENCE_S)
    broken.set()
    bench.send("a")
    bench.wait(lambda: not worker.alive, "the worker stops")
    with pytest.raises(KafkaError, match="Unexpected error during data retrieval"):
        worker.check()


def test_an_error_in_group_membership_that_meets_the_question_where_a_partition_begins_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = AIOKafkaConsumer.position
    asked: list[bool] = []

    async def fails_once(self: AIOKafkaConsumer, partition: object) -> object:
        asked.append(True)
        if len(asked) == 1:
            raise KafkaError("rejoining")
        return await position(self, partition)

    monkeypatch.setattr(AIOKafkaConsumer, "position", fails_once)
    bench.work_once()
    assert len(asked) > 1


def test_a_broker_that_names_no_brokers_yet_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = AIOKafkaClient.get_random_node
    asked: list[bool] = []

    def none_at_first(self: AIOKafkaClient) -> object:
        asked.append(True)
        return None if len(asked) <= 2 else node(self)

    monkeypatch.setattr(AIOKafkaClient, "get_random_node", none_at_first)
    bench.work_once()
    assert len(asked) > 2


# What the consumer's thread reports it also raises, for nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_broker_that_goes_away_between_two_steps_of_a_start_is_said_to_be_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: AIOKafkaClient) -> None:
        raise KafkaConnectionError("Unable to bootstrap")

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", refuse)
    worker = bench.worker(Counter()).start()
    bench.wait(lambda: not worker.alive, "the worker ends")
    with pytest.raises(BrokerUnreachable, match="went away while the worker joined"):
        worker.check()


def test_a_worker_that_cannot_join_stops_when_told_to(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: object, request: object) -> object:
        raise KafkaError("refused")

    monkeypatch.setattr(group_coordinator.CoordinatorGroupRebalance, "_send_sync_group_request", never)
    worker = bench.worker(Counter()).start()
    with pytest.raises(TimeoutError):
        worker.wait_ready(5)
    worker.stop(20)
    assert not worker.alive


def test_two_workers_share_the_partitions_and_a_leaver_hands_over_its_own(bench: Bench) -> None:
    with bench.worker(Counter(), "w0") as first:
        first.wait_ready(PATIENCE_S)
        with bench.worker(Counter(), "w1", standby=True) as second:
            bench.wait(lambda: len(first.positions()["task"]) == 2 == len(second.positions().get("task", {})), "two partitions each")
            bench.send(*"abcdefgh")
            bench.wait(lambda: len(bench.seen) == 8, "eight outputs")
        bench.wait(lambda: len(first.positions()["task"]) == 4, "all four again")
        bench.send(*"abcdefgh")
        bench.wait(lambda: len(bench.seen) == 16, "sixteen outputs")
    assert sorted(bench.seen) == sorted(f"{key}={count}" for key in "abcdefgh" for count in (1, 2))
