"""Several sources in one list: by tuned weights, or by a ranker that learned on the newest training sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.dataset import Sequences, split_tail
from models.evaluation.judge import CUTOFF, ranks
from models.evaluation.methods import Method, Source
from models.evaluation.neural import HELD_OUT, SequenceMethod
from models.metrics import MRR, RankCounts
from models.ranking.features import ItemStatistics, Pool, Vectors, feature_names, pool
from models.ranking.learned import LearnedRanker
from models.ranking.tuning import tune
from models.retrieval.columns import keep_best

#: Candidates asked of each source.
_ASKED: Final = 80
#: Prefixes pooled at once.
_BATCH: Final = 2_000
#: Prefixes of the newest training sessions that weights are tuned on, and trials.
_TUNED: Final = 12_000
_TRIALS: Final = 60


class _Ensemble(Method):
    """A method over ``sources``."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        self.name = name
        self._sources = sources

    def warm_up(self, sessions: Sequences, items: int, prefixes: Sequences) -> None:
        """Warm the sources up."""
        for source in self._sources:
            source.warm_up(sessions, items, prefixes)

    @property
    def nbytes(self) -> int:
        """All sources."""
        return sum(source.nbytes for source in self._sources)

    def _learn_sources(self, sessions: Sequences, items: int) -> None:
        for source in self._sources:
            source.learn(sessions, items)

    def _candidates(self, prefixes: Sequences) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        return [source.candidates(prefixes, _ASKED) for source in self._sources]


class FusedMethod(_Ensemble):
    """A weighted sum of the sources' scores, each over the best of its list; weights are tuned for MRR on the newest training sessions."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        super().__init__(name, sources)
        self.weights = np.ones(len(sources), dtype=np.float32)

    def learn(self, sessions: Sequences, items: int) -> None:
        """Tune on the tail what was learned without it; then learn everything."""
        head, prefixes, targets = split_tail(sessions, HELD_OUT)
        if len(prefixes):
            chosen = np.unique(np.linspace(0, len(prefixes) - 1, min(_TUNED, len(prefixes))).astype(np.int64))
            judged = Sequences.of([prefixes[index].tolist() for index in chosen.tolist()])
            self._learn_sources(head, items)
            found = self._candidates(judged)
            names = [source.name for source in self._sources]
            best = tune(names, lambda weights: _mrr(_fuse(found, weights, items), targets[chosen]), trials=_TRIALS)
            self.weights = np.array([best[name] for name in names], dtype=np.float32)
        self._learn_sources(sessions, items)
        self._items = items

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """The best of the sums."""
        return _fuse(self._candidates(prefixes), self.weights, self._items)[:, :limit]


class RankedMethod(_Ensemble):
    """Candidates of all sources in the order of a ranker that learned on the newest training sessions, which its sources had not seen."""

    def __init__(self, name: str, sources: Sequence[Source], threads: int = 1) -> None:
        super().__init__(name, sources)
        self._threads = threads
        self._sequence = next((source for source in sources if isinstance(source, SequenceMethod)), None)
        self.ranker: LearnedRanker | None = None

    def learn(self, sessions: Sequences, items: int) -> None:
        """Sources on all but the tail, the ranker on the tail, sources on everything. Raises ``ValueError`` if the tail teaches nothing."""
        head, prefixes, targets = split_tail(sessions, HELD_OUT)
        if not len(prefixes):
            raise ValueError(f"the newest {HELD_OUT:.0%} of {len(sessions):,} sessions hold none of two clicks to learn an order from")
        self._learn_sources(head, items)
        pools = [self._pool(prefixes.slice(first, min(first + _BATCH, len(prefixes)))) for first in range(0, len(prefixes), _BATCH)]
        sizes = np.concatenate([np.diff(each.starts) for each in pools])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        right = np.concatenate([each.rows for each in pools]) == np.repeat(targets, sizes)
        names = feature_names([source.name for source in self._sources], self._sequence is not None)
        self.ranker = LearnedRanker.fit(names, starts, np.concatenate([each.features for each in pools]), right, self._threads)
        del pools
        self._learn_sources(sessions, items)

    def _learn_sources(self, sessions: Sequences, items: int) -> None:
        super()._learn_sources(sessions, items)
        self._statistics = ItemStatistics.of(sessions.starts, sessions.rows, items)

    def _pool(self, prefixes: Sequences) -> Pool:
        vectors = None
        if self._sequence is not None and self._sequence.model is not None:
            vectors = Vectors(self._sequence.session_vectors(prefixes), self._sequence.model.item_vectors)
        return pool(prefixes.starts, prefixes.rows, self._candidates(prefixes), self._statistics, vectors)

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """The best by the learned order."""
        assert self.ranker is not None
        found = self._pool(prefixes)
        lists = np.full((len(prefixes), limit), -1, dtype=np.int32)
        _best_of_each(found.starts, found.rows, self.ranker.score(found.features), lists)
        return lists

    @property
    def nbytes(self) -> int:
        """All sources, the statistics and the trees."""
        trees = len(self.ranker.to_text()) if self.ranker is not None else 0
        return super().nbytes + sum(column.nbytes for column in self._statistics) + trees


def _fuse(found: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], weights: NDArray[np.float32], items: int) -> NDArray[np.int32]:
    sessions = len(found[0][0])
    rows = np.stack([its_rows for its_rows, _ in found])
    scores = np.stack([its_scores for _, its_scores in found])
    lists = np.full((sessions, _ASKED), -1, dtype=np.int32)
    _add_up(rows, scores, weights, np.full(max(items, int(rows.max(initial=-1)) + 1), -1, dtype=np.int64), lists)
    return lists


def _mrr(lists: NDArray[np.int32], targets: NDArray[np.int32]) -> float:
    counts = RankCounts()
    counts.update_many(ranks(lists[:, :CUTOFF], targets))
    return MRR(CUTOFF, counts).get()


@compiled
def _add_up(rows, scores, weights, place, lists):  # type: ignore[no-untyped-def]
    met = np.empty(rows.shape[0] * rows.shape[2], np.int32)
    sums = np.empty(len(met), np.float32)
    base = 0
    for i in range(len(lists)):
        count = 0
        for s in range(len(rows)):
            best = max(scores[s, i, 0], np.float32(1e-9))
            for j in range(rows.shape[2]):
                row = rows[s, i, j]
                if row < 0:
                    break
                at = place[row]
                if at < base:
                    at = base + count
                    place[row] = at
                    met[count] = row
                    sums[count] = 0.0
                    count += 1
                sums[at - base] += weights[s] * scores[s, i, j] / best
        for j in range(keep_best(sums, count, lists[i])):
            lists[i, j] = met[lists[i, j]]
        base += count + 1


@compiled
def _best_of_each(starts, rows, scores, lists):  # type: ignore[no-untyped-def]
    for i in range(len(lists)):
        first = starts[i]
        for j in range(keep_best(scores[first:], starts[i + 1] - first, lists[i])):
            lists[i, j] = rows[first + lists[i, j]]
