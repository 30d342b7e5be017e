"""What each row of past data did for one vote of nearest neighbours: exact Shapley values in closed form.

The players are rows, nearest to the test first (ties by id: the caller's order is what counts); ``match`` says how far each carries
the label that the test turned out to have. A coalition S is worth what the vote of its nearest rows gives that label:

==========================  ===================================================  ====================
function                    v(S)                                                 the values add up to
==========================  ===================================================  ====================
``knn_shapley``             matches among the min(K, |S|) nearest of S / K       v(N)
``centred``                 the same, less popularity                            v(N) - p
``soft_label_shapley``      the same / min(K, |S|); ``guess`` for none           v(N) - guess
``threshold_shapley``       share of matches within a radius; ``guess`` if none  v(N) - guess
==========================  ===================================================  ====================

p is the share of all rows that match: what a vote without any order, popularity, would give. All functions take many tests at once
as [tests, rows] and cost O(tests x rows).
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from models.compilation import compiled_exactly
from models.valuation.matches import as_matches, as_votes


def knn_shapley(match: ArrayLike, k: SupportsIndex) -> NDArray[np.float64]:
    """Shapley values of rows, nearest first: float64 of the shape of ``match``, [rows] or [tests, rows].

    s_i = m_i / max(i, K) - sum over j > max(i, K) of m_j / (j (j - 1)), i and j from 1 (Jia et al., "Efficient Task-Specific Data
    Valuation for Nearest Neighbor Algorithms", PVLDB 12(11), 2019, theorem 1, its recursion summed up; with N <= K rows m_i / K).

    Raises ``ValueError`` for k < 1, matches outside 0..1 and other than one or two dimensions.

    >>> knn_shapley([1, 0, 1], k=1).round(4).tolist(), knn_shapley([True, False], k=4).tolist()
    ([0.8333, -0.1667, 0.3333], [0.25, 0.0])
    """
    matches, votes = as_matches(match), as_votes(k)
    values = np.empty_like(matches)
    value_rows(np.atleast_2d(matches), votes, np.atleast_2d(values))
    return values


@compiled_exactly
def value_rows(match, k, values):  # type: ignore[no-untyped-def]
    """The closed form for each test: ``match`` and ``values`` float64[tests, rows]."""
    tests, rows = match.shape
    for t in range(tests):
        beyond = 0.0
        for j in range(rows, k, -1):
            values[t, j - 1] = match[t, j - 1] / j - beyond
            beyond += match[t, j - 1] / (j * (j - 1.0))
        for i in range(min(rows, k)):
            values[t, i] = match[t, i] / k - beyond


def centred(values: NDArray[np.float64], match: ArrayLike) -> NDArray[np.float64]:
    """``values`` of rows less popularity, p / N each: they add up to v(N) - p, however many rows there are.

    Without it noise earns credit: rows with random labels get p / N of what they add to a vote by being there at all. With fewer
    rows than votes (N <= K) it is p / N too: p / K would add up to v(N) - p N / K, which is 0 whatever the data. Raises
    ``ValueError`` where shapes differ.

    >>> centred(knn_shapley([1, 0, 1, 0], k=1), [1, 0, 1, 0]).sum().round(12)  # v(N) = 1, p = 1/2
    np.float64(0.5)
    """
    matches = as_matches(match)
    if np.shape(values) != matches.shape:
        raise ValueError(f"values are of shape {np.shape(values)}, matches of shape {matches.shape}")
    rows = max(1, matches.shape[-1])
    popularity = matches.sum(axis=-1, keepdims=True) / rows
    lift: NDArray[np.float64] = values - popularity / rows
    return lift


def soft_label_shapley(match: ArrayLike, k: SupportsIndex, guess: float = 0.0) -> NDArray[np.float64]:
    """The same for the utility that divides by the number of rows that do vote, min(K, |S|); v of no rows is ``guess``.

    (Wang and Jia, "A Note on 'Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms'", arXiv 2304.04258, 2023; there
    ``guess`` is 1 / number of classes.) A coalition of few rows is then not punished for being small. With H_n the n-th harmonic
    number, K' = min(K, N - 1) and mean(m) over the others:

        N s_N = m_N - guess + (m_N - mean(m)) (H_min(K,N) - 1)
        s_i - s_(i+1) = (m_i - m_(i+1)) / (N - 1) x [H_K' + ((N - 1) min(i, K) / i - K') / K]

    Shapes and errors are those of ``knn_shapley``. With ``guess`` = p it is centred on popularity.

    >>> soft_label_shapley([1, 0], k=2, guess=0.5).round(12).tolist()  # one row: 1 or 0; both: 1/2; none: 1/2
    [0.5, -0.5]
    """
    matches, votes = as_matches(match), as_votes(k)
    rows = matches.shape[-1]
    if rows < 2:
        return matches - guess
    last = matches[..., -1:]
    others = matches[..., :-1].mean(axis=-1, keepdims=True)
    farthest = (last - guess + (last - others) * (_harmonic(min(votes, rows)) - 1.0)) / rows
    place = np.arange(1, rows)
    few = min(votes, rows - 1)
    factor = (_harmonic(few) + ((rows - 1) * np.minimum(place, votes) / place - few) / votes) / (rows - 1)
    steps = (matches[..., :-1] - matches[..., 1:]) * factor
    values = np.empty_like(matches)
    values[..., -1:] = farthest
    values[..., :-1] = farthest + steps[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return values


def threshold_shapley(match: ArrayLike, within: ArrayLike, guess: float = 0.0) -> NDArray[np.float64]:
    """The same for the vote of all rows within a radius of the test, in any order; v is ``guess`` where a coalition has none there.

    TKNN-Shapley (Wang, Zhu, Wang, Jia and Mittal, "Threshold KNN-Shapley: A Linear-Time and Privacy-Friendly Approach to Data
    Valuation", NeurIPS 2023; there ``guess`` is 1 / number of classes). ``within``: bool of the shape of ``match``. Rows outside add
    nothing to any coalition, so with c rows inside, H_c the c-th harmonic number and mean(m) over the others inside,

        c s_i = m_i - guess + (m_i - mean(m)) (H_c - 1)

    Raises ``ValueError`` where shapes differ, and for matches outside 0..1.

    >>> threshold_shapley([1, 1, 0], [True, False, True], guess=0.5).round(12).tolist()
    [0.5, 0.0, -0.5]
    """
    matches = as_matches(match)
    inside = np.asarray(within, dtype=np.bool_)
    if inside.shape != matches.shape:
        raise ValueError(f"within is of shape {inside.shape}, matches of shape {matches.shape}")
    count = inside.sum(axis=-1, keepdims=True)
    total = matches.sum(axis=-1, keepdims=True, where=inside)
    others = (total - matches) / np.maximum(count - 1, 1)
    values = (matches - guess + (matches - others) * (_harmonic(np.maximum(count, 1)) - 1.0)) / np.maximum(count, 1)
    return np.where(inside, values, 0.0)


def _harmonic(n: Any) -> Any:
    """The n-th harmonic number, of one number or of an array."""
    return digamma(n + 1.0) + np.euler_gamma
