"""Half of all events are one shopper's: the other partitions keep moving, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import orjson
import pytest
from confluent_kafka import Message

from schemas.topics import DEAD_LETTERS, EVENTS, OUTCOMES, RECOMMENDATIONS
from streams.agents.shoppers import LIST_PREFIX, PROFILE_PREFIX
from streams.runtime.partitioner import murmur2_partition
from tests.end_to_end.deployment import Deployment
from tests.end_to_end.oracle import Oracle, compare

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

EVENT_COUNT = 12_000
WARM_COUNT = 1_000
USERS = 400
SKUS = [f"sku-{number}" for number in range(200)]
HOT = "crawler"


def events(numbers: range) -> list[tuple[bytes, bytes]]:
    """Browsing and buying; every other event is that of ``HOT``."""
    chance = random.Random(numbers.start)
    made = []
    for number in numbers:
        user = HOT if number % 2 else f"u{chance.randrange(USERS)}"
        event = {
            "event_id": f"e{number}", "type": chance.choice(("browse", "click", "impression")), "user_id": user, "channel": "web",
            "sku": chance.choice(SKUS), "occurred_at": f"2025-03-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        }  # fmt: skip
        made.append((user.encode(), orjson.dumps(event)))
    return made


def answered_ms(outcomes: list[Message], begins: dict[int, int]) -> dict[int, list[int]]:
    """By partition of the events, when the outcome of each from offset ``begins`` on was written (broker's clock)."""
    written: dict[int, list[int]] = defaultdict(list)
    for message in outcomes:
        document = orjson.loads(message.value())
        if document["kind"] == "outcome" and document["origin"]["offset"] >= begins[document["origin"]["partition"]]:
            written[document["origin"]["partition"]].append(message.timestamp()[1])
    return written


def test_a_hot_key_holds_up_its_own_partition_only(kafka: str, topic_prefix: str, tmp_path: Path):
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    worker = deployment.worker("recommend", "worker")
    worker.start()
    try:
        # Partitions open one after the other at a start: only once all have answered does the order in which they are served show.
        deployment.produce(EVENTS.name, events(range(WARM_COUNT)))
        deployment.await_outcomes(WARM_COUNT, [worker])
        warm = Counter(message.partition() for message in deployment.read(EVENTS.name))
        # The worker stands still meanwhile: it finds a backlog, the hot partition's five times that of another.
        os.kill(worker.pid, signal.SIGSTOP)
        deployment.produce(EVENTS.name, events(range(WARM_COUNT, EVENT_COUNT)))
        os.kill(worker.pid, signal.SIGCONT)
        deployment.await_outcomes(EVENT_COUNT, [worker])
    finally:
        assert worker.stop() == 0
    written = answered_ms(deployment.read(OUTCOMES.name), warm)
    hot = murmur2_partition(HOT.encode(), deployment.settings.partitions)
    begun, done = min(map(min, written.values())), max(written[hot])
    # 0: the first outcome of all, 1: the last of the hot partition. Were the partitions served one after the other, the hot one first,
    # others would come out beyond 1. (The longest first would give .75 in an even run: too near to what noise does to be told apart.)
    halfway = {partition: (median(at) - begun) / (done - begun) for partition, at in written.items() if partition != hot}
    sizes = {partition: len(at) for partition, at in sorted(written.items())}
    print(f"outcomes={sizes} hot={hot} done after {done - begun} ms, others halfway at {halfway}")
    assert len(written[hot]) > (EVENT_COUNT - WARM_COUNT) / 2
    assert all(share < 0.8 for share in halfway.values()), halfway

    oracle = Oracle.of(deployment.read(EVENTS.name), SKUS)
    found = compare(
        oracle,
        deployment.read(RECOMMENDATIONS.name),
        deployment.read(DEAD_LETTERS.name),
        deployment.read(OUTCOMES.name),
        deployment.state("recommend", PROFILE_PREFIX),
        deployment.state("recommend", LIST_PREFIX),
    )
    assert len(oracle.applied) == EVENT_COUNT
    assert not any(found.counts().values()), found.counts()
