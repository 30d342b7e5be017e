"""A recommend worker without a broker: state in a dict, broadcast records applied between batches, every output held to its contract."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.profiles import Profile, decode_profile
from models.ranking.trained import TrainedRanker
from models.retrieval import LiveSessions
from models.rules import BusinessRules
from schemas.catalog import Embedding, Product
from schemas.internal import Exposure, Forgotten, Outcome, ProfileMerge, Resolution, SessionDelta
from schemas.operations import DeadLetter, ErasureReceipt
from schemas.recommendation import Recommendations
from streams.agents.deltas import read_deltas
from streams.agents.ranking import open_queries
from streams.agents.recommend import RecommendProcessor
from streams.agents.shoppers import CLOCK_KEY, EVENT_CLOCK_KEY, Shopper
from streams.runtime.processor import Batch, DictState, Output, SourceRecord, Step
from streams.runtime.task import CatchUpNeeded
from streams.settings import Settings

EVENTS, MERGES, ERASURES = "storefront.events", "profile.merges", "privacy.erasures"
START_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
DIMENSIONS = 4


def event(kind: str, number: int, user: str | None = "u", *, second: int = 0, **fields: Any) -> tuple[bytes, bytes]:
    """(key, value) of an event as a storefront would send it; ``number`` makes its id, ``second`` its time after ``START_MS``."""
    body: dict[str, Any] = {
        "event_id": f"e{number}", "type": kind, "occurred_at": f"{np.datetime64(START_MS + 1000 * second, 'ms')}Z", "channel": "web",
    }  # fmt: skip
    if user is not None:
        body["user_id"] = user
    if kind in ("click", "add_to_cart", "impression", "purchase", "refund"):
        body["sku"] = "a"
    if kind in ("purchase", "refund"):
        body |= {"unit_price": "2.50", "currency": "GBP", "order_id": "o1"}
    if kind == "search":
        body["query"] = "mug"
    body |= fields
    key = body["session_id"] if kind == "login" or user is None else user
    return key.encode(), orjson.dumps(body)


def erasure(user: str, key: str | None = None) -> tuple[bytes, bytes]:
    """(key, value) of a request to forget ``user``."""
    message = {"user_id": user, "requested_at": "2026-03-01T12:00:00Z", "request_id": "q1"}
    return (key or user).encode(), orjson.dumps(message)


class Pipeline:
    def __init__(
        self,
        products: str = "abcdef",
        *,
        vectors: bool = True,
        rules: BusinessRules | None = None,
        trained: TrainedRanker | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(k=settings.pop("k", 5), **settings)
        self.catalogue = Catalogue("flat", "cpu", 1)
        self.sessions = LiveSessions(
            self.catalogue.table.intern, self.settings.trending_half_life_s * 1000, with_sources=self.settings.value_feedback
        )
        self.processor = RecommendProcessor(
            self.settings, self.catalogue, self.sessions, rules, trained, queries=open_queries(self.settings, self.catalogue)
        )
        self.state = DictState()
        self.outputs: list[Output] = []
        self.now_ms = START_MS
        self.offsets: dict[str, int] = defaultdict(int)
        for number, sku in enumerate(products):
            self.publish(Product(sku=sku, title=f"Title {sku}", category_path=("Shop", "Aisle")))
            if vectors:
                self.embed(sku, 1.0, number / 10)

    def publish(self, product: Product) -> None:
        self.processor.products_changed(self.catalogue.apply_products([(product.sku.encode(), product.to_json())]))

    def delete(self, sku: str) -> None:
        self.processor.products_changed(self.catalogue.apply_products([(sku.encode(), None)]))

    def embed(self, sku: str, *values: float) -> None:
        vector = np.zeros(DIMENSIONS, dtype=np.float32)
        vector[: len(values)] = values
        message = Embedding(sku=sku, encoder="test@1", dimensions=DIMENSIONS, vector=pack(vector / np.linalg.norm(vector)), text_hash="0")
        self.processor.vectors_changed(self.catalogue.apply_embeddings([(sku.encode(), message.to_json())]))

    def records(self, pairs: Iterable[tuple[bytes | None, bytes | None]], topic: str = EVENTS) -> list[SourceRecord]:
        made = []
        for key, value in pairs:
            made.append(SourceRecord(topic, 2, self.offsets[topic], self.now_ms + 86_400_000, key, value))
            self.offsets[topic] += 1
        return made

    def send(self, *pairs: tuple[bytes | None, bytes | None]) -> Step:
        """One micro-batch of events."""
        return self.process(self.records(pairs))

    def process(self, records: Sequence[SourceRecord]) -> Step:
        """One micro-batch, committed: state changes, session deltas come back, outputs are kept and validated."""
        step = self.attempt(records)
        self.state.apply(step.writes)
        self.outputs += step.outputs
        self.sessions.apply(read_deltas([self._record(output) for output in step.outputs if output.topic == "sessions"]))
        self.now_ms += 1000
        for output in step.outputs:
            parse(output)
        return step

    def attempt(self, records: Sequence[SourceRecord]) -> Step:
        """A micro-batch that is not committed."""
        batch = Batch(2, records, self.now_ms)
        try:
            return self.processor.process(self.state, batch)
        except CatchUpNeeded:
            return self.processor.process(self.state, Batch(2, records, self.now_ms, caught_up=True))

    def merges(self, step: Step) -> list[SourceRecord]:
        """The session histories that ``step`` handed over, as the user's partition will read them."""
        return self.records([(output.key, output.value) for output in step.outputs if output.topic == MERGES], MERGES)

    def profile(self, identifier: str, *, anonymous: bool = False) -> Profile | None:
        (data,) = self.state.get_many([Shopper(identifier, anonymous).profile_key])
        return None if data is None else decode_profile(data)

    def snapshot(self) -> dict[bytes, bytes]:
        """What the state holds of shoppers: all but the clocks."""
        return {key: value for key, value in self.state.data.items() if key not in (CLOCK_KEY, EVENT_CLOCK_KEY)}

    def tick(self) -> Step | None:
        """Let time pass, committed."""
        step = self.processor.tick(self.state, 2, self.now_ms + 86_400_000)
        if step is not None:
            self.state.apply(step.writes)
        return step

    @staticmethod
    def _record(output: Output) -> SourceRecord:
        return SourceRecord(output.topic, output.partition or 0, 0, 0, output.key, output.value)


def parse(output: Output) -> Any:
    """The output's message, validated by its contract (None for a tombstone)."""
    if output.value is None:
        assert output.topic == "recommendations"
        return None
    if output.topic == "outcomes":
        kinds = {"exposure": Exposure, "outcome": Outcome, "resolution": Resolution, "forgotten": Forgotten}
        model: Any = kinds[orjson.loads(output.value)["kind"]]
    else:
        model = {
            "recommendations": Recommendations, "sessions": SessionDelta, "profile.merges": ProfileMerge,
            "events.dead-letter": DeadLetter, "privacy.receipts": ErasureReceipt,
        }[output.topic]  # fmt: skip
    return model.model_validate_json(output.value)


def messages(step: Step | Pipeline, topic: str) -> list[Any]:
    return [parse(output) for output in step.outputs if output.topic == topic]


def resolutions(step: Step | Pipeline) -> list[Resolution]:
    return [message for message in messages(step, "outcomes") if isinstance(message, Resolution)]


def outcomes(step: Step | Pipeline) -> list[Outcome]:
    return [message for message in messages(step, "outcomes") if isinstance(message, Outcome)]
