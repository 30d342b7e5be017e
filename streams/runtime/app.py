"""One task at work: a Faust app for its group and subscription, a lane for each partition that it owns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import faust
from confluent_kafka import Consumer as PlainConsumer
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types import TP

from streams.runtime import metrics
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.credentials import broker_credentials, broker_urls
from streams.runtime.datadir import DataDir
from streams.runtime.errors import RuntimeFault, TopicsWrong
from streams.runtime.lane import Lane
from streams.runtime.log import KafkaLog, PartitionCounts
from streams.runtime.marker import SourceExtent
from streams.runtime.names import changelog_topic, group_id, transactional_id
from streams.runtime.partition import PartitionState
from streams.runtime.partitioner import partitioner
from streams.runtime.producer import TransactionalProducer
from streams.runtime.standby import Standby
from streams.runtime.store import Store, StoreOptions
from streams.runtime.task import Task
from streams.runtime.transport import BatchSchema, Transport
from streams.settings import Settings

logger = logging.getLogger(__name__)

#: A lost partition's transaction in flight gets this long on a rebalance; the group waits for it.
_REVOKE_WAIT_S: Final = 5.0
#: How long reading the broadcast topics to their end may take: at the start, and when a record speaks of something unknown.
_BROADCAST_START_S: Final = 600.0
_CATCH_UP_S: Final = 30.0
#: Restores may take long, and nothing is polled meanwhile; that partitions progress is the watchdog's business.
_MAX_POLL_INTERVAL_S: Final = 24 * 3600.0


class _Boot(BootStrategy):
    """Consumer, agents and conductor only: no web server, no producer (ours are transactional), no sensors."""

    enable_web = False
    enable_kafka_producer = False


class _NoTables(TableManager):
    """Faust's table manager without its pause for tables to register: there are none, state is ours."""

    async def on_start(self) -> None:
        """Start at once."""
        await self._update_channels()
        await self.recovery.start()


class _App(faust.App):
    """A Faust app over the batch transport."""

    BootStrategy = _Boot

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)


class TaskRunner:
    """Runs ``task`` in the current event loop.

    ``topic_ids``: source topic -> the broker's id of it, as far as it gives ids. ``crashed`` is called once (in the event loop)
    with whatever ends the task; the process should then end.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        data: DataDir,
        *,
        counts: PartitionCounts,
        table: Mapping[str, str],
        topic_ids: Mapping[str, str],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self.task = task
        self.name = task.name
        self._settings = settings
        self._data = data
        self._counts = counts
        self._table = table
        self._topic_ids = topic_ids
        self._report = crashed
        self._group = group_id(settings, task.name)
        self._changelog = changelog_topic(settings, task.name)
        self._sources = {table[name]: name for name in task.sources}
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=f"compute-{task.name}")
        self._commits = ThreadPoolExecutor(max(4, min(32, 2 * settings.partitions)), thread_name_prefix=f"commit-{task.name}")
        self._lanes: dict[int, Lane] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._readable: set[TP] = set()
        self._generation = 0
        self._failed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background_at = time.monotonic()
        self._standby: Standby | None = None
        self.wake = asyncio.Event()
        self.owns = asyncio.Event()
        self._broadcasts = BroadcastReader(
            settings.client_config(), self._group, task.broadcasts, table, failed=lambda error: self._from_thread(error),
        ) if task.broadcasts else None
        self._prober = PlainConsumer(reader_config(settings.client_config(), f"{self._group}-prober"), logger=logger)
        self.app = self._faust_app()

    # -- Assembly -----------------------------------------------------------------------------------------------------

    def _faust_app(self) -> faust.App:
        settings = self._settings
        folder = self._data.path / self.task.name / "faust"
        folder.mkdir(parents=True, exist_ok=True)
        app = _App(
            self._group,
            version=1,
            broker=broker_urls(settings),
            broker_credentials=broker_credentials(settings),
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=min(2.0, settings.session_timeout_s / 4),
            broker_max_poll_interval=_MAX_POLL_INTERVAL_S,
            broker_rebalance_timeout=max(settings.session_timeout_s, 2 * _REVOKE_WAIT_S),
            broker_max_poll_records=settings.max_poll_records,
            broker_commit_interval=1.0,
            broker_check_crcs=False,
            consumer_max_fetch_size=4 * 1024 * 1024,
            stream_buffer_maxsize=16,
            stream_wait_empty=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            topic_partitions=settings.partitions,
            worker_redirect_stdouts=False,
            web_enabled=False,
            store="memory://",
            TableManager=_NoTables,
            datadir=str(folder),
            autodiscover=False,
        )
        topic = app.topic(*self._sources, schema=BatchSchema(), partitions=self._settings.partitions, acks=True)

        async def batches(stream: Any) -> None:
            try:
                async for event in stream.noack().events():
                    fetched = event.value
                    self._lanes[event.message.partition].accept(fetched)
            except Exception as error:
                self._crashed(error)

        app.agent(topic, name=f"{self.task.name}.batches")(batches)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        return app

    def _new_lane(self, number: int) -> Lane:
        settings = self._settings
        folder = self._data.partition(self.task.name, number)
        store = Store.open_or_rebuild(folder, StoreOptions(settings.rocksdb_cache_mb, settings.rocksdb_memtable_mb))
        log = KafkaLog(
            settings.client_config(), group=self._group, changelog=self._changelog, partition=number,
            new_producer=lambda: self._new_producer(number), source_extent=self._source_extent, cancelled=lambda: self._failed,
        )
        state = PartitionState(
            number, store, log, self.task.processor, self._sources, catch_up=self._catch_up, max_records=settings.max_poll_records,
        )
        return Lane(
            self.task.name, state, compute=self._compute, commits=self._commits, max_records=settings.max_poll_records,
            before_step=self._before_step, applied=self._applied, wake=self.wake.set, crashed=self._crashed, fenced=self._on_fenced,
        )

    def _new_producer(self, number: int) -> TransactionalProducer:
        settings = self._settings
        return TransactionalProducer(
            settings.client_config(), transactional_id(settings, self.task.name, number), timeout_s=settings.session_timeout_s,
            partitioner=partitioner(settings.partitioner), counts=self._counts, topic_names=self._table,
        )

    def _source_extent(self, topic: str, partition: int) -> SourceExtent:
        earliest, end = watermarks(self._prober, topic, partition)
        return SourceExtent(earliest, end, self._topic_ids.get(topic, ""))

    # -- In the compute thread ----------------------------------------------------------------------------------------

    def _before_step(self) -> None:
        if self._broadcasts is not None:
            metrics.BROADCAST.labels(self.task.name).inc(self._broadcasts.drain())
        if self.task.background is not None and time.monotonic() - self._background_at >= 1.0:
            self._background_at = time.monotonic()
            self.task.background()

    def _catch_up(self) -> None:
        if self._broadcasts is not None:
            self._broadcasts.catch_up(_CATCH_UP_S)

    # -- Start and stop -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the broadcast topics to their end, then join the group. Raises ``RuntimeFault``."""
        self._loop = loop = asyncio.get_running_loop()
        if self._broadcasts is not None:
            await loop.run_in_executor(self._commits, self._broadcasts.start)
            await loop.run_in_executor(self._compute, self._broadcasts.catch_up, _BROADCAST_START_S)
        self.app.loop = loop
        self.app.finalize()
        self.app.consumer.gate = self
        if self._settings.standby:
            self._standby = Standby(self._settings, self.task.name, self._data, self._changelog, failed=self._from_thread)
        await self.app.start()

    async def stop(self, timeout_s: float) -> None:
        """Finish what is in flight, tell the group, close. What is queued stays unacknowledged for the next owner."""
        self._readable.clear()
        self._generation += 1
        await self._suspend_all(timeout_s)
        for number, lane in self._lanes.items():
            for topic, offset in lane.offsets().items():
                self._applied(topic, number, offset)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(1.0, timeout_s)):
                await self.app.stop()
        await self._close(list(self._lanes))
        if self._standby is not None:
            await asyncio.to_thread(self._standby.stop)
        if self._broadcasts is not None:
            await asyncio.to_thread(self._broadcasts.stop)
        if self.task.close is not None:
            await asyncio.get_running_loop().run_in_executor(self._compute, self.task.close)
        self._prober.close()
        self._compute.shutdown(wait=False, cancel_futures=True)
        self._commits.shutdown(wait=False, cancel_futures=True)

    def _from_thread(self, error: BaseException) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._crashed, error)

    def _crashed(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            self._readable.clear()
            self._report(error)

    def check(self) -> None:
        """Notice a Faust service that died on its own."""
        if not self._failed and self.app.crashed:
            self._crashed(self.app.crash_reason or RuntimeError(f"{self._group}: the Faust app crashed without a reason"))

    # -- Rebalance ----------------------------------------------------------------------------------------------------

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        """Every partition, on each rebalance: finish the transaction in flight, drop the rest, stay open until it is known who gets what."""
        self._readable.clear()
        self._generation += 1
        self.owns.clear()
        await self._suspend_all(_REVOKE_WAIT_S)

    async def _suspend_all(self, timeout_s: float) -> None:
        await asyncio.gather(*(lane.suspend(timeout_s) for lane in list(self._lanes.values())))

    async def _on_assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        try:
            numbers = self._owned_numbers(assigned)
            await self._close([number for number in self._lanes if number not in numbers])
            if self._standby is not None:
                await asyncio.to_thread(self._standby.release, numbers)
            generation = self._generation
            for number in sorted(numbers):
                before = self._opening.get(number)
                self._opening[number] = asyncio.create_task(self._open(number, generation, before))
            if not numbers:
                self.owns.set()
            if self._standby is not None:
                self._standby.follow(set(range(self._settings.partitions)) - numbers)
        except Exception as error:
            self._crashed(error)

    def _owned_numbers(self, assigned: set[TP]) -> set[int]:
        numbers = {tp.partition for tp in assigned}
        for number in numbers:
            missing = [topic for topic in self._sources if TP(topic, number) not in assigned]
            if missing:
                raise TopicsWrong(
                    f"task {self.task.name} owns partition {number}, but not that of {', '.join(missing)}: "
                    "its topics must have equal partition counts (`assay topics check`)"
                )
        return numbers

    async def _open(self, number: int, generation: int, before: asyncio.Task[None] | None) -> None:
        """Open a partition; reading starts when its state is complete."""
        loop = asyncio.get_running_loop()
        if before is not None and not before.done():
            await asyncio.wait([before])
        try:
            lane = self._lanes.get(number)
            known = lane is not None
            if generation != self._generation or self._failed:
                return
            if lane is None:
                lane = await loop.run_in_executor(self._commits, self._new_lane, number)
                self._lanes[number] = lane
            restored = await loop.run_in_executor(self._commits, lane.state.open)
            metrics.RESTORED.labels(self.task.name).inc(restored.records)
            logger.info("%s/%d: open, %d changelog records in %.2f s", self.task.name, number, restored.records, restored.seconds)
            if known and restored.changed:
                await loop.run_in_executor(self._compute, lane.state.lost)
            if not known or restored.changed:
                await loop.run_in_executor(self._compute, lane.state.opened)
            if generation != self._generation or self._failed:
                return
            lane.start()
            wanted = {TP(topic, number): lane.state.resume_offset(topic) for topic in self._sources}
            for tp, offset in (await self.app.consumer.place(wanted)).items():
                lane.state.start_reading(tp.topic, offset)
                if generation == self._generation:
                    self._readable.add(tp)
            self.wake.set()
            metrics.PARTITIONS.labels(self.task.name).set(len(self._lanes))
            if all(task.done() or task is asyncio.current_task() for task in self._opening.values()):
                self.owns.set()
        except Exception as error:
            if generation == self._generation or isinstance(error, RuntimeFault):
                self._crashed(error)

    async def _close(self, numbers: list[int]) -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            opening = self._opening.pop(number, None)
            if opening is not None and not opening.done():
                await asyncio.wait([opening], timeout=_REVOKE_WAIT_S)
            lane = self._lanes.pop(number, None)
            if lane is not None:
                await loop.run_in_executor(self._compute, lane.state.lost)
                await loop.run_in_executor(self._commits, lane.state.close)
        metrics.PARTITIONS.labels(self.task.name).set(len(self._lanes))

    def _on_fenced(self, number: int) -> None:
        """Another worker has the partition. If the group says soon after that it is still ours, the group and the broker disagree: start afresh."""
        self._readable -= {tp for tp in self._readable if tp.partition == number}
        generation = self._generation

        def verify() -> None:
            if generation == self._generation and not self._failed:
                self._crashed(RuntimeFault(
                    f"{self._group}/{number}: fenced by another producer, yet still assigned here; "
                    "is a second deployment using the same app_id?"
                ))

        asyncio.get_running_loop().call_later(2 * self._settings.session_timeout_s, verify)

    # -- Gate and progress --------------------------------------------------------------------------------------------

    def readable(self, tp: TP) -> bool:
        """See ``transport.Gate``."""
        return tp in self._readable and self._lanes[tp.partition].has_room

    def _applied(self, topic: str, partition: int, offset: int) -> None:
        self.app.consumer.applied(TP(topic, partition), offset)

    def positions(self) -> dict[tuple[str, int], int]:
        """(source topic, partition) -> offset of the last record applied and committed (-1: none yet), for the partitions owned."""
        return {(topic, number): lane.offsets().get(topic, -1) for number, lane in list(self._lanes.items()) for topic in self._sources}

    def last_commit(self) -> float:
        """Monotonic time of the newest commit of any partition; 0 before the first."""
        return max((lane.last_commit for lane in list(self._lanes.values())), default=0.0)

    def owned(self) -> set[TP]:
        """Source partitions that are open and being read."""
        return set(self._readable)
