"""Small processors for tests of the runtime."""

from __future__ import annotations

from collections.abc import Callable

from streams.runtime.processor import Batch, DictState, Output, SourceRecord, State, Step

SOURCE = "t.events"
OTHER = "t.merges"


def record(offset: int, key: str, value: str = "1", topic: str = SOURCE, partition: int = 0) -> SourceRecord:
    return SourceRecord(topic, partition, offset, 1_700_000_000_000 + offset, key.encode(), value.encode())


class Counter:
    """Counts records per key and emits ``key:count`` for each; deletes a key's state at value ``erase``.

    ``on_batch`` may raise. ``ticks`` are emitted one by one.
    """

    def __init__(self, on_batch: Callable[[Batch], None] = lambda _batch: None) -> None:
        self._on_batch = on_batch
        self.ticks: list[Step] = []
        self.batches: list[list[int]] = []
        self.opened_with: list[dict[bytes, bytes]] = []
        self.lost_partitions: list[int] = []

    def process(self, state: State, batch: Batch) -> Step:
        self.batches.append([r.offset for r in batch.records])
        self._on_batch(batch)
        keys = sorted({r.key for r in batch.records if r.key is not None})
        counts = {key: int(value or 0) for key, value in zip(keys, state.get_many(keys), strict=True)}
        step = Step()
        for r in batch.records:
            assert r.key is not None
            counts[r.key] = 0 if r.value == b"erase" else counts[r.key] + 1
            step.outputs.append(Output("out", r.key, b"%d@%s:%d" % (counts[r.key], r.topic.encode(), r.offset)))
        step.writes = {key: str(count).encode() if count else None for key, count in counts.items()}
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        return self.ticks.pop(0) if self.ticks else None

    def opened(self, state: State, partition: int) -> None:
        self.opened_with.append(dict(state.scan(b"")))

    def lost(self, partition: int) -> None:
        self.lost_partitions.append(partition)


class CachingCounter(Counter):
    """A ``Counter`` that reads its counts from memory: right only as long as it is told of every step that never happened."""

    def __init__(self, on_batch: Callable[[Batch], None] = lambda _batch: None) -> None:
        super().__init__(on_batch)
        self.cache: dict[bytes, bytes] = {}

    def process(self, state: State, batch: Batch) -> Step:
        step = super().process(DictState(self.cache), batch)
        self.cache = {key: value for key, value in (self.cache | step.writes).items() if value is not None}
        return step

    def opened(self, state: State, partition: int) -> None:
        self.cache = dict(state.scan(b""))

    def lost(self, partition: int) -> None:
        self.cache = {}
