"""Text neighbours: for each anchor the nearest products by vector, found in one search a micro-batch and remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.index.base import VectorIndex

NEIGHBOUR_LIMIT: Final = 24
#: Anchors searched at most in one micro-batch: bounds the pause that a cold cache causes; the rest follow in later batches.
SEARCH_LIMIT: Final = 1024
#: Newest products searched for each shopper.
FRESH_LIMIT: Final = 8
#: The slot of an anchor whose neighbours were never found.
_UNKNOWN: Final = -1
_FIRST_ROWS: Final = 1024


@dataclass(frozen=True, slots=True)
class NeighbourLists:
    """A view for the ranking loop, valid until the next change: item row -> ``slot`` (-1: none) -> ``rows`` int32[s, m] padded
    with -1 and cosines ``scores`` float32[s, m], best first.
    """

    slot: NDArray[np.int32]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


class TextNeighbours:
    """Neighbour lists by item, kept right as the index changes.

    A list is searched when its item is first an anchor. When products arrive, they are put into the lists of *their* neighbours
    (cosine is symmetric), so lists stay usable across merges of the index; lists older than the main part are searched again
    as they are asked for, within the same budget.
    """

    def __init__(self, index: VectorIndex, limit: int = NEIGHBOUR_LIMIT, search_limit: int = SEARCH_LIMIT) -> None:
        self._index = index
        self._search_limit = search_limit
        self._slot = np.full(_FIRST_ROWS, _UNKNOWN, dtype=np.int32)
        self._rows = np.full((_FIRST_ROWS, limit), -1, dtype=np.int32)
        self._scores = np.full((_FIRST_ROWS, limit), -np.inf, dtype=np.float32)
        self._generation = np.full(_FIRST_ROWS, -1, dtype=np.int64)
        self._used = 0
        self._changed: set[int] = set()

    def view(self, rows: int) -> NeighbourLists:
        """For rows below ``rows``."""
        self._reserve_rows(rows)
        return NeighbourLists(self._slot, self._rows, self._scores)

    def note_vector(self, row: int) -> None:
        """The vector of ``row`` was set or dropped: its own list is void, and it belongs into its neighbours' lists."""
        if row < len(self._slot) and self._slot[row] >= 0:
            slot = self._slot[row]
            self._generation[slot] = -1
            self._rows[slot] = -1
            self._scores[slot] = -np.inf
        self._changed.add(row)

    def ensure(self, anchors: NDArray[np.int32], vectors: NDArray[np.float32], has_vector: NDArray[np.bool_]) -> None:
        """Find the lists of the distinct ``anchors`` int32[n] (most wanted first) that lack one, by one search over float32[rows, d]."""
        self._reserve_rows(len(has_vector))
        self._announce(vectors, has_vector)
        anchors = anchors[has_vector[anchors]]
        slots = self._slot[anchors]
        generation = np.where(slots >= 0, self._generation[slots], -1)
        missing = anchors[generation < 0]
        stale = anchors[(generation >= 0) & (generation != self._index.generation)]
        wanted = np.concatenate([missing, stale[: self._search_limit // 8]])[: self._search_limit]
        if len(wanted) and len(self._index):
            self._search(wanted, vectors)

    @property
    def has_fresh(self) -> bool:
        """Whether the index holds products that are not in its main part yet."""
        return self._index.fresh_count > 0

    def fresh(self, interests: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Cosines float32[n, f] and rows int32[n, f] (-1 pad) of the newest products nearest to each interest float32[n, d]; f may be 0."""
        if self._index.fresh_count == 0 or len(interests) == 0:
            return np.empty((len(interests), 0), dtype=np.float32), np.empty((len(interests), 0), dtype=np.int32)
        scores, ids = self._index.search_fresh(interests, min(FRESH_LIMIT, self._index.fresh_count))
        return scores, ids.astype(np.int32)

    def _announce(self, vectors: NDArray[np.float32], has_vector: NDArray[np.bool_]) -> None:
        """Put newly embedded products into the lists of their neighbours."""
        if not self._changed:
            return
        rows = np.array(sorted(self._changed)[: self._search_limit], dtype=np.int32)
        self._changed.difference_update(rows.tolist())
        if self._used == 0:
            self._changed.clear()  # there are no lists to put them into
            return
        rows = rows[rows < len(has_vector)]
        rows = rows[has_vector[rows]]
        if len(rows) == 0:
            return
        self._search(rows, vectors)
        for row in rows.tolist():
            slot = self._slot[row]
            for neighbour, score in zip(self._rows[slot].tolist(), self._scores[slot].tolist(), strict=True):
                if neighbour >= 0 and self._slot[neighbour] >= 0:
                    self._insert(int(self._slot[neighbour]), row, score)

    def _insert(self, slot: int, row: int, score: float) -> None:
        rows, scores = self._rows[slot], self._scores[slot]
        kept = rows != row
        others, their_scores = rows[kept], scores[kept]
        place = int(np.searchsorted(-their_scores, -score, side="right"))
        limit = len(rows)
        rows[:] = np.concatenate([others[:place], [row], others[place:], [-1]])[:limit]
        scores[:] = np.concatenate([their_scores[:place], [score], their_scores[place:], [-np.inf]])[:limit]

    def _search(self, rows: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        limit = self._rows.shape[1]
        scores, ids = self._index.search(vectors[rows], limit + 1)
        for row in rows[self._slot[rows] < 0].tolist():
            self._slot[row] = self._used
            self._used += 1
            self._reserve_slots(self._used)
        slots = self._slot[rows]
        other = (ids != rows[:, None]) & (ids >= 0)
        order = np.argsort(~other, axis=1, kind="stable")[:, :limit]
        self._rows[slots] = np.take_along_axis(np.where(other, ids, -1), order, axis=1)
        self._scores[slots] = np.take_along_axis(np.where(other, scores, -np.inf), order, axis=1)
        self._generation[slots] = self._index.generation

    def _reserve_rows(self, rows: int) -> None:
        if rows > len(self._slot):
            extra = max(rows, 2 * len(self._slot)) - len(self._slot)
            self._slot = np.concatenate([self._slot, np.full(extra, _UNKNOWN, dtype=np.int32)])

    def _reserve_slots(self, slots: int) -> None:
        extra = len(self._generation)
        if slots > extra:
            width = self._rows.shape[1]
            self._rows = np.concatenate([self._rows, np.full((extra, width), -1, dtype=np.int32)])
            self._scores = np.concatenate([self._scores, np.full((extra, width), -np.inf, dtype=np.float32)])
            self._generation = np.concatenate([self._generation, np.full(extra, -1, dtype=np.int64)])
