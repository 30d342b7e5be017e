"""A shop in this process: the recommend processor over a dict, its live sessions fed back as the topic would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.encoder.encoder import Encoder
from models.encoder.text import product_text
from models.factors.model import FactorModel
from models.profiles import Profile, decode_profile
from models.ranking import Ranker, Repeats
from models.ranking.trained import TrainedRanker
from models.retrieval import LiveSessions
from models.valuation.feedback import SourceWeights
from schemas.catalog import Embedding, Product
from schemas.topics import EVENTS, RECOMMENDATIONS, SESSIONS
from streams.agents.deltas import read_deltas
from streams.agents.ranking import make_ranker, open_queries, parameters_of, read_weights
from streams.agents.recommend import RecommendProcessor
from streams.agents.shoppers import Shopper
from streams.replay.record import ReplayEvent
from streams.runtime.processor import Batch, DictState, Output, SourceRecord, Step
from streams.settings import Settings

if TYPE_CHECKING:
    from models.sequence.source import NamedModel

_BATCH = 500


class InProcessShop:
    """What a recommend worker knows and answers, without a broker. ``encoder`` None: products have no vectors. Raises ``RankerFileError``,
    ``WeightsError``, ``SequenceModelError`` or ``FactorsError`` where ``settings.ranker``, ``weights``, ``sequence`` or ``factors`` are
    none, and ``RankingWrong`` where searches cannot be looked up as ``settings.queries`` asks.
    """

    def __init__(self, settings: Settings, products: Sequence[Product], encoder: Encoder | None) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings.index, "cpu", settings.threads)
        self.sessions = LiveSessions(
            self.catalogue.table.intern, settings.trending_half_life_s * 1000, settings.live_sessions, with_sources=settings.value_feedback
        )
        self._trained = TrainedRanker.load(settings.ranker) if settings.ranker is not None else None
        self._parameters = parameters_of(read_weights(settings))
        self._sequence = _load_sequence(settings)
        self._factors = FactorModel.load(settings.factors) if settings.factors is not None else None
        self._queries = open_queries(settings, self.catalogue, encoder)
        self._processor = RecommendProcessor(
            settings, self.catalogue, self.sessions,
            trained=self._trained, sequence=self._sequence, queries=self._queries, factors=self._factors,
        )  # fmt: skip
        self._processor.products_changed(self.catalogue.apply_products((one.sku.encode(), one.to_json()) for one in products))
        if encoder is not None:
            vectors = encoder.encode([product_text(product) for product in products])
            messages = (
                Embedding(sku=one.sku, encoder=encoder.version, dimensions=len(vector), vector=pack(vector), text_hash="0")
                for one, vector in zip(products, vectors, strict=True)
            )
            self._processor.vectors_changed(self.catalogue.apply_embeddings((one.sku.encode(), one.to_json()) for one in messages))
        self.catalogue.index.merge()
        self._state = DictState()
        self._offset = 0
        self._rankers: dict[Repeats, Ranker] = {}

    def learn(
        self,
        events: Iterable[ReplayEvent],
        batch: int = _BATCH,
        told: Callable[[Sequence[Output]], None] | None = None,
        *,
        ticks: bool = False,
    ) -> int:
        """Take up events, in micro-batches of ``batch``; how many. ``told`` gets the outputs of each. With ``ticks`` what falls due by the
        log's own time is done between them, as by a worker every second: who has left gets a list for the next visit.
        """
        stream, count = iter(events), 0
        while chunk := list(islice(stream, batch)):
            records = [SourceRecord(EVENTS.name, 0, self._offset + n, one.at_ms, one.key, one.value) for n, one in enumerate(chunk)]
            self._offset += len(records)
            count += len(records)
            self._take(self._processor.process(self._state, Batch(0, records, chunk[-1].at_ms, caught_up=True)), told)
            while ticks and (step := self._processor.tick(self._state, 0, chunk[-1].at_ms)) is not None:
                self._take(step, told)
                if not any(output.topic == RECOMMENDATIONS.name for output in step.outputs):
                    break
        return count

    def _take(self, step: Step, told: Callable[[Sequence[Output]], None] | None) -> None:
        self._state.apply(step.writes)
        grown = [SourceRecord(SESSIONS.name, 0, 0, 0, out.key, out.value) for out in step.outputs if out.topic == SESSIONS.name]
        self.sessions.apply(read_deltas(grown))
        if told is not None:
            told(step.outputs)

    def weigh(self, weights: SourceWeights) -> None:
        """Data assets count what ``weights`` says from the next event on, in ``learn``. Needs ``settings.value_feedback``."""
        self._processor.feedback_changed(weights)

    def lists(self, users: Sequence[str], now_ms: int, repeats: Repeats = "allow") -> list[list[str]]:
        """SKUs for each user's next visit, best first, as of what was learned; ``now_ms`` is the time of the popular lists."""
        ranker = self._ranker(repeats)
        found: list[list[str]] = []
        skus = self.catalogue.table.skus
        for first in range(0, len(users), _BATCH):
            shoppers = [Shopper(user, False) for user in users[first : first + _BATCH]]
            stored = self._state.get_many([shopper.profile_key for shopper in shoppers])
            profiles = [Profile() if data is None else decode_profile(data) for data in stored]
            ranked = ranker.rank(profiles, now_ms, [shopper.name for shopper in shoppers], next_visit=True)
            found += [[skus[row] for row in rows if row >= 0] for rows in ranked.rows.tolist()]
        return found

    def candidates(self, shoppers: Sequence[Shopper], now_ms: int) -> list[tuple[NDArray[np.int32], NDArray[np.float32]] | None]:
        """What a trained ranker would be given for each: rows int32[c] and features float32[c, f]; None for one who is not known."""
        stored = self._state.get_many([shopper.profile_key for shopper in shoppers])
        known = [(shopper, decode_profile(data)) for shopper, data in zip(shoppers, stored, strict=True) if data is not None]
        if not known:
            return [None] * len(shoppers)
        found = self._ranker("allow").candidates([profile for _, profile in known], now_ms, [shopper.name for shopper, _ in known])
        parts = iter(zip(found.starts[:-1].tolist(), found.starts[1:].tolist(), strict=True))
        slices = [None if data is None else slice(*next(parts)) for data in stored]
        return [None if part is None else (found.rows[part], found.features[part]) for part in slices]

    def popular(self, now_ms: int) -> list[str]:
        """The popularity baseline."""
        rows = self._ranker("allow").baseline(now_ms).overall[: self.settings.k]
        return [self.catalogue.table.skus[row] for row in np.asarray(rows).tolist()]

    def _ranker(self, repeats: Repeats) -> Ranker:
        if repeats not in self._rankers:
            self._rankers[repeats] = make_ranker(
                self.settings, self.catalogue, self.sessions, self._parameters,
                repeats=repeats, trained=self._trained, named=self._sequence, queries=self._queries, factors=self._factors,
            )  # fmt: skip
        return self._rankers[repeats]


def _load_sequence(settings: Settings) -> NamedModel | None:
    if settings.sequence is None:
        return None
    from models.sequence.source import NamedModel

    return NamedModel.load(settings.sequence)
