"""Reading a topic as any outsider would: read committed, from a chosen point, in no consumer group.

``TopicReader`` is what ``assay tail``, ``assay profiles`` and the demo's figures see the topics through, so what they show is what
a storefront would see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.settings import Settings
from streams.topics import BrokerUnreachable, TopicError

BEGINNING = "beginning"
END = "end"
_TIMEOUT_S = 10.0
_BATCH = 1_000


class TopicReader:
    """Reads all partitions of ``topics`` (names on the broker), from ``start``: ``beginning``, ``end`` or a time in ms since the epoch.

    Raises ``BrokerUnreachable`` where nothing answers and ``TopicError`` for a topic that does not exist.
    """

    def __init__(self, settings: Settings, topics: Sequence[str], start: str | int = BEGINNING) -> None:
        self._consumer = Consumer(
            settings.client_config()
            | {
                "group.id": f"{settings.app_id}-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )
        try:
            self.partitions = [(topic, partition) for topic in topics for partition in self._partitions(settings, topic)]
            self._consumer.assign(self._starts(start))
        except BaseException:
            self._consumer.close()
            raise
        self._ended: set[tuple[str, int]] = set()

    def _partitions(self, settings: Settings, topic: str) -> list[int]:
        try:
            metadata = self._consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
        except KafkaException as error:
            raise BrokerUnreachable(
                f"no Kafka answers at {settings.bootstrap_servers} ({error.args[0].str()}); "
                "start one with `assay broker`, or set --bootstrap-servers"
            ) from error
        if metadata.error is not None or not metadata.partitions:
            raise TopicError(f"there is no topic {topic} at {settings.bootstrap_servers}; `assay topics create` makes it")
        return sorted(metadata.partitions)

    def _starts(self, start: str | int) -> list[TopicPartition]:
        if isinstance(start, int):
            wanted = [TopicPartition(topic, partition, start) for topic, partition in self.partitions]
            return list(self._consumer.offsets_for_times(wanted, timeout=_TIMEOUT_S))
        offset = OFFSET_END if start == END else OFFSET_BEGINNING
        return [TopicPartition(topic, partition, offset) for topic, partition in self.partitions]

    def poll(self, timeout: float = 0.0) -> list[Message]:
        """What has arrived, at most 1,000 records; waits up to ``timeout`` seconds for them. Raises ``TopicError`` when reading fails."""
        records = []
        for message in self._consumer.consume(_BATCH, timeout):
            place = (message.topic(), message.partition())
            fault = message.error()
            if fault is None:
                self._ended.discard(place)
                records.append(message)
            elif fault.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                self._ended.add(place)
            else:
                raise TopicError(f"reading {place[0]}, partition {place[1]}: {fault.str()}")
        return records

    @property
    def at_end(self) -> bool:
        """Whether every partition was read to the end that it had when last asked."""
        return len(self._ended) == len(self.partitions)

    def to_end(self, timeout: float = 60.0) -> Iterator[Message]:
        """Every record up to the present end. Raises ``TopicError`` if nothing comes for ``timeout`` seconds before it is reached."""
        patience = time.monotonic() + timeout
        while not self.at_end:
            records = self.poll(0.5)
            yield from records
            if records:
                patience = time.monotonic() + timeout
            elif not self.at_end and time.monotonic() > patience:
                missing = sorted(set(self.partitions) - self._ended)
                raise TopicError(f"the broker sent nothing for {timeout:g} s; the end was not reached in {missing}")

    def follow(self) -> Iterator[Message]:
        """Every record, for ever."""
        while True:
            yield from self.poll(0.5)

    def ends(self) -> dict[tuple[str, int], int]:
        """For each partition the offset after its last committed record, asked from the broker now."""
        return {
            (topic, partition): self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)[1]
            for topic, partition in self.partitions
        }

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def newest(reader: TopicReader, wanted: Callable[[bytes], bool] = lambda _key: True) -> dict[tuple[int, bytes], bytes]:
    """The live records of a compacted topic, by (partition, key), up to its present end; of the ``wanted`` keys only."""
    live: dict[tuple[int, bytes], bytes] = {}
    for message in reader.to_end():
        key: Any = message.key()
        if key is None or not wanted(key):
            continue
        if message.value() is None:
            live.pop((message.partition(), key), None)
        else:
            live[message.partition(), key] = message.value()
    return live
