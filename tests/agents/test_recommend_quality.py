from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import orjson
import pytest

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.encoder.encoder import TextEncoder
from models.encoder.text import product_text
from models.retrieval import LiveSessions
from schemas.catalog import Embedding, Product
from streams.agents.deltas import read_deltas
from streams.agents.recommend import RecommendProcessor
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.shop import InProcessShop
from streams.replay.online_retail import OnlineRetail
from streams.replay.record import ReplayEvent, encode
from streams.replay.rees46 import Rees46
from streams.runtime.processor import Batch, DictState, Output, SourceRecord
from streams.settings import Settings

ROWS = 60_000
SEARCH_ROWS = 4_000
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


@pytest.mark.dataset
def test_the_list_after_a_search_foretells_what_is_viewed_then(datasets) -> None:
    """REES46 with searches made up for half of its visits: the brand and category of what is viewed first. They say more than shoppers' own
    would, so this tells that lists follow a search and that later ones do not suffer by it, not what searches are worth.
    """
    data = Rees46(datasets.rees46, limit=SEARCH_ROWS)
    products = data.catalogue().products
    events, views = _with_searches(data, {product.sku: product for product in products})
    found = {}
    for queries in ("off", "words"):
        ranks: dict[int, list[int]] = {1: [], 2: [], 3: []}

        def told(outputs: Sequence[Output], ranks: dict[int, list[int]] = ranks) -> None:
            for outcome in item_outcomes(outputs):
                if outcome["event_id"] in views and outcome["list_size"]:
                    ranks[views[outcome["event_id"]]].append(outcome.get("rank") or 0)

        shop = InProcessShop(Settings(index="flat", threads=1, queries=queries), products, None)
        shop.learn(events, 1, told)
        found[queries] = {
            view: (np.mean(np.array(of) > 0), np.mean([1 / rank if rank else 0.0 for rank in of])) for view, of in ranks.items()
        }
        tests = {view: len(of) for view, of in ranks.items()}
    print(f"\n{tests} views 1, 2, 3 of a visit with a search: hit rate@20 and MRR@20 without and with it: {found}")
    assert tests[1] > 300
    assert found["words"][1][0] > 3 * found["off"][1][0]
    assert found["words"][1][1] > 3 * found["off"][1][1]
    for view in (2, 3):
        assert found["words"][view][0] > found["off"][view][0] - 0.02


def _with_searches(data: Rees46, products: dict[str, Product]) -> tuple[list[ReplayEvent], dict[str, int]]:
    """(the log with a search before every other visit, event id -> which of its visit's views it is, for visits with one)."""
    events: list[ReplayEvent] = []
    views: dict[str, int] = {}
    so_far: dict[str, int] = {}
    for event in data.events():
        fields = orjson.loads(event.value) if event.kind == "browse" else {}
        visit = fields.get("session_id")
        if visit is not None and visit not in so_far:
            product = products[fields["sku"]]
            query = " ".join(part for part in (product.brand, *product.category_path[-1:]) if part).replace("_", " ")
            so_far[visit] = 0 if query and len(so_far) % 2 else -1
            if so_far[visit] == 0:
                kept = {name: fields[name] for name in ("user_id", "session_id", "occurred_at", "channel") if name in fields}
                events.append(encode(kept | {"event_id": f"search-{visit}", "type": "search", "query": query}, event.at_ms))
        if visit is not None and so_far[visit] >= 0:
            so_far[visit] += 1
            if so_far[visit] <= 3:
                views[fields["event_id"]] = so_far[visit]
        events.append(event)
    return events, views
