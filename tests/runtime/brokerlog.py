"""The broker side of a partition, in memory: what a crash leaves behind and what a reader that reads committed sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streams.runtime.errors import Fenced
from streams.runtime.marker import SourceExtent
from streams.runtime.processor import Output


class Crash(BaseException):
    """The process died here. A ``BaseException``, so that nothing in the code under test can catch it."""


class SharedLog:
    """One changelog partition and one output topic, whatever worker writes them. Offsets count a marker per transaction, as Kafka's do."""

    def __init__(self) -> None:
        self.changelog: list[tuple[bytes, bytes | None] | None] = []
        self.outputs: list[Output] = []
        self.epoch = 0
        self.sources: dict[str, SourceExtent] = {}


class MemoryLog:
    """``streams.runtime.log.Log`` of one owner. ``crash_in_commit``: ``before`` or ``after`` the broker has taken the transaction."""

    def __init__(self, shared: SharedLog) -> None:
        self._shared = shared
        self._epoch = -1
        self.crash_in_commit: str | None = None
        self.closed = False

    def fence(self) -> None:
        self._shared.epoch += 1
        self._epoch = self._shared.epoch

    def changelog_extent(self) -> tuple[int, int]:
        return 0, len(self._shared.changelog)

    def read(self, start: int) -> Iterator[tuple[list[tuple[bytes, bytes | None]], int]]:
        position = start
        while position < len(self._shared.changelog):
            chunk = self._shared.changelog[position : position + 3]
            position += len(chunk)
            yield [pair for pair in chunk if pair is not None], position
        yield [], position

    def source_extent(self, topic: str) -> SourceExtent:
        return self._shared.sources.get(topic, SourceExtent(0, 1 << 40))

    def commit(self, outputs: Sequence[Output], changes: Sequence[tuple[bytes, bytes | None]]) -> int:
        if self._epoch != self._shared.epoch:
            raise Fenced("a new owner came")
        if self.crash_in_commit == "before":
            raise Crash
        self._shared.outputs += outputs
        self._shared.changelog += [*changes, None]
        if self.crash_in_commit == "after":
            raise Crash
        return len(self._shared.changelog) - 1

    def close(self) -> None:
        self.closed = True
