"""Notices a task that has work and does none: the known way for Kafka consumers to die is silently.

Works from a thread and a connection of its own, because what it watches may be the event loop or the consumer. A task is stuck
when a partition that it reads holds a committed record that was not applied for ``watchdog_s``. End offsets alone do not tell
(transaction markers count as offsets), so before the alarm the record itself is fetched. A task that reads nothing is stuck too,
when it neither restores nor gets partitions for that long.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.runtime import metrics
from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.errors import BrokerUnreachable, Stuck

logger = logging.getLogger(__name__)

_PROBE_S: Final = 10.0


class Watched(Protocol):
    """What the watchdog asks of a task (``TaskRunner``)."""

    name: str
    #: What a rebalance may take in which another member has died: so much longer than the limit it may wait for partitions.
    rebalance_s: float

    def positions(self) -> dict[tuple[str, int], int]:
        """(topic, partition) that is being read -> last offset applied; -1 where nothing was yet."""
        ...

    def unread(self) -> tuple[str, int] | None:
        """A source topic, and a number that changes while there is progress, when it should be reading and does not yet."""
        ...

    def log_starts_at(self, topic: str, partition: int, earliest: int) -> None:
        """Told the first offset that the broker still holds, at each look."""
        ...

    def waiting(self) -> Collection[int]:
        """Partitions that wait for a broadcast topic to be read to its end, for which there is a patience of its own."""
        ...

    def broadcast_lag(self) -> dict[tuple[str, int], int]:
        """(broadcast topic, partition) -> offsets still to be applied. Raises ``BrokerUnreachable``."""
        ...


class Probe:
    """Asks the broker what a partition holds, read committed."""

    def __init__(self, client_config: Mapping[str, Any], group: str) -> None:
        self._consumer = Consumer(reader_config(client_config, group), logger=logger)

    def extent(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset and end. Raises ``BrokerUnreachable``."""
        return watermarks(self._consumer, topic, partition, _PROBE_S)

    def holds_record(self, topic: str, partition: int, offset: int) -> bool | None:
        """Whether there is a record, not just a transaction's marker, at or after ``offset``; None if the broker does not tell in time."""
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        deadline = time.monotonic() + _PROBE_S
        try:
            while time.monotonic() < deadline:
                message = self._consumer.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    return True
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                    return False
            return None
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


class Watchdog:
    """Watches ``tasks`` until ``stop``.

    ``alarm`` is called once, in the watchdog's thread, with what is stuck, after the stacks of all threads went to stderr.
    """

    def __init__(
        self,
        tasks: Sequence[Watched],
        new_probe: Callable[[], Probe],
        limit_s: float,
        alarm: Callable[[Stuck], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._new_probe = new_probe
        self._limit_s = limit_s
        self._alarm = alarm
        self._clock = clock
        # (task, topic, partition) -> where it stands, and since when it has been seen to stand there with records waiting.
        self._waiting: dict[tuple[str, str, int], tuple[int, float]] = {}
        # Where only transaction markers lie between the last record applied and the end: the two, as they were when the broker said so.
        self._markers_only: dict[tuple[str, str, int], tuple[int, int]] = {}
        # Task -> its progress towards reading, and since when it has been seen to stand there.
        self._unread: dict[str, tuple[int, float]] = {}
        # (task, topic, partition) whose lag is shown.
        self._shown: set[tuple[str, str, int]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _run(self) -> None:
        probe = self._new_probe()
        try:
            while not self._stopped.wait(min(10.0, self._limit_s / 4)):
                try:
                    stuck = self.look(probe)
                except Exception:
                    # Whatever it is, a worker must not go on unwatched.
                    logger.exception("the watchdog could not look, and begins anew")
                    probe.close()
                    probe = self._new_probe()
                    continue
                if stuck is not None and not self._stopped.is_set():
                    faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
                    self._alarm(stuck)
                    return
        finally:
            probe.close()

    def look(self, probe: Probe) -> Stuck | None:
        """Compare each partition with what it was at the last look; what is stuck, if anything is."""
        now = self._clock()
        # Without an answer nothing can progress, and that is not the task's fault: what the broker did not tell of begins anew when it
        # does, and the time that it let pass here counts for nobody.
        mute: set[str] = set()
        lost_s = 0.0

        def extent(topic: str, partition: int) -> tuple[int, int] | None:
            nonlocal lost_s
            asked = self._clock()
            try:
                return probe.extent(topic, partition)
            except BrokerUnreachable:
                lost_s += self._clock() - asked
                mute.add(f"{topic}/{partition}")
                return None

        waiting: dict[tuple[str, str, int], tuple[int, float]] = {}
        unread: dict[str, tuple[int, float]] = {}
        shown: set[tuple[str, str, int]] = set()
        for task in self._tasks:
            standing = task.unread()
            if standing is not None:
                topic, progress = standing
                if extent(topic, 0) is not None:
                    began, since = self._unread.get(task.name, (progress, now))
                    if began == progress and now - since >= self._limit_s + task.rebalance_s:
                        return Stuck(
                            f"task {task.name} has read nothing for {now - since:.0f} s: it was given no partitions, or does not get them "
                            "open; stopping so that it can start afresh (the thread stacks are above)"
                        )
                    unread[task.name] = (progress, since if began == progress else now)
            waits = task.waiting()
            for (topic, partition), applied in task.positions().items():
                place = (task.name, topic, partition)
                found = extent(topic, partition)
                if found is None:
                    shown |= {place} & self._shown
                    continue
                low, high = found
                task.log_starts_at(topic, partition, low)
                following = max(low, applied + 1)
                stood, since = self._waiting.get(place, (applied, now))
                if partition in waits:
                    since = now
                idle = high <= following or self._markers_only.get(place) == (applied, high)
                held: bool | None = None
                if not idle and place in self._waiting and stood == applied:
                    held = probe.holds_record(topic, partition, following)
                    if held is False:
                        idle = True
                        self._markers_only[place] = (applied, high)
                self._show(shown, place, 0 if idle else max(0, high - following))
                if idle:
                    continue
                if held and now - since >= self._limit_s:
                    return Stuck(
                        f"task {task.name} has not moved on in {topic}/{partition} for {now - since:.0f} s although it holds records "
                        f"from offset {following} on; stopping so that it can start afresh (the thread stacks are above)"
                    )
                waiting[place] = (applied, since if stood == applied else now)
            try:
                for (topic, partition), behind in task.broadcast_lag().items():
                    self._show(shown, (task.name, topic, partition), behind)
            except BrokerUnreachable:
                mute.add("broadcast topics")
                shown |= {place for place in self._shown if place[0] == task.name}
        self._forget(self._shown - shown)
        if mute:
            logger.warning("watchdog: the broker does not tell of %s", ", ".join(sorted(mute)))
        self._waiting = {place: (applied, since + lost_s) for place, (applied, since) in waiting.items()}
        self._unread = {name: (progress, since + lost_s) for name, (progress, since) in unread.items()}
        return None

    def _show(self, shown: set[tuple[str, str, int]], place: tuple[str, str, int], lag: int) -> None:
        task, topic, partition = place
        metrics.LAG.labels(task, topic, str(partition)).set(lag)
        shown.add(place)
        self._shown.add(place)

    def _forget(self, gone: set[tuple[str, str, int]]) -> None:
        """Show no lag of partitions that are another worker's by now."""
        for task, topic, partition in gone:
            metrics.LAG.remove(task, topic, str(partition))
        self._shown -= gone
