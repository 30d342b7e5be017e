"""Ranks of the one relevant item, as counts: the exact sufficient statistic of hit rate, MRR and NDCG at every cut-off.

Sums of reciprocals are floats, and floats depend on the order in which they were added. Counts of ranks are integers, so
panes, partitions and restarts add up to the same number, bit for bit; the division comes last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import mul
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

#: Stands for "the item was not in the list" where ranks travel as integers. Ranks count from 1.
ABSENT = 0
#: The deepest rank that is told apart: the largest cut-off of the contract (``schemas.valuation.CUTOFFS``).
DEPTH = 20


class RankCounts:
    """How many tests there were, and how many had their item at rank 1, 2, .. ``DEPTH``.

    >>> counts = RankCounts()
    >>> counts.update(1).update(4).update(None).update(25).tests
    4
    >>> counts.by_rank[:5].tolist()
    [1, 0, 0, 1, 0]
    """

    __slots__ = ("by_rank", "tests")

    def __init__(self, tests: int = 0, by_rank: NDArray[np.int64] | Sequence[int] | None = None) -> None:
        self.tests = int(tests)
        self.by_rank: NDArray[np.int64] = np.zeros(DEPTH, np.int64) if by_rank is None else np.array(by_rank, np.int64)
        if self.by_rank.shape != (DEPTH,):
            raise ValueError(f"by_rank must hold {DEPTH} counts, got shape {self.by_rank.shape}")

    def update(self, rank: int | None) -> Self:
        """Count one test; ``rank`` None or ``ABSENT`` when the item was not in the list."""
        self.tests += 1
        if rank is not None and 1 <= rank <= DEPTH:
            self.by_rank[rank - 1] += 1
        return self

    def update_many(self, ranks: NDArray[np.integer]) -> Self:
        """Count one test for each element of ``ranks`` (any shape, integers, ``ABSENT`` = not in the list)."""
        self.tests += int(ranks.size)
        inside = ranks[(ranks >= 1) & (ranks <= DEPTH)]
        self.by_rank += np.bincount(inside.astype(np.int64) - 1, minlength=DEPTH)
        return self

    def merge(self, other: RankCounts) -> Self:
        """Add the counts of a disjoint part of the stream."""
        self.tests += other.tests
        self.by_rank += other.by_rank
        return self


class RankMetric(ABC):
    """A mean, over tests, of a gain that depends on the rank of the relevant item; gain 0 beyond the cut-off ``k``.

    Parameters: ``k`` in 1..``DEPTH``; ``counts`` to read (shared, not copied), a fresh one by default.
    """

    def __init__(self, k: int, counts: RankCounts | None = None) -> None:
        if not 1 <= k <= DEPTH:
            raise ValueError(f"k must lie in 1..{DEPTH}, got {k}")
        self.k = k
        self.counts = RankCounts() if counts is None else counts

    #: ``gain`` of the ranks 1 .. ``DEPTH``.
    _gains: ClassVar[tuple[float, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._gains = tuple(cls.gain(rank) for rank in range(1, DEPTH + 1))

    @staticmethod
    @abstractmethod
    def gain(rank: int) -> float:
        """The gain of a test whose item stood at ``rank`` (from 1)."""

    def update(self, rank: int | None) -> Self:
        """Count one test; ``rank`` None when the item was not in the list."""
        self.counts.update(rank)
        return self

    def update_many(self, ranks: NDArray[np.integer]) -> Self:
        """Count one test for each element of ``ranks`` (integers, ``ABSENT`` = not in the list)."""
        self.counts.update_many(ranks)
        return self

    def merge(self, other: Self) -> Self:
        """Add a disjoint part of the stream, judged at the same cut-off."""
        if other.k != self.k:
            raise ValueError(f"cannot merge a metric at {other.k} into one at {self.k}")
        self.counts.merge(other.counts)
        return self

    def get(self) -> float:
        """The mean gain in 0..1; 0 before the first test. ``fsum`` makes the sum independent of order and platform."""
        if not self.counts.tests:
            return 0.0
        counted = self.counts.by_rank[: self.k].tolist()
        return math.fsum(map(mul, counted, self._gains)) / self.counts.tests
