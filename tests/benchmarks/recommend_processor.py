"""The recommend processor alone, no broker: CPU time per event of decode, profile, candidates, 20 explained items, outcome, JSON.

A synthetic shop: products in clusters of meaning, shoppers who stay in a few clusters, every event another shopper. Each size of
micro-batch is measured on the same warmed state; ``cpu_us_per_event`` is process CPU time of ``process`` only, and
``feed_us_per_event`` what the worker spends to take up the session deltas of all workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import orjson

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.index.factory import IndexKind
from models.retrieval import LiveSessions
from schemas.catalog import Embedding, Product
from streams.agents.deltas import read_deltas
from streams.agents.recommend import RecommendProcessor
from streams.runtime.processor import Batch, DictState, SourceRecord
from streams.settings import Settings
from streams.worker import relax_collector
from tests.benchmarks.report import Report, medians

PRODUCTS = 10_000
SHOPPERS = 5_000
DIMENSIONS = 384
CLUSTERS = 200
BATCHES = (1, 100, 2_000)
START_MS = 1_760_000_000_000
#: Events that warm profiles, session index and neighbour lists before anything is timed.
WARM_EVENTS = 60_000
_TYPES = ("browse", "click", "click", "add_to_cart", "purchase")


class SyntheticShop:
    """Products, vectors and an endless stream of events, all from one seed."""

    def __init__(self, seed: int = 7, products: int = PRODUCTS, shoppers: int = SHOPPERS) -> None:
        self._random = np.random.default_rng(seed)
        self._shoppers = shoppers
        centres = self._random.standard_normal((CLUSTERS, DIMENSIONS))
        self._cluster = self._random.integers(0, CLUSTERS, products)
        vectors = centres[self._cluster] + 0.8 * self._random.standard_normal((products, DIMENSIONS))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.products = [
            Product(
                sku=f"SKU-{n:06d}", title=f"Item {n} of the kind {self._cluster[n]}", price=f"{1 + n % 90}.50", currency="GBP",
                category_path=("Shop", f"Aisle {self._cluster[n] % 40}"),
            )
            for n in range(products)
        ]  # fmt: skip
        self._members = [np.flatnonzero(self._cluster == cluster) for cluster in range(CLUSTERS)]
        occupied = np.unique(self._cluster)  # of few products not every cluster has one
        self._tastes = occupied[self._random.integers(0, len(occupied), (shoppers, 3))]
        self._made = 0

    def settle(self, shoppers: int) -> None:
        """From now on events are of so many shoppers, whose tastes are those of the first ones over and over."""
        self._tastes = np.resize(self._tastes, (shoppers, 3))
        self._shoppers = shoppers

    def events(self, count: int) -> Iterator[SourceRecord]:
        """The next ``count`` records of ``storefront.events``, one partition, 5 ms apart."""
        shoppers = self._random.integers(0, self._shoppers, count)
        tastes = self._random.integers(0, 3, count)
        skew = self._random.random(count) ** 2
        kinds = self._random.integers(0, len(_TYPES), count)
        for shopper, taste, place, kind in zip(shoppers.tolist(), tastes.tolist(), skew.tolist(), kinds.tolist(), strict=True):
            members = self._members[self._tastes[shopper, taste]]
            number = self._made
            self._made += 1
            at = START_MS + 5 * number
            event = {
                "event_id": f"event-{number}", "type": _TYPES[kind], "user_id": f"user-{shopper}", "channel": "web", "country": "GB",
                "occurred_at": f"{np.datetime64(at, 'ms')}Z", "sku": self.products[members[int(place * len(members))]].sku,
            }  # fmt: skip
            if kind >= 3:
                event |= {"quantity": 1, "unit_price": "12.50", "currency": "GBP"}
            if kind == 4:
                event["order_id"] = f"order-{number}"
            yield SourceRecord("storefront.events", 0, number, at, event["user_id"].encode(), orjson.dumps(event))


class Bench:
    """A processor in its surroundings: state in a dict, session deltas fed back as the broadcast topic would."""

    def __init__(self, shop: SyntheticShop, settings: Settings | None = None, index: IndexKind = "flat") -> None:
        self._shop = shop
        self.settings = settings or Settings()
        catalogue = Catalogue(index, "cpu", 1)
        self._sessions = LiveSessions(catalogue.table.intern, self.settings.trending_half_life_s * 1000)
        self.processor = RecommendProcessor(self.settings, catalogue, self._sessions)
        self.processor.products_changed(catalogue.apply_products((p.sku.encode(), p.to_json()) for p in shop.products))
        self.processor.vectors_changed(catalogue.apply_embeddings(_embeddings(shop)))
        catalogue.index.merge()
        self.state = DictState()
        self.feed_s = 0.0
        self.bytes_out = 0

    def run(self, events: int, batch_size: int) -> float:
        """Process ``events`` events in batches; returns CPU seconds inside ``process``."""
        spent = 0.0
        records = list(self._shop.events(events))
        for first in range(0, events, batch_size):
            chunk = records[first : first + batch_size]
            began = time.process_time()
            step = self.processor.process(self.state, Batch(0, chunk, chunk[-1].timestamp, caught_up=True))
            spent += time.process_time() - began
            self.state.apply(step.writes)
            self.bytes_out += sum(len(output.value or b"") for output in step.outputs)
            deltas = [SourceRecord("sessions", 0, 0, 0, output.key, output.value) for output in step.outputs if output.topic == "sessions"]
            began = time.process_time()
            self._sessions.apply(read_deltas(deltas))
            self.feed_s += time.process_time() - began
        return spent


def _embeddings(shop: SyntheticShop) -> Iterator[tuple[bytes, bytes]]:
    for product, vector in zip(shop.products, shop.vectors, strict=True):
        message = Embedding(sku=product.sku, encoder="synthetic", dimensions=DIMENSIONS, vector=pack(vector), text_hash="0")
        yield product.sku.encode(), message.to_json()


def measure(repetitions: int = 3, events: int = 20_000) -> list[dict[str, object]]:
    """Rows for each size of micro-batch: CPU microseconds an event, and how many events a second one core would carry."""
    relax_collector()
    bench = Bench(SyntheticShop())
    bench.run(WARM_EVENTS, 2_000)
    rows: list[dict[str, object]] = []
    for repetition in range(repetitions):
        for size in BATCHES:
            bench.feed_s = 0.0
            bench.bytes_out = 0
            count = max(size, events if size > 1 else events // 20)
            spent = bench.run(count, size)
            cost = spent / count * 1e6
            rows.append(
                {
                    "system": "assay", "job": "recommend processor", "batch": size, "products": PRODUCTS,
                    "repetition": repetition, "events": count,
                    "cpu_us_per_event": round(cost, 1), "feed_us_per_event": round(bench.feed_s / count * 1e6, 1),
                    "events_per_second": round(1e6 / cost), "bytes_per_event": round(bench.bytes_out / count),
                }
            )  # fmt: skip
    return rows


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``; needs no broker."""
    rows = medians(measure(repetitions, events or 20_000), ("system", "job", "batch"))
    return Report("processor", rows, (f"{PRODUCTS} products x {DIMENSIONS} dimensions, {SHOPPERS} shoppers, one thread, no broker",))


if __name__ == "__main__":
    print(run().table())
