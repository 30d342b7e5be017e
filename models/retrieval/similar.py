"""Text neighbours: for each anchor the nearest products by vector, found in one search a micro-batch and remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.index.base import VectorIndex

NEIGHBOUR_LIMIT: Final = 24
#: Anchors searched at most in one micro-batch: bounds the pause that a cold cache causes; the rest follow in later batches.
SEARCH_LIMIT: Final = 1024
#: Pairs of anchor and product compared at most in one micro-batch: about 0.1 s at 384 dimensions on one core.
PAIR_LIMIT: Final = 2_000_000
#: A list of which less than this share may still be shown is made again, if there is more to show.
THIN_SHARE: Final = 0.5
#: A search asks for more where much of the index may not be shown, at most this many times as many.
OVERASK_LIMIT: Final = 4
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
    with the changed products alone, each pair once. Lists older than the index's main part are searched again little by little.
    A list most of which was sold out or deleted since is made anew from everything that may be shown: exactly, because an index
    cannot filter and the nearest of an item often sell out together. ``search_limit`` and ``pair_limit`` bound the pause of one
    batch; the rest waits.
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

        While there are products that may be shown, no list that is up to date is without a fair share of them (``THIN_SHARE``).

        ``vectors`` float32[>= rows, d] and ``has_vector`` bool[>= rows] as in ``ItemTable``; ``listable`` bool[rows]: may be shown.
        """
        self._reserve_rows(len(has_vector))
        anchors = anchors[has_vector[anchors]]
        slots = self._slot[anchors]
        listed = (slots >= 0) & (self._generation[slots] >= 0) & (self._reached[slots] >= self._first_change)
        stale = listed & (self._generation[slots] != self._index.generation)
        wanted = np.concatenate([anchors[~listed], anchors[stale][: self._search_limit // 8]])[: self._search_limit]
        candidates = listable & has_vector[: len(listable)]
        if len(wanted) and len(self._index):
            self._search(wanted, vectors, candidates)
        behind = anchors[listed]
        behind = behind[self._reached[self._slot[behind]] < self._end]
        compared = self._catch_up(behind, vectors, candidates) if len(behind) else 0
        current = anchors[self._slot[anchors] >= 0]
        current = current[self._reached[self._slot[current]] == self._end]
        thin = current[self._thin(current, candidates)]
        if len(thin):
            self._refill(thin[: max(1, (self._pair_limit - compared) // len(candidates))], vectors, candidates)

    @property
    def _end(self) -> int:
        return self._first_change + len(self._changes)

    def _catch_up(self, anchors: NDArray[np.int32], vectors: NDArray[np.float32], candidates: NDArray[np.bool_]) -> int:
        """Compare ``anchors`` with what changed since the one that is farthest behind; what the others know already changes nothing.

        Returns how many pairs were compared.
        """
        start = int(self._reached[self._slot[anchors]].min()) - self._first_change
        changed = np.unique(np.array(self._changes[start:], dtype=np.int32))
        shown = changed[changed < len(candidates)]
        shown = shown[candidates[shown]]
        anchors = anchors[: max(1, self._pair_limit // max(1, len(shown)))]
        slots = self._slot[anchors]
        cosines = vectors[anchors] @ vectors[shown].T
        cosines[anchors[:, None] == shown[None, :]] = -np.inf
        kept = np.where(np.isin(self._rows[slots], changed), -np.inf, self._scores[slots])
        rows = np.concatenate([self._rows[slots], np.broadcast_to(shown, cosines.shape)], axis=1)
        self._keep_best(slots, rows, np.concatenate([kept, cosines], axis=1).astype(np.float32))
        return int(cosines.size)

    def _thin(self, anchors: NDArray[np.int32], candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[n]: whose lists hold too few of the candidates, though there are more."""
        rows = self._rows[self._slot[anchors]]
        known = np.where(rows >= 0, candidates[rows], False).sum(axis=1)
        others = int(candidates.sum()) - candidates[anchors]
        return np.asarray(known < np.minimum(math.ceil(THIN_SHARE * rows.shape[1]), others))

    def _refill(self, anchors: NDArray[np.int32], vectors: NDArray[np.float32], candidates: NDArray[np.bool_]) -> None:
        """Compare ``anchors`` with all candidates. No list is thin after that, so none is refilled before more has gone."""
        cosines = vectors[anchors] @ vectors[: len(candidates)].T
        cosines[:, ~candidates] = -np.inf
        cosines[np.arange(len(anchors)), anchors] = -np.inf
        self._keep_best(self._slot[anchors], np.broadcast_to(np.arange(len(candidates), dtype=np.int32), cosines.shape), cosines)

    def _search(self, rows: NDArray[np.int32], vectors: NDArray[np.float32], candidates: NDArray[np.bool_]) -> None:
        asked = self._rows.shape[1] + 1
        hidden = len(self._index) / max(1, int(candidates.sum()))
        scores, ids = self._index.search(vectors[rows], math.ceil(asked * min(OVERASK_LIMIT, max(1.0, hidden))))
        new = rows[self._slot[rows] < 0]
        self._slot[new] = np.arange(self._used, self._used + len(new))
        self._used += len(new)
        self._reserve_slots(self._used)
        slots = self._slot[rows]
        other = (ids != rows[:, None]) & (ids >= 0) & (ids < len(candidates))
        other[other] = candidates[ids[other]]
        self._keep_best(slots, ids, np.where(other, scores, -np.inf))
        self._generation[slots] = self._index.generation

    def _keep_best(self, slots: NDArray[np.int32], rows: NDArray[Any], scores: NDArray[np.float32]) -> None:
        """Of ``rows`` [n, m] the best by ``scores`` float32[n, m] (-inf: not this one) become the lists at ``slots``, up to date."""
        limit = self._rows.shape[1]
        if scores.shape[1] > 2 * limit:
            best = np.argpartition(-scores, limit - 1, axis=1)[:, :limit]
            rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
        scores = np.take_along_axis(scores, order, axis=1)
        width = order.shape[1]
        self._rows[slots] = -1
        self._scores[slots] = -np.inf
        self._rows[slots, :width] = np.where(np.isfinite(scores), np.take_along_axis(rows, order, axis=1), -1)
        self._scores[slots, :width] = scores
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
