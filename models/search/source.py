"""A shopper's last search as a source of candidates: what product search finds for it, remembered by query."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.catalogue import Catalogue
from models.index.base import Float32
from models.profiles.profile import TYPE_BITS, Profile
from models.retrieval.session_votes import Votes, no_votes
from models.search.products import ProductSearch

if TYPE_CHECKING:  # torch comes with it, which most workers do without
    from models.encoder.encoder import Encoder

#: A search so old, on the clock of the shopper's events, counts half; so does one after which an item was touched, which says more. One
#: from before the last visit's end counts nothing.
HALF_LIFE_MS: Final = 10 * 60_000
#: Power of a product's relevance over the best one's: places in a fused ranking fall too slowly to tell good products from fair ones.
SHARPNESS: Final = 2.0
#: Queries encoded, and looked up, at most in one micro-batch: about 0.1 s each on one core. The others wait for the next batch of their
#: shopper.
ENCODE_LIMIT: Final = 16
SEARCH_LIMIT: Final = 32
#: Products searched at most in one micro-batch, in all queries: one of 10,000 products takes 1.8 ms, one of 100,000 11.5 ms.
PRODUCT_LIMIT: Final = 1_000_000
#: Queries remembered, those asked for longest ago forgotten first: some 10 MB.
REMEMBERED: Final = 4_096
#: What was found for a query is found anew after this time, if products or vectors have changed since.
STALE_MS: Final = 30_000

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Found:
    """``rows`` int32[n], best first, and ``relevance`` float32[n] of the best; ``changes`` that were known then, and when that was."""

    rows: NDArray[np.int32]
    relevance: NDArray[np.float32]
    changes: int
    at_ms: int
    with_vector: bool


class QuerySource:
    """Products that fit each shopper's last search, over one ``catalogue``, which it follows from its first record on.

    By word and, with an ``encoder``, by meaning (``models.search``); without the vector of a query, or where the catalogue's are
    another encoder's, by word alone. What a query found is used again for all who search for it. A pause of ``gap_ms`` ends a visit, and
    with it what the search says. Not thread-safe. Raises what ``ProductSearch`` raises.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gap_ms: int,
        encoder: Encoder | None = None,
        *,
        encode_limit: int = ENCODE_LIMIT,
        search_limit: int = SEARCH_LIMIT,
        remembered: int = REMEMBERED,
    ) -> None:
        self._catalogue = catalogue
        self._gap_ms = gap_ms
        self._encoder = encoder
        self._encode_limit = encode_limit
        self._search_limit = search_limit
        self._remembered = remembered
        self._search = ProductSearch(catalogue)
        self._vectors: OrderedDict[str, Float32] = OrderedDict()
        self._found: OrderedDict[str, _Found] = OrderedDict()
        self._changes = 0
        self._foreign: str | None = None

    def note(self) -> None:
        """Products or vectors were set or deleted."""
        self._changes += 1

    def find(self, profiles: Sequence[Profile], now_ms: int, limit: int) -> Votes:
        """The best ``limit`` of each of n shoppers; score: relevance over that of the query's best, fading with the search's age and with
        each item touched since.

        ``now_ms`` is any clock that moves on; it paces what is looked up anew.
        """
        votes = no_votes(len(profiles), limit)
        weights: dict[int, float] = {}
        asked: dict[str, None] = {}
        for place, profile in enumerate(profiles):
            age = profile.last_ms - profile.query_ms
            if profile.query and age <= self._gap_ms:
                weights[place] = 0.5 ** (age / HALF_LIFE_MS + _touched_since(profile))
                asked[profile.query] = None
        if not asked:
            return votes
        found = self._look_up(list(asked), now_ms, limit)
        for place, weight in weights.items():
            known = found.get(profiles[place].query)
            if known is not None:
                size = min(limit, len(known.rows))
                votes.rows[place, :size] = known.rows[:size]
                votes.scores[place, :size] = weight * known.relevance[:size]
                votes.sizes[place] = size
        return votes

    def close(self) -> None:
        """Let go of the memory of the words."""
        self._search.close()

    def _look_up(self, queries: Sequence[str], now_ms: int, limit: int) -> dict[str, _Found]:
        """What is known of ``queries`` after this batch's share of the work."""
        vectors = self._encode(queries)
        left = max(1, min(self._search_limit, PRODUCT_LIMIT // max(1, len(self._catalogue.table))))
        known: dict[str, _Found] = {}
        for query in queries:
            found = self._found.get(query)
            if (found is None or self._is_stale(found, now_ms, query in vectors)) and left:
                left -= 1
                found = self._found[query] = self._find(query, vectors.get(query), now_ms, limit)
            if found is not None:
                self._found.move_to_end(query)
                known[query] = found
        while len(self._found) > self._remembered:
            self._found.popitem(last=False)
        return known

    def _is_stale(self, found: _Found, now_ms: int, with_vector: bool) -> bool:
        if with_vector != found.with_vector:  # it was encoded since, or the catalogue changed its encoder
            return True
        return found.changes != self._changes and not 0 <= now_ms - found.at_ms < STALE_MS

    def _find(self, query: str, vector: Float32 | None, now_ms: int, limit: int) -> _Found:
        fused = self._search.search(query, vector, k=limit)
        scores = fused.scores()
        relevance = (scores / max(1, int(scores.max(initial=0)))) ** SHARPNESS
        return _Found(fused.rows.astype(np.int32), relevance.astype(np.float32), self._changes, now_ms, vector is not None)

    def _encode(self, queries: Sequence[str]) -> dict[str, Float32]:
        """Vectors of as many of ``queries`` as are remembered or may be encoded now, in one call."""
        encoder = self._encoder
        if encoder is None:
            return {}
        serving = self._catalogue.encoder
        if serving != encoder.version:
            self._note_foreign(serving, encoder.version)
            return {}
        new = [query for query in queries if query not in self._vectors][: self._encode_limit]
        if new:
            self._vectors.update(zip(new, encoder.encode(new), strict=True))
        known: dict[str, Float32] = {}
        for query in queries:
            if query in self._vectors:
                self._vectors.move_to_end(query)
                known[query] = self._vectors[query]
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)
        return known

    def _note_foreign(self, serving: str | None, own: str) -> None:
        if serving is not None and serving != self._foreign:
            self._foreign = serving
            _log.warning(
                "searches are understood by word alone: the catalogue's vectors are by the encoder %s, this process has %s; set --encoder "
                "to the embed worker's, or wait until that has embedded the catalogue anew", serving, own,
            )  # fmt: skip


def _touched_since(profile: Profile) -> int:
    """Recent events on items that came after the search."""
    return int((np.frombuffer(profile.recent, dtype="<i8") >> TYPE_BITS > profile.query_ms).sum())
