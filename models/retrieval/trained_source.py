"""What sources by trained models have in common: the model's items that a shop sells, in an index that follows the catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.index.factory import create_index
from models.profiles.columns import ProfileColumns
from models.retrieval.session_votes import Votes

#: As many new rows at once are worth an index of their own.
_MANY: Final = 1_000


class TrainedSource(ABC):
    """Products of ``items`` that may be listed and have a place in a model of the items ``skus``, by vectors of ``dimensions``.

    ``name`` goes into the records that the source had a part in.
    """

    def __init__(self, name: str, items: ItemTable, skus: Sequence[str], dimensions: int, threads: int) -> None:
        self.name = name
        self._items = items
        self._known = {sku: place for place, sku in enumerate(skus)}
        #: int32 by row of the item table: the place in the model, -1 where there is none.
        self._place = np.full(1024, -1, dtype=np.int32)
        self._seen = 0
        self._stale: set[int] = set()
        self._index = create_index("auto", dimensions, "cpu", threads)

    def note(self, rows: Iterable[int]) -> None:
        """Products or vectors of ``rows`` were set or deleted."""
        self._stale.update(rows)

    @abstractmethod
    def find(self, columns: ProfileColumns, limit: int) -> Votes:
        """The best ``limit`` of each of n shoppers; scores are over that of the best."""

    @abstractmethod
    def _vectors_of(self, places: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32[n, dimensions] of n places."""

    @abstractmethod
    def _adopt(self, strangers: Sequence[int]) -> None:
        """Rows of items that the model was not trained on, each time that they are noted: they may be given a place in ``_place``."""

    def _refresh(self) -> None:
        """Bring the index up to date with the catalogue."""
        rows = sorted(self._stale | set(range(self._seen, len(self._items))))
        if not rows:
            return
        self._stale.clear()
        self._seen = len(self._items)
        if len(self._place) < self._seen:
            self._place = np.pad(self._place, (0, self._items.capacity - len(self._place)), constant_values=-1)
        places = np.array([self._known.get(self._items.skus[row], -1) for row in rows], dtype=np.int32)
        self._place[rows] = places
        self._adopt([row for row, place in zip(rows, places, strict=True) if place < 0])
        changed = np.array(rows, dtype=np.int64)
        shown = changed[(self._place[changed] >= 0) & self._items.active[changed]]
        self._index.delete(np.setdiff1d(changed, shown))
        self._index.upsert(shown, self._vectors_of(self._place[shown]))
        if len(shown) > _MANY or self._index.needs_merge:
            self._index.merge()
