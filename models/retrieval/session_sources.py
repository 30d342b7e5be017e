"""Where the items of live sessions came from, and so how much each session's vote counts: a function of the sessions and the weights of
their sources, whatever those were when a session came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.profiles.profile import TYPE_CODES
from models.retrieval.columns import longer

#: Sources of a session that are told apart; the items of further ones are not looked at.
SLOTS: Final = 4
_FIRST_SESSIONS: Final = 1024


class Source(NamedTuple):
    """The data assets that an event belongs to; "": it named none."""

    channel: str = ""
    event_type: str = ""
    country: str = ""
    segment: str = ""


#: How much a source counts, 0..1.
Weigh = Callable[[Source], float]


class SessionSources:
    """By session, by how many items each of its sources counts, and from them ``votes``: the mean weight of its items, 0..1.

    Example:
        >>> sources = SessionSources()
        >>> sources.reserve(1)
        >>> sources.add(np.array([0, 0, 0, 0]), [Source("web"), Source("relay"), Source("web"), Source("web")])
        >>> sources.weigh(lambda source: 0.0 if source.channel == "relay" else 1.0)
        >>> sources.votes[:1]
        array([0.75], dtype=float32)

    """

    def __init__(self) -> None:
        self._numbers: dict[Source, int] = {}
        self._weigh: Weigh = _alike
        #: float32[>= s]: what each source counts, by its number.
        self.weights: NDArray[np.float32] = np.ones(_FIRST_SESSIONS, dtype=np.float32)
        self._codes = np.zeros((_FIRST_SESSIONS, SLOTS), dtype=np.int32)
        self._counts = np.zeros((_FIRST_SESSIONS, SLOTS), dtype=np.int32)
        self.votes: NDArray[np.float32] = np.ones(_FIRST_SESSIONS, dtype=np.float32)

    def reserve(self, sessions: int) -> None:
        """Make room for sessions numbered below ``sessions``; one of which nothing is known counts 1."""
        self._codes, self._counts = longer(self._codes, sessions, 0), longer(self._counts, sessions, 0)
        self.votes = longer(self.votes, sessions, 1)

    def add(self, sessions: NDArray[np.int64], sources: Sequence[Source]) -> NDArray[np.int32]:
        """Sessions numbered ``sessions`` int64[n], for which there is room, grew by one item each, from ``sources``, whose numbers int32[n]
        are returned.
        """
        codes = np.fromiter(map(self._number, sources), np.int32, len(sources))
        _count(sessions, codes, self.weights, self._codes, self._counts, self.votes)
        return codes

    @property
    def types(self) -> NDArray[np.int8]:
        """int8[s]: the code of the type of event of each source, by its number."""
        return np.fromiter((TYPE_CODES[source.event_type] for source in self._numbers), np.int8, len(self._numbers))

    def forget(self, session: int) -> None:
        """The number ``session`` is free again."""
        self._counts[session] = 0
        self.votes[session] = 1.0

    def weigh(self, weigh: Weigh) -> None:
        """From now on sources count what ``weigh`` says."""
        self._weigh = weigh
        for source, number in self._numbers.items():
            self.weights[number] = weigh(source)
        _vote_anew(self.weights, self._codes, self._counts, self.votes)

    def _number(self, source: Source) -> int:
        number = self._numbers.get(source)
        if number is None:
            number = self._numbers[source] = len(self._numbers)
            self.weights = longer(self.weights, number + 1, 1)
            self.weights[number] = self._weigh(source)
        return number


def _alike(_source: Source) -> float:
    return 1.0


@compiled
def _vote(weights, codes, counts):  # type: ignore[no-untyped-def]
    items = 0
    total = np.float32(0.0)
    for slot in range(len(counts)):
        items += counts[slot]
        total += weights[codes[slot]] * np.float32(counts[slot])
    return total / np.float32(items) if items > 0 else np.float32(1.0)


@compiled
def _count(sessions, new_codes, weights, codes, counts, votes):  # type: ignore[no-untyped-def]
    for n in range(len(sessions)):
        session = sessions[n]
        for slot in range(counts.shape[1]):
            if counts[session, slot] == 0 or codes[session, slot] == new_codes[n]:
                codes[session, slot] = new_codes[n]
                counts[session, slot] += 1
                break
        votes[session] = _vote(weights, codes[session], counts[session])


@compiled
def _vote_anew(weights, codes, counts, votes):  # type: ignore[no-untyped-def]
    for session in range(len(votes)):
        votes[session] = _vote(weights, codes[session], counts[session])
