"""The live sessions of all shoppers, from the records of the topic ``sessions``: each item counted once, any shopper forgettable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.profiles.profile import TYPE_CODES
from models.retrieval.cooccurrence import Cooccurrence
from models.retrieval.past_sessions import Audience, PastSessions, audience
from models.retrieval.popularity import BASELINE_WEIGHTS, Popularity
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_sources import SessionSources, Source, Weigh
from models.retrieval.session_votes import BLENDED

#: Sessions held unless told otherwise: 0.6 GB at six items each.
SESSIONS_HELD: Final = 1_000_000
_ITEMS_OF_A_SESSION: Final = 4
#: The audience is made anew for each hundredth of it that has changed: in 5 ms, for 8,000 sessions.
_PART: Final = 100
_ALIKE: Final = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class SessionItems:
    """One ``SessionDelta``: items ``start``.. of ``session``; ``erased`` means that the shopper is to be forgotten. ``channel``,
    ``country`` and ``segment``, "" where there is none, are those of all the items.
    """

    session: str
    shopper: str
    start: int
    skus: tuple[str, ...]
    at_ms: tuple[int, ...]
    types: tuple[str, ...]
    erased: bool = False
    channel: str = ""
    country: str = ""
    segment: str = ""


class LiveSessions:
    """Co-occurrence, session index and popularity, fed by position: a repeated delta adds nothing, a gap is passed over.

    ``trending`` weighs every type of event, ``baseline`` clicks and purchases alike. ``intern`` gives the row of a SKU. The newest
    ``session_limit`` sessions are held, and their newest items, four a session on average. ``with_sources``: whether it is kept where
    their items came from, 36 bytes a session and 4 an item, so that what some sources say can count less (``weigh``).
    """

    def __init__(
        self, intern: Callable[[str], int], half_life_ms: float, session_limit: int = SESSIONS_HELD, *, with_sources: bool = False
    ) -> None:
        #: Items held at most.
        self.item_limit = session_limit * _ITEMS_OF_A_SESSION
        self._intern = intern
        self._session_limit = session_limit
        self.cooccurrence = Cooccurrence(half_life_ms, self.item_limit, with_sources=with_sources)
        self.index = SessionIndex(BLENDED)
        self._sources = SessionSources() if with_sources else None
        self.trending = Popularity(half_life_ms)
        self.baseline = Popularity(half_life_ms, BASELINE_WEIGHTS)
        # ``trending`` as sources count; kept up while one counts less than 1.
        self._weighed_trending = Popularity(half_life_ms)
        # In the order in which they last grew, as in the log.
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._shoppers: list[str] = []
        self._lengths: list[int] = []
        self._free: list[int] = []
        self._by_shopper: dict[str, list[str]] = {}
        self._half_life_ms = half_life_ms
        self._audience: Audience | None = None
        # Since the audience was made.
        self._grown = 0

    def __len__(self) -> int:
        """Sessions held."""
        return len(self._numbers)

    @property
    def votes(self) -> NDArray[np.float32]:
        """float32[s]: what the votes of each session count, 0..1, by its number; empty: all alike."""
        return _ALIKE if self._sources is None else self._sources.votes

    def weigh(self, weigh: Weigh) -> None:
        """From now on the sessions held count what ``weigh`` says of the sources of their items, on average, in the votes of the index and
        in the audience; and so do the items held in pairs and in ``popularity``. Of items that are no longer held pairs and popularity do
        not know from whom they were: what they taught counts in full. Raises ``ValueError`` where sources are not kept.
        """
        if self._sources is None:
            raise ValueError("these live sessions do not keep where their items came from")
        self._sources.weigh(weigh)
        self._audience = None
        self._weigh_sums(self._sources)

    def _weigh_sums(self, sources: SessionSources) -> None:
        self.cooccurrence.weigh(sources.weights)
        if self.cooccurrence.weighed:
            rows, at_ms, codes = self.cooccurrence.held()
            self._weighed_trending.become(self.trending, rows, at_ms, sources.types[codes], sources.weights[codes])

    @property
    def popularity(self) -> Popularity:
        """``trending``, of which counts less what came from sources that count less."""
        return self._weighed_trending if self.cooccurrence.weighed else self.trending

    def sessions_of(self, shopper: str) -> int:
        """How many sessions of ``shopper`` are held."""
        return len(self._by_shopper.get(shopper, ()))

    def newest_of(self, shopper: str) -> int:
        """Number of the session of ``shopper`` that began last, -1 if none is held."""
        names = self._by_shopper.get(shopper)
        return self._numbers[names[-1]] if names else -1

    def names_of(self, numbers: Iterable[int]) -> dict[int, str]:
        """Names of the sessions numbered ``numbers``, as far as they are held."""
        found: dict[int, str] = {}
        for number in numbers:
            for name in self._by_shopper.get(self._shoppers[number], ()):
                if self._numbers[name] == number:
                    found[number] = name
                    break
        return found

    def of_shoppers(self, shoppers: Sequence[str], limit: int) -> tuple[NDArray[np.int64], PastSessions]:
        """Of each of n shoppers the newest ``limit`` sessions: those of shopper i are ``bounds[i]`` to ``bounds[i + 1]``, int64[n + 1]."""
        held = [[self._numbers[name] for name in self._by_shopper.get(shopper, ())[-limit:]] for shopper in shoppers]
        bounds = np.cumsum([0, *map(len, held)])
        return bounds, self.index.gather(np.array(list(chain.from_iterable(held)), dtype=np.int64))

    def audience(self, size: int, items: int) -> Audience:
        """The newest ``size`` sessions of everybody over ``items`` items. Made anew when one in a hundred of them has grown or gone."""
        if self._audience is None or self._grown * _PART >= len(self._audience.weights) or len(self._audience.gains) < items:
            newest = np.array(list(islice(reversed(self._numbers.values()), size)), dtype=np.int64)
            votes = None if self._sources is None else self._sources.votes[newest]
            self._audience = audience(self.index.gather(newest), self._half_life_ms / 1e3, items, votes)
            self._grown = 0
        return self._audience

    def apply(self, deltas: Iterable[SessionItems]) -> None:
        """Take up deltas in their order."""
        sessions: list[int] = []
        rows: list[int] = []
        at_ms: list[int] = []
        types: list[int] = []
        sources: list[Source] = []
        for delta in deltas:
            if delta.erased:
                self._learn(sessions, rows, at_ms, types, sources)
                sessions, rows, at_ms, types, sources = [], [], [], [], []
                self.erase(delta.shopper)
                continue
            number = self._number(delta.session, delta.shopper)
            known = self._lengths[number]
            fresh = max(0, known - delta.start)
            count = len(delta.skus)
            if fresh >= count:
                continue
            self._numbers.move_to_end(delta.session)
            self._grown += 1
            self._lengths[number] = delta.start + count
            sessions += [number] * (count - fresh)
            rows += map(self._intern, delta.skus[fresh:])
            at_ms += delta.at_ms[fresh:]
            types += [TYPE_CODES[kind] for kind in delta.types[fresh:]]
            if self._sources is not None:
                sources += [Source(delta.channel, kind, delta.country, delta.segment) for kind in delta.types[fresh:]]
        self._learn(sessions, rows, at_ms, types, sources)
        self._let_go()

    def erase(self, shopper: str) -> int:
        """Forget every session of ``shopper`` and what they taught. Returns how many sessions were held."""
        names = self._by_shopper.pop(shopper, [])
        for name in names:
            number = self._numbers.pop(name)
            self.cooccurrence.remove(number)
            self.index.remove(number)
            self._set_free(number)
        if names:
            self._audience = None
        return len(names)

    def _learn(self, sessions: list[int], rows: list[int], at_ms: list[int], types: list[int], sources: list[Source]) -> None:
        if not rows:
            return
        row_column = np.array(rows, dtype=np.int32)
        at_column = np.array(at_ms, dtype=np.int64)
        type_column = np.array(types, dtype=np.int8)
        session_column = np.array(sessions, dtype=np.int64)
        self.index.add(session_column, row_column, at_column)
        if self._sources is None:
            self.cooccurrence.add(session_column, row_column, at_column)
        else:
            codes = self._sources.add(session_column, sources)
            weights = self._sources.weights
            if not self.cooccurrence.weighed and (weights[codes] < 1).any():  # a source that is new, and known to do harm
                self._weigh_sums(self._sources)
            self.cooccurrence.add(session_column, row_column, at_column, codes, weights)
            if self.cooccurrence.weighed:
                self._weighed_trending.add(row_column, at_column, type_column, weights[codes])
        self.trending.add(row_column, at_column, type_column)
        self.baseline.add(row_column, at_column, type_column)

    def _number(self, session: str, shopper: str) -> int:
        number = self._numbers.get(session)
        if number is None:
            if self._free:
                number = self._free.pop()
            else:
                number = len(self._lengths)
                self._lengths.append(0)
                self._shoppers.append(shopper)
                if self._sources is not None:
                    self._sources.reserve(number + 1)
            self._numbers[session] = number
            self._shoppers[number] = shopper
            self._by_shopper.setdefault(shopper, []).append(session)
        return number

    def _let_go(self) -> None:
        """Forget the names of sessions that are too many or whose items have left the log; their counts stay, anonymous and fading."""
        while self._numbers:
            session, number = next(iter(self._numbers.items()))
            if len(self._numbers) <= self._session_limit and self.cooccurrence.last_position(number) >= self.cooccurrence.oldest:
                return
            self._numbers.popitem(last=False)
            names = self._by_shopper[self._shoppers[number]]
            names.remove(session)
            if not names:
                del self._by_shopper[self._shoppers[number]]
            self.cooccurrence.forget_session(number)
            self.index.remove(number)
            self._set_free(number)

    def _set_free(self, number: int) -> None:
        self._lengths[number] = 0
        self._free.append(number)
        if self._sources is not None:
            self._sources.forget(number)
