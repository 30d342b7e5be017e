"""Topics on a broker: bring the table of ``schemas.topics`` and the changelogs into being, and say how they have drifted from it.

Workers call ``check`` at their start; ``assay topics`` is the same for operators. The embedded broker has no admin calls:
there a topic comes into being when it is named, always with 4 partitions, and settings cannot be set or read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.topics import TOPICS, Cleanup
from streams.runtime.names import changelog_topic, group_id
from streams.runtime.producer import MAX_RECORD_BYTES
from streams.settings import Settings

#: The tasks that keep state, each with a changelog (see ``streams.runtime.names``).
TASKS = ("embed", "recommend", "value", "rolling")

_TIMEOUT_S = 10.0
_DELETE_TIMEOUT_S = 60.0
_POLL_S = 0.1
#: How long a deletion stays readable: a reader with a snapshot older than this must rebuild, younger ones may catch up.
_TOMBSTONES_MS = 7 * 86_400_000
#: Kafka's default of 1 GiB would leave that much of each compacted partition uncompacted, which every rebuild has to read.
_SEGMENT_BYTES = 64 * 1_048_576

_T = TypeVar("_T")


class TopicError(RuntimeError):
    """An operation on topics failed; the message says which and what to do."""


class BrokerUnreachable(TopicError):
    """Nothing answers at the bootstrap servers."""


@dataclass(frozen=True, slots=True)
class PlannedTopic:
    """A topic as it should be on the broker: real name, settings by Kafka's names. ``derived``: we can make it again from the others."""

    name: str
    partitions: int
    config: dict[str, str]
    derived: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between plan and broker.

    ``setting`` is ``exists``, ``partitions`` or a Kafka setting. ``fatal``: workers must not run like this. ``mend`` is the command that
    mends it.
    """

    topic: str
    setting: str
    expected: str
    found: str
    fatal: bool
    mend: str

    def __str__(self) -> str:
        if self.setting == "exists":
            return f"{self.topic} does not exist; {self.mend}"
        return f"{self.topic}: {self.setting} is {self.found}, should be {self.expected}; {self.mend}"


def plan(settings: Settings) -> tuple[PlannedTopic, ...]:
    """Every topic that a deployment needs: the table under its prefix, then the changelogs."""
    table = [
        PlannedTopic(settings.topic(topic.name), settings.partitions, _config(topic.cleanup, topic.retention_ms), topic.direction != "in")
        for topic in TOPICS
    ]
    logs = [PlannedTopic(changelog_topic(settings, task), settings.partitions, _config(Cleanup.COMPACT, -1), True) for task in TASKS]
    return (*table, *logs)


def _config(cleanup: Cleanup, retention_ms: int) -> dict[str, str]:
    config = {"cleanup.policy": cleanup.value, "max.message.bytes": str(MAX_RECORD_BYTES)}
    if cleanup is Cleanup.COMPACT:
        return config | {"delete.retention.ms": str(_TOMBSTONES_MS), "segment.bytes": str(_SEGMENT_BYTES)}
    # Arrival, not the producer's clock, decides how long a record is kept (a replayed log of 2011 would vanish at once) and
    # what counts as "in the future".
    return config | {"retention.ms": str(retention_ms), "message.timestamp.type": "LogAppendTime"}


class TopicAdmin:
    """Create, check and reset the topics of one deployment. Raises ``BrokerUnreachable`` from the constructor if nothing answers."""

    def __init__(self, settings: Settings, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.settings = settings
        self.plan = plan(settings)
        self._timeout_s = timeout_s
        self._client = AdminClient(settings.client_config() | {"log_level": 0, "error_cb": _quiet})
        #: Whether the broker is librdkafka's mock cluster, which knows no admin calls.
        self.embedded = str(self._metadata().cluster_id).startswith("mockCluster")

    def create(self) -> list[str]:
        """Create the planned topics that are missing; return their names. Existing ones are left as they are (see ``check``)."""
        missing = [topic for topic in self.plan if topic.name not in self._metadata().topics]
        if self.embedded:
            for topic in missing:
                self._client.list_topics(topic.name, timeout=self._timeout_s)
            return [topic.name for topic in missing]
        self._create(missing)
        return [topic.name for topic in missing]

    def check(self) -> list[Drift]:
        """All differences between plan and broker, fatal ones first. On the embedded broker missing topics come into being instead."""
        if self.embedded:
            self.create()
        present = self._metadata().topics
        drifts = []
        for topic in self.plan:
            if topic.name not in present:
                drifts.append(Drift(topic.name, "exists", "yes", "no", True, "create it with `assay topics create`"))
            elif len(present[topic.name].partitions) != topic.partitions:
                found = len(present[topic.name].partitions)
                mend = f"run the workers with --partitions {found} (ASSAY_PARTITIONS={found})"
                if topic.derived:
                    mend += f", or make it again with `assay topics reset {topic.name}`"
                else:
                    # A reset would delete what only the storefront can write again.
                    mend += ", or, if its records can be spared, delete and create it on purpose"
                drifts.append(Drift(topic.name, "partitions", str(topic.partitions), str(found), True, mend))
        if not self.embedded:
            drifts += self._config_drift([topic for topic in self.plan if topic.name in present])
        return sorted(drifts, key=lambda drift: not drift.fatal)

    def mend(self, drifts: Sequence[Drift]) -> list[Drift]:
        """Set the settings that drifted to their planned values; return the drifts that only a reset or ``create`` mends."""
        by_topic: dict[str, list[Drift]] = {}
        for drift in drifts:
            if drift.setting not in ("exists", "partitions"):
                by_topic.setdefault(drift.topic, []).append(drift)
        planned = {topic.name: topic for topic in self.plan}
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(d.setting, planned[name].config[d.setting], incremental_operation=AlterConfigOpType.SET) for d in changes
                ],
            )
            for name, changes in by_topic.items()
        ]
        if resources:
            for future in self._client.incremental_alter_configs(resources, request_timeout=self._timeout_s).values():
                self._call("change topic settings", future.result)
            # The controller has taken the change; the broker that is asked for it next may be a moment behind.
            deadline = time.monotonic() + self._timeout_s
            while self._config_drift([planned[name] for name in by_topic]) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        return [drift for drift in drifts if drift.setting in ("exists", "partitions")]

    def select(self, names: Collection[str], *, inputs: bool) -> list[PlannedTopic]:
        """The planned topics that a reset would delete: ``names`` (with or without the prefix), else all derived ones, with ``inputs`` all.

        Raises ``TopicError`` for a name that is not in the plan.
        """
        known = {topic.name: topic for topic in self.plan}
        if not names:
            return [topic for topic in self.plan if inputs or topic.derived]
        chosen = {self.settings.topic(name) if name not in known else name for name in names}
        strange = sorted(chosen - known.keys())
        if strange:
            raise TopicError(f"not in the table of topics: {', '.join(strange)}. It holds: {', '.join(known)}")
        return [topic for topic in self.plan if topic.name in chosen]

    def records(self, topics: Sequence[PlannedTopic]) -> dict[str, int]:
        """Upper bound of the records in each topic that exists (offsets between start and end; markers and compacted ones count)."""
        present = self._metadata().topics
        places = self._partitions({topic.name for topic in topics} & present.keys(), present)
        low, high = (self._offsets(places, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        return {
            topic.name: sum(high[place] - low[place] for place in places if place.topic == topic.name)
            for topic in topics
            if topic.name in present
        }

    def running_groups(self) -> list[str]:
        """The deployment's consumer groups that have members now."""
        if self.embedded:
            return []
        mine = {group_id(self.settings, task) for task in TASKS}
        found = self._call("list consumer groups", self._client.list_consumer_groups(request_timeout=self._timeout_s).result)
        return sorted(g.group_id for g in found.valid if g.group_id in mine and g.state is not ConsumerGroupState.EMPTY)

    def reset(self, topics: Sequence[PlannedTopic]) -> None:
        """Delete ``topics`` and create them again, empty. Raises ``TopicError`` on the embedded broker, which cannot."""
        if self.embedded:
            raise TopicError("the embedded broker cannot delete topics; restart it, it keeps nothing")
        present = self._metadata().topics
        doomed = [topic.name for topic in topics if topic.name in present]
        if doomed:
            for name, future in self._client.delete_topics(doomed, request_timeout=_DELETE_TIMEOUT_S).items():
                self._call(f"delete {name}", future.result)
        self._create(list(topics))

    def _create(self, topics: Sequence[PlannedTopic]) -> None:
        """Create ``topics``, waiting for those whose deletion is still under way."""
        deadline = time.monotonic() + _DELETE_TIMEOUT_S
        left = list(topics)
        while left:
            wanted = [
                NewTopic(t.name, num_partitions=t.partitions, replication_factor=self.settings.replication, config=t.config) for t in left
            ]
            pending = []
            for name, future in self._client.create_topics(wanted, request_timeout=self._timeout_s).items():
                try:
                    future.result()
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                        raise TopicError(f"could not create {name}: {error.args[0].str()}") from error
                    pending.append(name)
            # Somebody else's create at the same moment is as good as ours; a deletion that lingers is not.
            visible = self._metadata().topics
            left = [t for t in left if t.name in pending and t.name not in visible]
            if left:
                time.sleep(_POLL_S)
        self._await_ready({topic.name for topic in topics})

    def _await_ready(self, names: set[str]) -> None:
        """Return once every partition of ``names`` answers: a leader in the metadata may not have opened its log yet."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            found = self._metadata().topics
            try:
                if names <= found.keys():
                    self._offsets(self._partitions(names, found), OffsetSpec.latest())
                    return
                problem = f"not visible: {', '.join(sorted(names - found.keys()))}"
            except TopicError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise TopicError(f"created, but not usable after {self._timeout_s:g} s: {problem}")
            time.sleep(_POLL_S)

    def _partitions(self, names: Collection[str], present: Any) -> list[TopicPartition]:
        return [TopicPartition(name, number) for name in sorted(names) for number in present[name].partitions]

    def _offsets(self, places: Sequence[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        if not places:
            return {}
        answers = self._client.list_offsets(dict.fromkeys(places, spec), request_timeout=self._timeout_s)
        return {place: self._call(f"read offsets of {place.topic}", future.result).offset for place, future in answers.items()}

    def _config_drift(self, topics: Sequence[PlannedTopic]) -> list[Drift]:
        if not topics:
            return []
        resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
        answers = self._client.describe_configs(resources, request_timeout=self._timeout_s)
        found = {resource.name: self._call("read topic settings", future.result) for resource, future in answers.items()}
        return [
            Drift(topic.name, name, expected, entry.value, name in _FATAL, "run `assay topics create --mend`")
            for topic in topics
            for name, expected in topic.config.items()
            if not _satisfies(name, expected, (entry := found[topic.name][name]).value)
        ]

    def _metadata(self) -> Any:
        return self._call("read the list of topics", self._client.list_topics, timeout=self._timeout_s)

    def _call(self, what: str, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        try:
            return function(*args, **kwargs)
        except KafkaException as error:
            fault = error.args[0]
            if fault.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE):  # noqa: SLF001
                servers = self.settings.bootstrap_servers
                raise BrokerUnreachable(
                    f"no Kafka answers at {servers} ({fault.str()}); start one with `assay broker --kafka`, or set --bootstrap-servers"
                ) from error
            raise TopicError(f"could not {what}: {fault.str()}") from error


#: Settings without which data would be lost or refused.
_FATAL = frozenset({"cleanup.policy", "max.message.bytes"})
#: Settings where more than planned is as good.
_AT_LEAST = frozenset({"max.message.bytes", "delete.retention.ms", "retention.ms"})


def _satisfies(name: str, expected: str, found: str) -> bool:
    if name in _AT_LEAST:
        # Retention -1 means for ever, which is more than anything.
        return int(found) == -1 or (int(expected) != -1 and int(found) >= int(expected))
    return found == expected or (name == "segment.bytes" and int(found) <= int(expected))


def _quiet(error: KafkaError) -> None:
    """Keep librdkafka's connection errors off stderr: the call that fails reports them."""


def check(settings: Settings) -> list[Drift]:
    """``TopicAdmin(settings).check()``: for workers at their start."""
    return TopicAdmin(settings).check()
