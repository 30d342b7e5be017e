"""Ranks as they come, of several methods on the same tests, kept in bounded space: counts, intervals by batch means and running curves."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import of_runs
from models.metrics import DEPTH, RankCounts, RankMetric

#: Runs at most: when there are so many, each two become one. So batches of the interval hold 4 to 9 runs, and differ by one.
_RUNS: Final = 256
#: Tests that are counted at once, while runs are shorter: counting one by one would cost more than judging.
_CHUNK: Final = 64


class RunningRanks:
    """Runs of consecutive tests, all of one length that doubles, each with how many tests had their item at rank 1, 2, .. ``DEPTH``.

    >>> from models.metrics import MRR
    >>> ranks = RunningRanks(2)
    >>> for rank in (1, 2, 0, 4):
    ...     ranks.add(bytes((rank, 1)))
    >>> MRR(20, ranks.counts(0)).get(), ranks.curve(0, MRR, points=2)
    (0.4375, [(2, 0.75), (4, 0.125)])
    """

    def __init__(self, methods: int) -> None:
        self._methods = methods
        self._runs = np.zeros((_RUNS, methods, DEPTH + 1), np.int32)
        self._full = 0
        self._length = 1
        self._open = bytearray()
        self._places = np.arange(methods) * (DEPTH + 1)

    @property
    def tests(self) -> int:
        """How many tests were added."""
        return self._full * self._length + len(self._open) // self._methods

    def add(self, ranks: bytes) -> None:
        """One test: a byte a method, the item's rank in its list, 0 where it was not among the first ``DEPTH``."""
        self._open += ranks
        if len(self._open) < max(_CHUNK, self._length) * self._methods:
            return
        closed = self._counted()
        self._runs[self._full : self._full + len(closed)] = closed
        self._full += len(closed)
        self._open.clear()
        if self._full == _RUNS:  # exactly: run lengths and the chunk are powers of 2
            self._runs[: _RUNS // 2] = self._runs[::2] + self._runs[1::2]
            self._full //= 2
            self._length *= 2

    def counts(self, method: int) -> RankCounts:
        """All tests of one method."""
        by_rank = self._by_rank(method).sum(axis=0)
        return RankCounts(int(by_rank.sum()), by_rank[1:])

    def interval(self, method: int, metric: type[RankMetric]) -> tuple[float, float]:
        """95 % of ``metric`` at ``DEPTH``, by batch means."""
        runs, gains = self._by_rank(method), _gains(metric)
        return of_runs(runs @ gains, runs @ gains**2, runs.sum(axis=1).astype(np.float64))

    def curve(self, method: int, metric: type[RankMetric], points: int) -> list[tuple[int, float]]:
        """(tests so far, ``metric`` at ``DEPTH`` of those since the point before), at most ``points``."""
        runs, gains = self._by_rank(method), _gains(metric)
        step = max(1, math.ceil(len(runs) / points))
        found, tests = [], 0
        for first, last in pairwise([*range(0, len(runs), step), len(runs)]):
            part = runs[first:last].sum(axis=0)
            count = int(part.sum())
            tests += count
            found.append((tests, float(part @ gains) / count))
        return found

    def _by_rank(self, method: int) -> NDArray[np.int64]:
        """int64[runs, DEPTH + 1]: tests of each run by rank."""
        return np.concatenate([self._runs[: self._full, method], self._counted()[:, method]])

    def _counted(self) -> NDArray[np.int64]:
        """int64[runs, methods, DEPTH + 1]: the tests that are not counted yet, by rank; the last run may be short."""
        ranks = np.frombuffer(bytes(self._open), np.uint8).reshape(-1, self._methods)
        runs = -(-len(ranks) // self._length)
        size = self._methods * (DEPTH + 1)
        places = ranks + self._places + np.arange(len(ranks))[:, None] // self._length * size
        return np.bincount(places.ravel(), minlength=runs * size).reshape(runs, self._methods, DEPTH + 1)


def _gains(metric: type[RankMetric]) -> NDArray[np.float64]:
    """By rank, that of no rank first."""
    return np.array([0.0, *(metric.gain(rank) for rank in range(1, DEPTH + 1))])
