"""What each data asset did for one vote of nearest neighbours, with assets as the players instead of their rows.

Copies of an asset's rows are then no players of their own. The head is the m rows nearest to the test, in order; of the rows beyond it
only counts are known, and they stand in random order. A coalition S of assets is worth

    v'(S) = (expected matches among the min(K, rows of S) nearest rows of S) / K - (share of the rows of S that match)

the lift of its vote over its own popularity, and 0 where it has no rows.
"""

from __future__ import annotations

from typing import Any, Final, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.compilation import compiled
from models.valuation.matches import as_votes

#: Assets that the exact game takes: its cost doubles with each. Callers fold the rest into one.
PLAYER_LIMIT: Final = 12


def asset_game(
    owner: ArrayLike, match: ArrayLike, k: SupportsIndex, beyond: ArrayLike, beyond_matches: ArrayLike, assets: int
) -> NDArray[np.float64]:
    """Shapley values float64[assets] of the game above, exact over all 2^assets coalitions; they add up to v(N) - p.

    ``owner`` int64[m]: the asset (0 .. assets - 1) of each row of the head, nearest first, and ``match`` [m] in 0..1 whether it carries
    the label of the test. ``beyond`` int64[assets]: rows of each asset outside the head, of which ``beyond_matches`` [assets] match (a
    sum, where labels are soft). Raises ``ValueError`` for k < 1, more than ``PLAYER_LIMIT`` assets, and what does not fit together.

    >>> asset_game([0, 1], [1, 0], k=1, beyond=[0, 0], beyond_matches=[0, 0], assets=2).tolist()  # v' = 0 alone, 1/2 together
    [0.25, 0.25]
    """
    if assets > PLAYER_LIMIT:
        raise ValueError(f"the game is exact for at most {PLAYER_LIMIT} assets, got {assets}: fold the smallest into one")
    rows = _checked(owner, match, k, beyond, beyond_matches, assets)
    values = np.zeros(assets)
    if assets:
        _value_players(*rows, values)
    return values


def leave_one_out(
    owner: ArrayLike, match: ArrayLike, k: SupportsIndex, beyond: ArrayLike, beyond_matches: ArrayLike, assets: int
) -> NDArray[np.float64]:
    """v'(N) - v'(N without the asset), float64[assets]: what dropping each asset would lose. Arguments are those of ``asset_game``.

    Any number of assets, O(m + assets x K).

    >>> leave_one_out([0, 1], [1, 0], k=1, beyond=[0, 0], beyond_matches=[0, 0], assets=2).tolist()
    [0.5, 0.5]
    """
    rows = _checked(owner, match, k, beyond, beyond_matches, assets)
    values = np.zeros(assets)
    if assets:
        _value_absence(*rows, values)
    return values


def _checked(owner: Any, match: Any, k: SupportsIndex, beyond: Any, beyond_matches: Any, assets: int) -> tuple[Any, ...]:
    """The arguments as the compiled loops take them; what they hold is checked there."""
    owners, matches = np.asarray(owner, np.int64), np.asarray(match, np.float64)
    rows, matching = np.asarray(beyond, np.int64), np.asarray(beyond_matches, np.float64)
    if owners.ndim != 1 or owners.shape != matches.shape:
        raise ValueError(f"owner and match are arrays of the head's rows, got shapes {owners.shape} and {matches.shape}")
    if rows.shape != (assets,) or matching.shape != (assets,):
        raise ValueError(f"beyond and beyond_matches have one entry an asset ({assets}), got shapes {rows.shape} and {matching.shape}")
    return owners, matches, as_votes(k), rows, matching


@compiled
def _check(owner, match, beyond, beyond_matches):  # type: ignore[no-untyped-def]
    for j in range(len(owner)):
        if owner[j] < 0 or owner[j] >= len(beyond):
            raise ValueError("an owner is the number of an asset, from 0, below their number")
        if not (match[j] >= 0.0 and match[j] <= 1.0):
            raise ValueError("matches lie in 0..1")
    for g in range(len(beyond)):
        if not (beyond_matches[g] >= 0.0 and beyond_matches[g] <= beyond[g]):
            raise ValueError("of an asset's rows beyond the head, none to all match")


@compiled
def _worth(k, taken, gained, beyond, beyond_matching, rows, matching):  # type: ignore[no-untyped-def]
    """The worth v' of a coalition: ``taken`` of its k nearest rows lie in the head, and ``gained`` matches with them."""
    if rows <= 0:
        return 0.0
    if taken < k and beyond > 0:
        gained += min(k - taken, beyond) * beyond_matching / beyond
    return gained / k - matching / rows


@compiled
def _value_players(owner, match, k, beyond, beyond_matches, values):  # type: ignore[no-untyped-def]
    _check(owner, match, beyond, beyond_matches)
    assets = len(beyond)
    # Step 1. Of each asset the k nearest rows of the head, in order: no coalition's vote reaches farther.
    seen = np.zeros(assets, np.int64)
    matching = beyond_matches.copy()
    near = np.empty(len(owner), np.int64)
    count = 0
    for j in range(len(owner)):
        g = owner[j]
        matching[g] += match[j]
        if seen[g] < k:
            near[count] = j
            count += 1
        seen[g] += 1
    width = 1
    while width <= count:
        width *= 2

    # Step 2. For the subsets of either half of the assets: how many of the first 0, 1, 2, .. near rows they own, how many of those
    # match, and their sums. A coalition is one subset of each half, so its count at any place is one addition.
    low = assets // 2
    high = assets - low
    reach = min(k, count)
    low_taken, low_gained, low_sums = _subsets(owner, match, near[:count], width, seen, matching, beyond, beyond_matches, 0, low)
    high_taken, high_gained, high_sums = _subsets(owner, match, near[:count], width, seen, matching, beyond, beyond_matches, low, high)
    low_taken[:, count + 1 :] = reach + 1

    # Step 3. Each coalition's worth: the farthest place at which it owns at most k rows, by bisection.
    weight = np.zeros(assets + 1)
    weight[0] = 1.0 / assets
    for size in range(1, assets):
        weight[size] = weight[size - 1] * size / (assets - size)
    total = np.empty(1 << assets)
    without = 0.0
    for b in range(1 << high):
        for a in range(1 << low):
            place = 0
            step = width >> 1
            while step > 0:
                place += step * (low_taken[a, place + step] + high_taken[b, place + step] <= reach)
                step >>= 1
            taken = low_taken[a, place] + high_taken[b, place]
            worth = _worth(
                k, taken, low_gained[a, place] + high_gained[b, place], low_sums[a, 0] + high_sums[b, 0],
                low_sums[a, 1] + high_sums[b, 1], low_sums[a, 2] + high_sums[b, 2], low_sums[a, 3] + high_sums[b, 3],
            )  # fmt: skip
            size = int(low_sums[a, 4] + high_sums[b, 4])
            without += weight[size] * worth
            total[(b << low) | a] = (weight[size] + (weight[size - 1] if size else 0.0)) * worth

    # Step 4. An asset's value is sum over S with it of w(|S| - 1) v'(S), less that over S without it of w(|S|) v'(S).
    half = 1 << assets
    for g in range(assets - 1, -1, -1):
        half >>= 1
        inside = 0.0
        for s in range(half):
            inside += total[half + s]
            total[s] += total[half + s]
        values[g] = inside - without


@compiled
def _subsets(owner, match, near, width, seen, matching, beyond, beyond_matches, first, size):  # type: ignore[no-untyped-def]
    """Of each subset of the assets ``first`` .. ``first + size``: rows and matches among the first places, and its sums."""
    taken = np.zeros((1 << size, width), np.int32)
    gained = np.zeros((1 << size, width), np.float64)
    sums = np.zeros((1 << size, 5), np.float64)
    for g in range(size):
        one = 1 << g
        for place in range(len(near)):
            own = owner[near[place]] == first + g
            taken[one, place + 1] = taken[one, place] + own
            gained[one, place + 1] = gained[one, place] + own * match[near[place]]
        sums[one, 0] = beyond[first + g]
        sums[one, 1] = beyond_matches[first + g]
        sums[one, 2] = beyond[first + g] + seen[first + g]
        sums[one, 3] = matching[first + g]
        sums[one, 4] = 1.0
        for rest in range(1, one):
            for place in range(1, len(near) + 1):
                taken[one + rest, place] = taken[one, place] + taken[rest, place]
                gained[one + rest, place] = gained[one, place] + gained[rest, place]
            for column in range(5):
                sums[one + rest, column] = sums[one, column] + sums[rest, column]
    return taken, gained, sums


@compiled
def _value_absence(owner, match, k, beyond, beyond_matches, values):  # type: ignore[no-untyped-def]
    _check(owner, match, beyond, beyond_matches)
    rows = beyond.copy()
    matching = beyond_matches.copy()
    for j in range(len(owner)):
        rows[owner[j]] += 1
        matching[owner[j]] += match[j]
    all_beyond, all_beyond_matching, all_rows, all_matching = beyond.sum(), beyond_matches.sum(), rows.sum(), matching.sum()
    whole = 0.0
    for absent in range(-1, len(beyond)):
        taken = 0
        gained = 0.0
        for j in range(len(owner)):
            if taken == k:
                break
            if owner[j] != absent:
                taken += 1
                gained += match[j]
        if absent < 0:
            whole = _worth(k, taken, gained, all_beyond, all_beyond_matching, all_rows, all_matching)
        elif rows[absent]:  # an asset without rows is missed by nobody
            values[absent] = whole - _worth(
                k, taken, gained, all_beyond - beyond[absent], all_beyond_matching - beyond_matches[absent],
                all_rows - rows[absent], all_matching - matching[absent],
            )  # fmt: skip
