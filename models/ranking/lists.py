"""The outcome of ranking a micro-batch, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.ranking.neighbours import NeighbourSessions

#: Where candidates come from; the order is that of the columns below. Names are those of ``schemas.recommendation.SourceName``.
SOURCES: Final = ("similar", "together", "sessions", "trending", "again", "sequence", "query", "factors")
SIMILAR, TOGETHER, SESSIONS, TRENDING, AGAIN, SEQUENCE, QUERY, FACTORS = range(8)

#: Versions of the ways in which lists are made, in every record: for the visit that goes on, for the next one, and for everybody alike.
MODEL: Final = "blend-4"
NEXT_VISIT_MODEL: Final = "visits-1"
POPULAR_MODEL: Final = "popular-1"

#: Codes of ``policy``.
EMPTY, COLD_START, PERSONAL, ITEM_ONLY = range(4)
#: Shares are whole millionths, so that they sum to the score exactly, in JSON too.
UNIT: Final = 1_000_000

#: ``because`` of the source ``again``.
BOUGHT, VIEWED = range(2)


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Lists for n shoppers of at most k items.

    ``rows`` int32[n, k], best first, -1 beyond ``sizes`` int64[n]. ``shares`` int32[n, k, s]: each source's millionths of the score.
    ``because`` int32[n, k, s]: for similar, together and sessions the place of an anchor in ``anchor_rows`` (-1: none); for trending a
    category code (-1: overall); for again ``BOUGHT`` or ``VIEWED``; for the others -1. ``anchor_rows`` int32[n, a], ``anchor_types``
    int8[n, a].
    ``policy`` int8[n]; ``degraded`` names the sources that failed; ``model`` the way in which the
    lists were made. ``pinned`` bool[n, k]: stands where it does by a business rule, whatever
    its score. ``ruled_out`` bool[n]: business rules leave nothing that may be listed. ``passed_over``: places in all lists that pins
    could not take. ``purchases`` int32[n, k]: millionths of the probability that the item is bought before the visit is over, -1 where
    nothing is known of it; None where no trained ranker ordered the lists. ``neighbours``: the sessions behind the source ``sessions``,
    where they were asked for.
    """

    rows: NDArray[np.int32]
    sizes: NDArray[np.int64]
    shares: NDArray[np.int32]
    because: NDArray[np.int32]
    anchor_rows: NDArray[np.int32]
    anchor_types: NDArray[np.int8]
    policy: NDArray[np.int8]
    degraded: tuple[str, ...]
    pinned: NDArray[np.bool_]
    ruled_out: NDArray[np.bool_]
    passed_over: int
    model: str = MODEL
    purchases: NDArray[np.int32] | None = None
    neighbours: NeighbourSessions | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def scores(self) -> NDArray[np.float64]:
        """float64[n, k]: the sums of the shares."""
        return np.asarray(self.shares.sum(axis=2) / UNIT)
