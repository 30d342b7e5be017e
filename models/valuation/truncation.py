"""KNN-Shapley of a few nearest rows in order and of all others without one: the expectation over the orders that they might have."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from models.valuation.knn_shapley import value_rows
from models.valuation.matches import as_matches, as_votes


class Truncated(NamedTuple):
    """Values of the m rows of the head, float64[m], and of one row beyond that matches, or does not (0 where there is none such)."""

    head: NDArray[np.float64]
    matched: float
    unmatched: float


def truncated(match_head: ArrayLike, matches_beyond: float, beyond: int, k: SupportsIndex) -> Truncated:
    """``knn_shapley`` of M rows in order, nearest first, and of L = ``beyond`` rows farther away in no known order, n of which match.

    Each value is the exact mean over all orders of the rows beyond, as fits rows of no similarity at all; what is known of them is
    the number n = ``matches_beyond``, from counters by label, so the cost is O(M). With N = M + L, T = max(M, K), W = max(N, K) and

        h = mean of 1 / max(j, K) over the places j = M + 1 .. N
        head row i:            s_i = m_i / max(i, K) - sum over max(i, K) < j <= M of m_j / (j (j - 1)) - n / L (1 / T - 1 / W)
        beyond, matching:      h - (n - 1) / (L - 1) (h - 1 / W)
        beyond, not matching:    - n / (L - 1) (h - 1 / W)

    the rows beyond get n / W in all, and everything adds up to the mean of v(N), which for M >= K is v(N) itself. Values are linear in
    the matches, so n may be a sum of soft ones: a row beyond of match x is worth ``unmatched + x (matched - unmatched)``.

    Where the rows beyond do have an order, the values of the head are off by one common constant, ``truncation_error_max`` at most:
    their ranking stays exact.

    Raises ``ValueError`` for k < 1, matches outside 0..1 and n outside 0..L.

    >>> nearest = truncated([1, 0], matches_beyond=1, beyond=2, k=1)
    >>> round(float(nearest.head.sum()) + nearest.matched + nearest.unmatched, 12)  # v(N) = 1
    1.0
    """
    matches, votes = as_matches(match_head, (1,)), as_votes(k)
    if not 0 <= matches_beyond <= beyond:
        raise ValueError(f"{matches_beyond} of {beyond} rows beyond the head match: that is not 0 to all of them")
    rows = len(matches)
    values = np.empty((1, rows))
    value_rows(matches.reshape(1, rows), votes, values)
    if not beyond:
        return Truncated(values[0], 0.0, 0.0)
    places = rows + beyond
    values -= matches_beyond / beyond * truncation_error_max(rows, beyond, votes)
    voting, last = max(rows, votes), max(places, votes)
    mean = ((min(voting, places) - rows) / votes + float(digamma(last + 1.0) - digamma(voting + 1.0))) / beyond
    spread = (mean - 1.0 / last) / (beyond - 1) if beyond > 1 else 0.0
    return Truncated(
        values[0],
        mean - (matches_beyond - 1) * spread if matches_beyond else 0.0,
        -matches_beyond * spread if matches_beyond < beyond else 0.0,
    )


class Vote(NamedTuple):
    """What the nearest rows give the label, and what all rows do."""

    utility: float
    popularity: float


def vote(match_head: NDArray[np.float64], matches_beyond: int, beyond: int, k: int) -> Vote:
    """v(N) and p of the same rows, on average over the orders that those beyond the head might have: the values of ``truncated`` less
    p / N each add up to the difference. With no more rows than votes all rows vote, which is popularity.

    >>> vote(np.array([1.0, 0.0]), matches_beyond=1, beyond=2, k=3)
    Vote(utility=0.5, popularity=0.5)
    """
    rows = len(match_head) + beyond
    filled = min(k, rows) - min(k, len(match_head))
    utility = (float(match_head[:k].sum()) + (filled * matches_beyond / beyond if filled else 0.0)) / k
    return Vote(utility, (float(match_head.sum()) + matches_beyond) / max(k, rows))


def truncation_error_max(head: int, beyond: int, k: int) -> float:
    """By how much the values of a head of M rows can be off where the L rows beyond do have an order: 1/T - 1/W, T = max(M, K).

    For M >= K that is 1/M - 1/N. Both what the rows beyond take from a row of the head, sum of m_j / (j (j - 1)) over the places
    j > T, and its estimate n / L (1/T - 1/W) lie between 0 and it.

    >>> round(truncation_error_max(256, 9_744, k=10), 5)
    0.00381
    """
    return 1.0 / max(head, k) - 1.0 / max(head + beyond, k)
