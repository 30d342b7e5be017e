"""One call from profiles to lists: every source once for the whole micro-batch, then fused, filtered and diversified."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import CATEGORY_SEPARATOR, ItemTable
from models.profiles.columns import ProfileColumns, columns_of
from models.profiles.interest import Anchors, anchors_of
from models.profiles.profile import Profile
from models.ranking.diversity import Projection, diversify
from models.ranking.fusion import DEFAULTS, Parameters, fill_pools
from models.ranking.lists import SOURCES, RankedLists
from models.retrieval.cooccurrence import Neighbours
from models.retrieval.popularity import TopLists
from models.retrieval.session_votes import Votes, no_votes
from models.retrieval.sessions import LiveSessions
from models.retrieval.similar import NeighbourLists, TextNeighbours

Repeats = Literal["allow", "drop_bought", "drop_seen"]
_REPEAT_CODES: Final[dict[str, int]] = {"allow": 0, "drop_bought": 1, "drop_seen": 2}
#: Candidates of which the list is chosen: enough for diversity to have a choice, few enough to compare pairwise.
_POOL_FACTOR: Final = 2.5
#: Candidates that past sessions may put forward.
_SESSION_CANDIDATES: Final = 100

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Ranker:
    """Lists of ``k`` items out of ``items``, from live ``sessions``, text ``neighbours`` and each shopper's own history.

    ``repeats``: may items that the shopper bought (or saw) come back? ``diversity`` 0..1: weight of difference against score.
    A source that raises is left out of the batch and named in ``degraded``. While the catalogue knows no product at all, every item
    that events spoke of may be listed.
    """

    def __init__(
        self,
        items: ItemTable,
        sessions: LiveSessions,
        neighbours: TextNeighbours,
        *,
        k: int = 20,
        repeats: Repeats = "allow",
        diversity: float = 0.1,
        parameters: Parameters = DEFAULTS,
    ) -> None:
        self._items = items
        self._sessions = sessions
        self._neighbours = neighbours
        self._k = k
        self._repeats = _REPEAT_CODES[repeats]
        self._diversity = diversity
        self._parameters = parameters
        self._projection = Projection(items.dimensions)
        self._place = np.zeros(0, dtype=np.int64)
        self._base = 1
        self._on_sale = items.active.copy()
        self._category_codes: dict[str, list[int]] = {}
        self._categories_read = 0
        self._failing: set[str] = set()

    def note_vectors(self, rows: Sequence[int]) -> None:
        """The vectors of ``rows`` were set or dropped."""
        for row in rows:
            self._neighbours.note(row)
            self._projection.forget(row)

    def note_products(self, rows: Sequence[int]) -> None:
        """The products of ``rows`` were set or deleted. One that came (back) on sale belongs into its neighbours' lists."""
        if len(self._on_sale) < self._items.capacity:
            extra = self._items.capacity - len(self._on_sale)
            self._on_sale = np.concatenate([self._on_sale, np.zeros(extra, dtype=np.bool_)])
        for row in rows:
            on_sale = bool(self._items.active[row])
            if on_sale and not self._on_sale[row]:
                self._neighbours.note(row)
            self._on_sale[row] = on_sale

    def eligible(self) -> NDArray[np.bool_]:
        """bool[rows]: what may be listed now."""
        rows = len(self._items)
        if self._items.version == 0:
            return np.ones(rows, dtype=np.bool_)
        return self._items.active[:rows]

    def rank(self, profiles: Sequence[Profile], now_ms: int, shoppers: Sequence[str] = ()) -> RankedLists:
        """A list for each of n profiles, which are those of ``shoppers`` (none given: of nobody whose sessions are known).

        ``now_ms`` is the wall clock, which only paces the renewal of cached lists.
        """
        degraded: list[str] = []
        columns = columns_of(profiles, self._items.rows, self._categories_named, with_seen=self._repeats == 2)
        anchors = anchors_of(columns)
        rows = len(self._items)
        similar = self._guard("similar", degraded, lambda: self._find_similar(anchors), _no_lists)
        together = self._guard("together", degraded, lambda: self._sessions.cooccurrence.view(rows), _no_neighbours)
        sessions = self._guard(
            "sessions", degraded, lambda: self._find_sessions(columns, anchors, shoppers), lambda: no_votes(len(columns))
        )
        trending = self._guard("trending", degraded, lambda: self.trending(now_ms), _no_top_lists)
        return self._fuse(columns, anchors, similar, together, sessions, trending, tuple(degraded))

    def trending(self, now_ms: int) -> TopLists:
        """What is popular now among the items that may be listed."""
        return self._sessions.trending.lists(*self._scope(), now_ms, self._items.version)

    def baseline(self, now_ms: int) -> TopLists:
        """The popularity baseline that lists are judged against."""
        return self._sessions.baseline.lists(*self._scope(), now_ms, self._items.version)

    def _scope(self) -> tuple[NDArray[np.bool_], NDArray[np.int32], int]:
        return self.eligible(), self._items.category[: len(self._items)], len(self._items.categories)

    def _guard(self, source: str, degraded: list[str], find: Callable[[], _Result], without: Callable[[], _Result]) -> _Result:
        try:
            result = find()
        except Exception:
            if source not in self._failing:
                self._failing.add(source)
                _log.exception("source %r failed; lists are made without it and say so in `degraded` until it works again", source)
            degraded.append(source)
            return without()
        if source in self._failing:
            self._failing.remove(source)
            _log.warning("source %r works again", source)
        return result

    def _find_similar(self, anchors: Anchors) -> NeighbourLists:
        items = self._items
        # Column by column, so that a cut in the number of searches takes the shoppers' oldest anchors.
        wanted = anchors.rows.T.ravel()
        wanted = wanted[wanted >= 0]
        _, first = np.unique(wanted, return_index=True)
        self._neighbours.ensure(wanted[np.sort(first)], items.vectors, items.has_vector, self.eligible())
        return self._neighbours.view(len(items))

    def _find_sessions(self, columns: ProfileColumns, anchors: Anchors, shoppers: Sequence[str]) -> Votes:
        """What past sessions like this one went on to. The shopper's own, which is among them, has no say."""
        own = np.full(len(columns), -1, dtype=np.int64)
        own[: len(shoppers)] = [self._sessions.newest_of(shopper) for shopper in shoppers]
        return self._sessions.index.vote(anchors.rows, anchors.weights, own, columns.now_ms, _SESSION_CANDIDATES)

    def _fuse(
        self,
        columns: ProfileColumns,
        anchors: Anchors,
        similar: NeighbourLists,
        together: Neighbours,
        sessions: Votes,
        trending: TopLists,
        degraded: tuple[str, ...],
    ) -> RankedLists:
        shoppers = len(columns)
        pool = int(self._k * _POOL_FACTOR) if self._diversity > 0 else self._k
        pool_rows = np.full((shoppers, pool), -1, dtype=np.int32)
        pool_shares = np.zeros((shoppers, pool, len(SOURCES)), dtype=np.int32)
        pool_because = np.zeros((shoppers, pool, len(SOURCES)), dtype=np.int32)
        pool_sizes = np.zeros(shoppers, dtype=np.int64)
        policy = np.zeros(shoppers, dtype=np.int8)
        if len(self._place) < len(self._items):
            self._place = np.concatenate([self._place, np.zeros(max(1024, len(self._items)), dtype=np.int64)])
        self._base = fill_pools(
            self._parameters, self._repeats, self.eligible(), self._items.category, self._place, self._base,
            columns.now_ms, columns.bought_start, columns.bought_row, columns.bought_purchases, columns.bought_at,
            columns.seen_start, columns.seen_row, columns.affinity_start, columns.affinity_category, columns.affinity_weight,
            anchors.rows, anchors.weights, anchors.types,
            similar.slot, similar.rows, similar.scores,
            together.slot, together.sizes, together.rows, together.weights, together.rarity,
            sessions.rows, sessions.scores, sessions.because, sessions.sizes,
            trending.overall, trending.overall_values, trending.categories, trending.category_values,
            pool_rows, pool_shares, pool_because, pool_sizes, policy,
        )  # fmt: skip
        rows = np.full((shoppers, self._k), -1, dtype=np.int32)
        shares = np.zeros((shoppers, self._k, len(SOURCES)), dtype=np.int32)
        because = np.full((shoppers, self._k, len(SOURCES)), -1, dtype=np.int32)
        sizes = np.zeros(shoppers, dtype=np.int64)
        if self._diversity > 0:
            self._project(pool_rows)
        diversify(
            pool_rows, pool_shares, pool_because, pool_sizes, self._projection.values, np.float32(self._diversity),
            rows, shares, because, sizes,
        )  # fmt: skip
        return RankedLists(rows, sizes, shares, because, anchors.rows, anchors.types, policy, degraded)

    def _project(self, pool_rows: NDArray[np.int32]) -> None:
        if self._projection.dimensions != self._items.dimensions:
            self._projection = Projection(self._items.dimensions)
        mentioned = np.zeros(len(self._items) + 1, dtype=np.bool_)  # the last entry takes the -1 of padding
        mentioned[pool_rows] = True
        self._projection.ensure(np.flatnonzero(mentioned[:-1]).astype(np.int32), self._items.vectors)

    def _categories_named(self, name: str) -> Sequence[int]:
        """Codes of the categories whose path, or a part of it, is ``name``."""
        categories = self._items.categories
        for code in range(self._categories_read, len(categories)):
            path = categories[code]
            for part in {path, *path.split(CATEGORY_SEPARATOR)}:
                self._category_codes.setdefault(part, []).append(code)
        self._categories_read = len(categories)
        return self._category_codes.get(name, ())


def _no_lists() -> NeighbourLists:
    return NeighbourLists(np.empty(0, np.int32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))


def _no_neighbours() -> Neighbours:
    empty = np.empty(0, np.int32)
    return Neighbours(empty, empty, np.empty((0, 1), np.int32), np.empty((0, 1), np.float32), np.empty(0, np.float32))


def _no_top_lists() -> TopLists:
    return TopLists(np.empty(0, np.int32), np.empty(0, np.float32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))
