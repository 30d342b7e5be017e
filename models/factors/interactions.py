"""Who touched what, how much and when: what factors are learned from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

#: Confidence in an observed pair is 1 + ALPHA * log2(1 + the weights of its touches).
ALPHA: Final = 2.0


class Interactions(NamedTuple):
    """n touches, oldest first: ``users`` int32[n], ``items`` int32[n] places in ``skus``, ``weights`` float32[n] by effort, ``at_ms``
    int64[n].
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    at_ms: NDArray[np.int64]
    skus: Sequence[str]

    @property
    def user_count(self) -> int:
        """One more than the greatest user."""
        return int(self.users.max(initial=-1)) + 1

    def part(self, chosen: slice) -> Self:
        """Some of the touches, of the same users and items."""
        return self._replace(users=self.users[chosen], items=self.items[chosen], weights=self.weights[chosen], at_ms=self.at_ms[chosen])

    def confidences(self, users: int, alpha: float = ALPHA) -> csr_matrix:
        """float32[users, items], sorted by column: the confidence in each pair that was touched (``confidence``), 0 elsewhere."""
        shape = (users, len(self.skus))
        sums = csr_matrix((self.weights, (self.users, self.items)), shape=shape, dtype=np.float32)
        sums.sum_duplicates()
        sums.data = confidence(sums.data, alpha)
        return sums


def confidence(weights: NDArray[np.float32], alpha: float = ALPHA) -> NDArray[np.float32]:
    """1 + alpha log2(1 + w), float32[n], of the summed weights w of a pair's touches (Hu, Koren and Volinsky, ICDM 2008, with log scaling).

    Example:
        >>> confidence(np.array([0, 1, 3], dtype=np.float32), 10).tolist()
        [1.0, 11.0, 21.0]

    """
    return np.asarray(1.0 + alpha * np.log2(1.0 + weights), dtype=np.float32)
