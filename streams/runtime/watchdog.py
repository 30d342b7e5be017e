"""Notices a task that has work and does none: the known way for Kafka consumers to die is silently.

Works from a thread and a connection of its own, because what it watches may be the event loop or the consumer. A task is stuck
when none of its partitions has committed for ``watchdog_s`` while some partition holds a committed record that was not applied.
End offsets alone do not tell (transaction markers count as offsets), so before the alarm the record itself is fetched.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.runtime import metrics
from streams.runtime.changelog import reader_config, watermarks
from streams.runtime.errors import BrokerUnreachable, Stuck
from streams.settings import Settings

logger = logging.getLogger(__name__)

_PROBE_S: Final = 10.0
_GROUP: Final = "watchdog"


class Watched(Protocol):
    """What the watchdog asks of a task (``TaskRunner``)."""

    name: str

    def positions(self) -> dict[tuple[str, int], int]:
        """(topic, partition) -> last offset applied; -1 where nothing was yet."""
        ...

    def last_commit(self) -> float:
        """Monotonic time of the newest commit, or of the start of reading."""
        ...


class Watchdog:
    """Watches ``tasks`` until ``stop``. ``alarm`` is called once, in the watchdog's thread, with the ``Stuck`` task; thread stacks go to stderr."""

    def __init__(self, settings: Settings, tasks: Sequence[Watched], alarm: Callable[[Stuck], None]) -> None:
        self._tasks = tasks
        self._limit_s = settings.watchdog_s
        self._alarm = alarm
        self._client_config = settings.client_config()
        self._group = f"{settings.topic_prefix}{settings.app_id}-{_GROUP}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _run(self) -> None:
        consumer = Consumer(reader_config(self._client_config, self._group), logger=logger)
        try:
            while not self._stopped.wait(min(10.0, self._limit_s / 4)):
                for task in self._tasks:
                    stuck = self._look(consumer, task)
                    if stuck is not None:
                        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
                        self._alarm(stuck)
                        return
        finally:
            consumer.close()

    def _look(self, consumer: Consumer, task: Watched) -> Stuck | None:
        behind: list[tuple[str, int, int]] = []
        try:
            for (topic, partition), applied in task.positions().items():
                low, high = watermarks(consumer, topic, partition, _PROBE_S)
                lag = max(0, high - max(low, applied + 1))
                metrics.LAG.labels(task.name, topic, str(partition)).set(lag)
                if lag:
                    behind.append((topic, partition, max(low, applied + 1)))
        except BrokerUnreachable:
            # Without a broker nothing can progress, and that is not the task's fault.
            logger.warning("watchdog: the broker does not answer")
            return None
        silent_s = time.monotonic() - task.last_commit()
        if not behind or silent_s < self._limit_s:
            return None
        for topic, partition, offset in behind:
            if _holds_record(consumer, topic, partition, offset):
                return Stuck(
                    f"task {task.name} has not committed for {silent_s:.0f} s although {topic}/{partition} holds records from offset {offset} on; "
                    "stopping so that it can start afresh (the thread stacks are above)"
                )
        return None


def _holds_record(consumer: Consumer, topic: str, partition: int, offset: int) -> bool:
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + _PROBE_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return True
            if error.code() == KafkaError._PARTITION_EOF:
                return False
        return False
    finally:
        consumer.unassign()
