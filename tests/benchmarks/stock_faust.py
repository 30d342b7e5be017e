"""The peer: the same jobs on stock Faust, as its documentation would have you write them (an agent, a RocksDB table, a send)."""

from __future__ import annotations

import argparse
import sys

import faust
import orjson

from tests.benchmarks.measure import PARTITIONS


def build_state_job(broker: str, app_id: str, source: str, sink: str, data_dir: str) -> faust.App:
    """Count and last 20 items per user in a RocksDB table with a changelog; one output record an event."""
    app = faust.App(
        app_id,
        broker=f"kafka://{broker}",
        store="rocksdb://",
        datadir=data_dir,
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
    events = app.topic(source, key_type=bytes, value_type=bytes)
    out = app.topic(sink, key_type=bytes, value_type=bytes, partitions=PARTITIONS)
    profiles = app.Table(f"{app_id}-profiles", key_type=bytes, value_type=bytes, partitions=PARTITIONS, options={"driver": "rocksdict"})

    @app.agent(events)
    async def count(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            document = orjson.loads(event.value)
            raw = profiles.get(event.key)
            profile = orjson.loads(raw) if raw else {"count": 0, "items": []}
            profile["count"] += 1
            profile["items"] = [*profile["items"][-19:], document["sku"]]
            profiles[event.key] = orjson.dumps(profile)
            await out.send(
                key=event.key, value=orjson.dumps({"user": document["user_id"], "count": profile["count"], "items": profile["items"]})
            )

    return app


def main() -> None:
    """Run the worker until it is stopped."""
    parser = argparse.ArgumentParser()
    for name in ("broker", "app-id", "source", "sink", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    app = build_state_job(options.broker, options.app_id, options.source, options.sink, options.data_dir)
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False)
    sys.exit(worker.execute_from_commandline())


if __name__ == "__main__":
    main()
