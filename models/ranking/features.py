"""What a learned ranker is told of each candidate: the union of all sources' candidates, one row of features each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

#: Of each source: score over the best of its list, 1 / place, the best score itself (how sure the source is).
_PER_SOURCE: Final = ("score", "place", "best")
_OF_SESSION: Final = ("length", "distinct")
_OF_OWN: Final = ("own_place", "own_count", "is_last")
_OF_ITEM: Final = ("frequency", "recent_frequency", "trend", "last_seen")
_OF_VECTORS: Final = ("cosine", "cosine_last")


class ItemStatistics(NamedTuple):
    """Per item, float32[items]: ``frequency`` clicks, ``recent`` clicks that fade with age, ``last_seen`` age of the newest, 0 now to 1
    at the beginning of training.
    """

    frequency: Float32
    recent: Float32
    last_seen: Float32

    @classmethod
    def of(cls, starts: Int64, rows: Int32, items: int, half_life: float = 0.02) -> ItemStatistics:
        """Of n sessions, oldest first; ``half_life`` in shares of them."""
        sessions = len(starts) - 1
        age = (sessions - 1 - np.repeat(np.arange(sessions), np.diff(starts))) / max(1, sessions)
        last_seen = np.ones(items, dtype=np.float32)
        np.minimum.at(last_seen, rows, age.astype(np.float32))
        return cls(
            np.bincount(rows, minlength=items).astype(np.float32),
            np.bincount(rows, weights=2.0 ** (-age / half_life), minlength=items).astype(np.float32),
            last_seen,
        )


class Vectors(NamedTuple):
    """Unit vectors: ``sessions`` float32[n, d], ``items`` float32[m, d]; an item beyond m has none."""

    sessions: Float32
    items: Float32


class Pool(NamedTuple):
    """Candidates of n sessions, end to end: those of session i are ``rows[starts[i] : starts[i + 1]]``, with ``features`` float32[c, f]."""

    starts: Int64
    rows: Int32
    features: Float32


def feature_names(sources: Sequence[str], vectors: bool) -> list[str]:
    """Names of the columns of ``Pool.features``."""
    names = [f"{source}_{what}" for source in sources for what in _PER_SOURCE]
    return [*names, *_OF_SESSION, *_OF_OWN, *_OF_ITEM, *(_OF_VECTORS if vectors else ())]


def pool(
    starts: Int64, session_rows: Int32, found: Sequence[tuple[Int32, Float32]], statistics: ItemStatistics, vectors: Vectors | None
) -> Pool:
    """Candidates and features of n sessions: session i is ``session_rows[starts[i] : starts[i + 1]]``, oldest click first.

    ``found``: of each source rows int32[n, l], best first (-1: no more), and scores float32[n, l].
    """
    sessions = len(starts) - 1
    limit = max(rows.shape[1] for rows, _ in found)
    rows = np.full((len(found), sessions, limit), -1, dtype=np.int32)
    scores = np.zeros((len(found), sessions, limit), dtype=np.float32)
    for source, (its_rows, its_scores) in enumerate(found):
        rows[source, :, : its_rows.shape[1]] = its_rows
        scores[source, :, : its_scores.shape[1]] = its_scores
    items = len(statistics.frequency)
    place = np.full(max(items, int(rows.max(initial=-1)) + 1), -1, dtype=np.int64)
    pool_starts = np.zeros(sessions + 1, dtype=np.int64)
    pool_rows = np.empty(int((rows >= 0).sum()), dtype=np.int32)
    width = len(found) * len(_PER_SOURCE) + len(_OF_SESSION) + len(_OF_OWN) + len(_OF_ITEM)
    features = np.zeros((len(pool_rows), width + (len(_OF_VECTORS) if vectors is not None else 0)), dtype=np.float32)
    count = _fill(starts, session_rows, rows, scores, *statistics, place, pool_starts, pool_rows, features)
    if vectors is not None:
        _compare(starts, session_rows, pool_starts, pool_rows, vectors.sessions, vectors.items, features, width)
    return Pool(pool_starts, pool_rows[:count], features[:count])


@compiled
def _fill(starts, session_rows, rows, scores, frequency, recent, last_seen, place, pool_starts, pool_rows, features):  # type: ignore[no-untyped-def]
    sources = rows.shape[0]
    end = 0
    for i in range(len(starts) - 1):
        first = end
        for s in range(sources):
            best = max(scores[s, i, 0], np.float32(1e-9))
            for j in range(rows.shape[2]):
                row = rows[s, i, j]
                if row < 0:
                    break
                at = place[row]
                if at < first:
                    at = end
                    place[row] = end
                    pool_rows[end] = row
                    end += 1
                features[at, 3 * s] = scores[s, i, j] / best
                features[at, 3 * s + 1] = 1.0 / (j + 1)
        pool_starts[i + 1] = end
        length = starts[i + 1] - starts[i]
        distinct = 0
        base = 3 * sources
        for p in range(starts[i], starts[i + 1]):
            row = session_rows[p]
            new = True
            for q in range(starts[i], p):
                if session_rows[q] == row:
                    new = False
                    break
            if new:
                distinct += 1
            at = place[row] if row < len(place) else -1
            if at >= first:
                features[at, base + 2] = 1.0 / (starts[i + 1] - p)
                features[at, base + 3] += 1.0
                features[at, base + 4] = 1.0 if p == starts[i + 1] - 1 else 0.0
        for c in range(first, end):
            row = pool_rows[c]
            for s in range(sources):
                features[c, 3 * s + 2] = scores[s, i, 0]
            features[c, base] = length
            features[c, base + 1] = distinct
            if row < len(frequency):
                features[c, base + 5] = np.log1p(frequency[row])
                features[c, base + 6] = np.log1p(recent[row])
                features[c, base + 7] = recent[row] / (frequency[row] + 1.0)
                features[c, base + 8] = last_seen[row]
    return end


@compiled
def _compare(starts, session_rows, pool_starts, pool_rows, sessions, items, features, column):  # type: ignore[no-untyped-def]
    for i in range(len(pool_starts) - 1):
        last = session_rows[starts[i + 1] - 1] if starts[i + 1] > starts[i] else -1
        for c in range(pool_starts[i], pool_starts[i + 1]):
            row = pool_rows[c]
            if row < len(items):
                cosine = np.float32(0.0)
                other = np.float32(0.0)
                for d in range(items.shape[1]):
                    cosine += sessions[i, d] * items[row, d]
                    if 0 <= last < len(items):
                        other += items[last, d] * items[row, d]
                features[c, column] = cosine
                features[c, column + 1] = other
