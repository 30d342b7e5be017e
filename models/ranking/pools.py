"""Candidates on their way to becoming lists, as arrays for all shoppers of a micro-batch."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.ranking.lists import SOURCES, UNIT
from models.retrieval.popularity import TopLists
from models.rules.arrays import RuleArrays


class Part(NamedTuple):
    """Shoppers of a micro-batch, at the places ``members`` int64[m], whose lists are made of the same: what is ``eligible`` bool[rows] and
    ``trending``, under the same ``rules``. ``ruled_out``: these leave nothing; ``passed_over``: pins that they could not place.
    """

    members: NDArray[np.int64]
    eligible: NDArray[np.bool_]
    trending: TopLists
    rules: RuleArrays
    ruled_out: bool = False
    passed_over: int = 0


class Parts(NamedTuple):
    """All shoppers of a micro-batch: ``of`` int64[n] is the place in ``each`` of each shopper's part."""

    each: list[Part]
    of: NDArray[np.int64]

    @classmethod
    def join(cls, each: list[Part], shoppers: int) -> Self:
        """Of n ``shoppers``, every one a member of one."""
        of = np.zeros(shoppers, dtype=np.int64)
        for number, part in enumerate(each):
            of[part.members] = number
        return cls(each, of)


class Pool(NamedTuple):
    """Candidates of n shoppers, best first, in the first ``size`` columns; what rules pin in those behind. For the arrays see
    ``RankedLists``. ``before`` int64[n]: so many come before those that are buried behind all others.
    """

    rows: NDArray[np.int32]
    shares: NDArray[np.int32]
    because: NDArray[np.int32]
    sizes: NDArray[np.int64]
    before: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int, parts: Parts) -> Self:
        """Room for ``size`` candidates of each shopper, and for the pins of all ``parts``."""
        width = size + max((len(part.rules.pin_rows) for part in parts.each), default=0)
        rows, shares, because, sizes = _room(len(parts.of), width)
        return cls(rows, shares, because, sizes, sizes.copy())


class Candidates(NamedTuple):
    """Of n shoppers, end to end: those of shopper i are ``rows[starts[i] : starts[i + 1]]`` int32, the blend's best first, with
    ``features`` float32[c, f] (``candidates.NAMES``).
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    features: NDArray[np.float32]


class Chosen(NamedTuple):
    """The lists' items: fields of ``RankedLists``."""

    rows: NDArray[np.int32]
    shares: NDArray[np.int32]
    because: NDArray[np.int32]
    pinned: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @classmethod
    def empty(cls, shoppers: int, k: int) -> Self:
        """Room for ``k`` each."""
        rows, shares, because, sizes = _room(shoppers, k)
        return cls(rows, shares, because, np.zeros((shoppers, k), dtype=np.bool_), sizes)


class Odds(NamedTuple):
    """Of n pools, as they were before they were put in order: ``rows`` int32[n, p], -1 beyond what is known, and how probable it is that
    each is bought before the visit is over, ``millionths`` int32[n, p].
    """

    rows: NDArray[np.int32]
    millionths: NDArray[np.int32]

    @classmethod
    def of(cls, pool: Pool, probabilities: NDArray[np.float64]) -> Self:
        """``probabilities`` float64[c] of the candidates of all pools, end to end."""
        filled = np.arange(pool.rows.shape[1]) < pool.sizes[:, None]
        millionths = np.zeros(pool.rows.shape, dtype=np.int32)
        millionths[filled] = np.rint(UNIT * probabilities)
        return cls(np.where(filled, pool.rows, np.int32(-1)), millionths)

    def of_listed(self, chosen: Chosen) -> NDArray[np.int32]:
        """int32[n, k] of the items of lists, -1 where it is not known."""
        same = chosen.rows[:, :, None] == self.rows[:, None, :]
        known = same.any(axis=2) & (chosen.rows >= 0)
        found = np.take_along_axis(self.millionths, same.argmax(axis=2), axis=1)
        return np.where(known, found, np.int32(-1))


def _room(shoppers: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    return (
        np.full((shoppers, size), -1, dtype=np.int32),
        np.zeros((shoppers, size, len(SOURCES)), dtype=np.int32),
        np.full((shoppers, size, len(SOURCES)), -1, dtype=np.int32),
        np.zeros(shoppers, dtype=np.int64),
    )
