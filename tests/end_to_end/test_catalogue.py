"""Products that come and go while shoppers are served, over a real Kafka with the real encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from schemas.topics import CATALOG, EVENTS, RECOMMENDATIONS
from streams.reading import TopicReader
from tests.end_to_end.deployment import Deployment, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

TITLES = {
    "mug-1": "Blue ceramic coffee mug", "mug-2": "White porcelain tea cup", "lamp-1": "Brass reading lamp", "lamp-2": "Paper lantern",
    "sock-1": "Merino wool socks", "sock-2": "Cotton ankle socks", "hat-1": "Felt hat", "pan-1": "Cast iron frying pan",
}  # fmt: skip
# More than a list holds, so that a new product must earn its place by its text.
TITLES |= {f"bolt-{number}": f"Hexagon bolt M{number}, zinc plated, box of {number}" for number in range(60)}
NEW = "mug-new"


def product(sku: str, title: str) -> tuple[bytes, bytes]:
    return sku.encode(), orjson.dumps({"sku": sku, "title": title, "price": "9.50", "currency": "GBP", "stock": 3})


class Shop:
    """A shopper who keeps clicking on one mug, and reads the lists that come back."""

    def __init__(self, deployment: Deployment, worker: WorkerProcess) -> None:
        self._deployment = deployment
        self._worker = worker
        self._clicks = 0
        self._reader = TopicReader(deployment.settings, [deployment.settings.topic(RECOMMENDATIONS.name)])

    def click(self) -> list[str]:
        """Click once; the SKUs of the list that answers this click."""
        self._clicks += 1
        event = {
            "event_id": f"c{self._clicks}", "type": "click", "user_id": "ann", "occurred_at": datetime.now(UTC).isoformat(),
            "channel": "web", "sku": "mug-1",
        }  # fmt: skip
        self._deployment.produce(EVENTS.name, [(b"ann", orjson.dumps(event))])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._worker.check_alive()
            for message in self._reader.poll(0.2):
                return [item["sku"] for item in orjson.loads(message.value())["items"]]
        raise AssertionError("no list answered the click within 30 s")

    def click_until(self, listed: bool) -> int:
        """Click until the new product is (or is no longer) listed; how many clicks it took."""
        for clicks in range(1, 200):
            if (NEW in self.click()) == listed:
                return clicks
        raise AssertionError(f"after 200 clicks the new product is {'still not' if listed else 'still'} listed")

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def shop(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Shop]:
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    deployment.produce(CATALOG.name, [product(sku, title) for sku, title in TITLES.items()])
    worker = deployment.worker("embed,recommend", "one")
    worker.start()
    shop = Shop(deployment, worker)
    try:
        deployment.embedded(len(TITLES), [worker])
        yield shop
    finally:
        shop.close()
        assert worker.stop() == 0


def test_a_product_is_listed_after_its_upsert_and_never_after_its_delete_was_read(shop: Shop):
    assert NEW not in shop.click()
    deployment = shop._deployment
    deployment.produce(CATALOG.name, [product(NEW, "Blue ceramic coffee mug with a lid")])
    shop.click_until(listed=True)
    deployment.produce(CATALOG.name, [(NEW.encode(), None)])
    shop.click_until(listed=False)
    assert all(NEW not in shop.click() for _ in range(20))


def test_a_product_out_of_stock_leaves_the_lists_and_returns_with_its_stock(shop: Shop):
    deployment = shop._deployment
    sold_out = orjson.dumps({"sku": NEW, "title": "Blue ceramic coffee mug with a lid", "stock": 0})
    deployment.produce(CATALOG.name, [product(NEW, "Blue ceramic coffee mug with a lid")])
    shop.click_until(listed=True)
    deployment.produce(CATALOG.name, [(NEW.encode(), sold_out)])
    shop.click_until(listed=False)
    deployment.produce(CATALOG.name, [product(NEW, "Blue ceramic coffee mug with a lid")])
    shop.click_until(listed=True)
