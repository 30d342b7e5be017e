"""The whole loop over an embedded broker: what shoppers did teaches lists, what sessions were worth comes back, and a source that does harm
counts no more, in every list from then on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from models.simulation.sources import RELAY, SourceOptions, touches
from schemas.recommendation import Recommendations
from streams.broker import EmbeddedBroker
from streams.reading import TopicReader, newest
from streams.replay.record import ReplayEvent
from streams.settings import Settings
from streams.topics import TopicAdmin
from streams.worker import RunningWorker
from tests.benchmarks.feedback import events

DEADLINE_S = 150.0
OPTIONS = SourceOptions(visits=3_000, days=0.2, shoppers=3_500, themes=4, items_of_a_theme=25, relay_length=4.0)


def send(settings: Settings, found: Iterable[ReplayEvent]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "enable.idempotence": True})
    for event in found:
        producer.produce(settings.topic("storefront.events"), event.value, event.key)
    assert producer.flush(DEADLINE_S) == 0


def answer(settings: Settings, user: str, click: dict[str, Any], at_ms: int) -> Recommendations:
    """The first list that rests on ``click``, sent now."""
    before = newest_list(settings, user)
    send(settings, [ReplayEvent(user.encode(), orjson.dumps(click), at_ms, "click")])
    deadline = time.monotonic() + DEADLINE_S
    while (found := newest_list(settings, user)) is None or (before and found.recommendation_id == before.recommendation_id):
        assert time.monotonic() < deadline, f"no list for {user}"
    return found


def newest_list(settings: Settings, user: str) -> Recommendations | None:
    with TopicReader(settings, [settings.topic("recommendations")]) as reader:
        value = next(iter(newest(reader, lambda key: key == user.encode()).values()), None)
    return None if value is None else Recommendations.model_validate_json(value)


@pytest.mark.timeout(400)
def test_a_source_that_does_harm_counts_no_more_once_the_value_worker_has_seen_it(tmp_path: Path, topic_prefix: str) -> None:
    log = list(events(touches(1, OPTIONS)))
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path / "one", port=0, index="flat",
            device="cpu", unknown_sku="accept", value_feedback=True, feedback_window="1h",
        )  # fmt: skip
        TopicAdmin(settings).create()
        with RunningWorker(settings, ("recommend", "value")) as worker:
            worker.wait_ready(DEADLINE_S)
            send(settings, log)
            deadline = time.monotonic() + DEADLINE_S
            fields = orjson.loads(log[-1].value)
            for asked in count():
                click = {**fields, "event_id": f"again-{asked}", "user_id": "latecomer", "channel": "web"}
                found = answer(settings, "latecomer", click, log[-1].at_ms)
                if (found.versions.feedback or {}).get("channel") == {RELAY: 0.0}:
                    break
                assert time.monotonic() < deadline, found.versions
        # A worker that begins anew, on another disk, reads the register before its first list.
        with RunningWorker(settings.model_copy(update={"data_dir": tmp_path / "two"}), ("recommend",)) as worker:
            worker.wait_ready(DEADLINE_S)
            other = answer(settings, "other", {**click, "user_id": "other"}, log[-1].at_ms)
            assert other.versions.feedback == {"channel": {RELAY: 0.0}, "event_type": {}}
