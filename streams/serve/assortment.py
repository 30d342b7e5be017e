"""The catalogue, its vectors and texts and the live sessions in memory: what "similar", "trending" and searches are answered from."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.catalog.catalogue import Catalogue
from models.catalog.items import CATEGORY_SEPARATOR
from models.index.base import Float32
from models.retrieval import LiveSessions
from models.search.fusion import PARTS, UNIT
from models.search.products import ProductSearch
from models.search.semantic import nearest
from models.search.taste import Taste
from schemas.serving import ListedProduct, SearchHit, SearchResults, SearchShare, Share, SimilarItems, Trending
from schemas.topics import CATALOG, EMBEDDINGS
from streams.agents.deltas import sessions_broadcast
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.errors import BroadcastFailed
from streams.runtime.names import group_id
from streams.runtime.processor import Record
from streams.runtime.task import Broadcast
from streams.serve.rules import ServedRules
from streams.settings import Settings

logger = logging.getLogger(__name__)

_DRAIN_S: Final = 0.1
_BACKGROUND_S: Final = 1.0
_CATCH_UP_S: Final = 2.0
Answer = TypeVar("Answer")


class UnknownProductError(LookupError):
    """The catalogue never held this SKU."""


class UnknownCategoryError(LookupError):
    """No product was ever in this category."""


class Assortment:
    """Read from the broadcast topics as every recommend worker does.

    One thread applies records and answers questions, in turn, so neither needs a lock; ``ask`` is how others reach it. Texts are
    indexed only where the settings ask for search. Business rules, where the settings name a file of them, bind what is similar and
    trending as they bind lists. Raises ``RulesWrong`` where that holds none.
    """

    def __init__(self, settings: Settings) -> None:
        # On the CPU: a replica answers single questions, and the GPU belongs to the workers.
        # Merges of the vector index take seconds on a large catalogue: in a thread of their own, answers go on meanwhile.
        merges = ThreadPoolExecutor(1, thread_name_prefix="serve-index")
        self._catalogue = Catalogue(settings.index, "cpu", settings.threads, executor=merges, max_bytes=settings.max_event_bytes)
        self._search = ProductSearch(self._catalogue) if settings.search else None
        self._foreign: str | None = None
        self._sessions = LiveSessions(self._catalogue.table.intern, settings.trending_half_life_s * 1000, settings.live_sessions)
        self._rules = ServedRules(settings, self._catalogue.table, self._sessions.trending)
        broadcasts = (
            Broadcast(CATALOG.name, self._apply_products),
            Broadcast(EMBEDDINGS.name, self._apply_embeddings),
            sessions_broadcast(self._sessions),
        )
        names = {broadcast.topic: settings.topic(broadcast.topic) for broadcast in broadcasts}
        self._reader = BroadcastReader(settings.client_config(), group_id(settings, "serve"), broadcasts, names, self._failed)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="serve-assortment")
        self._clock = threading.Thread(target=self._keep_current, name="serve-clock", daemon=True)
        #: SKUs that the catalogue held once and that may not be shown now. Written by the thread that applies, read by any.
        self.withdrawn: set[str] = set()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self.error: BaseException | None = None

    @property
    def ready(self) -> bool:
        """Whether the topics have been read to the end that they had at the start."""
        return self._ready.is_set()

    def start(self) -> None:
        """Begin to read. Raises ``BroadcastFailed`` where a topic is missing."""
        self._reader.start()
        self._clock.start()

    def ask(self, question: Callable[[], Answer]) -> Future[Answer]:
        """Answer ``question`` (``similar``, ``trending`` or ``search``, bound) in the thread that owns the indexes."""
        return self._worker.submit(question)

    def similar(self, sku: str, k: int, now_ms: int, country: str = "") -> SimilarItems:
        """At most ``k`` products near ``sku`` that may be shown, best first, under the rules for who looks at it and is in ``country``.

        Raises ``UnknownProductError``.
        """
        table = self._catalogue.table
        if not table.known(sku):
            raise UnknownProductError(sku)
        row = table.row(sku)
        ruled = self._rules.of(int(table.category[row]), country, k, now_ms, without=row)
        shares: dict[int, list[Share]] = {}
        if table.has_vector[row] and len(self._catalogue.index):
            for other, score in self._nearest(row, ruled.depth, ruled.eligible):
                shares.setdefault(other, []).append(Share(source="similar", score=_unit(score)))
        companions = self._sessions.cooccurrence.neighbours_of(row)
        for other, weight in companions:
            shares.setdefault(other, []).append(Share(source="together", score=_unit(weight / companions[0][1])))
        listed = [(other, sum(share.score for share in of) / 2) for other, of in shares.items() if ruled.eligible[other]]
        best = ruled.arrange(sorted(listed, key=lambda item: (-item[1], item[0])))
        items = tuple(self._product(one.row, one.score, tuple(shares.get(one.row, ())), one.pinned) for one in best)
        return SimilarItems(sku=sku, rules=self._rules.digest, items=items)

    def trending(self, category: str | None, k: int, now_ms: int, country: str = "") -> Trending:
        """At most ``k`` of what is popular now, in ``category`` and below it, or everywhere, under the rules for who looks at it and is in
        ``country``. Raises ``UnknownCategoryError``.
        """
        table = self._catalogue.table
        codes = [] if category is None else self._codes_below(category)
        ruled = self._rules.of(_code_of(category, table.categories), country, k, now_ms)
        lists = ruled.trending.lists(ruled.eligible, table.category[: len(table)], len(table.categories), now_ms, table.version)
        if category is None:
            rows, values = lists.overall, lists.overall_values
        else:
            rows, values = lists.categories[codes].ravel(), lists.category_values[codes].ravel()
            order = np.lexsort((rows, -values))
            rows, values = rows[order], values[order]
        # The lists may be a moment older than the table.
        pairs = [(row, value) for row, value in zip(rows.tolist(), values.tolist(), strict=True) if row >= 0 and ruled.eligible[row]]
        items = tuple(self._product(one.row, one.score, pinned=one.pinned) for one in ruled.arrange(pairs))
        return Trending(category=category, rules=self._rules.digest, items=items)

    def search(
        self,
        query: str,
        vector: Float32 | None,
        encoder: str,
        taste: Taste | None,
        category: str | None,
        k: int,
        degraded: tuple[str, ...] = (),
    ) -> SearchResults:
        """At most ``k`` products for a normalised query that may be shown, in ``category`` and below it, or everywhere, best first.

        ``vector``: float32[d], the query's by ``encoder``; left out, as ``degraded`` then says, where the catalogue's are by another
        one. ``degraded``: what was left out before. Raises ``UnknownCategoryError``.
        """
        assert self._search is not None, "settings.search is off"
        codes = None if category is None else self._codes_below(category)
        if vector is not None and self._catalogue.encoder not in (None, encoder):
            self._note_foreign(encoder)
            vector, degraded = None, (*degraded, "semantic")
        found = self._search.search(query, vector, taste, codes, k)
        hits = tuple(map(self._hit, found.rows.tolist(), found.shares))
        return SearchResults(query=query, category=category, personal=taste is not None, degraded=degraded, items=hits)

    def stop(self) -> None:
        """End both threads and let go of the broker."""
        self._stopping.set()
        if self._clock.ident is not None:
            self._clock.join()
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._reader.stop()
        self._catalogue.close()
        if self._search is not None:
            self._search.close()

    def _nearest(self, row: int, k: int, eligible: NDArray[np.bool_]) -> list[tuple[int, float]]:
        """(row, cosine) of the ``k`` products nearest to ``row`` of those ``eligible``, as far as there are so many, best first."""
        table = self._catalogue.table
        rows, cosines = nearest(self._catalogue.index, table.vectors[row], k, eligible)
        return list(zip(rows.tolist(), cosines.tolist(), strict=True))

    def _codes_below(self, category: str) -> list[int]:
        """The codes of a category path and all below it. Raises ``UnknownCategoryError``."""
        below = category + CATEGORY_SEPARATOR
        codes = [code for code, path in enumerate(self._catalogue.table.categories) if path == category or path.startswith(below)]
        if not codes:
            raise UnknownCategoryError(category)
        return codes

    def _category_of(self, row: int) -> str:
        table = self._catalogue.table
        code = int(table.category[row])
        return table.categories[code] if code >= 0 else ""

    def _hit(self, row: int, shares: NDArray[np.int64]) -> SearchHit:
        table = self._catalogue.table
        parts = tuple(SearchShare(source=name, score=share / UNIT) for name, share in zip(PARTS, shares.tolist(), strict=True) if share)
        score = int(shares.sum()) / UNIT
        return SearchHit(sku=table.skus[row], title=table.titles[row], category=self._category_of(row), score=score, shares=parts)

    def _note_foreign(self, encoder: str) -> None:
        serving = self._catalogue.encoder
        if serving != self._foreign:
            self._foreign = serving
            logger.warning(
                "searches find by word alone: the catalogue's vectors are by the encoder %s, this process has %s; set --encoder to the "
                "embed worker's, or wait until that has embedded the catalogue anew", serving, encoder,
            )  # fmt: skip

    def _product(self, row: int, score: float, shares: tuple[Share, ...] = (), pinned: bool = False) -> ListedProduct:
        table = self._catalogue.table
        return ListedProduct(
            sku=table.skus[row], title=table.titles[row], category=self._category_of(row), score=_unit(score), pinned=pinned or None,
            shares=shares,
        )  # fmt: skip

    def _apply_products(self, records: Sequence[Record]) -> None:
        table = self._catalogue.table
        rows = self._catalogue.apply_products((record.key, record.value) for record in records)
        self._rules.note(rows)
        for row in rows:
            if row >= 0 and not table.active[row]:
                self.withdrawn.add(table.skus[row])
            elif row >= 0:
                self.withdrawn.discard(table.skus[row])

    def _apply_embeddings(self, records: Sequence[Record]) -> None:
        self._catalogue.apply_embeddings((record.key, record.value) for record in records)

    def _keep_current(self) -> None:
        try:
            while not self._stopping.is_set() and not self._ready.is_set():
                self._worker.submit(self._catch_up).result()
            last = 0.0
            while not self._stopping.wait(_DRAIN_S):
                self._worker.submit(self._reader.drain).result()
                now = time.monotonic()
                if now - last >= _BACKGROUND_S:
                    last = now
                    self._worker.submit(self._catalogue.background, int(now * 1000)).result()
                    self._worker.submit(self._rules.poll).result()
        except BaseException as error:
            if not self._stopping.is_set():
                self._failed(error)

    def _catch_up(self) -> None:
        """Try for a moment only, so that a stop need not wait for a long topic."""
        try:
            self._reader.catch_up(_CATCH_UP_S)
        except BroadcastFailed:
            self._reader.drain()  # raises if it was more than the moment being over
        else:
            self._ready.set()

    def _failed(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            logger.error("similar, trending and search go stale until this process is started again: %s", error)


def _code_of(category: str | None, categories: Sequence[str]) -> int:
    """Of a category that products are in itself; -1 for one that only has others below it."""
    return categories.index(category) if category in categories else -1


def _unit(value: float) -> float:
    return round(min(1.0, max(0.0, float(value))), 6)
