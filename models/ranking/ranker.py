"""One call from profiles to lists: every source once for the whole micro-batch, then fused, filtered and diversified."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import CATEGORY_SEPARATOR, ItemTable
from models.profiles.columns import ProfileColumns, Trust, columns_of
from models.profiles.interest import Anchors, anchors_of
from models.profiles.profile import Profile
from models.ranking.candidates import describe, reorder
from models.ranking.diversity import Projection, diversify
from models.ranking.fusion import DEFAULTS, Parameters, fill_pools
from models.ranking.lists import MODEL, NEXT_VISIT_MODEL, POPULAR_MODEL, SESSIONS, RankedLists
from models.ranking.neighbours import NeighbourSessions, attribute
from models.ranking.next_visit import DEFAULTS as COVERAGE
from models.ranking.next_visit import Coverage, cover
from models.ranking.pools import Candidates, Chosen, Described, Part, Parts, Pool
from models.ranking.trained import TrainedRanker
from models.retrieval.cooccurrence import Neighbours
from models.retrieval.popularity import Popularity, TopListing, TopLists
from models.retrieval.session_votes import Votes, no_votes
from models.retrieval.sessions import LiveSessions
from models.retrieval.similar import NeighbourLists, TextNeighbours
from models.rules.arrays import NO_RULES
from models.rules.book import RuleBook
from models.rules.file import BusinessRules
from models.rules.reach import Reach

if TYPE_CHECKING:  # torch comes with one of them, full-text search with another, which some do without
    from models.factors.source import FactorSource
    from models.search.source import QuerySource
    from models.sequence.source import SequenceSource

Repeats = Literal["allow", "drop_bought", "drop_seen"]
_REPEAT_CODES: Final[dict[str, int]] = {"allow": 0, "drop_bought": 1, "drop_seen": 2}
#: Candidates of which the list is chosen: enough for diversity to have a choice, few enough to compare pairwise.
_POOL_FACTOR: Final = 2.5
#: Candidates that a trained ranker puts in order, or that the other sources may add to a list for the next visit.
_JUDGED: Final = 100
#: How many recent items speak for the next visit, and the factor from one to the one before it.
_NEXT_VISIT_ANCHORS: Final = (50, 1.0)
#: Candidates that past sessions may put forward.
_SESSION_CANDIDATES: Final = 100
#: Candidates that a sequence model may.
_SEQUENCE_CANDIDATES: Final = 100
#: Candidates that factors may.
_FACTOR_CANDIDATES: Final = 100
#: Candidates that a search may.
_QUERY_CANDIDATES: Final = 50
#: Of all sources, what is popular alone.
_POPULARITY: Final = Parameters(similar=0.0, together=0.0, sessions=0.0, trending=1.0, again=0.0, sequence=0.0, query=0.0, factors=0.0)

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Ranker:
    """Lists of ``k`` items out of ``items``, from live ``sessions``, text ``neighbours`` and each shopper's own history.

    ``repeats``: may items that the shopper bought (or saw) come back? ``diversity`` 0..1: weight of difference against score.
    A source that raises is left out of the batch and named in ``degraded``. While the catalogue knows no product at all, every item
    that events spoke of may be listed.

    ``rules`` of the business (``models.rules``) bind every source, the popular lists and the baseline. They do not change what is
    learned: a product that was excluded for a month has its history when it comes back.

    ``parameters``, ``trained``, ``sequence``, ``factors`` and ``trust`` may be set at any time. ``trained`` orders the best candidates of
    the blend anew; a list's scores are then the probabilities that the shopper's next event is about the item. Lists for the next visit
    are not ordered so. ``sequence`` and ``factors`` are sources more, and so is ``queries``: what fits a shopper's last search, in lists
    for the visit that goes on. By ``trust`` what is known of a shopper counts by where it came from (``profiles.columns``).

    ``explain_sessions``: of each item name so many past sessions that put it forward, by hashes that ``salt`` makes.
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
        rules: BusinessRules | None = None,
        trained: TrainedRanker | None = None,
        sequence: SequenceSource | None = None,
        trust: Trust | None = None,
        queries: QuerySource | None = None,
        factors: FactorSource | None = None,
        explain_sessions: int = 0,
        salt: str = "",
    ) -> None:
        self._items = items
        self._sessions = sessions
        self._neighbours = neighbours
        self._k = k
        self._repeats = _REPEAT_CODES[repeats]
        self._diversity = diversity
        self.parameters = parameters
        self._coverage = coverage
        self.trained = trained
        self.sequence = sequence
        self.trust = trust
        self._queries = queries
        self.factors = factors
        self._explained = explain_sessions
        self._salt = salt
        self._projection = Projection(items.dimensions)
        self._place = np.zeros(0, dtype=np.int64)
        self._base = 1
        self._listable = items.active.copy()
        self._book: RuleBook | None = None
        self._version = (0, 0)
        self._listings: WeakKeyDictionary[Reach, dict[str, TopListing]] = WeakKeyDictionary()
        self._category_codes: dict[str, list[int]] = {}
        self._categories_read = 0
        self._failing: set[str] = set()
        self.enforce(rules)

    def enforce(self, rules: BusinessRules | None) -> None:
        """From the next batch on ``rules`` hold, and no others; None: none."""
        self._book = None if rules is None else RuleBook(rules, self._items, self._k)
        self._version = (0, 0)
        if self._book is None:
            self._admit(self._items.active[: len(self._items)])

    def note_vectors(self, rows: Sequence[int]) -> None:
        """The vectors of ``rows`` were set or dropped."""
        if self._queries is not None:
            self._queries.note()
        if self.sequence is not None:
            self.sequence.note(rows)
        for row in rows:
            self._neighbours.note(row)
            self._projection.forget(row)

    def note_products(self, rows: Sequence[int]) -> None:
        """The products of ``rows`` were set or deleted. One that may be listed (again) belongs into its neighbours' lists."""
        self._reserve()
        if self._queries is not None:
            self._queries.note()
        if self.factors is not None:
            self.factors.note(rows)
        if self.sequence is not None:
            self.sequence.note(rows)
        if self._book is not None:
            self._book.note(rows)
            return  # what rules say of them is known when the next batch begins
        for row in rows:
            on_sale = bool(self._items.active[row])
            if on_sale and not self._listable[row]:
                self._neighbours.note(row)
            self._listable[row] = on_sale

    def rank(
        self,
        profiles: Sequence[Profile],
        now_ms: int,
        shoppers: Sequence[str] = (),
        *,
        next_visit: bool = False,
        parameters: Parameters | None = None,
    ) -> RankedLists:
        """A list for each of n profiles, which are those of ``shoppers`` (none given: of nobody whose sessions are known).

        ``now_ms`` is the wall clock, which paces the renewal of cached lists, and by which rules come into force and end. ``next_visit``:
        the lists are not for the visit that goes on but for the one after it. ``parameters`` in the place of the ranker's own.
        """
        degraded: list[str] = []
        weights = self._weights(parameters)
        self._refresh(now_ms)
        columns = self._columns(profiles)
        anchors = anchors_of(columns, *_NEXT_VISIT_ANCHORS) if next_visit else anchors_of(columns)
        rows = len(self._items)
        similar = self._guard("similar", degraded, lambda: self._find_similar(anchors), _no_lists)
        together = self._guard("together", degraded, lambda: self._sessions.cooccurrence.view(rows), _no_neighbours)
        sessions = self._guard(
            "sessions", degraded, lambda: self._find_sessions(columns, anchors, shoppers), lambda: no_votes(len(columns))
        )
        sequence = self._guard("sequence", degraded, lambda: self._find_sequence(columns), lambda: no_votes(len(columns)))
        factors = self._guard("factors", degraded, lambda: self._find_by_factors(columns), lambda: no_votes(len(columns)))
        query = no_votes(len(columns))
        if not next_visit:
            query = self._guard("query", degraded, lambda: self._find_query(profiles, now_ms), lambda: no_votes(len(columns)))
        parts = self._parts(profiles, columns, anchors, self._sessions.popularity, now_ms, degraded)
        found = (columns, anchors, similar, together, sessions, sequence, query, factors, parts)
        policy = np.zeros(len(columns), dtype=np.int8)
        purchases: NDArray[np.int32] | None = None
        size = self._k if self._diversity == 0 else int(self._k * _POOL_FACTOR)
        if next_visit:
            # Own purchases and what is popular are weighed by the visits that they cover. Where there are caps, what they pass over
            # makes room for others.
            model, size = NEXT_VISIT_MODEL, _JUDGED if any(len(part.rules.cap_limits) for part in parts.each) else self._k
            others = self._fuse(weights._replace(again=0.0, trending=0.0), _JUDGED, *found, policy)
            chosen = self._choose(self._cover(others, size, columns, shoppers, parts, policy), size, 0.0, parts)
        else:
            model, trained = MODEL, self.trained
            if trained is not None:
                size = max(size, _JUDGED)
            pool = self._fuse(weights, size, *found, policy)
            described: Described | None = None
            if trained is not None:
                model, described = self._guard(
                    "ranker", degraded, lambda: self._order_anew(pool, columns, anchors, parts, trained), lambda: (MODEL, None)
                )
            model = "+".join([model, *(used.name for used in (self.sequence, self.factors) if used is not None)])
            chosen = self._choose(pool, size, self._diversity, parts)
            if trained is not None and described is not None:
                purchases = self._guard("purchases", degraded, partial(_purchases, described, chosen, trained), lambda: None)
        neighbours = None
        if self._explained:
            neighbours = self._guard(
                "explanations", degraded, lambda: self._neighbours_of(chosen, columns, anchors, shoppers), lambda: None
            )
        return _lists(chosen, anchors, parts, policy, degraded, model, purchases, neighbours)

    def popular(self, profiles: Sequence[Profile], now_ms: int) -> RankedLists:
        """What is popular, for each of n profiles: what a shop could show that keeps no history. Of theirs it is only looked at whose
        rules they are under, by country and by the category at hand. Rules hold as in ``rank``; ``repeats`` and diversity do not.
        """
        degraded: list[str] = []
        self._refresh(now_ms)
        known = self._columns(profiles)
        parts = self._parts(profiles, known, anchors_of(known), self._sessions.trending, now_ms, degraded)
        columns = self._columns([Profile()] * len(profiles))
        anchors = anchors_of(columns)
        nothing, policy = no_votes(len(columns)), np.zeros(len(columns), dtype=np.int8)
        pool = self._fuse(
            _POPULARITY, self._k, columns, anchors, _no_lists(), _no_neighbours(), nothing, nothing, nothing, nothing, parts, policy
        )
        return _lists(self._choose(pool, self._k, 0.0, parts), anchors, parts, policy, degraded, POPULAR_MODEL)

    def candidates(self, profiles: Sequence[Profile], now_ms: int, shoppers: Sequence[str] = ()) -> Candidates:
        """What a trained ranker would be given to order for these profiles (see ``rank``)."""
        self._refresh(now_ms)
        columns = self._columns(profiles)
        anchors = anchors_of(columns)
        pool = self._fuse(
            self._weights(None), _JUDGED, columns, anchors, self._find_similar(anchors), self._sessions.cooccurrence.view(len(self._items)),
            self._find_sessions(columns, anchors, shoppers), self._find_sequence(columns), self._find_query(profiles, now_ms),
            self._find_by_factors(columns),
            self._parts(profiles, columns, anchors, self._sessions.popularity, now_ms, []),
            np.zeros(len(columns), dtype=np.int8),
        )  # fmt: skip
        starts, features = self._describe(pool, columns, anchors)
        return Candidates(starts, pool.rows[:, :_JUDGED][np.arange(_JUDGED) < pool.sizes[:, None]], features)

    def trending(self, now_ms: int) -> TopLists:
        """What is popular now among the items that may be listed for everyone."""
        return self._popular(self._sessions.trending, "trending", now_ms)

    def baseline(self, now_ms: int) -> TopLists:
        """The popularity baseline that lists are judged against: what a shop could show without a recommender. So it is bound by the
        exclusions for everyone, as lists are, but not by those for some shoppers (it is one list for all), pins or caps.
        """
        return self._popular(self._sessions.baseline, "baseline", now_ms)

    def _columns(self, profiles: Sequence[Profile]) -> ProfileColumns:
        return columns_of(profiles, self._items.rows, self._categories_named, self._repeats == 2, self.trust)

    def _refresh(self, now_ms: int) -> None:
        """Bring the rules up to date, and into neighbours' lists what may be listed by them that could not before."""
        if self._book is None:
            return
        self._book.refresh(now_ms)
        version = (self._book.generation, self._items.version)
        if version != self._version:
            self._version = version
            rows = len(self._items)
            self._admit(self._items.active[:rows] & self._book.everyone.reach.allowed)

    def _admit(self, listable: NDArray[np.bool_]) -> None:
        self._reserve()
        known = self._listable[: len(listable)]
        for row in np.flatnonzero(listable & ~known).tolist():
            self._neighbours.note(row)
        known[:] = listable

    def _reserve(self) -> None:
        if len(self._listable) < self._items.capacity:
            extra = self._items.capacity - len(self._listable)
            self._listable = np.concatenate([self._listable, np.zeros(extra, dtype=np.bool_)])

    def _eligible(self, reach: Reach | None) -> NDArray[np.bool_]:
        """bool[rows]: what is on sale and allowed by ``reach``."""
        rows = len(self._items)
        on_sale = np.ones(rows, dtype=np.bool_) if self._items.version == 0 else self._items.active[:rows]
        return on_sale if reach is None else on_sale & reach.allowed

    def _popular(self, popularity: Popularity, name: str, now_ms: int) -> TopLists:
        if self._book is None:
            return popularity.lists(*self._scope(self._eligible(None)), now_ms, self._items.version)
        self._refresh(now_ms)
        return self._listed(self._book.everyone.reach, popularity, name, now_ms)

    def _listed(self, reach: Reach, popularity: Popularity, name: str, now_ms: int) -> TopLists:
        """Top lists over what rules allow. They have a pace of their own: others may long show what these may not."""
        listings = self._listings.setdefault(reach, {})
        listing = listings.setdefault(name, popularity.listing())
        return listing.lists(*self._scope(self._eligible(reach)), now_ms, self._items.version)

    def _scope(self, eligible: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int32], int]:
        return eligible, self._items.category[: len(self._items)], len(self._items.categories)

    def _parts(
        self,
        profiles: Sequence[Profile],
        columns: ProfileColumns,
        anchors: Anchors,
        popularity: Popularity,
        now_ms: int,
        degraded: list[str],
    ) -> Parts:
        book, name = self._book, "trending" if popularity is self._sessions.trending else "weighed"
        if book is None:
            trending = self._guard("trending", degraded, lambda: self._popular(popularity, name, now_ms), _no_top_lists)
            return Parts.join([Part(np.arange(len(profiles), dtype=np.int64), self._eligible(None), trending, NO_RULES)], len(profiles))
        parts: list[Part] = []
        for members, ruling in book.rulings([profile.country for profile in profiles], self._looked_at(columns, anchors)):
            reach = ruling.reach
            eligible = self._eligible(reach)
            popular = partial(self._listed, reach, popularity, name, now_ms)
            trending = self._guard("trending", degraded, popular, _no_top_lists)
            rules, passed_over = ruling.arrays(eligible)
            ruled_out = not eligible.any() and bool(self._eligible(None).any())
            parts.append(Part(members, eligible, trending, rules, ruled_out, passed_over))
        return Parts.join(parts, len(profiles))

    def _looked_at(self, columns: ProfileColumns, anchors: Anchors) -> NDArray[np.int32]:
        """int32[n]: the category of each shopper's newest item; before any, that of the category page they liked best; -1: none."""
        newest = anchors.rows[:, 0]
        codes = np.where(newest >= 0, self._items.category[newest], np.int32(-1))
        for place in np.flatnonzero(newest < 0).tolist():
            pages = slice(int(columns.affinity_start[place]), int(columns.affinity_start[place + 1]))
            if pages.stop > pages.start:
                codes[place] = columns.affinity_category[pages][columns.affinity_weight[pages].argmax()]
        return codes

    def _guard(self, source: str, degraded: list[str], find: Callable[[], _Result], without: Callable[[], _Result]) -> _Result:
        try:
            result = find()
        except Exception:
            if source not in self._failing:
                self._failing.add(source)
                _log.exception("source %r failed; lists are made without it and say so in `degraded` until it works again", source)
            if source not in degraded:
                degraded.append(source)
            return without()
        if source in self._failing:
            self._failing.remove(source)
            _log.warning("source %r works again", source)
        return result

    def _find_similar(self, anchors: Anchors) -> NeighbourLists:
        items = self._items
        everyone = None if self._book is None else self._book.everyone.reach
        # Column by column, so that a cut in the number of searches takes the shoppers' oldest anchors.
        wanted = anchors.rows.T.ravel()
        wanted = wanted[wanted >= 0]
        _, first = np.unique(wanted, return_index=True)
        self._neighbours.ensure(wanted[np.sort(first)], items.vectors, items.has_vector, self._eligible(everyone))
        return self._neighbours.view(len(items))

    def _find_sessions(self, columns: ProfileColumns, anchors: Anchors, shoppers: Sequence[str]) -> Votes:
        """What past sessions like this one went on to. The shopper's own, which is among them, has no say."""
        own = self._own_sessions(columns, shoppers)
        sessions = self._sessions
        return sessions.index.vote(anchors.rows, anchors.weights, own, columns.now_ms, _SESSION_CANDIDATES, sessions.votes)

    def _own_sessions(self, columns: ProfileColumns, shoppers: Sequence[str]) -> NDArray[np.int64]:
        own = np.full(len(columns), -1, dtype=np.int64)
        own[: len(shoppers)] = [self._sessions.newest_of(shopper) for shopper in shoppers]
        return own

    def _neighbours_of(self, chosen: Chosen, columns: ProfileColumns, anchors: Anchors, shoppers: Sequence[str]) -> NeighbourSessions:
        """Whose votes stand behind the share of the source ``sessions``."""
        shares = chosen.shares[:, :, SESSIONS]
        listed = np.where(shares > 0, chosen.rows, np.int32(-1))
        own = self._own_sessions(columns, shoppers)
        sessions = self._sessions
        carriers = sessions.index.trace(anchors.rows, anchors.weights, own, columns.now_ms, listed, self._explained, sessions.votes)
        return attribute(carriers, shares, sessions.names_of, self._salt)

    def _weights(self, given: Parameters | None) -> Parameters:
        parameters = self.parameters if given is None else given
        if self.sequence is None:
            parameters = parameters._replace(sequence=0.0)
        return parameters if self.factors is not None else parameters._replace(factors=0.0)

    def _find_sequence(self, columns: ProfileColumns) -> Votes:
        return no_votes(len(columns)) if self.sequence is None else self.sequence.find(columns, _SEQUENCE_CANDIDATES)

    def _find_by_factors(self, columns: ProfileColumns) -> Votes:
        return no_votes(len(columns)) if self.factors is None else self.factors.find(columns, _FACTOR_CANDIDATES)

    def _find_query(self, profiles: Sequence[Profile], now_ms: int) -> Votes:
        return no_votes(len(profiles)) if self._queries is None else self._queries.find(profiles, now_ms, _QUERY_CANDIDATES)

    def _fuse(
        self,
        parameters: Parameters,
        size: int,
        columns: ProfileColumns,
        anchors: Anchors,
        similar: NeighbourLists,
        together: Neighbours,
        sessions: Votes,
        sequence: Votes,
        query: Votes,
        factors: Votes,
        parts: Parts,
        policy: NDArray[np.int8],
    ) -> Pool:
        items = self._items
        pool = Pool.empty(size, parts)
        if len(self._place) < len(items):
            self._place = np.concatenate([self._place, np.zeros(max(1024, len(items)), dtype=np.int64)])
        for number, part in enumerate(parts.each):
            trending = part.trending
            self._base = fill_pools(
                parameters, part.rules, number, parts.of, self._repeats, part.eligible, items.category, items.brand,
                self._place, self._base, self._k, size,
                columns.now_ms, columns.bought_start, columns.bought_row, columns.bought_purchases, columns.bought_at,
                columns.seen_start, columns.seen_row, columns.affinity_start, columns.affinity_category, columns.affinity_weight,
                anchors.rows, anchors.weights, anchors.types,
                similar.slot, similar.rows, similar.scores,
                together.slot, together.sizes, together.rows, together.weights, together.rarity,
                sessions.rows, sessions.scores, sessions.because, sessions.sizes,
                sequence.rows, sequence.scores, sequence.sizes,
                query.rows, query.scores, query.sizes, factors.rows, factors.scores, factors.sizes,
                trending.overall, trending.overall_values, trending.categories, trending.category_values,
                *pool, policy,
            )  # fmt: skip
        return pool

    def _describe(self, pool: Pool, columns: ProfileColumns, anchors: Anchors) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        popularity = self._sessions.popularity.relative(len(self._items))
        return describe(pool.rows, pool.shares, pool.sizes, columns, anchors, self._items, popularity)

    def _order_anew(
        self, pool: Pool, columns: ProfileColumns, anchors: Anchors, parts: Parts, trained: TrainedRanker
    ) -> tuple[str, Described]:
        """``trained`` puts ``pool`` in order; its name, and what it was told of the candidates."""
        starts, features = self._describe(pool, columns, anchors)
        scores, probabilities = trained.judge(features)
        described = Described.of(pool, starts, features)
        for number, part in enumerate(parts.each):
            reorder(part.rules, number, parts.of, *pool, starts, scores, probabilities)
        return trained.name, described

    def _cover(
        self, pool: Pool, size: int, columns: ProfileColumns, shoppers: Sequence[str], parts: Parts, policy: NDArray[np.int8]
    ) -> Pool:
        covering = Pool.empty(size, parts)
        names = [*shoppers, *[""] * (len(columns) - len(shoppers))]
        own_of, own = self._sessions.of_shoppers(names, self._coverage.own_limit)
        everybody = self._sessions.audience(self._coverage.sample, len(self._items))
        for number, part in enumerate(parts.each):
            self._base = cover(
                self._coverage, part.rules, number, parts.of, self._repeats, part.eligible, self._place, self._base,
                columns.bought_start, columns.bought_row, columns.seen_start, columns.seen_row,
                own_of, own.starts, own.rows, own.seconds,
                everybody.sessions.starts, everybody.sessions.rows, everybody.weights,
                everybody.row_starts, everybody.row_sessions, everybody.gains, everybody.leaders,
                _JUDGED, *pool, size, *covering, policy,
            )  # fmt: skip
        return covering

    def _choose(self, pool: Pool, size: int, diversity: float, parts: Parts) -> Chosen:
        chosen = Chosen.empty(len(pool.sizes), self._k)
        if diversity > 0:
            self._project(pool.rows)
        for number, part in enumerate(parts.each):
            diversify(
                part.rules, number, parts.of, self._items.category, self._items.brand, size, *pool,
                self._projection.values, np.float32(diversity), *chosen,
            )  # fmt: skip
        return chosen

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


def _lists(
    chosen: Chosen,
    anchors: Anchors,
    parts: Parts,
    policy: NDArray[np.int8],
    degraded: Sequence[str],
    model: str,
    purchases: NDArray[np.int32] | None = None,
    neighbours: NeighbourSessions | None = None,
) -> RankedLists:
    ruled_out = np.zeros(len(policy), dtype=np.bool_)
    for part in parts.each:
        ruled_out[part.members] = part.ruled_out
    passed_over = sum(part.passed_over * len(part.members) for part in parts.each)
    return RankedLists(
        chosen.rows, chosen.sizes, chosen.shares, chosen.because, anchors.rows, anchors.types, policy, tuple(degraded),
        chosen.pinned, ruled_out, passed_over, model, purchases, neighbours,
    )  # fmt: skip


def _purchases(described: Described, chosen: Chosen, trained: TrainedRanker) -> NDArray[np.int32] | None:
    return None if trained.buying is None else described.purchases(chosen, trained.buying)


def _no_lists() -> NeighbourLists:
    return NeighbourLists(np.empty(0, np.int32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))


def _no_neighbours() -> Neighbours:
    empty = np.empty(0, np.int32)
    return Neighbours(empty, empty, np.empty((0, 1), np.int32), np.empty((0, 1), np.float32), np.empty(0, np.float32))


def _no_top_lists() -> TopLists:
    return TopLists(np.empty(0, np.int32), np.empty(0, np.float32), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))
