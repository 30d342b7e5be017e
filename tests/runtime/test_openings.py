"""Which partitions a task opens, in whose name, and when it gives up: rebalances and fencing as the task sees them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from faust.types import TP

from streams.broker import EmbeddedBroker
from streams.runtime.app import TaskRunner
from streams.runtime.datadir import DataDir
from streams.runtime.errors import Fenced, RuntimeFault
from streams.runtime.lane import Lane
from streams.runtime.log import KafkaLog
from streams.runtime.processor import Output
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import RunningWorker, build_host
from tests.runtime.processors import Counter

PATIENCE_S = 60.0
#: A session timeout for what is looked at after one.
RELOOK_S = 0.2
TOPICS = ("in", "out", "events.dead-letter")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with EmbeddedBroker([*TOPICS, "app-task-changelog"]) as broker:
        yield Settings(bootstrap_servers=broker.bootstrap_servers, app_id="app", data_dir=tmp_path / "w", session_timeout_s=6)


class Placed:
    """The consumer's part in opening: everything is placed at its beginning."""

    async def place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        return dict.fromkeys(wanted, 0)


class App:
    consumer = Placed()


def test_an_opening_that_a_rebalance_overtook_fences_nobody_and_keeps_no_store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fenced: list[int] = []
    opening, go = threading.Event(), threading.Event()
    crashes: list[BaseException] = []
    fence = KafkaLog.fence

    async def scene(data: DataDir) -> None:
        runner = TaskRunner(
            Task("task", ("in",), Counter()),
            settings,
            data,
            table={"in": "in"},
            topic_ids={},
            crashed=crashes.append,
        )
        new_lane = runner._new_lane

        def slow(number: int) -> Lane:
            if number == 1:
                opening.set()
                assert go.wait(PATIENCE_S)
            return new_lane(number)

        def noted(log: KafkaLog) -> None:
            fenced.append(log._partition)
            fence(log)

        monkeypatch.setattr(runner._lanes, "_new_lane", slow)
        monkeypatch.setattr(KafkaLog, "fence", noted)
        runner.app = App()
        await runner._on_assigned(None, {TP("in", 0), TP("in", 1)})
        assert await asyncio.to_thread(opening.wait, PATIENCE_S)
        await runner._on_revoked(None, {TP("in", 0), TP("in", 1)})
        asyncio.get_running_loop().call_later(0.2, go.set)
        await runner._on_assigned(None, {TP("in", 0)})
        async with asyncio.timeout(PATIENCE_S):
            await runner.owns.wait()
        assert set(runner._lanes._lanes) == {0}
        await runner._lanes.drain(5.0)
        await runner._lanes.close()

    with DataDir(settings.data_dir) as data:
        asyncio.run(scene(data))
    assert 1 not in fenced
    assert not crashes


def test_a_rebalance_waits_for_a_fence_under_way_lest_it_hit_the_next_owner(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, go = threading.Event(), threading.Event()
    crashes: list[BaseException] = []
    fence = KafkaLog.fence

    def slow(log: KafkaLog) -> None:
        under_way.set()
        assert go.wait(PATIENCE_S)
        fence(log)

    async def scene(data: DataDir) -> None:
        runner = TaskRunner(Task("task", ("in",), Counter()), settings, data, table={"in": "in"}, topic_ids={}, crashed=crashes.append)
        runner.app = App()
        monkeypatch.setattr(KafkaLog, "fence", slow)
        await runner._on_assigned(None, {TP("in", 0)})
        assert await asyncio.to_thread(under_way.wait, PATIENCE_S)
        revoking = asyncio.create_task(runner._on_revoked(None, {TP("in", 0)}))
        done, _ = await asyncio.wait([revoking], timeout=0.3)
        assert not done
        go.set()
        await revoking
        await runner._on_assigned(None, set())
        assert not runner._lanes._lanes

    with DataDir(settings.data_dir) as data:
        asyncio.run(scene(data))
    assert not crashes


async def looked_at() -> None:
    """Until a timer has fired that was set after the one by which a fenced partition is looked at again."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(RELOOK_S, passed.set)
    await passed.wait()


def test_a_fence_in_the_midst_of_a_rebalance_opens_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition may be another worker's by then: opening it would fence the rightful owner."""
    fenced: list[int] = []
    fence = KafkaLog.fence
    crashes: list[BaseException] = []

    def noted(log: KafkaLog) -> None:
        fenced.append(log._partition)
        fence(log)

    async def scene(data: DataDir) -> None:
        runner = TaskRunner(Task("task", ("in",), Counter()), settings, data, table={"in": "in"}, topic_ids={}, crashed=crashes.append)
        runner.app = App()
        monkeypatch.setattr(KafkaLog, "fence", noted)
        monkeypatch.setattr(runner._lanes, "_session_timeout_s", RELOOK_S)
        await runner._on_assigned(None, {TP("in", 0)})
        async with asyncio.timeout(PATIENCE_S):
            await runner.owns.wait()
        await runner._on_revoked(None, {TP("in", 0)})
        runner._lanes.fenced(0)
        before = runner._lanes._opening[0]
        # Joining takes longer than the session timeout after which a fenced partition is looked at again.
        await looked_at()
        assert runner._lanes._opening[0] is before
        assert fenced == [0]
        await runner._on_assigned(None, {TP("in", 0)})
        async with asyncio.timeout(PATIENCE_S):
            await runner.owns.wait()
        assert fenced == [0, 0]
        await runner._lanes.drain(5.0)
        await runner._lanes.close()

    with DataDir(settings.data_dir) as data:
        asyncio.run(scene(data))
    assert not crashes


def test_a_partition_that_runs_is_stopped_before_it_is_opened_again(settings: Settings) -> None:
    """Two pairs of loops over one state would apply what it holds twice."""
    crashes: list[BaseException] = []

    async def scene(data: DataDir) -> None:
        runner = TaskRunner(Task("task", ("in",), Counter()), settings, data, table={"in": "in"}, topic_ids={}, crashed=crashes.append)
        runner.app = App()
        await runner._on_assigned(None, {TP("in", 0)})
        async with asyncio.timeout(PATIENCE_S):
            await runner.owns.wait()
        lane = runner._lanes._lanes[0]
        first = list(lane._loops)
        assert not any(loop.done() for loop in first)
        # As when the assignment comes while a fenced partition has just been opened again.
        runner.owns.clear()
        runner._lanes.open({0})
        async with asyncio.timeout(PATIENCE_S):
            await runner.owns.wait()
        assert all(loop.done() for loop in first)
        assert lane._loops
        assert not set(lane._loops) & set(first)
        await runner._lanes.drain(5.0)
        await runner._lanes.close()

    with DataDir(settings.data_dir) as data:
        asyncio.run(scene(data))
    assert not crashes


def fencing(times: Callable[[], bool]) -> Callable[..., int]:
    """``KafkaLog.commit``, ended by the broker (its transaction timeout) as often as ``times`` says."""
    commit = KafkaLog.commit

    def fenced(self: KafkaLog, outputs: Sequence[Output], changes: Sequence[tuple[bytes, bytes | None]]) -> int:
        if times():
            raise Fenced("the transaction timed out")
        return commit(self, outputs, changes)

    return fenced


def worker(settings: Settings) -> RunningWorker:
    table = {topic: topic for topic in TOPICS}
    return RunningWorker(settings, build=lambda: build_host(settings, [Task("task", ("in",), Counter())], table))


def test_a_partition_whose_transaction_timed_out_is_opened_again_and_counts_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = [True]
    monkeypatch.setattr(KafkaLog, "commit", fencing(lambda: bool(pending) and pending.pop()))
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "judge", "isolation.level": "read_committed"})
    reader.assign([TopicPartition("out", p, 0) for p in range(4)])
    seen: list[bytes] = []
    with worker(settings) as running:
        running.wait_ready(PATIENCE_S)
        for _ in range(2):
            producer.produce("in", b"1", b"a", 0)
        producer.flush(10)
        while len(seen) < 2:
            message = reader.poll(PATIENCE_S)
            assert message is not None
            assert message.error() is None
            seen.append((message.value() or b"").partition(b"@")[0])
        running.check()
    reader.close()
    assert seen == [b"1", b"2"]
    assert not pending


def test_a_partition_that_is_fenced_again_without_progress_stops_the_worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KafkaLog, "commit", fencing(lambda: True))
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    running = worker(settings).start()
    running.wait_ready(PATIENCE_S)
    producer.produce("in", b"1", b"a", 0)
    producer.flush(10)
    running._thread.join(PATIENCE_S)
    assert not running.alive
    with pytest.raises(RuntimeFault, match="fenced twice without any progress"):
        running.check()
