"""Streams whose true mean is known, many replays at a time: what intervals are put to the test with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtri

Floats = NDArray[np.float64]


def autocorrelated(generator: np.random.Generator, replays: int, length: int, correlation: float) -> Floats:
    """Stationary AR(1) with mean 0 and variance 1; shape (replays, length)."""
    noise = generator.standard_normal((replays, length))
    noise[:, 1:] *= np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)


def hits(generator: np.random.Generator, replays: int, length: int, correlation: float, share: float) -> Floats:
    """Zeros and ones, ``share`` of them ones, which follow an AR(1) beneath."""
    return (autocorrelated(generator, replays, length, correlation) < ndtri(share)).astype(np.float64)


def pane_counts(generator: np.random.Generator, panes: int, outcomes: int, *, uneven: bool) -> NDArray[np.int64]:
    """Outcomes by pane, ``outcomes`` in all: the same in each, or by day and night with noise, some panes empty."""
    if not uneven:
        return np.diff(np.arange(panes + 1) * outcomes // panes)
    day = 1.05 + np.sin(np.arange(panes) * 2 * np.pi / 24)
    weights = day * generator.gamma(0.7, 1.0, panes)
    return generator.multinomial(outcomes, weights / weights.sum())


def by_pane(values: Floats, counts: NDArray[np.int64]) -> Floats:
    """The sums of consecutive values by pane; shape (replays, panes)."""
    cumulative = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return np.diff(cumulative[:, ends], axis=1)


def with_pane_effects(
    generator: np.random.Generator, replays: int, counts: NDArray[np.int64], correlation: float, weight: float
) -> tuple[Floats, Floats]:
    """Independent outcomes of variance 1 - ``weight`` about pane means of variance ``weight``, an AR(1) from pane to pane: (sums by
    pane, outcomes).
    """
    effects = autocorrelated(generator, replays, len(counts), correlation) * np.sqrt(weight)
    values = generator.standard_normal((replays, int(counts.sum()))) * np.sqrt(1 - weight) + np.repeat(effects, counts, axis=1)
    return by_pane(values, counts), values


def buyers(generator: np.random.Generator, mean: int, purchases: float, sigma: float) -> tuple[NDArray[np.int64], Floats]:
    """Purchases of a Poisson number of buyers, each with a geometric number of them, log-normal amounts of mean 1: the buyer of each
    purchase, and its amount.
    """
    counts = generator.geometric(1 / purchases, generator.poisson(mean))
    amounts = generator.lognormal(-sigma * sigma / 2, sigma, int(counts.sum()))
    return np.repeat(np.arange(len(counts)), counts), amounts
