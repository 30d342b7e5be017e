"""A slice of Online Retail through a real Kafka and every role, held against an oracle recomputed from the input."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from itertools import islice
from pathlib import Path

import orjson
import pytest

from models.profiles.history import SESSION_GAP_MS
from schemas.catalog import Product
from schemas.decoding import CODES
from schemas.topics import DEAD_LETTERS, EVENTS, OUTCOMES, RECOMMENDATIONS, VALUATION
from schemas.valuation import RollingValuation
from streams.agents.shoppers import LIST_PREFIX, PROFILE_PREFIX
from streams.replay import OnlineRetail
from tests.conftest import DataSets
from tests.end_to_end import plain_profiles
from tests.end_to_end.deployment import Deployment, WorkerProcess
from tests.end_to_end.oracle import Oracle, compare

pytestmark = [pytest.mark.kafka, pytest.mark.dataset, pytest.mark.timeout(600)]

ROWS = 6_000


def poison(count: int = 2, sku: str = "85123A") -> list[tuple[bytes | None, bytes | None]]:
    """``count`` of every kind of bad record that a producer may send, all for shopper 17850 and but for the fault about ``sku``, which must
    be in the catalogue: each is refused for its own fault alone.
    """
    good = {
        "event_id": "p", "type": "purchase", "user_id": "17850", "occurred_at": "2010-12-01T08:26:00Z", "channel": "web",
        "sku": sku, "quantity": 1, "unit_price": "2.55", "currency": "GBP", "order_id": "1",
    }  # fmt: skip

    def changed(**fields: object) -> bytes:
        return orjson.dumps({name: value for name, value in {**good, **fields}.items() if value is not ...})

    values: list[bytes | None] = [
        b"{not json", b"\xff\xfe{}", b"[1]", None, b"x" * 2_000_000,
        changed(type="teleport"), changed(schema_version="9.0"), changed(quantity=-1), changed(quantity="6"), changed(unit_price="-1"),
        changed(unit_price="NaN"), changed(unit_price=2.55), changed(unit_price="999999999999"), changed(order_id=...),
        changed(occurred_at="1970-01-01T00:00:00Z"), changed(occurred_at="2100-01-01T00:00:00Z"),
        changed(occurred_at="2099-01-01T00:00:00Z"),
        changed(sku="no-such-product"), changed(user_id=...), changed(user_id="somebody-else"), changed(currency="gb"),
    ]  # fmt: skip
    return [(b"17850", value) for value in values] * count + [(None, changed()), (b"", changed())]


def retail(path: Path, rows: int, *, repeats: int = 40) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes | None, bytes | None]]]:
    """(products, events): the first ``rows`` rows in file order, poison in between, some events sent again."""
    dataset = OnlineRetail(path, limit=rows)
    products = [(product.sku.encode(), product.to_json()) for product in dataset.catalogue().products]
    chance = random.Random(20)
    events: list[tuple[bytes | None, bytes | None]] = [(event.key, event.value) for event in islice(dataset.events(), rows)]
    for place in sorted((chance.randrange(1, len(events)) for _ in range(repeats)), reverse=True):
        events.insert(place, events[max(0, place - chance.randrange(1, 30))])
    for bad in poison():
        events.insert(chance.randrange(len(events)), bad)
    return products, events


@pytest.fixture
def deployment(kafka: str, topic_prefix: str, tmp_path: Path) -> Deployment:
    return Deployment(kafka, topic_prefix, tmp_path)


def difference(deployment: Deployment, products: list[tuple[bytes, bytes]]) -> tuple[Oracle, dict[str, int]]:
    oracle = Oracle.of(deployment.read(EVENTS.name), [key.decode() for key, _ in products])
    profiles = deployment.state("recommend", PROFILE_PREFIX)
    found = compare(
        oracle,
        deployment.read(RECOMMENDATIONS.name),
        deployment.read(DEAD_LETTERS.name),
        deployment.read(OUTCOMES.name),
        profiles,
        deployment.state("recommend", LIST_PREFIX),
        products=[Product.model_validate_json(value) for _, value in products],
    )
    assert found.told > 0
    letters = [orjson.loads(m.value()) for m in deployment.read(DEAD_LETTERS.name)]
    refused = {(letter["partition"], letter["offset"]) for letter in letters if letter["topic"] == deployment.settings.topic(EVENTS.name)}
    events = plain_profiles.events_of(deployment.read(EVENTS.name), refused)
    misread = plain_profiles.differences(events, profiles, SESSION_GAP_MS)
    print(f"inputs={len(oracle.applied)} refused={len(oracle.refused)} resent={len(oracle.duplicates)} {found.counts()}", *misread[:20])
    return oracle, {**found.counts(), "misread": len(misread)}


def newest_valuation(deployment: Deployment) -> dict[str, RollingValuation]:
    live = {m.key().decode(): m.value() for m in deployment.read(VALUATION.name)}
    return {key: RollingValuation.model_validate_json(value) for key, value in live.items() if value is not None}


def test_every_record_of_a_replay_is_as_the_oracle_says(deployment: Deployment, datasets: DataSets):
    products, events = retail(datasets.online_retail, ROWS)
    deployment.publish_catalogue(products)
    worker = deployment.worker("embed,recommend,value", "all")
    worker.start()
    try:
        # In waves, each answered before the next is sent: shoppers who come back are judged by lists that they were shown.
        for wave in range(8):
            deployment.produce(EVENTS.name, events[wave * len(events) // 8 : (wave + 1) * len(events) // 8])
            expected = Oracle.of(deployment.read(EVENTS.name), [key.decode() for key, _ in products])
            deployment.await_outcomes(len(expected.applied), [worker])
        whole = b'"events":%d,' % len(expected.applied)
        deployment.await_records(VALUATION.name, lambda n: n > 0, [worker], marked=whole, key=b"overall|all|total")
        deployment.embedded(1, [worker])
    finally:
        assert worker.stop() == 0
    oracle, counts = difference(deployment, products)
    assert not any(counts.values()), counts
    assert oracle.duplicates
    codes = Counter(code for code, _ in oracle.refused.values())
    assert set(codes) <= set(CODES)
    assert codes["quantity_invalid"] > 2  # the file's own negative quantities, not only the planted ones
    record = newest_valuation(deployment)["overall|all|total"]
    assert record.window.kind == "total"
    assert record.funnel.events == len(oracle.applied)
    (money,) = record.money
    assert (money.currency, money.revenue, abs(money.refunds)) == ("GBP", oracle.revenue, oracle.refunds)
    ranks = [orjson.loads(m.value()) for m in deployment.read(OUTCOMES.name) if b'"kind":"outcome"' in m.value()]
    tests = [o for o in ranks if o["list_size"] > 0 and o["type"] == "purchase"]
    assert len(tests) > 500
    assert record.tests == len(tests)
    assert record.lift is not None
    assert record.lift.hit_rate["20"] == pytest.approx(sum("rank" in o for o in tests) / len(tests), abs=1e-12)
    assert record.lift.popularity.hit_rate["20"] == pytest.approx(sum("popularity_rank" in o for o in tests) / len(tests), abs=1e-12)
    attributed = sum((Decimal(o["revenue"]) for o in tests if "rank" in o), Decimal(0))
    assert money.attributable == attributed


def test_two_workers_lose_nothing_over_five_kills_and_a_lost_disk(deployment: Deployment, datasets: DataSets):
    products, events = retail(datasets.online_retail, 2 * ROWS)
    deployment.publish_catalogue(products)
    share = len(events) // 6
    workers: list[WorkerProcess] = [deployment.worker("recommend", name) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    deployment.produce(EVENTS.name, events[:share])
    done = deployment.await_outcomes(1, workers)
    try:
        for fault in range(5):
            # The next share is on its way while the worker dies, so it dies at work.
            deployment.produce(EVENTS.name, events[(fault + 1) * share : (fault + 2) * share if fault < 4 else None])
            done = deployment.await_outcomes(done + share // 4, workers)
            victim = workers[fault % 2]
            victim.kill(wipe=fault == 3)
            victim.start()
        expected = Oracle.of(deployment.read(EVENTS.name), [key.decode() for key, _ in products])
        deployment.await_outcomes(len(expected.applied), workers, deadline_s=300)
    finally:
        codes = [worker.stop() for worker in workers]
    assert codes == [0, 0]
    _, counts = difference(deployment, products)
    assert not any(counts.values()), counts
