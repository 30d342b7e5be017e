"""The partitions that a task owns: opened when the group gives them, closed when it takes them away, opened again when fenced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from faust.types import TP

from streams.runtime import metrics
from streams.runtime.errors import RuntimeFault
from streams.runtime.lane import Lane
from streams.runtime.partition import Fetched, Restored

logger = logging.getLogger(__name__)

#: A lost partition's transaction in flight gets this long on a rebalance; the group waits for it.
_REVOKE_WAIT_S: Final = 5.0
#: At a stop, openings get this long to end by themselves.
_ABANDON_S: Final = 2.0


class Lanes:
    """A lane for each partition of ``sources`` (topics), in the event loop; ``overtaken``, ``progress``, ``positions``
    and ``log_starts_at`` from any thread.

    ``new_lane`` makes the lane of a partition (in a commit thread), ``place`` says where the consumer will read on, given the offsets
    wanted. ``crashed`` is called with whatever must end the task. ``wake`` is set when there is more to read, ``owns`` while
    everything that the group gave is being read.
    """

    def __init__(
        self,
        task: str,
        group: str,
        sources: list[str],
        *,
        compute: Executor,
        commits: Executor,
        new_lane: Callable[[int], Lane],
        place: Callable[[Mapping[TP, int | None]], Awaitable[Mapping[TP, int]]],
        crashed: Callable[[BaseException], None],
        session_timeout_s: float,
    ) -> None:
        self._task = task
        self._group = group
        self._sources = sources
        self._compute = compute
        self._commits = commits
        self._new_lane = new_lane
        self._place = place
        self._crashed = crashed
        self._session_timeout_s = session_timeout_s
        self._lanes: dict[int, Lane] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._readable: set[TP] = set()
        self._generation = 0
        self._opened_in: dict[int, int] = {}
        # State openings under way in threads; each fences whoever owns its partition.
        self._fencing: set[asyncio.Future[Restored]] = set()
        # Partition -> how far it was when it was last fenced without a rebalance.
        self._fenced_at: dict[int, Mapping[str, int]] = {}
        # Between the beginning of a rebalance and its assignment nothing is ours.
        self._assigned = False
        self._failed = self._draining = False
        self.wake = asyncio.Event()
        self.owns = asyncio.Event()

    # -- Open ---------------------------------------------------------------------------------------------------------

    def open(self, numbers: set[int]) -> None:
        """Begin to open what the group gave; what is open already is brought up to date. Nothing after ``drain``: a rebalance may still
        be under way when the stop comes.
        """
        if self._draining:
            return
        # What else is being opened (after a fence) is overtaken.
        self._generation += 1
        self._assigned = True
        for number in sorted(numbers):
            before = self._opening.get(number)
            self._opening[number] = asyncio.create_task(self._open(number, self._generation, before))
        if not numbers:
            self.owns.set()

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
            # It may run already: opened after a fence, when the assignment came. Two pairs of loops would do everything twice.
            await lane.suspend(_REVOKE_WAIT_S)
            await lane.settled()
            # Opening fences whoever has the partition: not for an assignment that is over, its owner may be another worker by now.
            if generation != self._generation or self._failed:
                return
            self._opened_in[number] = generation
            fencing = loop.run_in_executor(self._commits, lane.state.open)
            self._fencing.add(fencing)
            fencing.add_done_callback(self._fencing.discard)
            restored = await fencing
            metrics.RESTORED.labels(self._task).inc(restored.records)
            logger.info("%s/%d: open, %d changelog records in %.2f s", self._task, number, restored.records, restored.seconds)
            if generation != self._generation or self._failed:
                return
            await loop.run_in_executor(self._compute, lane.state.opened)
            if generation != self._generation or self._failed:
                return
            lane.start()
            wanted = {TP(topic, number): lane.state.resume_offset(topic) for topic in self._sources}
            for tp, offset in (await self._place(wanted)).items():
                lane.state.start_reading(tp.topic, offset)
                if generation == self._generation:
                    self._readable.add(tp)
            self.wake.set()
            metrics.PARTITIONS.labels(self._task).set(len(self._lanes))
            if all(task.done() or task is asyncio.current_task() for task in self._opening.values()):
                self.owns.set()
        except Exception as error:
            if generation == self._generation:
                self._crashed(error)
            else:
                logger.warning("%s/%d: opening was overtaken by a rebalance: %s", self._task, number, error)

    def overtaken(self, number: int) -> bool:
        """Whether an opening of ``number`` is for nothing: a rebalance came, or the task failed."""
        return self._failed or self._opened_in.get(number) != self._generation

    # -- Lose ---------------------------------------------------------------------------------------------------------

    async def revoke(self) -> None:
        """A rebalance: finish the transactions in flight, drop the rest, stay open until the assignment is known."""
        self.owns.clear()
        self._fenced_at.clear()
        self._assigned = False
        self._stop_reading()
        await asyncio.gather(self._suspend_all(_REVOKE_WAIT_S), self._fencing_over(_REVOKE_WAIT_S))

    async def keep(self, numbers: set[int]) -> None:
        """Close all other partitions."""
        await self._close([number for number in {**self._lanes, **self._opening} if number not in numbers])

    async def drain(self, timeout_s: float) -> None:
        """Finish the transactions in flight, for so long; read and open no more."""
        self._draining = True
        self._stop_reading()
        await self._suspend_all(timeout_s)

    async def close(self) -> None:
        """Close everything, after ``drain``."""
        await self._abandon_openings()
        await self.keep(set())

    def fail(self) -> None:
        """The task failed: read and open no more."""
        self._failed = True
        self._readable.clear()

    def _stop_reading(self) -> None:
        self._readable.clear()
        self._generation += 1

    async def _suspend_all(self, timeout_s: float) -> None:
        await asyncio.gather(*(lane.suspend(timeout_s) for lane in list(self._lanes.values())))

    async def _fencing_over(self, timeout_s: float) -> None:
        """Wait for openings of an assignment that is over: one that fences its partition's next owner would cost it a session timeout."""
        if self._fencing:
            await asyncio.wait(list(self._fencing), timeout=timeout_s)

    async def _abandon_openings(self) -> None:
        """Nothing counts yet of what an opening does that waits for broker or group; its copy is left as that of a killed worker."""
        under_way = {task for task in self._opening.values() if not task.done()}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=_ABANDON_S)
            for number in [number for number, task in self._opening.items() if task in late]:
                self._opening.pop(number).cancel()
                self._lanes.pop(number, None)

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
        metrics.PARTITIONS.labels(self._task).set(len(self._lanes))

    # -- Fenced -------------------------------------------------------------------------------------------------------

    def fenced(self, number: int) -> None:
        """Somebody ended the producer's epoch: a new owner, or the broker, whose transaction timeout has passed.

        The group tells them apart. Within a session timeout a worker that lost its place hears of it; if the partition is still
        ours after that, it is opened again, once. Fenced again without any progress, group and broker disagree: start afresh.
        """
        self._readable -= {tp for tp in self._readable if tp.partition == number}
        generation, applied = self._generation, dict(self._lanes[number].offsets())
        again = self._fenced_at.get(number) == applied
        self._fenced_at[number] = applied

        def verify() -> None:
            # In the midst of a rebalance it may be another worker's; if it is ours, the assignment opens it.
            if generation != self._generation or self._failed or not self._assigned:
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

        asyncio.get_running_loop().call_later(self._session_timeout_s, verify)

    async def _reopen(self, number: int, generation: int, before: asyncio.Task[None] | None) -> None:
        if number in self._lanes and generation == self._generation:
            await self._lanes[number].suspend(_REVOKE_WAIT_S)
        await self._open(number, generation, before)

    # -- Records and progress -----------------------------------------------------------------------------------------

    def accept(self, number: int, fetched: Fetched) -> None:
        """Queue records of an open partition."""
        self._lanes[number].accept(fetched)

    def readable(self, tp: TP) -> bool:
        """Whether ``tp`` is open and has room for more."""
        return tp in self._readable and self._lanes[tp.partition].has_room

    def progress(self) -> int:
        """A number that grows while partitions are restored and opened."""
        return len(self._readable) + sum(lane.state.restored for lane in list(self._lanes.values()))

    def offsets(self) -> dict[tuple[str, int], int]:
        """(source topic, partition) -> offset of the last record applied and committed, of every lane."""
        return {(topic, number): offset for number, lane in self._lanes.items() for topic, offset in lane.offsets().items()}

    def waiting(self) -> set[int]:
        """Partitions that wait for the end of a broadcast topic (from any thread)."""
        return {number for number, lane in list(self._lanes.items()) if lane.state.waits_for is not None}

    def log_starts_at(self, topic: str, number: int, earliest: int) -> None:
        """See ``PartitionState.log_starts_at``."""
        lane = self._lanes.get(number)
        if lane is not None:
            lane.state.log_starts_at(topic, earliest)

    def positions(self) -> dict[tuple[str, int], int]:
        """The same (-1: none yet), for what is being read."""
        lanes = dict(self._lanes)
        readable = [tp for tp in list(self._readable) if tp.partition in lanes]
        return {(tp.topic, tp.partition): lanes[tp.partition].offsets().get(tp.topic, -1) for tp in readable}
