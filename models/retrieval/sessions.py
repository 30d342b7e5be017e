"""The live sessions of all shoppers, from the records of the topic ``sessions``: each item counted once, any shopper forgettable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from models.profiles.profile import TYPE_CODES
from models.retrieval.cooccurrence import Cooccurrence
from models.retrieval.popularity import BASELINE_WEIGHTS, Popularity
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_votes import BLENDED


@dataclass(frozen=True, slots=True)
class SessionItems:
    """One ``SessionDelta``: items ``start``.. of ``session``; ``erased`` means that the shopper is to be forgotten."""

    session: str
    shopper: str
    start: int
    skus: tuple[str, ...]
    at_ms: tuple[int, ...]
    types: tuple[str, ...]
    erased: bool = False


class LiveSessions:
    """Co-occurrence, session index and popularity, fed by position: a repeated delta adds nothing, a gap is passed over.

    ``trending`` weighs every type of event, ``baseline`` clicks and purchases alike. ``intern`` gives the row of a SKU.
    """

    def __init__(self, intern: Callable[[str], int], half_life_ms: float, log_limit: int = 4_000_000) -> None:
        self._intern = intern
        self.cooccurrence = Cooccurrence(half_life_ms, log_limit)
        self.index = SessionIndex(BLENDED)
        self.trending = Popularity(half_life_ms)
        self.baseline = Popularity(half_life_ms, BASELINE_WEIGHTS)
        self._numbers: dict[str, int] = {}
        self._lengths: list[int] = []
        self._free: list[int] = []
        self._by_shopper: dict[str, list[str]] = {}
        self._prune_at = 1024

    def __len__(self) -> int:
        """Sessions held."""
        return len(self._numbers)

    def sessions_of(self, shopper: str) -> int:
        """How many sessions of ``shopper`` are held."""
        return len(self._by_shopper.get(shopper, ()))

    def newest_of(self, shopper: str) -> int:
        """Number of the session of ``shopper`` that began last, -1 if none is held."""
        names = self._by_shopper.get(shopper)
        return self._numbers[names[-1]] if names else -1

    def apply(self, deltas: Iterable[SessionItems]) -> None:
        """Take up deltas in their order."""
        sessions: list[int] = []
        rows: list[int] = []
        at_ms: list[int] = []
        types: list[int] = []
        for delta in deltas:
            if delta.erased:
                self._learn(sessions, rows, at_ms, types)
                sessions, rows, at_ms, types = [], [], [], []
                self.erase(delta.shopper)
                continue
            number = self._number(delta.session, delta.shopper)
            known = self._lengths[number]
            fresh = max(0, known - delta.start)
            count = len(delta.skus)
            if fresh >= count:
                continue
            self._lengths[number] = delta.start + count
            sessions += [number] * (count - fresh)
            rows += map(self._intern, delta.skus[fresh:])
            at_ms += delta.at_ms[fresh:]
            types += [TYPE_CODES[kind] for kind in delta.types[fresh:]]
        self._learn(sessions, rows, at_ms, types)
        if len(self._numbers) >= self._prune_at:
            self._prune()

    def erase(self, shopper: str) -> int:
        """Forget every session of ``shopper`` and what they taught. Returns how many sessions were held."""
        names = self._by_shopper.pop(shopper, [])
        for name in names:
            number = self._numbers.pop(name)
            self.cooccurrence.remove(number)
            self.index.remove(number)
            self._lengths[number] = 0
            self._free.append(number)
        return len(names)

    def _learn(self, sessions: list[int], rows: list[int], at_ms: list[int], types: list[int]) -> None:
        if not rows:
            return
        row_column = np.array(rows, dtype=np.int32)
        at_column = np.array(at_ms, dtype=np.int64)
        type_column = np.array(types, dtype=np.int8)
        self.cooccurrence.add(np.array(sessions, dtype=np.int64), row_column, at_column)
        self.index.add(np.array(sessions, dtype=np.int64), row_column, at_column)
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
            self._numbers[session] = number
            self._by_shopper.setdefault(shopper, []).append(session)
        return number

    def _prune(self) -> None:
        """Let go of sessions whose items have all left the log; their counts stay, anonymous and fading."""
        oldest = self.cooccurrence.oldest
        for shopper, names in list(self._by_shopper.items()):
            kept = []
            for name in names:
                number = self._numbers[name]
                if self.cooccurrence.last_position(number) >= oldest:
                    kept.append(name)
                else:
                    del self._numbers[name]
                    self.cooccurrence.forget_session(number)
                    self.index.remove(number)
                    self._lengths[number] = 0
                    self._free.append(number)
            if kept:
                self._by_shopper[shopper] = kept
            else:
                del self._by_shopper[shopper]
        self._prune_at = max(1024, 2 * len(self._numbers))
