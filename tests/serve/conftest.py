"""A storefront's topics on an embedded broker, and read APIs over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from confluent_kafka import Producer

from models.catalog.encoders import EncoderKey
from models.catalog.vectors import pack
from models.encoder.encoder import Encoder
from models.encoder.source import EncoderError
from models.encoder.text import product_text
from schemas.catalog import Embedding, Product
from schemas.internal import SessionDelta, SessionItem
from schemas.recommendation import CausedBy, Recommendations, Versions
from schemas.valuation import AssetVersions, Funnel, RollingValuation, Window
from streams.broker import EmbeddedBroker
from streams.serve import RunningServer, start
from streams.settings import Settings

DEADLINE_S = 30.0
NOON = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
READ = ("recommendations", "valuation.rolling", "storefront.catalog", "catalog.embeddings", "sessions")


def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the awaited condition did not come about"
    return value


class GatedEncoder:
    """A real encoder that waits at a gate, notes what it is asked for, and fails where a test says."""

    def __init__(self, encoder: Encoder, *, shut: bool = False, fails_on: str | None = None) -> None:
        self.version, self.dimensions = encoder.version, encoder.dimensions
        self.calls: list[list[str]] = []
        self.fails_on = fails_on
        self.entered, self.gate = threading.Event(), threading.Event()
        self._encoder = encoder
        if not shut:
            self.gate.set()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        if self.fails_on is not None and any(self.fails_on in text for text in texts):
            raise EncoderError("out of memory")
        return self._encoder.encode(texts)


class Store:
    """The topics of one deployment. ``encoder``: of vectors that tests write out; shorter ones are filled up with zeros."""

    def __init__(self, servers: str, settings: Settings) -> None:
        self.settings = settings
        self.encoder = EncoderKey("tiny", 3)
        self._producer = Producer({"bootstrap.servers": servers})

    def put(self, topic: str, key: str, value: bytes | None, partition: int = 0) -> None:
        self._producer.produce(self.settings.topic(topic), key=key.encode(), value=value, partition=partition)
        assert self._producer.flush(DEADLINE_S) == 0

    def recommend(self, key: str, identifier: str = "r-1", partition: int = 0) -> bytes:
        record = Recommendations(
            recommendation_id=identifier, generated_at=NOON, policy="personal", items=(),
            caused_by=CausedBy(topic="storefront.events", partition=0, first_offset=0, last_offset=0, events=1),
            versions=Versions(encoder="minilm", model="fusion", index=1),
        )  # fmt: skip
        value = record.to_json() + b" "  # the blank shows that the bytes are handed on as they were written
        self.put("recommendations", key, value, partition)
        return value

    def withdraw(self, key: str) -> None:
        self.put("recommendations", key, None)

    def value(self, dimension: str, asset: str, window: str, tests: int = 1) -> None:
        record = RollingValuation(
            dimension=dimension, asset=asset, window=Window(kind="total", start=NOON, end=NOON, length=0), watermark=NOON,
            versions=AssetVersions(), tests=tests, late=0, funnel=Funnel(events=1, clicks=0, conversions=0, by_type={}), lineage=(),
        )  # fmt: skip
        self.put("valuation.rolling", f"{dimension}|{asset}|{window}", record.to_json())

    def product(self, sku: str, *categories: str, vector: tuple[float, ...] | None = None, stock: int = 5) -> None:
        product = Product(sku=sku, title=sku.title(), category_path=tuple(categories), stock=stock)
        self.put("storefront.catalog", sku, product.to_json())
        if vector is not None:
            unit = np.zeros(self.encoder.dimensions)
            unit[: len(vector)] = np.array(vector) / np.linalg.norm(vector)
            name = self.encoder.version
            embedding = Embedding(sku=sku, encoder=name, dimensions=len(unit), vector=pack(unit), text_hash="h")
            self.put("catalog.embeddings", sku, embedding.to_json())

    def publish(self, encoder: Encoder, *products: Product) -> None:
        """Products with the vectors of a real encoder."""
        for product, vector in zip(products, encoder.encode([product_text(product) for product in products]), strict=True):
            self.put("storefront.catalog", product.sku, product.to_json())
            embedding = Embedding(sku=product.sku, encoder=encoder.version, dimensions=len(vector), vector=pack(vector), text_hash="h")
            self.put("catalog.embeddings", product.sku, embedding.to_json())

    def session(self, name: str, *skus: str) -> None:
        items = tuple(SessionItem(sku=sku, at=1_740_000_000_000 + i, type="click") for i, sku in enumerate(skus))
        self.put("sessions", name, SessionDelta(session=name, shopper=name, start=0, items=items).to_json())


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """One embedded broker for the tests of a module; each has topics of its own."""
    with EmbeddedBroker() as running:
        yield running.bootstrap_servers


def store_on(servers: str, prefix: str, folder: Path) -> Store:
    """A deployment with all topics that the read API reads (asking for one is enough on an embedded broker)."""
    settings = Settings(bootstrap_servers=servers, topic_prefix=prefix, data_dir=folder, port=0, index="flat")
    producer = Producer({"bootstrap.servers": servers})
    for name in READ:
        producer.list_topics(settings.topic(name), timeout=DEADLINE_S)
    return Store(servers, settings)


@pytest.fixture
def store(broker: str, topic_prefix: str, tmp_path: Path) -> Store:
    return store_on(broker, topic_prefix, tmp_path)


@contextmanager
def serving(settings: Settings, *, wait: bool = True) -> Iterator[tuple[RunningServer, httpx.Client]]:
    """A running read API and a client of it."""
    with start(settings) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=DEADLINE_S) as client:
        if wait:
            server.wait_ready(DEADLINE_S)
        yield server, client
