"""The ways to recommend that a protocol can judge: one object each, taught once, then asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.anchors import anchors_of_prefixes
from models.evaluation.dataset import Sequences
from models.evaluation.rules import RuleVotes, count_rules
from models.retrieval.columns import keep_best
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_votes import SessionParameters

#: Sessions of a file without times are this many ms apart, oldest first: 5,000 a day, as a shop of that size has them.
SESSION_STEP: Final = 17_280
#: The session index as the only source of what is new. On the newest 5 % of Diginetica's training part (every fourth prefix, 120 trials of
#: TPE for MRR + 0.3 x hit rate): 52.8 % hit rate at 20 and MRR 18.8, with the defaults of ``SessionParameters`` 52.5 and 18.6.
ALONE: Final = SessionParameters(
    recent=110, neighbours=180, length=0.25, age_half_life=28 * 86_400_000.0, forward=5.5, backward=7.0, backward_weight=0.7, repeat=3.0
)
#: Clicks in which what a click of the session's own counts falls to 1/e.
_REPEAT_DECAY: Final = 4.0
#: The same for returns, and the power of how often the item was clicked.
_RETURN_DECAY: Final = 4.0
_RETURN_COUNT: Final = 0.7
#: Returns and clicks that every session begins with: of a first click 1 in 6 returns, as far as the session says.
_RETURNS: Final = 0.5
_CLICKS: Final = 2.0


class Method(ABC):
    """``learn`` from sessions of rows below ``items`` (anew each time), then ``recommend`` lists for prefixes."""

    name: str

    @abstractmethod
    def learn(self, sessions: Sequences, items: int) -> None:
        """Take up all training sessions, oldest first."""

    @abstractmethod
    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """int32[n, limit] rows, best first, -1 where there are no more."""

    def warm_up(self, sessions: Sequences, items: int, prefixes: Sequences) -> None:
        """Whatever is done once in a process, such as compiling loops: neither learning nor recommending should be charged for it."""
        self.learn(sessions, items)
        self.recommend(prefixes, 1)

    @property
    def trained_seconds(self) -> float:
        """Seconds that the training took of models that the last ``learn`` found ready."""
        return 0.0

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that what was learned takes, in bytes."""


class Source(Method):
    """A method whose candidates have scores, so that others can build on it."""

    @abstractmethod
    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows int32[n, limit], best first (-1: no more), and scores float32[n, limit] above 0."""

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """The candidates' rows."""
        return self.candidates(prefixes, limit)[0]


class PopularityMethod(Method):
    """What was clicked most, the same for everybody (POP)."""

    name = "popularity"

    def learn(self, sessions: Sequences, items: int) -> None:
        """Count clicks."""
        self._counts = np.bincount(sessions.rows, minlength=items)
        self._order = np.argsort(-self._counts, kind="stable").astype(np.int32)

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """The same list n times."""
        top = self._order[:limit][self._counts[self._order[:limit]] > 0]
        lists = np.full((len(prefixes), limit), -1, dtype=np.int32)
        lists[:, : len(top)] = top
        return lists

    @property
    def nbytes(self) -> int:
        """Counts and order."""
        return int(self._counts.nbytes + self._order.nbytes)


class SessionPopularityMethod(PopularityMethod):
    """What the session clicked most, ties by popularity, then what is popular (S-POP; Hidasi et al., ICLR 2016)."""

    name = "session-popularity"

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """Own items first."""
        lists = super().recommend(prefixes, limit)
        for index in range(len(prefixes)):
            rows, counts = np.unique(prefixes[index], return_counts=True)
            own = rows[np.lexsort((-self._counts[rows], -counts))][:limit].astype(np.int32)
            rest = lists[index][~np.isin(lists[index], own)]
            lists[index] = np.concatenate([own, rest])[:limit]
        return lists


class RepeatMethod(Source):
    """The session's own items, newest first, and nothing else."""

    name = "repeat-only"

    def learn(self, sessions: Sequences, items: int) -> None:
        """Nothing to learn."""

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Distinct items, newest first; each counts less by the clicks since."""
        return anchors_of_prefixes(prefixes, limit, _REPEAT_DECAY)

    @property
    def nbytes(self) -> int:
        """None."""
        return 0


class ReturnsMethod(RepeatMethod):
    """The session's own items by the odds that it returns to them: those come back who did so before.

    Of the clicks so far, those on an item clicked before are returns; (0.5 + returns) / (2 + clicks) are expected to follow. An item's
    share of them grows with its clicks and shrinks with the clicks since. After three clicks on three items 17 % return with the next one,
    after three on fewer 32 % (the newest 5 % of Diginetica's training part).
    """

    name = "returns"

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Distinct items, best first; score: odds."""
        rows = np.full((len(prefixes), limit), -1, dtype=np.int32)
        scores = np.zeros((len(prefixes), limit), dtype=np.float32)
        _returns(prefixes.starts, prefixes.rows, rows, scores)
        return rows, scores


class RulesMethod(Source):
    """Pairs of items counted over sessions, for the last item or the last few."""

    def __init__(self, name: str, *, window: int, both_ways: bool, by_distance: bool, recent: int, decay: float = 1.0) -> None:
        self.name = name
        self._window, self._both_ways, self._by_distance = window, both_ways, by_distance
        self._recent, self._decay = recent, decay

    def learn(self, sessions: Sequences, items: int) -> None:
        """Count pairs."""
        self._rules = count_rules(sessions, items, window=self._window, both_ways=self._both_ways, by_distance=self._by_distance)
        self._votes = RuleVotes(self._rules, items, recent=self._recent, decay=self._decay)

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The strongest rules of the last items."""
        return self._votes.vote(prefixes, limit)

    @property
    def nbytes(self) -> int:
        """The rules."""
        return self._rules.nbytes


class SessionIndexMethod(Source):
    """The live session index, fed session by session as the worker feeds it."""

    name = "session-index"

    def __init__(self, parameters: SessionParameters = ALONE, *, anchors: int = 9, decay: float = 1.6) -> None:
        self._parameters = parameters
        self.index = SessionIndex(parameters)
        self._anchors = anchors
        self._decay = decay
        self._now = 0

    def learn(self, sessions: Sequences, items: int) -> None:
        """Append every session to an empty index."""
        numbers = np.repeat(np.arange(len(sessions), dtype=np.int64), np.diff(sessions.starts))
        self.take_up(numbers, sessions.rows, numbers * SESSION_STEP, len(sessions) * SESSION_STEP)

    def take_up(self, numbers: NDArray[np.int64], rows: NDArray[np.int32], at_ms: NDArray[np.int64], now_ms: int) -> None:
        """Append n items ``rows`` at times ``at_ms`` to the sessions ``numbers`` of an empty index; lists are as of ``now_ms``."""
        self.index = SessionIndex(self._parameters)
        self.index.add(numbers, rows, at_ms)
        self._now = now_ms

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The votes of the most similar sessions."""
        rows, weights = anchors_of_prefixes(prefixes, self._anchors, self._decay)
        count = len(prefixes)
        votes = self.index.vote(rows, weights, np.full(count, -1, np.int64), np.full(count, self._now, np.int64), limit)
        return votes.rows, votes.scores

    @property
    def nbytes(self) -> int:
        """The index."""
        return self.index.nbytes


@compiled
def _returns(starts, session_rows, out_rows, out_scores):  # type: ignore[no-untyped-def]
    for i in range(len(starts) - 1):
        length = starts[i + 1] - starts[i]
        rows = np.empty(length, np.int32)
        weights = np.empty(length, np.float32)
        clicks = np.empty(length, np.int64)
        count = 0
        for p in range(starts[i + 1] - 1, starts[i] - 1, -1):
            at = 0
            while at < count and rows[at] != session_rows[p]:
                at += 1
            if at == count:
                rows[at] = session_rows[p]
                weights[at] = np.exp(-(starts[i + 1] - 1 - p) / _RETURN_DECAY)
                clicks[at] = 0
                count += 1
            clicks[at] += 1
        total = np.float32(0.0)
        for k in range(count):
            weights[k] *= clicks[k] ** _RETURN_COUNT
            total += weights[k]
        expected = (_RETURNS + length - count) / (_CLICKS + length)
        odds = expected / (1.0 - expected)
        for k in range(keep_best(weights, count, out_rows[i])):
            out_scores[i, k] = odds * weights[out_rows[i, k]] / total
            out_rows[i, k] = rows[out_rows[i, k]]
