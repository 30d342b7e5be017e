"""One task at work: a Faust app for its group and subscription, a lane for each partition that it owns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from confluent_kafka import Consumer as PlainConsumer
from faust.types import TP

from streams.runtime import metrics
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.datadir import DataDir
from streams.runtime.errors import RuntimeFault, TopicsWrong
from streams.runtime.faust_app import build_app
from streams.runtime.lane import Lane
from streams.runtime.log import KafkaLog
from streams.runtime.marker import SourceExtent
from streams.runtime.names import changelog_topic, group_id, transactional_id
from streams.runtime.partition import Fetched, PartitionState, Restored
from streams.runtime.producer import TransactionalProducer
from streams.runtime.standby import Standby
from streams.runtime.store import Store, StoreOptions
from streams.runtime.task import Task
from streams.settings import Settings

logger = logging.getLogger(__name__)

#: A lost partition's transaction in flight gets this long on a rebalance; the group waits for it.
_REVOKE_WAIT_S: Final = 5.0
#: How long a stop waits for the group, which in a rebalance answers no sooner than its slowest member; all of ours is committed by then.
_LEAVE_S: Final = 4.0
#: How long reading to the end may take: of all broadcast topics at the start, and of one when a record speaks of something unknown.
_BROADCAST_START_S: Final = 600.0
_CATCH_UP_S: Final = 30.0


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
        self._lanes: dict[int, Lane] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._readable: set[TP] = set()
        self._generation = 0
        self._opened_in: dict[int, int] = {}
        # State openings under way in threads; each fences whoever owns its partition.
        self._fencing: set[asyncio.Future[Restored]] = set()
        # Partition -> how far it was when it was last fenced without a rebalance.
        self._fenced_at: dict[int, Mapping[str, int]] = {}
        self._failed = False
        self._joining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background_at = time.monotonic()
        self._standby: Standby | None = None
        self.wake = asyncio.Event()
        self.owns = asyncio.Event()
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
            cancelled=lambda: self._failed or self._opened_in.get(number) != self._generation,
        )
        state = PartitionState(
            number,
            store,
            log,
            self.task.processor,
            self._sources,
            catch_up=self._catch_up,
            max_records=settings.max_poll_records,
            max_bytes=self.task.step_bytes,
        )
        return Lane(
            self.task.name,
            state,
            compute=self._compute,
            commits=self._commits,
            max_records=settings.max_poll_records,
            before_step=self._before_step,
            applied=self._applied,
            wake=self.wake.set,
            crashed=self._crashed,
            fenced=self._on_fenced,
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
        if self._broadcasts is not None:
            metrics.BROADCAST.labels(self.task.name).inc(self._broadcasts.drain())
        if self.task.background is not None and time.monotonic() - self._background_at >= 1.0:
            self._background_at = time.monotonic()
            self.task.background()

    def _catch_up(self, topic: str) -> None:
        if self._broadcasts is not None:
            self._broadcasts.catch_up(_CATCH_UP_S, topic)

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
        self._readable.clear()
        self._generation += 1
        await self._suspend_all(timeout_s)
        for number, lane in self._lanes.items():
            for topic, offset in lane.offsets().items():
                self._applied(topic, number, offset)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self.app.stop()
        await self._abandon_openings()
        await self._close(list({**self._lanes, **self._opening}))
        if self._standby is not None:
            await asyncio.to_thread(self._standby.stop)
        if self._broadcasts is not None:
            await asyncio.to_thread(self._broadcasts.stop)
        if self.task.close is not None:
            await asyncio.get_running_loop().run_in_executor(self._compute, self.task.close)
        self._prober.close()
        self._compute.shutdown(wait=False, cancel_futures=True)
        self._commits.shutdown(wait=False, cancel_futures=True)

    async def _abandon_openings(self) -> None:
        """Nothing counts yet of what an opening does that waits for broker or group; its copy is left as that of a killed worker."""
        under_way = {task for task in self._opening.values() if not task.done()}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=_LEAVE_S / 2)
            for number in [number for number, task in self._opening.items() if task in late]:
                self._opening.pop(number).cancel()
                self._lanes.pop(number, None)

    def _from_thread(self, error: BaseException) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._crashed, error)

    def _crashed(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            self._readable.clear()
            self._report(error)

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
            self._lanes[number].accept(fetched)
        except Exception as error:
            self._crashed(error)

    # -- Rebalance ----------------------------------------------------------------------------------------------------

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        """Every partition, on each rebalance: finish the transaction in flight, drop the rest, stay open until the assignment is known."""
        self._readable.clear()
        self._generation += 1
        self.owns.clear()
        self._fenced_at.clear()
        await asyncio.gather(self._suspend_all(_REVOKE_WAIT_S), self._fencing_over(_REVOKE_WAIT_S))

    async def _fencing_over(self, timeout_s: float) -> None:
        """Wait for openings of an assignment that is over: one that fences its partition's next owner would cost it a session timeout."""
        if self._fencing:
            await asyncio.wait(list(self._fencing), timeout=timeout_s)

    async def _suspend_all(self, timeout_s: float) -> None:
        await asyncio.gather(*(lane.suspend(timeout_s) for lane in list(self._lanes.values())))

    async def _on_assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        try:
            numbers = self._owned_numbers(assigned)
            await self._close([number for number in {**self._lanes, **self._opening} if number not in numbers])
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
            if generation != self._generation or self._failed:
                return
            if lane is None:
                lane = await loop.run_in_executor(self._commits, self._new_lane, number)
                self._lanes[number] = lane
            await lane.settled()
            # Opening fences whoever has the partition: not for an assignment that is over, its owner may be another worker by now.
            if generation != self._generation or self._failed:
                return
            self._opened_in[number] = generation
            fencing = loop.run_in_executor(self._commits, lane.state.open)
            self._fencing.add(fencing)
            fencing.add_done_callback(self._fencing.discard)
            restored = await fencing
            metrics.RESTORED.labels(self.task.name).inc(restored.records)
            logger.info("%s/%d: open, %d changelog records in %.2f s", self.task.name, number, restored.records, restored.seconds)
            if generation != self._generation or self._failed:
                return
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
            if generation == self._generation:
                self._crashed(error)
            else:
                logger.warning("%s/%d: opening was overtaken by a rebalance: %s", self.task.name, number, error)

    async def _close(self, numbers: list[int]) -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            opening = self._opening.pop(number, None)
            if opening is not None and not opening.done():
                await asyncio.wait([opening])
            lane = self._lanes.pop(number, None)
            if lane is not None:
                await lane.settled()
                await loop.run_in_executor(self._compute, lane.state.lost)
                await loop.run_in_executor(self._commits, lane.state.close)
        metrics.PARTITIONS.labels(self.task.name).set(len(self._lanes))

    def _on_fenced(self, number: int) -> None:
        """Somebody ended the producer's epoch: a new owner, or the broker, whose transaction timeout has passed.

        The group tells them apart. Within a session timeout a worker that lost its place hears of it; if the partition is still
        ours after that, it is opened again, once. Fenced again without any progress, group and broker disagree: start afresh.
        """
        self._readable -= {tp for tp in self._readable if tp.partition == number}
        generation, applied = self._generation, dict(self._lanes[number].offsets())
        again = self._fenced_at.get(number) == applied
        self._fenced_at[number] = applied

        def verify() -> None:
            if generation != self._generation or self._failed:
                return
            if again:
                self._crashed(
                    RuntimeFault(
                        f"{self._group}/{number}: fenced twice without any progress, yet still assigned here; "
                        "is a second deployment using the same app_id, or the broker slower than session_timeout_s?"
                    )
                )
                return
            logger.warning("%s/%d: fenced, but still assigned here: opening it again", self._group, number)
            self.owns.clear()
            self._opening[number] = asyncio.create_task(self._reopen(number, generation, self._opening.get(number)))

        asyncio.get_running_loop().call_later(self._settings.session_timeout_s, verify)

    async def _reopen(self, number: int, generation: int, before: asyncio.Task[None] | None) -> None:
        if number in self._lanes and generation == self._generation:
            await self._lanes[number].suspend(_REVOKE_WAIT_S)
        await self._open(number, generation, before)

    # -- Gate and progress --------------------------------------------------------------------------------------------

    def readable(self, tp: TP) -> bool:
        """See ``transport.Gate``."""
        return tp in self._readable and self._lanes[tp.partition].has_room

    def _applied(self, topic: str, partition: int, offset: int) -> None:
        self.app.consumer.applied(TP(topic, partition), offset)

    def unread(self) -> tuple[str, int] | None:
        """A source topic, and a number that grows while restoring, when what the group gave or owes this task is not being read.

        None while everything that is owned is read (nothing, where there are more workers than partitions), and before joining.
        """
        if not self._joining or self._failed or self.owns.is_set():
            return None
        return next(iter(self._sources)), len(self._readable) + sum(lane.state.restored for lane in list(self._lanes.values()))

    def positions(self) -> dict[tuple[str, int], int]:
        """(source topic, partition) -> offset of the last record applied and committed (-1: none yet), for what is being read."""
        lanes = dict(self._lanes)
        readable = [tp for tp in list(self._readable) if tp.partition in lanes]
        return {(tp.topic, tp.partition): lanes[tp.partition].offsets().get(tp.topic, -1) for tp in readable}
