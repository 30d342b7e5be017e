"""Vectors of several encoders side by side, of which one is served, so that an encoder can be changed under a running shop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.catalog.vectors import VectorColumn

#: Share of all vectors whose newest is the new encoder's at which the catalogue goes over to it. Not all of them: a product
#: whose text the new encoder cannot embed keeps its old vector for ever.
TAKEOVER_SHARE: Final = 0.99


@dataclass(frozen=True, slots=True)
class EncoderKey:
    """Vectors are comparable when both agree."""

    version: str
    dimensions: int


class EncoderColumns:
    """Which encoder's vectors the table serves, and the vectors of the others while they wait.

    Vectors of two encoders are never compared. While the embed worker goes through the catalogue with a new encoder, the old
    vectors, also of products already embedded anew, go on being served; the new ones wait aside. The new encoder takes over
    when it made the newest vector of ``TAKEOVER_SHARE`` of the products that have one, or when it simply has more vectors than
    the one served (a worker that starts half way through the change reads only the newest vector of each product).
    """

    def __init__(self, table: ItemTable) -> None:
        self.serving: EncoderKey | None = None
        self._table = table
        self._waiting: dict[EncoderKey, VectorColumn] = {}
        self._keys: list[EncoderKey] = []
        #: By row: the place in ``_keys`` of the encoder of the newest vector, -1 without one.
        self._newest: NDArray[np.int16] = np.full(table.capacity, -1, dtype=np.int16)
        self._newest_count: Counter[int] = Counter()

    def serve(self, key: EncoderKey) -> None:
        """Begin with ``key``, while nothing is served."""
        self.serving = key
        if self._table.dimensions != key.dimensions:
            self._table.swap_vectors(VectorColumn(key.dimensions))

    def put(self, key: EncoderKey, sku: str, vector: NDArray[np.float32]) -> int:
        """Store a vector. Returns the product's row if it is now served with it, else -1."""
        if self.serving is None:
            self.serve(key)
        row = self._table.intern(sku)
        self._note(row, key)
        if key == self.serving:
            self._table.set_vector(sku, vector)
            return row
        self._waiting.setdefault(key, VectorColumn(key.dimensions, self._table.capacity)).set(row, vector)
        return -1

    def drop(self, sku: str) -> int:
        """Forget every vector of ``sku``. Returns its row, -1 if it never had one here."""
        row = self._table.row(sku)
        if row >= 0:
            self._note(row, None)
            self._table.drop_vector(sku)
            for column in self._waiting.values():
                column.drop(row)
        return row

    def take_over(self) -> bool:
        """Go over to another encoder if it is time. True: every served vector has changed."""
        successor = self._successor()
        if successor is None or self.serving is None:
            return False
        former, self.serving = self.serving, successor
        self._waiting[former] = self._table.swap_vectors(self._waiting.pop(successor))
        for key, column in list(self._waiting.items()):
            # What it waits for now is the vectors that nobody else has made anew.
            column.retain(self._newest == self._keys.index(key) if key in self._keys else np.zeros(0, dtype=np.bool_))
            if not column.count:
                del self._waiting[key]
        return True

    def _successor(self) -> EncoderKey | None:
        if not self._waiting:
            return None
        served, total = int(np.count_nonzero(self._table.has_vector)), self._newest_count.total()
        for key, column in self._waiting.items():
            if column.count > served or self._newest_count[self._keys.index(key)] >= TAKEOVER_SHARE * total > 0:
                return key
        return None

    def _note(self, row: int, key: EncoderKey | None) -> None:
        if row >= len(self._newest):
            self._newest = np.concatenate([self._newest, np.full(self._table.capacity - len(self._newest), -1, dtype=np.int16)])
        former = int(self._newest[row])
        if former >= 0:
            self._newest_count[former] -= 1
        if key is not None and key not in self._keys:
            self._keys.append(key)
        place = -1 if key is None else self._keys.index(key)
        self._newest[row] = place
        if place >= 0:
            self._newest_count[place] += 1
