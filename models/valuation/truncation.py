"""KNN-Shapley of a few nearest rows in order and of all others without one: the expectation over the orders that they might have."""

from __future__ import annotations

from typing import Final, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from models.compilation import compiled_exactly
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
    values, voting, last = np.empty((1, rows)), max(rows, votes), max(rows + beyond, votes)
    harmonic = float(digamma(last + 1.0) - digamma(voting + 1.0))
    matched, unmatched = value_truncated(matches.reshape(1, rows), matches_beyond, beyond, votes, harmonic, values)
    return Truncated(values[0], matched, unmatched)


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
    return Vote(*vote_truncated(match_head, matches_beyond, beyond, k))


def truncation_error_max(head: int, beyond: int, k: int) -> float:
    """By how much the values of a head of M rows can be off where the L rows beyond do have an order: 1/T - 1/W, T = max(M, K).

    For M >= K that is 1/M - 1/N. Both what the rows beyond take from a row of the head, sum of m_j / (j (j - 1)) over the places
    j > T, and its estimate n / L (1/T - 1/W) lie between 0 and it.

    >>> round(truncation_error_max(256, 9_744, k=10), 5)
    0.00381
    """
    return 1.0 / max(head, k) - 1.0 / max(head + beyond, k)


_error_max: Final = compiled_exactly(truncation_error_max)


@compiled_exactly
def value_truncated(match, matching, beyond, k, harmonic, values):  # type: ignore[no-untyped-def]
    """What ``truncated`` tells, for compiled loops: (matched, unmatched), and in ``values`` float64[1, m] those of the head, whose
    ``match`` is float64[1, m]. ``harmonic``: sum of 1 / j over the places j = T + 1 .. W.
    """
    value_rows(match, k, values)
    matched = unmatched = 0.0
    if beyond > 0:
        rows = match.shape[1]
        places = rows + beyond
        values -= matching / beyond * _error_max(rows, beyond, k)
        mean = ((min(max(rows, k), places) - rows) / k + harmonic) / beyond
        spread = (mean - 1.0 / max(places, k)) / (beyond - 1) if beyond > 1 else 0.0
        if matching > 0:
            matched = mean - (matching - 1) * spread
        if matching < beyond:
            unmatched = -matching * spread
    return matched, unmatched


@compiled_exactly
def vote_truncated(match, matching, beyond, k):  # type: ignore[no-untyped-def]
    """What ``vote`` tells, for compiled loops: (utility, popularity)."""
    rows = len(match) + beyond
    filled = min(k, rows) - min(k, len(match))
    utility = (match[:k].sum() + (filled * matching / beyond if filled > 0 else 0.0)) / k
    return utility, (match.sum() + matching) / max(k, rows)
