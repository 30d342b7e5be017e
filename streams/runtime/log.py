"""One partition's transactional log: the changelog to restore from and the producer to commit with, behind one small protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from streams.runtime import seams
from streams.runtime.changelog import ChangelogReader, Pairs
from streams.runtime.errors import ProducerFailed
from streams.runtime.marker import SourceExtent
from streams.runtime.processor import Output
from streams.runtime.producer import TransactionalProducer


class Log(Protocol):
    """What a partition needs of the broker. ``KafkaLog`` is the real one; property tests model it in memory."""

    def fence(self) -> None:
        """Take ownership: whoever owned it before can no longer commit, and what they left open is aborted."""
        ...

    def changelog_extent(self) -> tuple[int, int]:
        """First offset of the changelog partition and its end."""
        ...

    def read(self, start: int) -> Iterator[tuple[Pairs, int]]:
        """Committed changelog pairs from ``start`` to the end, in batches, each with the offset that follows it."""
        ...

    def source_extent(self, topic: str) -> SourceExtent:
        """What the source partition of ``topic`` holds now."""
        ...

    def commit(self, outputs: Sequence[Output], changes: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Send ``outputs`` and ``changes`` (the last of them is the marker) in one transaction; the changelog offset that follows it."""
        ...

    def close(self) -> None:
        """Let go of the broker."""
        ...


class KafkaLog:
    """``Log`` over Kafka for one partition of one task."""

    def __init__(
        self,
        client_config: Mapping[str, Any],
        *,
        group: str,
        changelog: str,
        partition: int,
        new_producer: Callable[[], TransactionalProducer],
        source_extent: Callable[[str, int], SourceExtent],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client_config = client_config
        self._group = group
        self._changelog = changelog
        self._partition = partition
        self._new_producer = new_producer
        self._source_extent = source_extent
        self._cancelled = cancelled
        self._producer: TransactionalProducer | None = None
        self._reader: ChangelogReader | None = None

    def fence(self) -> None:
        """See ``Log.fence``. A producer that was fenced or failed is replaced by a new one."""
        if self._producer is not None:
            self._producer.close()
        self._producer = self._new_producer()
        self._producer.fence()

    def _changelog_reader(self) -> ChangelogReader:
        if self._reader is None:
            self._reader = ChangelogReader(self._client_config, self._group, self._changelog, self._partition)
        return self._reader

    def changelog_extent(self) -> tuple[int, int]:
        """See ``Log.changelog_extent``."""
        return self._changelog_reader().extent()

    def read(self, start: int) -> Iterator[tuple[Pairs, int]]:
        """See ``Log.read``. The connection is dropped at the end: it is next needed after a rebalance."""
        yield from self._changelog_reader().read(start, self._cancelled)
        self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def source_extent(self, topic: str) -> SourceExtent:
        """See ``Log.source_extent``."""
        return self._source_extent(topic, self._partition)

    def commit(self, outputs: Sequence[Output], changes: Sequence[tuple[bytes, bytes | None]]) -> int:
        """See ``Log.commit``. Raises ``Fenced``, ``ProducerFailed``."""
        producer = self._producer
        if producer is None:
            raise ProducerFailed("commit before the partition was opened")
        producer.begin()
        producer.send(outputs)
        last = producer.send_changes(self._changelog, self._partition, changes)
        seams.reached("produced")
        seams.reached("committing")
        producer.commit()
        if last.offset < 0:
            raise ProducerFailed(f"{self._changelog}/{self._partition}: the broker committed without telling the marker's offset")
        return last.offset + 1

    def close(self) -> None:
        """See ``Log.close``."""
        self._close_reader()
        if self._producer is not None:
            self._producer.close()
            self._producer = None
