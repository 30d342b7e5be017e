"""Forgetting derived state, so that workers make it again from a chosen point of their source topics.

A task's state lives in its changelog, and the position marker in the same place says what to read next. So a reset writes, for
each partition, tombstones for every live key and a marker for the chosen point, in transactions under the worker's own
transactional id: a worker that still runs is fenced, and a copy of the state on any worker's disk follows the changelog.

That is more than one transaction. So the first thing it writes, in every partition, is a marker with which no worker starts, and
the last is the one for the chosen point: a reset that is interrupted is noticed, and is mended by running it again.

One thing is not forgotten: who was erased, and when (``TaskReach.kept``). Events from before an erasure may still be in their
topic, and what reads them again must not bring the shopper back.

What the task had sent is emptied too (unless asked to stay), because making it again would count it twice downstream. What only
goes from one task of the reset to another never stays: both begin anew, and the later one would count it twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import (
    CATALOG,
    DEAD_LETTERS,
    EMBEDDINGS,
    ERASURES,
    EVENTS,
    MERGES,
    OUTCOMES,
    PARTIALS,
    RECOMMENDATIONS,
    REGISTER,
    SESSIONS,
    VALUATION,
    Cleanup,
    Topic,
)
from streams.agents.shoppers import ERASED_PREFIX
from streams.reading import TopicReader, newest
from streams.runtime.datadir import DataDir
from streams.runtime.marker import MARKER_KEY, Marker
from streams.runtime.names import changelog_topic, group_id, transactional_id
from streams.runtime.producer import TransactionalProducer
from streams.settings import Role, Settings
from streams.topics import TopicAdmin, TopicError

_TIMEOUT_S: Final = 30.0
#: Tombstones in one transaction.
_CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class TaskReach:
    """What a task reads, what it writes, and which later tasks must be reset with it, because their input is made again.

    State keys that start with ``kept`` survive a reset.
    """

    sources: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    downstream: tuple[str, ...] = ()
    kept: bytes | None = None


REACH: Final[Mapping[str, TaskReach]] = {
    "embed": TaskReach((CATALOG,), (EMBEDDINGS,)),
    "recommend": TaskReach(
        (EVENTS, MERGES, ERASURES),
        (RECOMMENDATIONS, SESSIONS, MERGES, OUTCOMES, DEAD_LETTERS),
        ("value", "rolling"),
        kept=ERASED_PREFIX,
    ),
    "value": TaskReach((OUTCOMES,), (PARTIALS,), ("rolling",)),
    "rolling": TaskReach((PARTIALS,), (VALUATION, REGISTER)),
}
TASKS_OF_ROLE: Final[Mapping[Role, tuple[str, ...]]] = {"embed": ("embed",), "recommend": ("recommend",), "value": ("value",), "serve": ()}

#: (source topic by table name, partition, first offset held, end) -> the offset to read from.
StartPoint = Callable[[str, int, int, int], int]


def beginning(_topic: str, _partition: int, first: int, _end: int) -> int:
    """Everything that the source still holds."""
    return first


def end(_topic: str, _partition: int, _first: int, end: int) -> int:
    """Only what comes from now on."""
    return end


def tasks_for(roles: Iterable[Role]) -> tuple[str, ...]:
    """The tasks that a reset of ``roles`` concerns, downstream ones included."""
    chosen = {task for role in roles for task in TASKS_OF_ROLE[role]}
    chosen |= {later for task in chosen for later in REACH[task].downstream}
    return tuple(task for task in REACH if task in chosen)


def emptied(tasks: Iterable[str], keep_outputs: bool) -> tuple[Topic, ...]:
    """The output topics that a reset of ``tasks`` empties; with ``keep_outputs`` those alone that another of them reads."""
    tasks = tuple(tasks)
    outputs = dict.fromkeys(topic for task in tasks for topic in REACH[task].outputs)
    if not keep_outputs:
        return tuple(outputs)
    return tuple(topic for topic in outputs if any(topic in REACH[task].sources and topic not in REACH[task].outputs for task in tasks))


def local_folders(settings: Settings, tasks: Sequence[str], *, everything: bool) -> list[Path]:
    """What a reset deletes in this machine's data dir: the tasks' stores, or with ``everything`` all but the lock."""
    if not settings.data_dir.is_dir():
        return []
    found = sorted(path for path in settings.data_dir.iterdir() if path.name != "LOCK")
    return found if everything else [path for path in found if path.name in tasks]


def delete_local(settings: Settings, folders: Sequence[Path]) -> None:
    """Delete ``folders``. Raises ``DataDirTaken`` while a worker uses the data dir."""
    if folders:
        with DataDir(settings.data_dir):
            for folder in folders:
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


class Reset:
    """A reset of ``tasks`` on a broker. Raises ``TopicError`` on the embedded broker, and while workers run.

    ``command`` is what an operator types to run it (again).
    """

    def __init__(self, settings: Settings, tasks: Sequence[str], *, keep_outputs: bool, command: str) -> None:
        self.settings = settings
        self.tasks = tasks
        self.command = command
        self.outputs = emptied(tasks, keep_outputs)
        admin = TopicAdmin(settings)
        if admin.embedded:
            raise TopicError("the embedded broker keeps nothing: stop it and start again; `assay reset --local` deletes what is on disk")
        missing = [drift for drift in admin.check() if drift.fatal]
        if missing:
            raise TopicError(f"the topics are not as they should be ({missing[0]}), so there is nothing to reset")
        running = sorted({group_id(settings, task) for task in tasks} & set(admin.running_groups()))
        if running:
            raise TopicError(
                f"stop the workers first: {', '.join(running)} still have members (or lost them less than a session timeout ago)"
            )
        names = {changelog_topic(settings, task) for task in tasks} | {settings.topic(topic.name) for topic in self.outputs}
        #: Upper bounds of the records to be removed, by topic.
        self.records = admin.records([topic for topic in admin.plan if topic.name in names])
        self._client = AdminClient(settings.client_config() | {"log_level": 0})

    def run(self, start: StartPoint, say: Callable[[str], None]) -> None:
        """Do it, telling ``say`` each step. Interrupted, it can and must be run again: until then no worker starts on what is left."""
        # Step 1. From here on the state counts as incomplete.
        say("taking the tasks' state out of service")
        for task in self.tasks:
            self._mark(task, [Marker(resetting=self.command)] * self.settings.partitions)
        # Step 2. Empty what was sent, and forget.
        for topic in self.outputs:
            say(f"emptying {self.settings.topic(topic.name)}")
            if topic.cleanup is Cleanup.COMPACT:
                self._bury(topic)
            else:
                self._truncate(topic)
        for task in self.tasks:
            say(f"forgetting {changelog_topic(self.settings, task)}")
            self._forget(task)
        say("deleting the groups' offsets")
        self._delete_groups()
        # Step 3. All is gone: say where to go on.
        say("setting the positions")
        for task in self.tasks:
            self._mark(task, [self._marker(task, partition, start) for partition in range(self.settings.partitions)])

    def _truncate(self, topic: Topic) -> None:
        name = self.settings.topic(topic.name)
        ends = [TopicPartition(name, partition, OFFSET_END) for partition in range(self.settings.partitions)]
        for future in self._client.delete_records(ends, request_timeout=_TIMEOUT_S).values():
            _wait(f"empty {name}", future)

    def _bury(self, topic: Topic) -> None:
        """Tombstones for every live key: read replicas follow them, and compaction removes the rest."""
        name = self.settings.topic(topic.name)
        with TopicReader(self.settings, [name]) as reader:
            live = newest(reader)
        for partition in range(self.settings.partitions):
            pairs: list[tuple[bytes, bytes | None]] = [(key, None) for place, key in live if place == partition]
            if pairs:
                self._write(f"{group_id(self.settings, 'reset')}-{partition}", name, partition, pairs)

    def _mark(self, task: str, markers: Sequence[Marker]) -> None:
        """Commit a marker for each partition."""
        changelog = changelog_topic(self.settings, task)
        for partition, marker in enumerate(markers):
            self._write(transactional_id(self.settings, task, partition), changelog, partition, [(MARKER_KEY, marker.encode())])

    def _forget(self, task: str) -> None:
        changelog = changelog_topic(self.settings, task)
        kept = REACH[task].kept
        with TopicReader(self.settings, [changelog]) as reader:
            live = newest(reader, lambda key: key != MARKER_KEY and (kept is None or not key.startswith(kept)))
        for partition in range(self.settings.partitions):
            pairs: list[tuple[bytes, bytes | None]] = [(key, None) for place, key in live if place == partition]
            if pairs:
                self._write(transactional_id(self.settings, task, partition), changelog, partition, pairs)

    def _marker(self, task: str, partition: int, start: StartPoint) -> Marker:
        emptied_names = {topic.name for topic in self.outputs}
        offsets = {}
        for topic in REACH[task].sources:
            name = self.settings.topic(topic.name)
            first, last = self._extent(name, partition)
            if topic.name in emptied_names:
                wanted = last
            elif topic is ERASURES:
                # Erasures already carried out are kept in the state. Reading them again adds no receipt, and carries out those
                # that no worker had come to, or that a worker which kept no such record did.
                wanted = first
            else:
                wanted = min(max(start(topic.name, partition, first, last), first), last)
            offsets[name] = wanted - 1
        return Marker(offsets)

    def _extent(self, topic: str, partition: int) -> tuple[int, int]:
        reader = Consumer(self.settings.client_config() | {"group.id": f"{self.settings.app_id}-reader", "log_level": 0})
        try:
            low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
            return low, high
        finally:
            reader.close()

    def _write(self, owner: str, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        producer = TransactionalProducer(
            self.settings.client_config(),
            owner,
            timeout_s=60.0,
            partitioner=self.settings.partitioner,
            topic_names={},
        )
        try:
            producer.fence()
            for place in range(0, len(pairs), _CHUNK):
                producer.begin()
                producer.send_changes(topic, partition, pairs[place : place + _CHUNK])
                producer.commit()
        finally:
            producer.close()

    def _delete_groups(self) -> None:
        groups = [group_id(self.settings, task) for task in self.tasks]
        for group, future in self._client.delete_consumer_groups(groups, request_timeout=_TIMEOUT_S).items():
            _wait(f"delete the offsets of {group}", future, KafkaError.GROUP_ID_NOT_FOUND)


def _wait(what: str, future: Any, *harmless: int) -> None:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() not in harmless:
            raise TopicError(f"could not {what}: {error.args[0].str()}") from error


def at_time(settings: Settings, timestamp_ms: int) -> StartPoint:
    """Records that arrived at ``timestamp_ms`` (ms since the epoch) or later."""

    def start(topic: str, partition: int, _first: int, last: int) -> int:
        reader = Consumer(settings.client_config() | {"group.id": f"{settings.app_id}-reader", "log_level": 0})
        try:
            wanted = [TopicPartition(settings.topic(topic), partition, timestamp_ms)]
            offset: int = reader.offsets_for_times(wanted, timeout=_TIMEOUT_S)[0].offset
            return last if offset < 0 else offset
        finally:
            reader.close()

    return start


def at_offsets(offsets: Mapping[str, Mapping[str, int]]) -> StartPoint:
    """Given offsets, ``{topic: {partition: offset}}``; a partition that is not named starts at its beginning."""
    return lambda topic, partition, first, _last: offsets.get(topic, {}).get(str(partition), first)
