"""One task at work: a Faust app for its group and subscription, a lane for each partition that it owns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError
from confluent_kafka import Consumer as PlainConsumer
from faust.types import TP

from streams.runtime import metrics
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.catching_up import read_to_end
from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.datadir import DataDir
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable, RuntimeFault
from streams.runtime.faust_app import build_app
from streams.runtime.lane import Lane
from streams.runtime.lanes import Lanes
from streams.runtime.log import KafkaLog
from streams.runtime.marker import SourceExtent
from streams.runtime.names import changelog_topic, group_id, transactional_id
from streams.runtime.partition import Fetched, PartitionState
from streams.runtime.producer import TransactionalProducer
from streams.runtime.standby import Standby
from streams.runtime.store import Store, StoreOptions
from streams.runtime.task import Task
from streams.settings import Settings

logger = logging.getLogger(__name__)

#: How long a stop waits for the group, which in a rebalance answers no sooner than its slowest member; all of ours is committed by then.
_LEAVE_S: Final = 4.0
#: How often it is looked whether broadcast records wait for their turn.
_TURN_S: Final = 0.02
#: How long the broker may take to tell how far they are behind.
_LAG_S: Final = 10.0


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
        table: Mapping[str, str],
        topic_ids: Mapping[str, str],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self.task = task
        self.name = task.name
        self._settings = settings
        self._data = data
        self._table = table
        self._topic_ids = topic_ids
        self._report = crashed
        self._group = group_id(settings, task.name)
        self._changelog = changelog_topic(settings, task.name)
        self._sources = {table[name]: name for name in task.sources}
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=f"compute-{task.name}")
        self._commits = ThreadPoolExecutor(max(4, min(32, 2 * settings.partitions)), thread_name_prefix=f"commit-{task.name}")
        self._failed = False
        self._joining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background_at = time.monotonic()
        self._standby: Standby | None = None
        self._turns: asyncio.Task[None] | None = None
        self._broadcasts = (
            BroadcastReader(
                settings.client_config(),
                self._group,
                task.broadcasts,
                table,
                failed=self._from_thread,
            )
            if task.broadcasts
            else None
        )
        self._prober = PlainConsumer(reader_config(settings.client_config(), f"{self._group}-prober"), logger=logger)
        folder = data.path / task.name / "faust"
        self.app = build_app(
            settings, task.name, list(self._sources), folder, data.member_id(), self._on_batch, self._on_revoked, self._on_assigned
        )
        self._lanes = Lanes(
            task.name,
            self._group,
            list(self._sources),
            compute=self._compute,
            commits=self._commits,
            new_lane=self._new_lane,
            place=self._place,
            crashed=self._crashed,
            session_timeout_s=settings.session_timeout_s,
        )
        self.wake, self.owns = self._lanes.wake, self._lanes.owns
        self.rebalance_s = settings.session_timeout_s + self.app.conf.broker_rebalance_timeout

    # -- Assembly -----------------------------------------------------------------------------------------------------

    def _new_lane(self, number: int) -> Lane:
        settings = self._settings
        folder = self._data.partition(self.task.name, number)
        limits = StoreOptions(settings.rocksdb_cache_mb, settings.rocksdb_memtable_mb)
        store = Store.open_or_rebuild(folder, limits, self._topic_ids.get(self._changelog, ""))
        log = KafkaLog(
            settings.client_config(),
            group=self._group,
            changelog=self._changelog,
            partition=number,
            new_producer=lambda: self._new_producer(number),
            source_extent=self._source_extent,
            cancelled=lambda: self._lanes.overtaken(number),
        )
        state = PartitionState(
            number,
            store,
            log,
            self.task.processor,
            self._sources,
            max_records=settings.max_poll_records,
            max_bytes=self.task.step_bytes,
            removed=lambda topic, offsets: metrics.REMOVED.labels(self.task.name, topic, str(number)).inc(offsets),
        )
        return Lane(
            self.task.name,
            state,
            compute=self._compute,
            commits=self._commits,
            max_records=settings.max_poll_records,
            before_step=self._before_step,
            read_to_end=self._read_to_end,
            applied=self._applied,
            wake=self._lanes.wake.set,
            crashed=self._crashed,
            fenced=self._lanes.fenced,
        )

    def _new_producer(self, number: int) -> TransactionalProducer:
        settings = self._settings
        return TransactionalProducer(
            settings.client_config(),
            transactional_id(settings, self.task.name, number),
            timeout_s=settings.session_timeout_s,
            partitioner=settings.partitioner,
            topic_names=self._table,
        )

    def _source_extent(self, topic: str, partition: int) -> SourceExtent:
        earliest, end = watermarks(self._prober, topic, partition)
        return SourceExtent(earliest, end, self._topic_ids.get(topic, ""))

    # -- In the compute thread ----------------------------------------------------------------------------------------

    def _before_step(self) -> None:
        self._apply_broadcasts(more=False)

    def _apply_broadcasts(self, *, more: bool = True) -> None:
        if self._broadcasts is not None:
            metrics.BROADCAST.labels(self.task.name).inc(self._drain(self._broadcasts, more=more))
        if self.task.background is not None and time.monotonic() - self._background_at >= 1.0:
            self._background_at = time.monotonic()
            self.task.background()

    def _drain(self, broadcasts: BroadcastReader, *, more: bool) -> int:
        try:
            return broadcasts.drain(more=more)
        except RuntimeFault:
            raise
        except Exception as error:
            raise BroadcastFailed(
                f"task {self.task.name}: a broadcast record could not be applied: {type(error).__name__}: {error}; "
                "the worker must start again (supervised, it does)"
            ) from error

    # -- In the event loop --------------------------------------------------------------------------------------------

    async def _read_to_end(self, topic: str, stopped: Callable[[], bool]) -> bool:
        return self._broadcasts is None or await read_to_end(self._broadcasts, topic, self._commits, stopped)

    async def _take_turns(self, broadcasts: BroadcastReader) -> None:
        """Broadcasts have one turn in the compute thread, which serves first who came first, for one of each partition that has work."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(_TURN_S)
                if broadcasts.turn_due:
                    await loop.run_in_executor(self._compute, self._apply_broadcasts)
        except Exception as error:
            self._crashed(error)

    # -- Start and stop -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the broadcast topics to their end, then join the group. Raises ``RuntimeFault``."""
        self._loop = loop = asyncio.get_running_loop()
        if self._broadcasts is not None:
            await loop.run_in_executor(self._commits, self._broadcasts.start)
            read = partial(self._broadcasts.catch_up, self._settings.broadcast_patience_s, while_moving=True)
            await loop.run_in_executor(self._compute, read)
            self._turns = asyncio.create_task(self._take_turns(self._broadcasts))
        self.app.loop = loop
        self.app.finalize()
        self.app.consumer.gate = self
        self._joining = True
        if self._settings.standby:
            self._standby = Standby(
                self._settings,
                self.task.name,
                self._data,
                self._changelog,
                failed=self._from_thread,
                changelog_id=self._topic_ids.get(self._changelog, ""),
            )
        await self.app.start()

    async def stop(self, timeout_s: float) -> None:
        """Finish what is in flight, tell the group, close. What is queued stays unacknowledged for the next owner."""
        await self._lanes.drain(timeout_s)
        if self._turns is not None:
            self._turns.cancel()
        if self._broadcasts is not None:
            # A start may still be reading them, for as long as it takes.
            self._broadcasts.interrupt()
        for (topic, number), offset in self._lanes.offsets().items():
            self._applied(topic, number, offset)
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self.app.stop()
        except TimeoutError:
            logger.warning("%s: the group did not let go within %.0f s; its session timeout will", self._group, _LEAVE_S)
        await self._lanes.close()
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
            self._lanes.fail()
            self._report(_named(error, self._group))

    def check(self) -> None:
        """Notice what died on its own: a Faust service, the group coordinator (call often)."""
        if self._failed or not self._joining:
            return
        failure = self.app.consumer.watch()
        if failure is not None:
            self._crashed(failure)
        elif self.app.crashed:
            self._crashed(self.app.crash_reason or RuntimeError(f"{self._group}: the Faust app crashed without a reason"))

    def _on_batch(self, number: int, fetched: Fetched) -> None:
        try:
            self._lanes.accept(number, fetched)
        except Exception as error:
            self._crashed(error)

    # -- Rebalance ----------------------------------------------------------------------------------------------------

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        """Every partition, on each rebalance: finish the transaction in flight, drop the rest, stay open until the assignment is known."""
        await self._lanes.revoke()

    async def _on_assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        try:
            numbers = self._owned_numbers(assigned)
            await self._lanes.keep(numbers)
            if self._standby is not None:
                await asyncio.to_thread(self._standby.release, numbers)
            self._lanes.open(numbers)
            if self._standby is not None:
                self._standby.follow(set(range(self._settings.partitions)) - numbers)
        except Exception as error:
            self._crashed(error)

    def _owned_numbers(self, assigned: set[TP]) -> set[int]:
        numbers = {tp.partition for tp in assigned}
        for number in numbers:
            missing = [topic for topic in self._sources if TP(topic, number) not in assigned]
            if missing:
                # At a restart they are counted; if they are wrong, that says so for good.
                raise RuntimeFault(
                    f"task {self.task.name} owns partition {number}, but not that of {', '.join(missing)}: "
                    "its topics must have equal partition counts (`assay topics check`)"
                )
        return numbers

    # -- Gate and progress --------------------------------------------------------------------------------------------

    def readable(self, tp: TP) -> bool:
        """See ``transport.Gate``."""
        return self._lanes.readable(tp)

    async def _place(self, wanted: Mapping[TP, int | None]) -> Mapping[TP, int]:
        return await self.app.consumer.place(wanted)  # type: ignore[no-any-return]

    def _applied(self, topic: str, partition: int, offset: int) -> None:
        self.app.consumer.applied(TP(topic, partition), offset)

    def unread(self) -> tuple[str, int] | None:
        """A source topic, and a number that grows while restoring, when what the group gave or owes this task is not being read.

        None while everything that is owned is read (nothing, where there are more workers than partitions), and before joining.
        """
        if not self._joining or self._failed or self.owns.is_set():
            return None
        return next(iter(self._sources)), self._lanes.progress()

    def positions(self) -> dict[tuple[str, int], int]:
        """(source topic, partition) -> offset of the last record applied and committed (-1: none yet), for what is being read."""
        return self._lanes.positions()

    def log_starts_at(self, topic: str, partition: int, earliest: int) -> None:
        """Tell a partition that is being read where its source's log begins (in the watchdog's thread)."""
        self._lanes.log_starts_at(topic, partition, earliest)

    def waiting(self) -> set[int]:
        """Partitions one of whose records speaks of something unknown, and that wait for the topic which may know it."""
        return self._lanes.waiting()

    def broadcast_lag(self) -> dict[tuple[str, int], int]:
        """(broadcast topic, partition) -> offsets between what was applied and the end (in the watchdog's thread). Raises
        ``BrokerUnreachable``.
        """
        return {} if self._broadcasts is None or not self._joining else self._broadcasts.lag(_LAG_S)


def _named(error: BaseException, group: str) -> BaseException:
    """``error`` as the fault that it stands for: a broker that answered a moment ago may be gone when the consumer starts."""
    if not isinstance(error, KafkaConnectionError):
        return error
    fault = BrokerUnreachable(f"{group}: the broker went away while the worker joined: {error}")
    fault.__cause__ = error
    return fault
