"""One call from profiles to lists: every source once for the whole micro-batch, then fused, filtered and diversified."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import CATEGORY_SEPARATOR, ItemTable
from models.profiles.columns import ProfileColumns, columns_of
from models.profiles.interest import Anchors, anchors_of
from models.profiles.profile import Profile
from models.ranking.candidates import describe, reorder
from models.ranking.diversity import Projection, diversify
from models.ranking.fusion import DEFAULTS, Parameters, fill_pools
from models.ranking.lists import MODEL, NEXT_VISIT_MODEL, SOURCES, RankedLists
from models.ranking.next_visit import DEFAULTS as COVERAGE
from models.ranking.next_visit import Coverage, cover
from models.ranking.trained import TrainedRanker
from models.retrieval.cooccurrence import Neighbours
from models.retrieval.popularity import TopLists
from models.retrieval.session_votes import Votes, no_votes
from models.retrieval.sessions import LiveSessions
from models.retrieval.similar import NeighbourLists, TextNeighbours

Repeats = Literal["allow", "drop_bought", "drop_seen"]
_REPEAT_CODES: Final[dict[str, int]] = {"allow": 0, "drop_bought": 1, "drop_seen": 2}
#: Candidates of which the list is chosen: enough for diversity to have a choice, few enough to compare pairwise.
_POOL_FACTOR: Final = 2.5
#: Candidates that a trained ranker puts in order.
_JUDGED: Final = 100
#: Candidates that past sessions may put forward.
_SESSION_CANDIDATES: Final = 100
#: How many recent items speak for the next visit, and the factor from one to the one before it.
_NEXT_VISIT_ANCHORS: Final = (50, 1.0)

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class _Pool(NamedTuple):
    """Candidates of n shoppers, best first; see ``RankedLists`` for the arrays."""

    rows: NDArray[np.int32]
    shares: NDArray[np.int32]
    because: NDArray[np.int32]
    sizes: NDArray[np.int64]
    policy: NDArray[np.int8]

    @classmethod
    def empty(cls, shoppers: int, size: int) -> _Pool:
        """Room for ``size`` each."""
        return cls(*_room(shoppers, size), np.zeros(shoppers, dtype=np.int8))


class _Lists(NamedTuple):
    """The first fields of ``RankedLists``."""

    rows: NDArray[np.int32]
    sizes: NDArray[np.int64]
    shares: NDArray[np.int32]
    because: NDArray[np.int32]

    @classmethod
    def empty(cls, shoppers: int, size: int) -> _Lists:
        """Room for ``size`` each."""
        rows, shares, because, sizes = _room(shoppers, size)
        return cls(rows, sizes, shares, because)


class Candidates(NamedTuple):
    """Of n shoppers, end to end: those of shopper i are ``rows[starts[i] : starts[i + 1]]`` int32, the blend's best first, with
    ``features`` float32[c, f] (``candidates.NAMES``).
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    features: NDArray[np.float32]


class Ranker:
    """Lists of ``k`` items out of ``items``, from live ``sessions``, text ``neighbours`` and each shopper's own history.

    ``repeats``: may items that the shopper bought (or saw) come back? ``diversity`` 0..1: weight of difference against score.
    A source that raises is left out of the batch and named in ``degraded``. While the catalogue knows no product at all, every item
    that events spoke of may be listed.

    ``trained``, which may be set at any time, orders the best candidates of the blend anew; a list's scores are then the probabilities
    that the shopper's next event is about the item. Lists for the next visit are not ordered so.
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
        coverage: Coverage = COVERAGE,
        trained: TrainedRanker | None = None,
    ) -> None:
        self._items = items
        self._sessions = sessions
        self._neighbours = neighbours
        self._k = k
        self._repeats = _REPEAT_CODES[repeats]
        self._diversity = diversity
        self._parameters = parameters
        self._coverage = coverage
        self.trained = trained
        # For the next visit, own purchases and what is popular are weighed by the visits that they cover.
        self._others = parameters._replace(again=0.0, trending=0.0)
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

    def rank(self, profiles: Sequence[Profile], now_ms: int, shoppers: Sequence[str] = (), *, next_visit: bool = False) -> RankedLists:
        """A list for each of n profiles, which are those of ``shoppers`` (none given: of nobody whose sessions are known).

        ``now_ms`` is the wall clock, which only paces the renewal of cached lists. ``next_visit``: the lists are not for the visit that
        goes on but for the one after it.
        """
        degraded: list[str] = []
        columns = columns_of(profiles, self._items.rows, self._categories_named, with_seen=self._repeats == 2)
        anchors = anchors_of(columns, *_NEXT_VISIT_ANCHORS) if next_visit else anchors_of(columns)
        rows = len(self._items)
        similar = self._guard("similar", degraded, lambda: self._find_similar(anchors), _no_lists)
        together = self._guard("together", degraded, lambda: self._sessions.cooccurrence.view(rows), _no_neighbours)
        sessions = self._guard(
            "sessions", degraded, lambda: self._find_sessions(columns, anchors, shoppers), lambda: no_votes(len(columns))
        )
        trending = self._guard("trending", degraded, lambda: self.trending(now_ms), _no_top_lists)
        trained = None if next_visit else self.trained
        size = self._k if self._diversity == 0 and not next_visit else int(self._k * _POOL_FACTOR)
        pool = self._fuse(
            self._others if next_visit else self._parameters, max(size, _JUDGED) if trained else size,
            columns, anchors, similar, together, sessions, trending,
        )  # fmt: skip
        model = NEXT_VISIT_MODEL if next_visit else MODEL
        if trained is not None:
            model = self._guard("ranker", degraded, lambda: self._order_anew(pool, columns, anchors, trained), lambda: MODEL)
        lists = self._cover(columns, pool, shoppers) if next_visit else self._diversify(pool)
        return RankedLists(*lists, anchors.rows, anchors.types, pool.policy, tuple(degraded), model)

    def candidates(self, profiles: Sequence[Profile], now_ms: int, shoppers: Sequence[str] = ()) -> Candidates:
        """What a trained ranker would be given to order for these profiles (see ``rank``)."""
        columns = columns_of(profiles, self._items.rows, self._categories_named, with_seen=self._repeats == 2)
        anchors = anchors_of(columns)
        pool = self._fuse(
            self._parameters, _JUDGED, columns, anchors, self._find_similar(anchors), self._sessions.cooccurrence.view(len(self._items)),
            self._find_sessions(columns, anchors, shoppers), self.trending(now_ms),
        )  # fmt: skip
        starts, features = self._describe(pool, columns, anchors)
        return Candidates(starts, pool.rows[np.arange(_JUDGED) < pool.sizes[:, None]], features)

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
        parameters: Parameters,
        size: int,
        columns: ProfileColumns,
        anchors: Anchors,
        similar: NeighbourLists,
        together: Neighbours,
        sessions: Votes,
        trending: TopLists,
    ) -> _Pool:
        pool = _Pool.empty(len(columns), size)
        if len(self._place) < len(self._items):
            self._place = np.concatenate([self._place, np.zeros(max(1024, len(self._items)), dtype=np.int64)])
        self._base = fill_pools(
            parameters, self._repeats, self.eligible(), self._items.category, self._place, self._base,
            columns.now_ms, columns.bought_start, columns.bought_row, columns.bought_purchases, columns.bought_at,
            columns.seen_start, columns.seen_row, columns.affinity_start, columns.affinity_category, columns.affinity_weight,
            anchors.rows, anchors.weights, anchors.types,
            similar.slot, similar.rows, similar.scores,
            together.slot, together.sizes, together.rows, together.weights, together.rarity,
            sessions.rows, sessions.scores, sessions.because, sessions.sizes,
            trending.overall, trending.overall_values, trending.categories, trending.category_values,
            *pool,
        )  # fmt: skip
        return pool

    def _describe(self, pool: _Pool, columns: ProfileColumns, anchors: Anchors) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        popularity = self._sessions.trending.relative(len(self._items))
        return describe(pool.rows, pool.shares, pool.sizes, columns, anchors, self._items, popularity)

    def _order_anew(self, pool: _Pool, columns: ProfileColumns, anchors: Anchors, trained: TrainedRanker) -> str:
        starts, features = self._describe(pool, columns, anchors)
        reorder(pool.rows, pool.shares, pool.because, pool.sizes, starts, *trained.judge(features))
        return trained.name

    def _diversify(self, pool: _Pool) -> _Lists:
        lists = _Lists.empty(len(pool.sizes), self._k)
        if self._diversity > 0:
            self._project(pool.rows)
        diversify(
            pool.rows, pool.shares, pool.because, pool.sizes, self._projection.values, np.float32(self._diversity),
            lists.rows, lists.shares, lists.because, lists.sizes,
        )  # fmt: skip
        return lists

    def _cover(self, columns: ProfileColumns, pool: _Pool, shoppers: Sequence[str]) -> _Lists:
        lists = _Lists.empty(len(columns), self._k)
        names = [*shoppers, *[""] * (len(columns) - len(shoppers))]
        own_of, own = self._sessions.of_shoppers(names, self._coverage.own_limit)
        everybody = self._sessions.audience(self._coverage.sample, len(self._items))
        self._base = cover(
            self._coverage, self._repeats, self.eligible(), self._place, self._base,
            columns.bought_start, columns.bought_row, columns.seen_start, columns.seen_row,
            own_of, own.starts, own.rows, own.seconds,
            everybody.sessions.starts, everybody.sessions.rows, everybody.weights,
            everybody.row_starts, everybody.row_sessions, everybody.gains, everybody.leaders,
            pool.rows, pool.shares, pool.because, pool.sizes,
            lists.rows, lists.shares, lists.because, lists.sizes, pool.policy,
        )  # fmt: skip
        return lists

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


def _room(shoppers: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    return (
        np.full((shoppers, size), -1, dtype=np.int32),
        np.zeros((shoppers, size, len(SOURCES)), dtype=np.int32),
        np.full((shoppers, size, len(SOURCES)), -1, dtype=np.int32),
        np.zeros(shoppers, dtype=np.int64),
    )


def _no_lists() -> NeighbourLists:
    return NeighbourLists(np.empty(0, np.int32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))


def _no_neighbours() -> Neighbours:
    empty = np.empty(0, np.int32)
    return Neighbours(empty, empty, np.empty((0, 1), np.int32), np.empty((0, 1), np.float32), np.empty(0, np.float32))


def _no_top_lists() -> TopLists:
    return TopLists(np.empty(0, np.int32), np.empty(0, np.float32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))
