"""The asyncio side of one partition: what runs when, with one step and one commit at a time, side by side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from operator import attrgetter
from typing import Final

import orjson

from schemas.topics import DEAD_LETTERS
from streams.runtime import metrics, seams
from streams.runtime.errors import Fenced
from streams.runtime.overlay import Pending
from streams.runtime.partition import Fetched, PartitionState
from streams.runtime.task import STEP_BYTES

logger = logging.getLogger(__name__)

#: Seconds between calls of the processor's ``tick``.
TICK_S: Final = 1.0
#: How many batches of ``max_records`` (or ``STEP_BYTES``) may wait in a partition before it is no longer read.
_BATCHES_QUEUED: Final = 3

#: The longest pause between the transactions of a partition. At 1,000 events/s it halves the broker's CPU; latency stays.
_GATHER_S: Final = 0.01

_topic_of = attrgetter("topic")


class Lane:
    """Drives an open ``state``: steps in ``compute``, commits in ``commits``.

    While a transaction is in flight what arrives is processed over it and gathers for the next one, so transactions grow with
    the load. ``applied(topic, partition, offset)`` is called in the event loop after each commit, ``wake`` when there is room
    for more records, ``crashed`` with whatever escapes, ``fenced`` when another worker took the partition over. ``read_to_end``
    waits until a broadcast topic (table name) was read to its present end, or until the function that it gets says stop; whether it was.
    """

    def __init__(
        self,
        task: str,
        state: PartitionState,
        *,
        compute: Executor,
        commits: Executor,
        max_records: int,
        before_step: Callable[[], None],
        read_to_end: Callable[[str, Callable[[], bool]], Awaitable[bool]],
        applied: Callable[[str, int, int], None],
        wake: Callable[[], None],
        crashed: Callable[[BaseException], None],
        fenced: Callable[[int], None],
    ) -> None:
        self.state = state
        self._task = task
        self._compute = compute
        self._commits = commits
        self._max_records = max_records
        self._before_step = before_step
        self._read_to_end = read_to_end
        self._applied = applied
        self._wake = wake
        self._crashed = crashed
        self._fenced = fenced
        self._work = asyncio.Event()
        self._due = asyncio.Event()
        self._stopping = False
        self._ticked = time.monotonic()
        self._loops: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Future[None]] = set()
        self.last_commit = time.monotonic()
        self._commit_s = 0.0

    def start(self) -> None:
        """Begin to step and commit."""
        self._stopping = False
        self._loops = [asyncio.create_task(self._guard(self._step_loop())), asyncio.create_task(self._guard(self._commit_loop()))]

    @property
    def has_room(self) -> bool:
        """Whether more records may be handed over."""
        return self.state.queued < _BATCHES_QUEUED * self._max_records and self.state.queued_bytes < _BATCHES_QUEUED * STEP_BYTES

    def accept(self, fetched: Fetched) -> None:
        """Queue records."""
        self.state.accept(fetched)
        self._work.set()

    async def _guard(self, loop: object) -> None:
        try:
            await loop  # type: ignore[misc]
        except asyncio.CancelledError:
            raise
        except Fenced as fence:
            logger.warning("%s: %s; dropping partition %d", self._task, fence, self.state.number)
            metrics.FENCED.labels(self._task).inc()
            self._stopping = True
            self._work.set()
            self._fenced(self.state.number)
        except BaseException as error:
            self._stopping = True
            self._crashed(error)

    async def _step_loop(self) -> None:
        compute_seconds = metrics.COMPUTE_SECONDS.labels(self._task)
        while not self._stopping:
            if self.state.waits_for is not None:
                # Only this partition waits: a bulk publish would keep all others for as long as it lasts.
                if await self._read_to_end(self.state.waits_for, lambda: self._stopping):
                    self.state.caught_up()
                continue
            due = self._ticked + TICK_S - time.monotonic()
            busy = self.state.full
            if (busy or not self.state.has_work) and due > 0:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._work.wait()
                continue
            # Ticks before records: a partition that is never idle, but never so busy that its transactions fill, would get none.
            if due <= 0:
                self._ticked = time.monotonic()
                await self._in(self._compute, self._tick)
            else:
                started = time.monotonic()
                await self._in(self._compute, self._step)
                compute_seconds.observe(time.monotonic() - started)
                self._wake()
            self._due.set()

    def _step(self) -> None:
        if not self._stopping:
            self._before_step()
            self.state.step()

    def _tick(self) -> None:
        if not self._stopping:
            self._before_step()
            self.state.tick()

    async def _commit_loop(self) -> None:
        while True:
            await self._gather()
            pending = self.state.take()
            if pending is None:
                if self._stopping:
                    return
                await self._due.wait()
                self._due.clear()
                continue
            started = time.monotonic()
            await self._in(self._commits, self.state.commit, pending)
            self.last_commit = time.monotonic()
            self._commit_s = self.last_commit - started
            for topic, offset in pending.offsets.items():
                self._applied(topic, self.state.number, offset)
            seams.reached("acked")
            self._count(pending, self.last_commit - started)
            self._work.set()

    async def _in(self, executor: Executor, function: Callable[..., None], *arguments: object) -> None:
        """Run in ``executor``. If the caller is cancelled the thread runs on, and ``settled`` waits for it."""
        running = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        await asyncio.shield(running)

    async def settled(self) -> None:
        """Wait until no thread works on the state any more; only then may it be opened again or closed."""
        while self._running:
            await asyncio.wait(list(self._running))

    async def _gather(self) -> None:
        """Let a moment pass after a transaction: one that follows on its heels costs the broker as much as a full one."""
        gap = min(_GATHER_S, self._commit_s) - (time.monotonic() - self.last_commit)
        if gap > 0 and not self._stopping and not self.state.full:
            await asyncio.sleep(gap)

    def _count(self, pending: Pending, seconds: float) -> None:
        metrics.TRANSACTIONS.labels(self._task).inc()
        metrics.COMMIT_SECONDS.labels(self._task).observe(seconds)
        metrics.EVENTS.labels(self._task).inc(pending.records)
        metrics.BATCH_RECORDS.labels(self._task).observe(pending.records)
        metrics.STATE_WRITES.labels(self._task).inc(len(pending.writes))
        for topic, count in Counter(map(_topic_of, pending.outputs)).items():
            metrics.OUTPUTS.labels(self._task, topic).inc(count)
            if topic == DEAD_LETTERS.name:
                letters = (output.value for output in pending.outputs if output.topic == topic and output.value is not None)
                for code, refused in Counter(orjson.loads(letter)["code"] for letter in letters).items():
                    metrics.DEAD_LETTERS.labels(self._task, code).inc(refused)

    async def suspend(self, timeout_s: float) -> None:
        """Stop stepping, wait for what was processed to commit, then forget the rest; after ``timeout_s`` without waiting any longer."""
        self._stopping = True
        self._work.set()
        self._due.set()
        running = [task for task in self._loops if not task.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for task in late:
                logger.warning("%s: partition %d did not finish its transaction within %.1f s", self._task, self.state.number, timeout_s)
                task.cancel()
        self._loops = []
        self.state.drop()

    def offsets(self) -> Mapping[str, int]:
        """Source topic -> offset of the last record applied and committed."""
        return self.state.applied()
