"""Records that arrive around a rebalance: the positions that fetching and placing leave behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from streams.runtime import lanes, transport
from streams.runtime.names import changelog_topic
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import RunningWorker, build_host
from tests.runtime.processors import Counter

PATIENCE_S = 60.0
PARTITIONS = 4
SESSION_S = 10
SLOW_S = 6.0


class Group:
    """Topics of one's own on a real broker, workers of one group, and a reader of what they commit."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self._bootstrap, self._folder, self._app_id = bootstrap, folder, prefix.rstrip(".")
        names = ("in", "out", "events.dead-letter")
        self.table = {name: prefix + name for name in names}
        settings = self.settings("any")
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = [*self.table.values(), changelog_topic(settings, "task")]
        for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
            future.result(30)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}judge", "isolation.level": "read_committed"})
        self._reader.assign([TopicPartition(self.table["out"], p, 0) for p in range(PARTITIONS)])
        self.sent: list[str] = []
        self.seen: Tally[str] = Tally()

    def settings(self, name: str) -> Settings:
        return Settings(bootstrap_servers=self._bootstrap, app_id=self._app_id, data_dir=self._folder / name, session_timeout_s=SESSION_S)

    def worker(self, name: str) -> RunningWorker:
        settings = self.settings(name)
        return RunningWorker(settings, build=lambda: build_host(settings, [Task("task", ("in",), Counter())], self.table))

    def send(self, partition: int) -> None:
        """Hand one event to the broker, without waiting (also from the event loop of a worker)."""
        self.sent.append(f"k{len(self.sent)}")
        self._producer.produce(self.table["in"], b"1", self.sent[-1].encode(), partition)
        self._producer.poll(0)

    def all_seen(self) -> None:
        assert self._producer.flush(30) == 0
        silent = 0
        while set(self.sent) - set(self.seen):
            silent = 0 if self._read(1.0) else silent + 1
            assert silent < PATIENCE_S / 2, f"missing: {sorted(set(self.sent) - set(self.seen))}"

    def await_shares(self, workers: Sequence[RunningWorker], *expected: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (shares := sorted(len(worker.positions().get("task", {})) for worker in workers)) != list(expected):
            assert time.monotonic() < deadline, f"{len(workers)} workers have {shares} partitions, not {expected}"
            self._read(0.05)

    def close(self) -> None:
        self._producer.flush(10)
        self._reader.close()

    def _read(self, timeout_s: float) -> bool:
        message = self._reader.poll(timeout_s)
        if message is not None and message.error() is None:
            self.seen[(message.key() or b"").decode()] += 1
        return message is not None


def stop_after(delay_s: float, worker: RunningWorker) -> None:
    time.sleep(delay_s)
    worker.stop()


@pytest.fixture
def group(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Group]:
    found = Group(kafka, topic_prefix, tmp_path)
    yield found
    found.close()


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_an_event_that_a_fetch_from_before_the_rebalance_takes_is_read_again(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fetch that begins just before the rebalance outlasts it, and an event arrives in each partition that was just placed.
    monkeypatch.setattr(transport, "_FETCH_WAIT_S", 8.0)
    place = transport.Consumer.place
    rebalanced = asyncio.Event()

    async def place_and_send(self: transport.Consumer, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        placed = await place(self, wanted)
        if rebalanced.is_set():
            for tp in placed:
                group.send(tp.partition)
        return placed

    monkeypatch.setattr(transport.Consumer, "place", place_and_send)
    with group.worker("first") as first:
        first.wait_ready(PATIENCE_S)
        for partition in range(PARTITIONS):
            group.send(partition)
        group.all_seen()
        rebalanced.set()
        with group.worker("second") as second:
            second.wait_ready(PATIENCE_S)
            for partition in range(PARTITIONS):
                group.send(partition)
            group.all_seen()
        rebalanced.clear()
        first.check()
    assert set(group.seen.values()) == {1}


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_work_is_shared_by_all_who_join_and_by_those_who_stay(group: Group) -> None:
    """Four partitions, one worker more at a time. On a real broker: the embedded one trips over groups of three."""
    workers: list[RunningWorker] = []
    try:
        for expected in ([4], [2, 2], [1, 1, 2], [1, 1, 1, 1]):
            workers.append(group.worker(f"w{len(workers)}").start())
            group.await_shares(workers, *expected)
        for partition in range(PARTITIONS):
            group.send(partition)
        group.all_seen()
        for expected in ([1, 1, 2], [2, 2], [4]):
            workers.pop().stop()
            group.await_shares(workers, *expected)
        assert set(group.seen.values()) == {1}
    finally:
        for worker in workers:
            worker.stop()


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_workers_that_stop_at_once_all_leave_and_the_last_one_goes_on(group: Group) -> None:
    """Each stop but the first falls into the rebalance that another one's leaving has set off."""
    with group.worker("stays") as stays:
        for attempt in range(6):
            others = [group.worker(f"{attempt}-{number}").start() for number in range(3)]
            group.await_shares([stays, *others], 1, 1, 1, 1)
            began = time.monotonic()
            with ThreadPoolExecutor(len(others)) as pool:
                for stopping in [pool.submit(stop_after, 0.05 * attempt * number, worker) for number, worker in enumerate(others)]:
                    stopping.result()
            group.await_shares([stays], 4)
            # Nobody's place had to be freed by the session timeout.
            assert time.monotonic() - began < SESSION_S
        group.send(0)
        group.all_seen()
    assert set(group.seen.values()) == {1}


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, the next rebalance of the worker that joined first takes ``SLOW_S``; it clears the event as it begins to."""
    held = threading.Event()
    revoke = lanes.Lanes.revoke
    joined: list[lanes.Lanes] = []

    async def slow_revoke(self: lanes.Lanes) -> None:
        await revoke(self)
        joined.append(self)
        if held.is_set() and self is joined[0]:
            held.clear()
            await asyncio.sleep(SLOW_S)

    monkeypatch.setattr(lanes.Lanes, "revoke", slow_revoke)
    return held


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_a_stop_in_mid_rebalance_waits_for_nobody_and_leaves_nothing_behind(group: Group, hold: threading.Event) -> None:
    with group.worker("slow") as slow:
        group.await_shares([slow], 4)
        quick = group.worker("quick").start()
        group.await_shares([slow, quick], 2, 2)
        hold.set()
        with group.worker("third") as third:
            until(lambda: not hold.is_set() and not quick.positions()["task"], "the third one's joining set off no rebalance")
            began = time.monotonic()
            quick.stop()
            assert time.monotonic() - began < SLOW_S / 3
            group.await_shares([slow, third], 2, 2)
            # Nobody waited for a session timeout to free the place of the one that left.
            assert time.monotonic() - began < SLOW_S + SESSION_S / 2
            for partition in range(PARTITIONS):
                group.send(partition)
            group.all_seen()
    assert set(group.seen.values()) == {1}


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_a_stop_while_joining_for_the_first_time_leaves_no_ghost(group: Group, hold: threading.Event) -> None:
    with group.worker("slow") as slow:
        group.await_shares([slow], 4)
        hold.set()
        newcomer = group.worker("newcomer").start()
        until(lambda: not hold.is_set(), "the newcomer's joining set off no rebalance")
        began = time.monotonic()
        newcomer.stop()
        assert time.monotonic() - began < SLOW_S / 3
        group.await_shares([slow], 0)  # in mid-rebalance
        group.await_shares([slow], 4)
        assert time.monotonic() - began < SLOW_S + SESSION_S / 2
        for partition in range(PARTITIONS):
            group.send(partition)
        group.all_seen()
    assert set(group.seen.values()) == {1}
