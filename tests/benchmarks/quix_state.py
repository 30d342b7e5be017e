"""The state-only job on Quix Streams, as its documentation would have you write it (a stateful dataframe with its changelog).

Runs in an environment of its own (``peers``), so it imports nothing of ours. Arguments: broker, group, source, sink, state folder,
guarantee.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from quixstreams import Application, State

ITEMS = 20


def count(value: bytes, state: State) -> bytes:
    """Count the event and keep the last items of its user."""
    event = orjson.loads(value)
    profile: dict[str, Any] = state.get("profile") or {"count": 0, "items": []}
    profile["count"] += 1
    profile["items"].append(event["sku"])
    if len(profile["items"]) > ITEMS:
        del profile["items"][0]
    state.set("profile", profile)
    return orjson.dumps({"user": event["user_id"], "count": profile["count"], "items": profile["items"]})


def main() -> None:
    """Run until stopped."""
    broker, group, source, sink, folder, guarantee = sys.argv[1:]
    options: dict[str, Any] = {}
    if guarantee == "exactly-once":
        # Its outputs become visible at each commit: the five seconds of its default are no real time. 0.1 s is Kafka Streams' default.
        options["commit_interval"] = 0.1
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee=guarantee,  # type: ignore[arg-type]
        state_dir=folder,
        use_changelog_topics=True,
        producer_extra_config={"compression.type": "lz4"},
        loglevel="WARNING",
        **options,
    )
    raw = {
        "key_deserializer": "bytes",
        "value_deserializer": "bytes",
        "key_serializer": "bytes",
        "value_serializer": "bytes",
    }
    frame = app.dataframe(app.topic(source, **raw)).apply(count, stateful=True)  # type: ignore[arg-type]
    frame.to_topic(app.topic(sink, **raw))  # type: ignore[arg-type]
    app.run()


if __name__ == "__main__":
    main()
