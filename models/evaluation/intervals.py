"""How sure a mean is: 95 % intervals of shares, of mean gains, and of means of tests that depend on each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_NORMAL: Final = 1.96
#: Batches of consecutive tests whose means give an interval, and the 97.5 % point of Student's t with one less.
_BATCHES: Final = 30
_STUDENT: Final = 2.045


def wilson(share: float, tests: int, quantile: float = _NORMAL) -> tuple[float, float]:
    """The 95 % interval of a share of ``tests`` trials (Wilson, JASA 1927): holds its level near 0 and 1 too."""
    if tests == 0:
        return 0.0, 1.0
    squared = quantile * quantile / tests
    middle = share + squared / 2
    half = quantile * math.sqrt(share * (1 - share) / tests + squared / (4 * tests))
    return (middle - half) / (1 + squared), (middle + half) / (1 + squared)


def of_mean(mean: float, mean_of_squares: float, tests: int, quantile: float = _NORMAL) -> tuple[float, float]:
    """The 95 % interval of the mean of ``tests`` values in 0..1, by the normal distribution.

    >>> [round(end, 3) for end in of_mean(0.5, 0.3, 100)]
    [0.456, 0.544]
    """
    if tests == 0:
        return 0.0, 1.0
    half = quantile * math.sqrt(max(0.0, mean_of_squares - mean * mean) / tests)
    return max(0.0, mean - half), min(1.0, mean + half)


def batch_means(values: Sequence[float], least: float = 0.0, most: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of the mean of ``values``, each in ``least``..``most``, in the order of their tests: by the means of 30 batches of
    consecutive ones, which allows for tests that depend on each other (Law and Kelton). (``least``, ``most``) for fewer than 60 values.
    """
    if len(values) < 2 * _BATCHES:
        return least, most
    bounds = [len(values) * number // _BATCHES for number in range(_BATCHES + 1)]
    means = [statistics.fmean(values[first:last]) for first, last in pairwise(bounds)]
    middle, half = statistics.fmean(values), _STUDENT * statistics.stdev(means) / math.sqrt(_BATCHES)
    return max(least, middle - half), min(most, middle + half)
