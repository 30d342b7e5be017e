"""Draws from a seeded generator, one at a time, at the price of a list access."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

_BLOCK = 8192


class Chance:
    """Uniform draws taken from ``generator`` in blocks: a scalar call into numpy costs ten times as much as a list access."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._block: list[float] = []
        self._next = 0

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if self._next == len(self._block):
            self._block = self._generator.random(_BLOCK).tolist()
            self._next = 0
        value = self._block[self._next]
        self._next += 1
        return value

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def below(self, limit: int) -> int:
        """An integer in 0..limit-1."""
        return int(self.uniform() * limit)

    def wait(self, mean: float) -> float:
        """An exponential waiting time."""
        return -mean * math.log1p(-self.uniform())

    def pick(self, cumulative: Sequence[float]) -> int:
        """An index, with probabilities in proportion to the increments of ``cumulative``."""
        return min(bisect_right(cumulative, self.uniform() * cumulative[-1]), len(cumulative) - 1)

    def one_of(self, options: Sequence[str]) -> str:
        """One of ``options``, all equally likely."""
        return options[self.below(len(options))]
