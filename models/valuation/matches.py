"""What a vote of nearest neighbours is valued on: how far each row agrees with what happened, and how many rows vote."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_matches(match: ArrayLike, dimensions: tuple[int, ...] = (1, 2)) -> NDArray[np.float64]:
    """``match`` (bool, int or float) as float64[rows] or float64[tests, rows] in C order.

    1 where a row carries the label that the test turned out to have, 0 where not, between where labels are soft. Raises
    ``ValueError`` for anything outside 0..1, NaN included, and for other numbers of dimensions.
    """
    values = np.asarray(match, dtype=np.float64, order="C")
    if values.ndim not in dimensions:
        wanted = " or ".join(("rows", "tests by rows")[number - 1] for number in dimensions)
        raise ValueError(f"matches are an array of {wanted}, got {values.ndim} dimensions")
    if values.size and not (values.min() >= 0.0 and values.max() <= 1.0):
        raise ValueError(f"matches lie in 0..1, got {values[~((values >= 0.0) & (values <= 1.0))][0]}")
    return values


def as_votes(k: SupportsIndex) -> int:
    """The number of neighbours that vote; raises ``ValueError`` below 1."""
    votes = operator.index(k)
    if votes < 1:
        raise ValueError(f"k is the number of neighbours that vote, at least 1, got {votes}")
    return votes
