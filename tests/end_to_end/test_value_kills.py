"""The books of the value role whose worker is killed over and over, beside those that one clean pass over the log makes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from models.valuation import OTHER, WINDOWS
from models.valuation.appraisal import WORTH_DIMENSIONS, Appraiser, Rules
from models.valuation.panes import TOTAL
from schemas.base import Origin
from schemas.internal import Outcome
from schemas.topics import OUTCOMES, REGISTER, VALUATION
from schemas.valuation import RollingValuation, ValueRegister
from streams.agents.appraisers import value_source
from streams.agents.recomputation import Books, books_of, record_again, register_again
from streams.agents.sources import read_sources
from streams.runtime.processor import SourceRecord
from tests.end_to_end.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1200)]

EVENTS = 12_000
START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def shopping(chance: random.Random) -> Iterator[Outcome]:
    """Visits of three to eight events by 400 shoppers over some four hours, to which purchases and a few refunds belong."""
    at, visits = START, dict[str, list[str]]()
    for number in range(EVENTS):
        at += timedelta(seconds=chance.choice([0, 1, 1, 4]))
        shopper = f"u{chance.randrange(400)}"
        visit = visits.setdefault(shopper, [])
        if not visit:
            base = chance.randrange(40)
            visit += [f"sku-{base}-{chance.randrange(5)}" for _ in range(chance.randrange(3, 9))]
        kind = chance.choices(["browse", "click", "purchase", "refund"], [5, 4, 2, 0.3])[0]
        amount = Decimal(chance.randrange(1, 9_000)) / 100
        sku = visit.pop()
        yield Outcome(
            outcome_id=f"o{number}", origin=Origin(topic="storefront.events", partition=0, offset=number), shopper=shopper,
            event_id=f"e{number}", type=kind, sku=sku, channel=chance.choice(["web", "app"]), category=sku.split("-")[1],
            country=chance.choice(["GB", "FR", "DE"]), occurred_at=at, list_size=20,
            revenue={"purchase": amount, "refund": -amount}.get(kind), currency="GBP" if kind in ("purchase", "refund") else None,
            arm="holdout" if int(shopper[1:]) % 4 == 0 else "treated", experiment="spring",
            attributed=kind == "purchase" and number % 5 > 0,
            margin={"purchase": amount / 4, "refund": -amount / 4}.get(kind) if number % 3 else None,
        )  # fmt: skip


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_leave_no_trace_in_the_books(kafka: str, topic_prefix: str, tmp_path: Path, kills: int) -> None:
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    chance = random.Random(5)
    records = [(outcome.shopper.encode(), outcome.to_json()) for outcome in shopping(chance)]
    worker = deployment.worker("value", "one")
    worker.start()
    share = len(records) // (kills + 1)
    try:
        for kill in range(kills):
            # Looked up before they are fed: a quick worker is through with them before anything is looked up after.
            ends = {message.partition(): message.offset() for message in deployment.read(REGISTER.name)}
            deployment.produce(OUTCOMES.name, records[kill * share : (kill + 1) * share])
            # It dies at work: the moment that the first books of this share are out.
            deployment.await_after(REGISTER.name, ends, [worker])
            worker.kill(wipe=kill % 7 == 3)
            worker.start()
        deployment.produce(OUTCOMES.name, records[kills * share :])
        log = log_of(deployment)
        tests = f'"tests":{count_tests(log)},'.encode()
        for dimension in WORTH_DIMENSIONS:
            deployment.await_records(REGISTER.name, lambda n: n > 0, [worker], marked=tests, key=f"{dimension}|total".encode())
        whole = f'"rows":{EVENTS},'.encode()
        deployment.await_records(VALUATION.name, lambda n: n > 0, [worker], marked=whole, key=b"overall|all|total")
    finally:
        worker.stop()
    newest = {m.key().decode(): m.value() for m in deployment.read(REGISTER.name)}
    passes: dict[tuple[tuple[int, int], ...], Books] = {}

    def is_the_same(key: str) -> bool:
        record = ValueRegister.model_validate_json(newest[key])
        assert abs(record.checks.efficiency_residual) <= 1e-9
        ends = tuple((line.partition, line.offset_high) for line in record.lineage)
        if ends not in passes:
            passes[ends] = books_of({partition: log[partition][: high + 1] for partition, high in ends}, Rules())
        return register_again(key.split("|")[1], record, passes[ends], Rules()).to_json() == record.to_json()

    assert [key for dimension in WORTH_DIMENSIONS for window in WINDOWS if not is_the_same(key := f"{dimension}|{window}")] == []
    # Each minute ends elsewhere in the log, so one of each hundred is enough to read it for again.
    minutes = [key for key, value in newest.items() if "|1m@" in key and value is not None]
    assert len(minutes) > 50
    assert [key for key in chance.sample(minutes, 6) if not is_the_same(key)] == []

    # Nor in what is counted of each asset, minute by minute and in total.
    counted = {m.key().decode(): m.value() for m in deployment.read(VALUATION.name)}
    told = {key: RollingValuation.model_validate_json(value) for key, value in counted.items() if value is not None}
    assert told["overall|all|total"].rows == EVENTS
    told_apart = defaultdict[str, set[str]](set)
    for key in told:
        dimension, asset, _ = key.split("|")
        told_apart[dimension].add(asset)

    def is_counted_the_same(key: str) -> bool:
        record = told[key]
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        known = frozenset(told_apart[record.dimension] - {OTHER})
        return record_again(key.split("|")[2], record, parts, known).to_json() == record.to_json()

    totals = [key for key in told if key.endswith("|total")]
    minutes = [key for key, record in told.items() if record.status == "final" and len(record.lineage) > 1]
    assert len(minutes) > 50
    sample = ["overall|all|total", *chance.sample(totals, 8), *chance.sample(minutes, 6)]
    assert [key for key in sample if not is_counted_the_same(key)] == []


def log_of(deployment: Deployment) -> dict[int, list[SourceRecord]]:
    log: dict[int, list[SourceRecord]] = defaultdict(list)
    for message in deployment.read(OUTCOMES.name):
        at_ms = message.timestamp()[1]
        log[message.partition()].append(
            SourceRecord(OUTCOMES.name, message.partition(), message.offset(), at_ms, message.key(), message.value())
        )
    return log


def count_tests(log: dict[int, list[SourceRecord]]) -> int:
    """How many tests one pass over the log finds."""
    count = 0
    for records in log.values():
        appraiser = Appraiser(Rules())
        for offset, at_ms, message in read_sources(records):
            value_source(appraiser, offset, at_ms, message)
        count += appraiser.sums()[TOTAL]["overall"].tests
    return count
