"""The peer for the full job: the recommend processor on stock Faust, one event at a time, as its transport hands them over.

Everything that is computed is ours; what differs is how it runs: a Faust agent for each event, a Faust RocksDB table with a
changelog for the state, ``topic.send`` for the outputs, at least once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import faust

from schemas.topics import EVENTS, OUTCOMES, RECOMMENDATIONS, SESSIONS
from streams.agents.recommend import tasks
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.processor import Batch
from streams.settings import Settings
from tests.benchmarks.measure import PARTITIONS


class TableState:
    """``State`` over a Faust table."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._table.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return ((key, value) for key, value in self._table.items() if key.startswith(prefix) and key >= start)


def main() -> None:
    """Run the worker until it is stopped."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap-servers", "topic-prefix", "app-id", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    settings = Settings(
        bootstrap_servers=options.bootstrap_servers, topic_prefix=options.topic_prefix, app_id=options.app_id, data_dir=options.data_dir
    )
    (task,) = tasks(settings)
    names = {broadcast.topic: settings.topic(broadcast.topic) for broadcast in task.broadcasts}
    failures: list[BaseException] = []
    reader = BroadcastReader(settings.client_config(), f"{settings.app_id}-stock", task.broadcasts, names, failed=failures.append)
    reader.start()
    reader.catch_up(120)

    app = faust.App(
        f"{settings.app_id}-stock",
        broker=f"kafka://{settings.bootstrap_servers}",
        store="rocksdb://",
        datadir=options.data_dir,
        topic_partitions=PARTITIONS,
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        stream_wait_empty=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        autodiscover=False,
    )
    events = app.topic(settings.topic(EVENTS.name), key_type=bytes, value_type=bytes)
    sinks = {
        topic.name: app.topic(settings.topic(topic.name), key_type=bytes, value_type=bytes, partitions=PARTITIONS)
        for topic in (RECOMMENDATIONS, OUTCOMES, SESSIONS)
    }
    table = app.Table(f"{settings.app_id}-state", key_type=bytes, value_type=bytes, partitions=PARTITIONS, options={"driver": "rocksdict"})
    state = TableState(table)
    topics = {settings.topic(EVENTS.name): EVENTS.name}

    @app.agent(events)
    async def recommend(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            record = SimpleNamespace(
                topic=message.topic, partition=message.partition, offset=message.offset, timestamp=int(message.timestamp * 1000),
                key=event.key, value=event.value,
            )  # fmt: skip
            reader.drain()
            step = task.processor.process(state, Batch(message.partition, [record], time.time_ns() // 1_000_000, topics, True))  # type: ignore[list-item]
            for key, value in step.writes.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value
            for output in step.outputs:
                if output.topic in sinks:
                    await sinks[output.topic].send(key=output.key, value=output.value, partition=output.partition)

    sys.exit(faust.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline())


if __name__ == "__main__":
    main()
