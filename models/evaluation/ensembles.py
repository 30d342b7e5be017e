"""Several sources in one list: by tuned weights, or by a ranker that learned on the newest training sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.dataset import Sequences, split_tail
from models.evaluation.judge import CUTOFF, ranks
from models.evaluation.methods import Method, ReturnsMethod, Source
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
_TRIALS: Final = 100
#: Slices of the newest sessions, of ``HELD_OUT`` each, that a ranker learns on where its sources can be taught anew for each of them.
#: Judged on the newest hundredth of Diginetica's training part: 54.7 % hit rate at 20 with one, 55.3 % with two, MRR 20.9 with both.
_SLICES: Final = 2


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
    def trained_seconds(self) -> float:
        """All sources."""
        return sum(source.trained_seconds for source in self._sources)

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
    """What the session returns to and what is new to it, in one order: the odds of a return beside a weighted sum of the sources' shares.

    A source's share of an item is its score over the sum of what it says of items that are new to the session. The session's own get
    the odds that ``returns`` gives them (None: nothing returns), and of the sources' shares only the part ``own``: what was clicked a
    moment ago resembles itself most, which says little of whether it will be clicked again. Weights and ``own`` are tuned for MRR on the
    newest training sessions.
    """

    def __init__(self, name: str, sources: Sequence[Source], returns: ReturnsMethod | None = None) -> None:
        super().__init__(name, [*sources, returns] if returns is not None else sources)
        self._returns = returns is not None
        self.weights = np.ones(len(self._sources), dtype=np.float32)
        self.own = 0.0 if self._returns else 1.0

    def learn(self, sessions: Sequences, items: int) -> None:
        """Tune on the tail what was learned without it; then learn everything."""
        head, prefixes, targets = split_tail(sessions, HELD_OUT)
        if len(prefixes):
            chosen = np.unique(np.linspace(0, len(prefixes) - 1, min(_TUNED, len(prefixes))).astype(np.int64))
            judged = Sequences.of([prefixes[index].tolist() for index in chosen.tolist()])
            self._learn_sources(head, items)
            found = self._candidates(judged)
            names = [*(source.name for source in self._sources), *(["own"] if self._returns else [])]
            best = tune(names, lambda tried: _mrr(self._fuse(found, *self._told(tried), items), targets[chosen]), trials=_TRIALS)
            self.weights, self.own = self._told(np.array([best[name] for name in names], dtype=np.float32))
        self._learn_sources(sessions, items)
        self._items = items

    def recommend(self, prefixes: Sequences, limit: int) -> NDArray[np.int32]:
        """The best of the sums."""
        return self._fuse(self._candidates(prefixes), self.weights, self.own, self._items)[:, :limit]

    def _told(self, tried: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        return (tried[:-1], float(tried[-1])) if self._returns else (tried, 1.0)

    def _fuse(
        self, found: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], weights: NDArray[np.float32], own: float, items: int
    ) -> NDArray[np.int32]:
        rows = np.stack([its_rows for its_rows, _ in found])
        scores = np.stack([its_scores for _, its_scores in found])
        lists = np.full((rows.shape[1], _ASKED), -1, dtype=np.int32)
        places = np.full(max(items, int(rows.max(initial=-1)) + 1), -1, dtype=np.int64)
        _add_up(rows, scores, weights, self._returns, np.float32(own), places, lists)
        return lists


class RankedMethod(_Ensemble):
    """Candidates of all sources in the order of a ranker that learned on the newest training sessions, which its sources had not seen.

    Sources that are quickly taught are taught up to each of several slices, one before the other; a sequence model is trained up to one.
    """

    def __init__(self, name: str, sources: Sequence[Source], threads: int = 1) -> None:
        super().__init__(name, sources)
        self._threads = threads
        self._sequence = next((source for source in sources if isinstance(source, SequenceMethod)), None)
        self.ranker: LearnedRanker | None = None

    def learn(self, sessions: Sequences, items: int) -> None:
        """Sources on what came before a slice, the ranker on the slices, sources on all. Raises ``ValueError`` if these teach nothing."""
        head = sessions
        slices: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]] = []
        for _ in range(_SLICES if self._sequence is None else 1):
            head, prefixes, targets = split_tail(head, HELD_OUT)
            if not len(prefixes):
                break
            self._learn_sources(head, items)
            slices.insert(0, self._lists(prefixes, targets))
        if not slices:
            raise ValueError(f"the newest {HELD_OUT:.0%} of {len(sessions):,} sessions hold none of two clicks to learn an order from")
        sizes, features, right = (np.concatenate(column) for column in zip(*slices, strict=True))
        del slices
        names = feature_names([source.name for source in self._sources], self._sequence is not None)
        self.ranker = LearnedRanker.fit(names, np.concatenate([[0], np.cumsum(sizes)]), features, right, self._threads)
        self._learn_sources(sessions, items)

    def _lists(self, prefixes: Sequences, targets: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """Of n prefixes: how many candidates each has, int64[n]; the features of all, float32[c, f]; which are right, bool[c]."""
        pools = [self._pool(prefixes.slice(first, min(first + _BATCH, len(prefixes)))) for first in range(0, len(prefixes), _BATCH)]
        sizes = np.concatenate([np.diff(each.starts) for each in pools])
        right = np.concatenate([each.rows for each in pools]) == np.repeat(targets, sizes)
        return sizes, np.concatenate([each.features for each in pools]), right

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


def _mrr(lists: NDArray[np.int32], targets: NDArray[np.int32]) -> float:
    counts = RankCounts()
    counts.update_many(ranks(lists[:, :CUTOFF], targets))
    return MRR(CUTOFF, counts).get()


@compiled
def _add_up(rows, scores, weights, returns, own, place, lists):  # type: ignore[no-untyped-def]
    """The last of the sources is that of returns, if there is one."""
    sources = len(rows) - 1 if returns else len(rows)
    met = np.empty(rows.shape[0] * rows.shape[2], np.int32)
    sums = np.empty(len(met), np.float32)
    base = 0
    for i in range(len(lists)):
        count = 0
        if returns:
            for j in range(rows.shape[2]):
                row = rows[sources, i, j]
                if row < 0:
                    break
                place[row] = base + count
                met[count] = row
                sums[count] = weights[sources] * scores[sources, i, j]
                count += 1
        clicked = base + count
        for s in range(sources):
            new = np.float32(0.0)
            everything = np.float32(1e-9)
            for j in range(rows.shape[2]):
                row = rows[s, i, j]
                if row < 0:
                    break
                everything += scores[s, i, j]
                if not base <= place[row] < clicked:
                    new += scores[s, i, j]
            total = new if new > 0 else everything
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
                share = scores[s, i, j] / total
                sums[at - base] += weights[s] * (share * own if at < clicked else share)
        for j in range(keep_best(sums, count, lists[i])):
            lists[i, j] = met[lists[i, j]]
        base += count + 1


@compiled
def _best_of_each(starts, rows, scores, lists):  # type: ignore[no-untyped-def]
    for i in range(len(lists)):
        first = starts[i]
        for j in range(keep_best(scores[first:], starts[i + 1] - first, lists[i])):
            lists[i, j] = rows[first + lists[i, j]]
