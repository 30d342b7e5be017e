"""Both tasks of the value role and the read API, over an embedded broker: what comes out is what the outcomes add up to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.internal import Outcome
from schemas.valuation import RollingValuation
from streams.broker import EmbeddedBroker
from streams.reading import TopicReader, newest
from streams.settings import Settings
from streams.topics import TopicAdmin
from streams.worker import RunningWorker
from tests.agents.test_value import START, check_against_oracle, exposure, outcome
from tests.agents.valuation_oracle import Logged, assets_of

DEADLINE_S = 90.0
WINDOWS = ("1m", "5m", "1h", "24h", "7d", "total")


@pytest.fixture
def settings(tmp_path: Path, topic_prefix: str) -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, topic_prefix=topic_prefix, data_dir=tmp_path / "one", port=0)
        TopicAdmin(settings).create()
        yield settings


def make_log(chance: random.Random, partitions: int, size: int, first_offset: int) -> list[list[Logged]]:
    log = []
    for partition in range(partitions):
        at, entries = START + timedelta(minutes=partition + 90 * (first_offset > 0)), []
        for offset in range(first_offset, first_offset + size):
            at += timedelta(seconds=chance.choice([1, 5, 40, -600]))
            type_ = chance.choice(["browse", "click", "purchase"])
            paid = type_ == "purchase"
            message = exposure(at, [f"sku-{chance.randrange(30)}"]) if offset % 20 == 0 else outcome(
                at, type=type_, channel=chance.choice(["web", "app"]), category=chance.choice(["home", "garden"]),
                rank=chance.choice([None, 1, 7]), rank_after=chance.choice([None, 2]), popularity_rank=chance.choice([None, 3]),
                revenue=Decimal(chance.randrange(10_000)) / 100 if paid else None, currency="GBP" if paid else None,
                attributed=paid and chance.random() < 0.5,
            )  # fmt: skip
            entries.append(Logged(partition, offset, message))
        log.append(entries)
    return log


def send(settings: Settings, log: list[list[Logged]]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "enable.idempotence": True})
    for entry in (entry for entries in log for entry in entries):
        producer.produce(settings.topic("outcomes"), entry.message.to_json(), b"shopper", entry.partition)
    assert producer.flush(DEADLINE_S) == 0


def published(settings: Settings) -> dict[str, RollingValuation]:
    with TopicReader(settings, [settings.topic("valuation.rolling")]) as reader:
        live = {key.decode(): value for (_, key), value in newest(reader).items()}
    return {key: RollingValuation.model_validate_json(value) for key, value in live.items() if "|1m@" not in key}


def until(condition: Callable[[dict[str, RollingValuation]], bool], settings: Settings) -> dict[str, RollingValuation]:
    deadline = time.monotonic() + DEADLINE_S
    while not condition(records := published(settings)):
        assert time.monotonic() < deadline, {key: record.funnel.events for key, record in records.items()}
    return records


def test_the_published_windows_equal_a_recomputation_also_after_losing_the_disk(settings: Settings) -> None:
    chance = random.Random(11)
    log: list[Logged] = []
    for data_dir, first_offset in (("one", 0), ("two", 120)):
        part = make_log(chance, settings.partitions, 120, first_offset)
        log += [entry for entries in part for entry in entries]
        events = sum(isinstance(entry.message, Outcome) for entry in log)
        worker = RunningWorker(settings.model_copy(update={"data_dir": settings.data_dir.parent / data_dir}), ("value",))
        with worker:
            worker.wait_ready(DEADLINE_S)
            send(settings, part)
            records = until(lambda found, events=events: is_complete(found, events), settings)
        assets = {pair for entry in log if isinstance(entry.message, Outcome) for pair in assets_of(entry.message)}
        assert len(records) == len(assets) * len(WINDOWS)
        for dimension, asset in assets:
            for window in WINDOWS:
                record = records[f"{dimension}|{asset}|{window}"]
                if record.lineage or window != "1m":
                    check_against_oracle(record, log, dimension, asset, window)


def is_complete(records: dict[str, RollingValuation], events: int) -> bool:
    """Whether every dimension's totals have caught up with all outcomes, and every window with the newest minute."""
    totals = [record for key, record in records.items() if key.endswith("|total")]
    by_dimension = {record.dimension: 0 for record in totals}
    for record in totals:
        by_dimension[record.dimension] += record.funnel.events
    # A window that was published empty is not published again while it stays so: its watermark stands still.
    minutes = {record.watermark.replace(second=0, microsecond=0) for record in records.values() if record.lineage}
    return len(by_dimension) == 4 and set(by_dimension.values()) == {events} and len(minutes) == 1
