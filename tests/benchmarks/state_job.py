"""The state-only job: per user a count and the last 20 items in RocksDB with a changelog, one output record an event."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from streams.runtime.processor import Batch, Output, State, Step
from streams.runtime.task import Task

ITEMS = 20


class StateJob:
    """A ``Processor``: key = user, value = {"user_id", "sku"}; emits ``{"user", "count", "items"}`` to ``sink`` for every event.

    A null value forgets the user.
    """

    def __init__(self, sink: str) -> None:
        self._sink = sink

    def process(self, state: State, batch: Batch) -> Step:
        """Count each event once; one read of the batch's distinct users, one write of each."""
        records = batch.records
        keys = list({record.key for record in records if record.key is not None})
        loads, dumps = orjson.loads, orjson.dumps
        profiles = {
            key: loads(value) if value is not None else {"count": 0, "items": []}
            for key, value in zip(keys, state.get_many(keys), strict=True)
        }
        step = Step()
        emit, sink = step.outputs.append, self._sink
        for record in records:
            if record.key is None:
                continue
            if record.value is None:
                profiles[record.key] = {"count": 0, "items": []}
                continue
            document = loads(record.value)
            profile = profiles[record.key]
            profile["count"] += 1
            items = profile["items"]
            items.append(document["sku"])
            if len(items) > ITEMS:
                del items[0]
            emit(
                Output(sink, record.key, dumps({"user": document["user_id"], "count": profile["count"], "items": items}), record.partition)
            )
        step.writes = {key: dumps(profile) if profile["count"] else None for key, profile in profiles.items()}
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Nothing."""

    def opened(self, state: State, partition: int) -> None:
        """Nothing is cached."""

    def lost(self, partition: int) -> None:
        """Nothing is cached."""


def state_task(source: str, sink: str) -> tuple[Task, Mapping[str, str]]:
    """The task ``state`` over two topics of any name, and the table that ``run_tasks`` wants."""
    return Task("state", (source,), StateJob(sink)), {source: source, sink: sink}
