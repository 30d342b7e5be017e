"""All that a topic holds, read as a consumer that reads committed will see it once everything has settled."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

_DEADLINE_S = 30.0


def ends(admin: AdminClient, places: Sequence[TopicPartition], level: IsolationLevel) -> list[int]:
    """The offset after the last record of each partition: that is there (read uncommitted), or before the first open transaction."""
    found = admin.list_offsets({place: OffsetSpec.latest() for place in places}, isolation_level=level)
    return [found[place].result().offset for place in places]


def read_settled(bootstrap: str, topic: str, partitions: int) -> Iterator[Message]:
    """Every committed record of ``topic``, once no transaction is open: a commit shows partition by partition, one later than another."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    places = [TopicPartition(topic, partition, 0) for partition in range(partitions)]
    deadline = time.monotonic() + _DEADLINE_S

    while ends(admin, places, IsolationLevel.READ_COMMITTED) != ends(admin, places, IsolationLevel.READ_UNCOMMITTED):
        if time.monotonic() > deadline:
            raise AssertionError(f"{topic} still has an open transaction after {_DEADLINE_S:.0f} s")
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "settled", "isolation.level": "read_committed", "enable.partition.eof": True}
    )
    reader.assign(places)
    ended: set[int] = set()
    while len(ended) < partitions:
        for message in reader.consume(10_000, 1.0):
            fault = message.error()
            if fault is None:
                yield message
                deadline = time.monotonic() + _DEADLINE_S
            elif fault.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise AssertionError(f"reading {topic}: {fault.str()}")
        assert time.monotonic() < deadline, f"the end of {topic} was not reached"
    reader.close()
