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
#: Pairs of anchor and changed product compared at most in one micro-batch: about 0.1 s at 384 dimensions on one core.
PAIR_LIMIT: Final = 2_000_000
#: Changes remembered; an anchor that missed more than that is searched anew.
CHANGE_LIMIT: Final = 8_192
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
    """Neighbour lists by item, kept exact as products come and go.

    The sum of an anchor's weight times its cosines over all anchors is the inner product with the weighted sum of the anchors'
    vectors: lists by item answer for every shopper's interest vector, and most micro-batches need no search at all.

    A list is searched when its item is first an anchor. What changed since is a short log; an anchor that is behind is compared
    with the changed products alone, each pair once. Lists older than the index's main part are searched again little by little:
    that fills the places of what was deleted. ``search_limit`` and ``pair_limit`` bound the pause of one batch; the rest waits.
    """

    def __init__(
        self, index: VectorIndex, limit: int = NEIGHBOUR_LIMIT, search_limit: int = SEARCH_LIMIT, pair_limit: int = PAIR_LIMIT
    ) -> None:
        self._index = index
        self._search_limit = search_limit
        self._pair_limit = pair_limit
        self._slot = np.full(_FIRST_ROWS, _UNKNOWN, dtype=np.int32)
        self._rows = np.full((_FIRST_ROWS, limit), -1, dtype=np.int32)
        self._scores = np.full((_FIRST_ROWS, limit), -np.inf, dtype=np.float32)
        self._generation = np.full(_FIRST_ROWS, -1, dtype=np.int64)
        self._reached = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._used = 0
        self._changes: list[int] = []
        self._first_change = 0

    def view(self, rows: int) -> NeighbourLists:
        """For rows below ``rows``."""
        self._reserve_rows(rows)
        return NeighbourLists(self._slot, self._rows, self._scores)

    def note(self, row: int) -> None:
        """The vector of ``row`` was set or dropped, or its product came on sale: its own list is void, others learn of it."""
        if row < len(self._slot) and self._slot[row] >= 0:
            slot = self._slot[row]
            self._generation[slot] = -1
            self._rows[slot] = -1
            self._scores[slot] = -np.inf
        self._changes.append(row)
        if len(self._changes) > 2 * CHANGE_LIMIT:
            del self._changes[:CHANGE_LIMIT]
            self._first_change += CHANGE_LIMIT

    def ensure(
        self, anchors: NDArray[np.int32], vectors: NDArray[np.float32], has_vector: NDArray[np.bool_], listable: NDArray[np.bool_]
    ) -> None:
        """Bring the lists of the distinct ``anchors`` int32[n] (most wanted first) up to date, by at most one search.

        ``vectors`` float32[>= rows, d] and ``has_vector`` bool[>= rows] as in ``ItemTable``; ``listable`` bool[rows]: may be shown.
        """
        self._reserve_rows(len(has_vector))
        anchors = anchors[has_vector[anchors]]
        slots = self._slot[anchors]
        listed = (slots >= 0) & (self._generation[slots] >= 0) & (self._reached[slots] >= self._first_change)
        stale = listed & (self._generation[slots] != self._index.generation)
        wanted = np.concatenate([anchors[~listed], anchors[stale][: self._search_limit // 8]])[: self._search_limit]
        if len(wanted) and len(self._index):
            self._search(wanted, vectors)
        behind = anchors[listed]
        behind = behind[self._reached[self._slot[behind]] < self._end]
        if len(behind):
            self._catch_up(behind, vectors, has_vector, listable)

    @property
    def _end(self) -> int:
        return self._first_change + len(self._changes)

    def _catch_up(
        self, anchors: NDArray[np.int32], vectors: NDArray[np.float32], has_vector: NDArray[np.bool_], listable: NDArray[np.bool_]
    ) -> None:
        """Compare ``anchors`` with what changed since the one that is farthest behind; what the others know already changes nothing."""
        start = int(self._reached[self._slot[anchors]].min()) - self._first_change
        changed = np.unique(np.array(self._changes[start:], dtype=np.int32))
        shown = changed[changed < len(listable)]
        shown = shown[listable[shown] & has_vector[shown]]
        anchors = anchors[: max(1, self._pair_limit // max(1, len(shown)))]
        slots = self._slot[anchors]
        limit = self._rows.shape[1]
        cosines = vectors[anchors] @ vectors[shown].T
        cosines[anchors[:, None] == shown[None, :]] = -np.inf
        kept = np.where(np.isin(self._rows[slots], changed), -np.inf, self._scores[slots])
        rows = np.concatenate([self._rows[slots], np.broadcast_to(shown, cosines.shape)], axis=1)
        scores = np.concatenate([kept, cosines], axis=1).astype(np.float32)
        if scores.shape[1] > 2 * limit:
            best = np.argpartition(-scores, limit - 1, axis=1)[:, :limit]
            rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
        scores = np.take_along_axis(scores, order, axis=1)
        self._rows[slots] = np.where(np.isfinite(scores), np.take_along_axis(rows, order, axis=1), -1)
        self._scores[slots] = scores
        self._reached[slots] = self._end

    def _search(self, rows: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        limit = self._rows.shape[1]
        scores, ids = self._index.search(vectors[rows], limit + 1)
        new = rows[self._slot[rows] < 0]
        self._slot[new] = np.arange(self._used, self._used + len(new))
        self._used += len(new)
        self._reserve_slots(self._used)
        slots = self._slot[rows]
        other = (ids != rows[:, None]) & (ids >= 0)
        order = np.argsort(~other, axis=1, kind="stable")[:, :limit]
        self._rows[slots] = np.take_along_axis(np.where(other, ids, -1), order, axis=1)
        self._scores[slots] = np.take_along_axis(np.where(other, scores, -np.inf), order, axis=1)
        self._generation[slots] = self._index.generation
        self._reached[slots] = self._end

    def _reserve_rows(self, rows: int) -> None:
        if rows > len(self._slot):
            extra = max(rows, 2 * len(self._slot)) - len(self._slot)
            self._slot = np.concatenate([self._slot, np.full(extra, _UNKNOWN, dtype=np.int32)])

    def _reserve_slots(self, slots: int) -> None:
        extra = max(slots, 2 * len(self._reached)) - len(self._reached)
        if slots > len(self._reached):
            width = self._rows.shape[1]
            self._rows = np.concatenate([self._rows, np.full((extra, width), -1, dtype=np.int32)])
            self._scores = np.concatenate([self._scores, np.full((extra, width), -np.inf, dtype=np.float32)])
            self._generation = np.concatenate([self._generation, np.full(extra, -1, dtype=np.int64)])
            self._reached = np.concatenate([self._reached, np.zeros(extra, dtype=np.int64)])
