"""Candidates on their way to becoming lists, as arrays for all shoppers of a micro-batch."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.ranking.lists import SOURCES, UNIT
from models.ranking.purchases import PurchaseModel
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


class Described(NamedTuple):
    """Of n pools, as they were before they were put in order: ``rows`` int32[n, p], -1 beyond their candidates, whose features, end to end,
    are ``features`` float32[c, f] from ``starts`` int64[n + 1] on.
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int64]
    features: NDArray[np.float32]

    @classmethod
    def of(cls, pool: Pool, starts: NDArray[np.int64], features: NDArray[np.float32]) -> Self:
        """Of ``pool`` as it is now."""
        filled = np.arange(pool.rows.shape[1]) < pool.sizes[:, None]
        return cls(np.where(filled, pool.rows, np.int32(-1)), starts, features)

    def purchases(self, chosen: Chosen, buying: PurchaseModel) -> NDArray[np.int32]:
        """int32[n, k]: millionths of how probable it is that items of lists are bought before the visit is over; -1 for those that are no
        candidates.
        """
        same = chosen.rows[:, :, None] == self.rows[:, None, :]
        known = same.any(axis=2) & (chosen.rows >= 0)
        places = (self.starts[:-1, None] + same.argmax(axis=2))[known]
        millionths = np.full(chosen.rows.shape, -1, dtype=np.int32)
        millionths[known] = np.rint(UNIT * buying.probabilities(self.features[places]))
        return millionths


def _room(shoppers: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    return (
        np.full((shoppers, size), -1, dtype=np.int32),
        np.zeros((shoppers, size, len(SOURCES)), dtype=np.int32),
        np.full((shoppers, size, len(SOURCES)), -1, dtype=np.int32),
        np.zeros(shoppers, dtype=np.int64),
    )
