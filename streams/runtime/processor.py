"""The boundary between what is computed and how it runs.

A role supplies a ``Processor``: a pure function of (state, batch) that returns the outputs and the changed state. It knows
no broker, no transaction, no clock and no disk, so it is tested with a dict and a list. The runtime calls it in one compute
thread, commits what it returned in one Kafka transaction together with the source positions, and calls it again from the same
state if that transaction did not happen. It may be called twice with the same batch; only one of the two results counts.

A processor may cache its state in memory. A step that it returned counts as done until ``lost`` and ``opened`` say otherwise: they
come before the next call whenever such a step was dropped. A call that raises must leave the caches as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Record(Protocol):
    """A record as a consumer delivers it (aiokafka's ``ConsumerRecord`` fits; tests use ``SourceRecord``)."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms since the epoch
    key: bytes | None
    value: bytes | None


class SourceRecord(NamedTuple):
    """A plain ``Record``."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """A record to be produced. ``topic`` is a table name (``schemas.topics``), without the deployment's prefix.

    ``partition`` None lets the runtime choose by the configured partitioner from the key. ``value`` None is a tombstone.
    """

    # A tuple, because several are made of each event: a frozen dataclass takes three times as long to make.
    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition number, in source order for each topic, none of them seen before (redeliveries are dropped).

    A record's ``topic`` carries the deployment's prefix; ``topics`` maps it to its table name (``schemas.topics``).
    ``now_ms`` is the wall clock, handed in so that the function stays pure.
    """

    partition: int
    records: Sequence[Record]
    now_ms: int
    topics: Mapping[str, str] = field(default_factory=dict)
    #: The broadcast topic that was asked for was read to its end after these records were fetched (see ``task.CatchUpNeeded``).
    caught_up: bool = False

    def table_name(self, topic: str) -> str:
        """The name of ``topic`` in ``schemas.topics``."""
        return self.topics.get(topic, topic)


class State(Protocol):
    """Read access to the partition's keyed state, as of the last step (committed or in flight)."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``; None where absent."""
        ...

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) pairs whose key starts with ``prefix`` and is not below ``start``, in key order."""
        ...


@dataclass(slots=True)
class Step:
    """What a batch amounts to: records to send, and changed state (None deletes the key)."""

    outputs: list[Output] = field(default_factory=list)
    writes: dict[bytes, bytes | None] = field(default_factory=dict)


class Processor(Protocol):
    """The pure heart of a role."""

    def process(self, state: State, batch: Batch) -> Step:
        """Apply a batch. Must not raise for bad input: that is a dead letter among the outputs."""
        ...

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Called about once a second while the partition is owned and idle or between batches; None = nothing to say."""
        ...

    def opened(self, state: State, partition: int) -> None:
        """The partition was assigned, or work of it was dropped, and its state is complete: rebuild what is cached from it."""
        ...

    def lost(self, partition: int) -> None:
        """The partition went to another worker, or ``opened`` follows: drop what was cached for it."""
        ...


class DictState:
    """``State`` over a dict, for tests and offline runs."""

    def __init__(self, data: Mapping[bytes, bytes] | None = None) -> None:
        self.data: dict[bytes, bytes] = dict(data or {})

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``State.get_many``."""
        return [self.data.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See ``State.scan``."""
        return iter(sorted((k, v) for k, v in self.data.items() if k.startswith(prefix) and k >= start))

    def apply(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Apply a ``Step``'s writes."""
        for key, value in writes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
