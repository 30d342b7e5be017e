"""Item factors as a source of candidates: what those who took the same took besides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.compilation import compiled
from models.factors.interactions import confidence
from models.factors.model import CARD, FactorModel, FactorsError
from models.profiles.columns import ProfileColumns
from models.profiles.interest import TYPE_WEIGHTS
from models.retrieval.session_votes import Votes, no_votes
from models.retrieval.trained_source import TrainedSource
from models.watching import WatchedFolder

_PURCHASE: Final = 3


def watch_factors(folder: Path, executor: Executor | None = None) -> WatchedFolder[FactorModel]:
    """The factors of ``folder``, and those that come after them. Raises ``FactorsError`` if there are none to begin with."""
    return WatchedFolder(folder, CARD, FactorModel.load, FactorsError, executor)


class FactorSource(TrainedSource):
    """Items of the highest inner product with each shopper's vector, over the products of ``items`` that may be listed.

    The vector is folded in from the shopper's recent items and purchases, as they are now, so that a new shopper has one after their
    first item. An item that the factors were not trained on waits for the next training.
    """

    def __init__(self, model: FactorModel, items: ItemTable, threads: int = 1) -> None:
        super().__init__(model.name, items, model.skus, model.vectors.shape[1], threads)
        self._model = model

    def find(self, columns: ProfileColumns, limit: int) -> Votes:
        """The best ``limit`` of each of n shoppers; score: inner product over that of the best, where above 0."""
        self._refresh()
        starts, places, weights = self._items_of(columns)
        votes = no_votes(len(columns), limit)
        asked = np.flatnonzero(np.diff(starts))
        if not len(asked) or not len(self._index):
            return votes
        # Those without an item have no entries between the others'.
        bounds = np.concatenate([starts[asked], starts[-1:]])
        users = self._model.fold_in(bounds, places, confidence(weights, self._model.alpha))
        products, rows = self._index.search(users, limit)
        found = (rows >= 0) & (products > 0)
        votes.rows[asked] = np.where(found, rows, -1)
        votes.scores[asked] = np.where(found, products / np.maximum(products[:, :1], 1e-9), 0.0)
        votes.sizes[asked] = found.sum(axis=1)
        return votes

    def _items_of(self, columns: ProfileColumns) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """(starts int64[n + 1], places int32[t], summed weights float32[t]) of the shoppers' distinct items that the model knows."""
        room = len(columns.recent_row) + len(columns.bought_row)
        starts = np.zeros(len(columns) + 1, dtype=np.int64)
        places, weights = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.float32)
        _gather(
            columns.recent_start, columns.recent_row, columns.recent_type, columns.bought_start, columns.bought_row,
            columns.bought_purchases, self._place, TYPE_WEIGHTS, starts, places, weights,
        )  # fmt: skip
        return starts, places[: starts[-1]], weights[: starts[-1]]

    def _adopt(self, strangers: Sequence[int]) -> None:
        """They wait for the next training."""

    def _vectors_of(self, places: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._model.vectors[places]


@compiled
def _gather(recent_start, recent_row, recent_type, bought_start, bought_row, purchases, place, type_weights, starts, places, weights):  # type: ignore[no-untyped-def]
    """Of each shopper the distinct items with a place: the weights of their recent events, or of all their purchases where that is more."""
    count = 0
    for i in range(len(starts) - 1):
        first = count
        for j in range(recent_start[i], recent_start[i + 1]):
            if recent_row[j] < 0 or place[recent_row[j]] < 0:
                continue
            at = first
            while at < count and places[at] != place[recent_row[j]]:
                at += 1
            if at == count:
                places[at] = place[recent_row[j]]
                weights[at] = 0.0
                count += 1
            weights[at] += type_weights[recent_type[j]]
        recent = count
        for j in range(bought_start[i], bought_start[i + 1]):
            if bought_row[j] < 0 or place[bought_row[j]] < 0:
                continue
            weight = type_weights[_PURCHASE] * np.float32(purchases[j])
            at = first
            while at < recent and places[at] != place[bought_row[j]]:
                at += 1
            if at < recent:
                weights[at] = max(weights[at], weight)
            else:
                places[count] = place[bought_row[j]]
                weights[count] = weight
                count += 1
        starts[i + 1] = count
