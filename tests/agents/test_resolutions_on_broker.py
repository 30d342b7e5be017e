"""Recommend and value roles over an embedded broker: every list shown is told of once, across a lost disk, and what is late corrects it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import Producer

from schemas.catalog import Product
from schemas.internal import Resolution
from schemas.valuation import RollingValuation
from streams.broker import EmbeddedBroker
from streams.reading import TopicReader, newest
from streams.settings import Settings
from streams.topics import TopicAdmin
from streams.worker import RunningWorker
from tests.agents.pipeline import event

T = TypeVar("T")

DEADLINE_S = 90.0
DAY_S = 86_400
USERS = [f"u{number}" for number in range(12)]
#: Enough shoppers that every partition's clock moves with them.
CLOCKS = [f"clock{number}" for number in range(40)]


@pytest.fixture
def settings(tmp_path: Path, topic_prefix: str) -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path / "one", port=0, holdout_share=0.5
        )  # fmt: skip
        TopicAdmin(settings).create()
        send(settings, "storefront.catalog", ((sku.encode(), Product(sku=sku, title=sku).to_json()) for sku in "abcdef"))
        yield settings


def send(settings: Settings, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "enable.idempotence": True, "partitioner": "murmur2_random"})
    for key, value in records:
        producer.produce(settings.topic(topic), value, key)
    assert producer.flush(DEADLINE_S) == 0


def told(settings: Settings) -> list[Resolution]:
    with TopicReader(settings, [settings.topic("outcomes")]) as reader:
        values = [message.value() for message in reader.to_end()]
    return [Resolution.model_validate_json(value) for value in values if b'"kind":"resolution"' in value]


def until(look: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """What ``look`` finds, once it is enough; to read a topic to its end takes its time, so nothing is waited for in between."""
    deadline = time.monotonic() + DEADLINE_S
    while not enough(found := look()):
        assert time.monotonic() < deadline, found
    return found


def awaited(settings: Settings, *, late: bool) -> list[Resolution]:
    """What was told of ``USERS``, once there is a record of each, a correction if ``late``."""
    return until(
        lambda: [resolution for resolution in told(settings) if resolution.shopper in USERS],
        lambda found: {r.shopper for r in found if not late or r.corrects is not None} == set(USERS),
    )


def move_clocks(settings: Settings, number: int, second: int) -> None:
    send(settings, "storefront.events", (event("search", 1000 * number + n, user, second=second) for n, user in enumerate(CLOCKS)))


def answered(settings: Settings, events: int) -> None:
    def outcomes() -> int:
        with TopicReader(settings, [settings.topic("outcomes")]) as reader:
            return sum(b'"kind":"outcome"' in message.value() for message in reader.to_end())

    until(outcomes, lambda found: found >= events)


def test_lists_shown_are_told_of_once_and_corrected_after_losing_the_disk(settings: Settings) -> None:
    with RunningWorker(settings, ("recommend", "value")) as worker:
        worker.wait_ready(DEADLINE_S)
        send(settings, "storefront.events", (event("click", n, user, sku="f") for n, user in enumerate(USERS)))
        answered(settings, len(USERS))
        send(settings, "storefront.events", (event("click", 100 + n, user, sku="a", second=30) for n, user in enumerate(USERS)))
        answered(settings, 2 * len(USERS))
        move_clocks(settings, 1, 7 * DAY_S + DAY_S // 2)
        found = awaited(settings, late=False)
    assert Counter(resolution.shopper for resolution in found) == Counter(USERS)
    for resolution in found:
        assert (resolution.reason, resolution.label_delay_s) == ("window", 30)
        assert {item.sku: item.result for item in resolution.items}["a"] == "clicked"
    assert {resolution.arm for resolution in found} == {"holdout", "treated"}
    by_shopper = {resolution.shopper: resolution.resolution_id for resolution in found}

    with RunningWorker(settings.model_copy(update={"data_dir": settings.data_dir.parent / "two"}), ("recommend", "value")) as worker:
        worker.wait_ready(DEADLINE_S)
        late = (event("purchase", 200 + n, user, sku="a", second=60) for n, user in enumerate(USERS))
        send(settings, "storefront.events", late)
        found = awaited(settings, late=True)
        until(lambda: rolling(settings), lambda totals: totals is not None and totals.funnel.events >= 3 * len(USERS) + len(CLOCKS))
    assert len({resolution.resolution_id for resolution in found}) == len(found)
    corrections = [resolution for resolution in found if resolution.corrects is not None]
    assert {resolution.shopper: resolution.corrects for resolution in corrections} == by_shopper
    assert all((r.reason, r.items[0].result, r.items[0].sales[0].quantity) == ("late", "bought", 1) for r in corrections)


def rolling(settings: Settings) -> RollingValuation | None:
    with TopicReader(settings, [settings.topic("valuation.rolling")]) as reader:
        value = next((value for (_, key), value in newest(reader).items() if key == b"overall|all|total"), None)
    return None if value is None else RollingValuation.model_validate_json(value)
