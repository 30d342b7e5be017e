"""The state of one partition: open it, step it batch by batch, lose it.

Three threads touch it, each in its own part: the event loop queues records (``accept``), the compute thread runs the
processor over them (``step``), a commit thread makes the result true (``commit``). Nothing here waits for another.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from traceback import clear_frames
from typing import Final

from streams.runtime import seams
from streams.runtime.dead_letter import dead_letter
from streams.runtime.errors import OutOfMemory, RecordsLost, ResetUnfinished, RuntimeFault, SourceRecreated
from streams.runtime.halving import failing
from streams.runtime.log import Log
from streams.runtime.marker import MARKER_KEY, RESERVED, Marker, contradiction
from streams.runtime.overlay import Overlay, Pending
from streams.runtime.processor import Batch, Processor, Record, Step
from streams.runtime.store import Store
from streams.runtime.task import STEP_BYTES, CatchUpNeeded

logger = logging.getLogger(__name__)


#: Gaps between offsets of a source partition that are kept until it is known where the log begins.
_GAPS: Final = 10_000
#: Outputs of a transaction beyond which nothing more is added to it.
TRANSACTION_BYTES: Final = 32 * 1024 * 1024
#: How often a record is tried on which alone the worker runs out of memory, and the pause before it is tried again.
MEMORY_ATTEMPTS: Final = 3
_MEMORY_PAUSE_S: Final = 0.5
#: So many such records, with none between them that could be processed: not they are to blame but the worker, which is short of memory.
MEMORY_SUSPECTS: Final = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one source partition as fetched. ``after`` is the offset up to which everything before them was handed over."""

    topic: str
    records: Sequence[Record]
    after: int
    #: Bytes of keys and values.
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum([size_of(record) for record in self.records]))

    def cut(self, size: int) -> tuple[Fetched, Fetched | None]:
        """The first of them, up to ``size`` bytes but at least one, and the rest (None: there is no rest)."""
        if self.size <= size:
            return self, None
        kept = 1
        left = size - size_of(self.records[0])
        while kept < len(self.records) and (left := left - size_of(self.records[kept])) >= 0:
            kept += 1
        if kept == len(self.records):
            return self, None
        last = self.records[kept - 1].offset
        return Fetched(self.topic, self.records[:kept], self.after), Fetched(self.topic, self.records[kept:], last)


def size_of(record: Record) -> int:
    """Bytes of key and value."""
    return len(record.key or b"") + len(record.value or b"")


@dataclass(frozen=True, slots=True)
class Restored:
    """What opening a partition took: changelog ``records`` read in ``seconds``."""

    records: int
    seconds: float


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class PartitionState:
    """Partition ``number`` of a task. ``topics``: source topic (with prefix) -> table name.

    ``max_records`` and ``max_bytes`` (of keys and values) bound what one call of the processor gets. ``removed`` is told the source topic
    and the number of offsets that retention removed before they were read (at opening, and in the thread that calls ``log_starts_at``).
    """

    def __init__(
        self,
        number: int,
        store: Store,
        log: Log,
        processor: Processor,
        topics: Mapping[str, str],
        *,
        max_records: int = 2_000,
        max_bytes: int = STEP_BYTES,
        clock: Callable[[], int] = _wall_ms,
        pause: Callable[[float], None] = time.sleep,
        removed: Callable[[str, int], None] = lambda _topic, _offsets: None,
    ) -> None:
        self.number = number
        self.overlay = Overlay(store)
        self._log = log
        self._processor = processor
        self._topics = topics
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._pause = pause
        self._removed = removed
        self._queue: deque[Fetched] = deque()
        self._lock = threading.Lock()
        self._marker = Marker()
        self._position: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        # Source topic -> last offset that arrived since reading began.
        self._handed: dict[str, int] = {}
        # Source topic -> where its log began when the partition was opened; what is missing before that has been reported.
        self._began: dict[str, int] = {}
        # Source topic, first and last offset of what was passed over in reading (markers of transactions, records that compaction or
        # retention removed), and whether it was looked at; written by the event loop, read by whoever knows where the log begins.
        self._gaps: deque[tuple[str, int, int, bool]] = deque(maxlen=_GAPS)
        # Records and bytes that arrived (written by the event loop) and that were taken off the queue (by the compute thread).
        self._arrived = self._arrived_bytes = 0
        self._taken = self._taken_bytes = 0
        # Records one of which speaks of something unknown, and the broadcast topic (table name) that may know it, until it has been read
        # to the end that it had after they were fetched. What else arrives waits behind them.
        self._parked: list[Record] = []
        self.waits_for: str | None = None
        # Records that were dead-lettered for want of memory since one was processed.
        self._suspects = 0
        # Changelog records read so far, for whoever watches the progress of a long restore.
        self.restored = 0
        # Whether the processor has caches of this state, and whether the state has changed behind its back since it built them:
        # records were restored, or a step that it has seen was dropped.
        self._told = False
        self._outdated = False

    # -- Open ---------------------------------------------------------------------------------------------------------

    def open(self) -> Restored:
        """Become the owner and bring the state up to the changelog's end (in an executor thread).

        Also called after each rebalance in which the partition stayed, because another worker may have had it in between.
        Raises ``SourceRecreated`` where the marker contradicts a source topic, ``ResetUnfinished`` where it says so,
        ``ProducerFailed``, ``BrokerUnreachable``, ``StoreDamaged``.
        """
        # Step 1. Fence the previous owner; what it left open is aborted, and what was computed here before is void.
        self._log.fence()
        self.drop()
        # Step 2. Read the changelog from the local checkpoint to its end.
        started = time.monotonic()
        records = self._restore()
        self._outdated = self._outdated or records > 0
        restored = Restored(records, time.monotonic() - started)
        # Step 3. The marker says where to go on; a source that it cannot speak of was recreated.
        self._marker = self._checked(self.overlay.store.marker())
        self._position = dict(self._marker.offsets)
        self._accepted = dict(self._marker.offsets)
        self._handed = {}
        self._gaps.clear()
        return restored

    def _restore(self) -> int:
        store = self.overlay.store
        start = store.checkpoint(self._clock())
        _, end = self._log.changelog_extent()
        if start > end or (start == 0 and not store.empty()):
            logger.warning(
                "%s: the local copy is too old or of another changelog (read to %d, which ends at %d): rebuilding", store.path, start, end
            )
            store.clear()
            start = 0
        count = 0
        for pairs, position in self._log.read(start):
            store.write(pairs, position, self._clock())
            count += len(pairs)
            self.restored += len(pairs)
        return count

    def _checked(self, marker: Marker) -> Marker:
        if marker.resetting:
            raise ResetUnfinished(
                f"partition {self.number}: a reset was interrupted, so state and outputs are incomplete: run `{marker.resetting}` again"
            )
        topic_ids = {}
        for topic in self._topics:
            extent = self._log.source_extent(topic)
            problem = contradiction(marker, topic, extent)
            if problem is not None:
                raise type(problem)(f"partition {self.number}: {problem}")
            applied = marker.offsets.get(topic)
            if applied is not None and extent.earliest > applied + 1:
                self._report_removed(topic, applied + 1, extent.earliest - 1)
            self._began[topic] = extent.earliest
            if extent.topic_id:
                topic_ids[topic] = extent.topic_id
        return replace(marker, topic_ids=topic_ids)

    def _report_removed(self, topic: str, first: int, last: int) -> None:
        logger.error(
            "%s/%d: records %d..%d were removed by retention before they were read; raise retention.ms, or add workers",
            topic,
            self.number,
            first,
            last,
        )
        self._removed(topic, last - first + 1)

    def log_starts_at(self, topic: str, earliest: int) -> None:
        """Report what was passed over in reading ``topic`` because the log begins after it (from any thread).

        Offsets are missing for other reasons too. These are those of a gap in which, or at whose end, the log begins now: a gap that lies
        wholly before its beginning was read over, most likely, when the records around it were still there. ``earliest`` may be older
        than a gap, so each is looked at twice.
        """
        for _ in range(len(self._gaps)):
            gap_topic, first, last, looked_at = self._gaps.popleft()
            if gap_topic != topic:
                self._gaps.append((gap_topic, first, last, looked_at))
                continue
            if first < earliest <= last + 1:
                self._report_removed(topic, first, earliest - 1)
                first = earliest
            if first <= last and not looked_at:
                self._gaps.append((topic, first, last, True))

    def _note_gaps(self, fetched: Fetched, known: int) -> None:
        following = max(known + 1, self._began.get(fetched.topic, 0))
        if fetched.records[-1].offset - following + 1 == len(fetched.records):
            return
        for record in fetched.records:
            if record.offset > following:
                self._gaps.append((fetched.topic, following, record.offset - 1, False))
            following = max(following, record.offset + 1)

    def resume_offset(self, topic: str) -> int | None:
        """The offset to read ``topic`` from; None where nothing of it was ever applied."""
        applied = self._position.get(topic)
        return None if applied is None else applied + 1

    def start_reading(self, topic: str, offset: int) -> None:
        """Reading of ``topic`` begins at ``offset``: what follows must connect to it."""
        self._accepted[topic] = max(offset - 1, self._position.get(topic, -1))
        self._handed[topic] = offset - 1

    def opened(self) -> None:
        """Tell the processor that the state is complete, unless it knows this very state already (in the compute thread)."""
        if self._told and not self._outdated:
            return
        self.lost()
        self._processor.opened(self.overlay, self.number)
        self._told, self._outdated = True, False

    # -- Step ---------------------------------------------------------------------------------------------------------

    def accept(self, fetched: Fetched) -> None:
        """Queue records (in the event loop). Raises ``RecordsLost`` if they do not connect to those before.

        Since reading began, offsets only grow: smaller ones are those of another topic by the same name, or of one that lost its newest
        records (``SourceRecreated``; which of the two, only the topic's id would tell, which is not asked for here).
        """
        handed = self._handed.get(fetched.topic)
        if handed is not None and fetched.records[0].offset <= handed:
            raise SourceRecreated(
                f"{fetched.topic}/{self.number}: offset {fetched.records[0].offset} arrived after {handed}: the topic was deleted and "
                "created again while it was read, or lost its newest records (a broker that went down before they were on its disk); "
                "`assay reset` forgets the state and reprocesses what the topic holds now"
            )
        known = self._accepted.get(fetched.topic, -1)
        if fetched.after > known:
            raise RecordsLost(f"{fetched.topic}/{self.number}: records after {fetched.after} arrived, but only those to {known} were seen")
        self._note_gaps(fetched, known)
        self._accepted[fetched.topic] = max(known, fetched.records[-1].offset)
        self._handed[fetched.topic] = fetched.records[-1].offset
        self._arrived += len(fetched.records)
        self._arrived_bytes += fetched.size
        self._queue.append(fetched)

    @property
    def queued(self) -> int:
        """Records that wait to be processed."""
        return self._arrived - self._taken

    @property
    def queued_bytes(self) -> int:
        """Bytes of their keys and values."""
        return self._arrived_bytes - self._taken_bytes

    @property
    def has_work(self) -> bool:
        """Whether there is something to step over."""
        return bool(self._parked) or self.queued > 0

    def caught_up(self) -> None:
        """What ``waits_for`` named has been read to its end, and will be applied before the next step (in the event loop)."""
        self.waits_for = None

    def step(self) -> int:
        """Run the processor over what is queued, up to ``max_records`` and ``max_bytes`` (in the compute thread); the number of records
        taken off the queue.

        Where ``waits_for`` names a topic afterwards, call ``caught_up`` once that was read, before the next step. Raises ``RuntimeFault``
        only: what else a processor raises becomes dead letters of the records that made it.
        """
        if self._parked:
            parked, self._parked = self._parked, []
            self._process(parked, caught_up=True)
            return 0
        # Step 1. Drop what was applied before: the group's offset is a hint, the position is the truth.
        taken = size = 0
        fresh: list[Record] = []
        position = dict(self._position)
        rest: Fetched | None = None
        while self._queue and rest is None and taken < self._max_records and size < self._max_bytes:
            fetched, rest = self._queue.popleft().cut(self._max_bytes - size)
            if rest is not None:
                self._queue.appendleft(rest)
            taken += len(fetched.records)
            size += fetched.size
            known = position.get(fetched.topic, -1)
            if fetched.records[0].offset > known:
                fresh.extend(fetched.records)
            else:
                fresh.extend(record for record in fetched.records if record.offset > known)
            position[fetched.topic] = max(known, fetched.records[-1].offset)
        self._taken += taken
        self._taken_bytes += size
        # Step 2. The pure function over the rest.
        if fresh:
            try:
                self._process(fresh, caught_up=False)
            except CatchUpNeeded as needed:
                # Some may be done: where a record fails, its batch is processed in parts.
                self._parked = [record for record in fresh if record.offset > self._position.get(record.topic, -1)]
                self.waits_for = needed.topic
        return taken

    def _process(self, records: Sequence[Record], *, caught_up: bool) -> None:
        # A batch that is too large for memory needs less in two halves.
        for record, alone in failing(records, partial(self._attempt, caught_up=caught_up)):
            failure: Exception | None = alone
            attempts = 1
            while isinstance(failure, MemoryError) and attempts < MEMORY_ATTEMPTS:
                # What takes the memory may be something else that passes: a merge of the index, a snapshot.
                gc.collect()
                self._pause(_MEMORY_PAUSE_S)
                failure = self._attempt([record], caught_up=caught_up)
                attempts += 1
            if failure is not None:
                self._refuse(record, failure)

    def _attempt(self, records: Sequence[Record], *, caught_up: bool) -> Exception | None:
        """Process ``records``; what went wrong if it did, without the frames that hold on to all that was made by then."""
        try:
            step = self._call(records, caught_up=caught_up)
        except RuntimeFault:
            raise
        except Exception as error:
            if isinstance(error, CatchUpNeeded) and not caught_up:
                raise
            clear_frames(error.__traceback__)
            return error
        self._suspects = 0
        self._merge(step, records)
        return None

    def _refuse(self, record: Record, failure: Exception) -> None:
        """Dead-letter a record that cannot be processed even alone. Raises ``OutOfMemory`` where it is not the record's fault."""
        place = f"{record.topic}/{record.partition}@{record.offset}"
        code, reason = "processing_failed", f"{type(failure).__name__}: {failure}"
        if isinstance(failure, MemoryError):
            self._suspects += 1
            if self._suspects == MEMORY_SUSPECTS:
                raise OutOfMemory(
                    f"{place}: there is no memory for this record alone, nor was there for the {MEMORY_SUSPECTS - 1} before it: the worker "
                    "is short of memory; give it more, or start more workers, so that each has fewer partitions"
                )
            code, reason = "memory_exhausted", f"{reason} in each of {MEMORY_ATTEMPTS} attempts"
        logger.error("%s: the processor failed; dead-lettered (%s)", place, code, exc_info=failure)
        self._merge(Step([dead_letter(record, code, "", reason)]), [record])

    def _call(self, records: Sequence[Record], *, caught_up: bool) -> Step:
        step = self._processor.process(self.overlay, Batch(self.number, records, self._clock(), self._topics, caught_up))
        seams.reached("decoded")
        return step

    def tick(self) -> None:
        """Let time pass for the processor (in the compute thread); an error is logged, and the next tick tries again.

        What is stored of one shopper must not end the worker once a second: events are processed on, as where a record fails. Raises
        what is the runtime's own fault.
        """
        try:
            step = self._processor.tick(self.overlay, self.number, self._clock())
        except RuntimeFault:
            raise
        except Exception:
            logger.exception("partition %d: what falls due by time could not be done; it is tried again", self.number)
            return
        if step is not None and (step.outputs or step.writes):
            self._merge(step, ())

    def _merge(self, step: Step, records: Sequence[Record]) -> None:
        for key in step.writes:
            if key.startswith(RESERVED):
                raise RuntimeFault(f"partition {self.number}: state key {key!r} begins with a zero byte, which is reserved")
        with self._lock:
            pending = self.overlay.pending
            pending.outputs += step.outputs
            pending.size += sum([len(output.value) for output in step.outputs if output.value is not None])
            pending.writes.update(step.writes)
            pending.records += len(records)
            pending.ticks += not records
            for record in records:
                pending.offsets[record.topic] = record.offset
            self._position.update(pending.offsets)

    # -- Commit -------------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether what was processed and waits for its transaction is enough for one."""
        pending = self.overlay.pending
        return pending.records >= self._max_records or pending.size >= TRANSACTION_BYTES

    def take(self) -> Pending | None:
        """What was processed since the last transaction, from now on the one in flight; None if there is nothing (in the event loop)."""
        with self._lock:
            pending = self.overlay.pending
            if not pending:
                return None
            self.overlay.in_flight = pending
            self.overlay.pending = Pending()
        return pending

    def commit(self, pending: Pending) -> None:
        """Make ``pending`` true (in a commit thread): first on the broker, then on disk.

        Raises ``Fenced`` (it never happened, another worker owns the partition), ``ProducerFailed``, ``StoreDamaged``.
        """
        marker = Marker({**self._marker.offsets, **pending.offsets}, self._marker.topic_ids)
        changes: list[tuple[bytes, bytes | None]] = [*pending.writes.items(), (MARKER_KEY, marker.encode())]
        # Step 1. One transaction: outputs, changed state, position.
        checkpoint = self._log.commit(pending.outputs, changes)
        seams.reached("committed")
        # Step 2. One RocksDB batch: changed state, position, how far the changelog is known.
        self.overlay.store.write(changes, checkpoint, self._clock())
        seams.reached("stored")
        self._marker = marker
        self.overlay.in_flight = None

    def applied(self) -> Mapping[str, int]:
        """Source topic -> offset of the last record whose transaction has committed."""
        return self._marker.offsets

    # -- Lose ---------------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Forget what is queued or not committed: another worker may own the partition from now on."""
        self._queue.clear()
        self._parked = []
        self.waits_for = None
        self._arrived = self._arrived_bytes = self._taken = self._taken_bytes = 0
        with self._lock:
            # The processor's caches may hold what these steps did.
            self._outdated = self._outdated or bool(self.overlay.pending) or self.overlay.in_flight is not None
            self.overlay.pending = Pending()
            self.overlay.in_flight = None
            self._position = dict(self._marker.offsets)

    def lost(self) -> None:
        """Tell the processor that the partition is gone, if it was ever told of it (in the compute thread)."""
        if self._told:
            self._told = False
            self._processor.lost(self.number)

    def close(self) -> None:
        """Let go of broker and disk (in an executor thread)."""
        self._log.close()
        self.overlay.store.close()
