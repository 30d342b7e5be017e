"""Vectors of the items that a model was trained with, and of those that it is given while it serves."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.retrieval.columns import longer


class ItemVectors:
    """Rows of width d: ``trained`` float32[n, d], which never changes and is never copied, and those put behind it.

    Example:
        >>> vectors = ItemVectors(np.zeros((2, 1), np.float32))
        >>> vectors.put(np.array([3, 2]), np.array([[5], [6]], np.float32))
        >>> len(vectors), vectors.at(np.array([3, 0, 2])).ravel()
        (4, array([5., 0., 6.], dtype=float32))

    """

    def __init__(self, trained: NDArray[np.float32]) -> None:
        self.trained = trained
        self._more = trained[:0].copy()
        self._size = len(trained)

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.trained.nbytes + self._more.nbytes

    def at(self, places: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[m, d]: the rows at ``places`` [m]."""
        first = len(self.trained)
        behind = places >= first
        found: NDArray[np.float32] = self.trained[np.where(behind, 0, places)]
        if behind.any():
            found[behind] = self._more[places[behind] - first]
        return found

    def put(self, places: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Row ``places[i]``, none of ``trained``, is ``vectors[i]`` from now on; those at or beyond the present length leave no gap."""
        first = len(self.trained)
        self._size = max(self._size, int(places.max(initial=-1)) + 1)
        self._more = longer(self._more, self._size - first, 0)
        self._more[places - first] = vectors

    def copy(self) -> Self:
        """The same rows; what is put into one of them the other does not have."""
        other = type(self)(self.trained)
        other.put(np.arange(len(self.trained), self._size), self._more[: self._size - len(self.trained)])
        return other
