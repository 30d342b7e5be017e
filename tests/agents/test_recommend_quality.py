from __future__ import annotations

from itertools import islice

import numpy as np
import orjson
import pytest

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.encoder.encoder import TextEncoder
from models.encoder.text import product_text
from models.retrieval import LiveSessions
from schemas.catalog import Embedding
from streams.agents.deltas import read_deltas
from streams.agents.recommend import RecommendProcessor
from streams.replay.online_retail import OnlineRetail
from streams.runtime.processor import Batch, DictState, SourceRecord
from streams.settings import Settings

ROWS = 60_000
#: Rows of the file in one micro-batch: an invoice has 21 lines on average, so that lists follow a shopper about as closely as live.
BATCH = 4


@pytest.mark.dataset
def test_lists_foretell_online_retail_far_better_than_popularity(datasets) -> None:
    """Protocol P of the quality notes: each event is judged against the list last emitted to its shopper, before it is learned."""
    data = OnlineRetail(datasets.online_retail, limit=ROWS)
    products = data.catalogue().products
    settings = Settings(index="flat")
    catalogue = Catalogue("flat", "cpu", 1)
    sessions = LiveSessions(catalogue.table.intern, settings.trending_half_life_s * 1000)
    processor = RecommendProcessor(settings, catalogue, sessions)
    processor.products_changed(catalogue.apply_products((product.sku.encode(), product.to_json()) for product in products))
    vectors = TextEncoder("minilm", device="cpu", threads=1).encode([product_text(product) for product in products])
    processor.vectors_changed(
        catalogue.apply_embeddings(_embedding(product.sku, vector) for product, vector in zip(products, vectors, strict=True))
    )
    catalogue.index.merge()

    state, tests, hits, popular, reciprocal, events, covered = DictState(), 0, 0, 0, 0.0, 0, 0
    stream = data.events()
    offset = 0
    while chunk := list(islice(stream, BATCH)):
        records = [SourceRecord("storefront.events", 0, offset + n, one.at_ms, one.key, one.value) for n, one in enumerate(chunk)]
        offset += len(chunk)
        step = processor.process(state, Batch(0, records, chunk[-1].at_ms, caught_up=True))
        state.apply(step.writes)
        deltas = []
        for output in step.outputs:
            if output.topic == "outcomes":
                outcome = orjson.loads(output.value)
                if outcome["kind"] == "outcome":
                    events += 1
                    if outcome["type"] == "purchase" and outcome["list_size"]:
                        tests += 1
                        hits += "rank" in outcome
                        reciprocal += 1 / outcome["rank"] if "rank" in outcome else 0.0
                        popular += "popularity_rank" in outcome
            elif output.topic == "sessions":
                deltas.append(SourceRecord("sessions", 0, 0, 0, output.key, output.value))
            elif output.topic == "recommendations":
                covered += orjson.loads(output.value)["caused_by"]["events"]
        sessions.apply(read_deltas(deltas))
    assert covered == events
    assert tests > 30_000
    print(f"\n{tests} tests: hit rate@20 {hits / tests:.3f}, MRR@20 {reciprocal / tests:.3f}, popularity {popular / tests:.3f}")
    assert hits / tests > 3 * popular / tests
    assert hits / tests > 0.2


def _embedding(sku: str, vector: np.ndarray) -> tuple[bytes, bytes]:
    message = Embedding(sku=sku, encoder="minilm", dimensions=len(vector), vector=pack(vector), text_hash="0")
    return sku.encode(), message.to_json()
