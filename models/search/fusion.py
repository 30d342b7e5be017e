"""Two rankings and a taste into one list whose scores can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Parts of a score, in the order of the columns of ``Fused.shares``. Names are those of ``schemas.serving.SearchSource``.
PARTS: Final = ("lexical", "semantic", "personal")
LEXICAL, SEMANTIC, PERSONAL = range(3)
#: Shares are whole millionths, so that they sum to the score exactly.
UNIT: Final = 1_000_000
#: The k of reciprocal rank fusion, from the paper.
RANK_OFFSET: Final = 60
#: Of each of the two rankings' best place; with ``BOOST`` a score ends at 1.
WEIGHT: Final = 0.4
#: The personal share's bound, as a part of the relevance it rests on.
BOOST: Final = 0.25

Affinity = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Fused:
    """n products, best first: ``rows`` int64[n], ``shares`` int64[n, 3] in millionths (see ``PARTS``)."""

    rows: NDArray[np.int64]
    shares: NDArray[np.int64]

    def scores(self) -> NDArray[np.int64]:
        """int64[n]: the sums of the shares, in millionths."""
        return np.asarray(self.shares.sum(axis=1))


def fuse(
    lexical: tuple[NDArray[np.int64], NDArray[np.floating]],
    semantic: tuple[NDArray[np.int64], NDArray[np.floating]],
    affinity: Affinity | None = None,
) -> Fused:
    """Join two rankings, each (rows int64[n], scores float[n]), best first: every product of either, best first.

    A ranking's share for its product at rank r is ``WEIGHT (RANK_OFFSET + 1) / (RANK_OFFSET + r)``: reciprocal rank fusion (Cormack,
    Clarke and Buettcher, SIGIR 2009), scaled so that the best place is ``WEIGHT``. Equal scores share a rank. The personal share is
    ``BOOST affinity (lexical + semantic)`` with ``affinity`` float64[n] in 0..1 of the rows it is given: it can lift a product past
    others at most ``BOOST`` more relevant, and never bring in one that does not fit the query. Of equal scores the one found by word
    comes first, then the lower row.

    Example:
        >>> fused = fuse((np.array([3, 5]), np.array([9.0, 2.0])), (np.array([5]), np.array([0.8])))
        >>> fused.rows.tolist(), fused.shares.tolist()
        ([5, 3], [[393548, 400000, 0], [400000, 0, 0]])

    """
    rows = np.union1d(lexical[0], semantic[0]).astype(np.int64)
    shares = np.zeros((len(rows), len(PARTS)), dtype=np.int64)
    for part, (found, scores) in ((LEXICAL, lexical), (SEMANTIC, semantic)):
        ranks = 1 + np.searchsorted(-scores, -scores, side="left")
        shares[np.searchsorted(rows, found), part] = np.rint(UNIT * WEIGHT * (RANK_OFFSET + 1) / (RANK_OFFSET + ranks))
    if affinity is not None and len(rows):
        relevance = shares.sum(axis=1)
        shares[:, PERSONAL] = np.rint(BOOST * affinity(rows) * relevance)
    order = np.lexsort((rows, -shares[:, LEXICAL], -shares.sum(axis=1)))
    return Fused(rows[order], shares[order])
