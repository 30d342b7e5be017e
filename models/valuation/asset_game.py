"""What each data asset did for one vote of nearest neighbours, with assets as the players instead of their rows.

Copies of an asset's rows are then no players of their own. The head is the m rows nearest to the test, in order; of the rows beyond it
only counts are known, and they stand in random order. A coalition S of assets is worth

    v'(S) = (expected matches among the K nearest rows of S) / K - (share of the rows of S that match)

the lift of its vote over its own popularity. A coalition of no more than K rows has no neighbours to choose: all of them vote, which
is popularity, so it is worth 0. (Were its vote divided by K all the same, an asset of one perfect row would lose by being there.)
"""

from __future__ import annotations

from typing import Any, Final, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.compilation import compiled_exactly
from models.valuation.matches import as_votes

#: Assets that the exact game takes: its cost doubles with each. Callers fold the rest into one.
PLAYER_LIMIT: Final = 12
_WHOLE, _REAL = np.dtype(np.int64), np.dtype(np.float64)


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
    if not value_players(*rows, values):
        raise _misfit(*rows)
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
    if not value_absence(*rows, values):
        raise _misfit(*rows)
    return values


def _checked(owner: Any, match: Any, k: SupportsIndex, beyond: Any, beyond_matches: Any, assets: int) -> tuple[Any, ...]:
    """The arguments as the compiled loops take them; what they hold is checked there, in passing."""
    owners, matches = np.asarray(owner, _WHOLE), np.asarray(match, _REAL)
    rows, matching = np.asarray(beyond, _WHOLE), np.asarray(beyond_matches, _REAL)
    if owners.ndim != 1 or owners.shape != matches.shape:
        raise ValueError(f"owner and match are arrays of the head's rows, got shapes {owners.shape} and {matches.shape}")
    if rows.shape != (assets,) or matching.shape != (assets,):
        raise ValueError(f"beyond and beyond_matches have one entry an asset ({assets}), got shapes {rows.shape} and {matching.shape}")
    return owners, matches, as_votes(k), rows, matching


def _misfit(owner: Any, match: Any, _k: int, beyond: Any, beyond_matches: Any) -> ValueError:
    """What the compiled loops found wrong, in words."""
    strange = owner[(owner < 0) | (owner >= len(beyond))]
    if len(strange):
        return ValueError(f"an owner is the number of one of {len(beyond)} assets, from 0, got {strange[0]}")
    strange = match[~((match >= 0.0) & (match <= 1.0))]
    if len(strange):
        return ValueError(f"matches lie in 0..1, got {strange[0]}")
    asset = int(np.flatnonzero(~((beyond_matches >= 0.0) & (beyond_matches <= beyond)))[0])
    return ValueError(f"{beyond_matches[asset]} of {beyond[asset]} rows of asset {asset} beyond the head match: not 0 to all of them")


@compiled_exactly
def _worth(k, taken, gained, beyond, beyond_matching, rows, matching):  # type: ignore[no-untyped-def]
    """The worth v' of a coalition: ``taken`` of its k nearest rows lie in the head, and ``gained`` matches with them."""
    if rows <= k:
        return 0.0
    if taken < k and beyond > 0:
        gained += min(k - taken, beyond) * beyond_matching / beyond
    return gained / k - matching / rows


@compiled_exactly
def value_players(owner, match, k, beyond, beyond_matches, values):  # type: ignore[no-untyped-def]
    """``asset_game`` into ``values``, float64[assets]; False where the arguments do not fit together."""
    # Step 1. Of each asset the k nearest rows of the head, in order: no coalition's vote reaches farther; and its sums: rows beyond, of
    # which match, rows in all, of which match, and one player.
    assets = len(beyond)
    reach = min(k, len(owner))
    nearest = np.empty((assets, reach), np.int32)
    seen = np.zeros(assets, np.int64)
    sums = np.ones((assets, 5))
    for g in range(assets):
        if not (beyond_matches[g] >= 0.0 and beyond_matches[g] <= beyond[g]):
            return False
        sums[g, 0] = sums[g, 2] = beyond[g]
        sums[g, 1] = sums[g, 3] = beyond_matches[g]
    for j in range(len(owner)):
        g = owner[j]
        if g < 0 or g >= assets or not (match[j] >= 0.0 and match[j] <= 1.0):
            return False
        if seen[g] < reach:
            nearest[g, seen[g]] = j
            seen[g] += 1
        sums[g, 2] += 1.0
        sums[g, 3] += match[j]

    # Step 2. The same of every subset of either half of the assets. A coalition is one subset of each.
    low = assets // 2
    width = 1
    while width <= reach:
        width *= 2
    low_rows, low_gained, _, low_sums = _subsets(nearest[:low], seen[:low], sums[:low], match, width)
    high_rows, high_gained, high_taken, high_sums = _subsets(nearest[low:], seen[low:], sums[low:], match, width)
    facing = np.full(width, -1, np.int32)

    # Step 3. Each coalition's worth. Its nearest rows are the first of either subset: the t-th of the one is among the k nearest of both
    # when it comes before the (k + 1 - t)-th of the other, which holds up to some t.
    weight = np.zeros(assets + 1)
    weight[0] = 1.0 / max(assets, 1)
    for size in range(1, assets):
        weight[size] = weight[size - 1] * size / (assets - size)
    total = np.empty(1 << assets)
    without = 0.0
    for b in range(len(high_rows)):
        for t in range(1, reach + 1):
            facing[t] = high_rows[b, reach + 1 - t]
        for a in range(len(low_rows)):
            place = 0
            step = width >> 1
            while step > 0:
                place += step * (low_rows[a, place + step] < facing[place + step])
                step >>= 1
            worth = _worth(
                k, place + min(high_taken[b], reach - place), low_gained[a, place] + high_gained[b, reach - place],
                low_sums[a, 0] + high_sums[b, 0], low_sums[a, 1] + high_sums[b, 1],
                low_sums[a, 2] + high_sums[b, 2], low_sums[a, 3] + high_sums[b, 3],
            )  # fmt: skip
            size = int(low_sums[a, 4] + high_sums[b, 4])
            without += weight[size] * worth
            total[b * len(low_rows) + a] = (weight[size] + (weight[size - 1] if size else 0.0)) * worth

    # Step 4. An asset's value is sum over S with it of w(|S| - 1) v'(S), less that over S without it of w(|S|) v'(S).
    half = 1 << assets
    for g in range(assets - 1, -1, -1):
        half >>= 1
        inside = 0.0
        for s in range(half):
            inside += total[half + s]
            total[s] += total[half + s]
        values[g] = inside - without
    return True


@compiled_exactly
def _subsets(nearest, seen, sums, match, width):  # type: ignore[no-untyped-def]
    """Of all subsets of some assets, a bit an asset: the place in the head of its 1st, 2nd, .. nearest row (from index 1; the length of
    the head where there is none), matches among the first 0, 1, 2, .. of them, how many there are, and the sums of its assets.
    """
    assets, reach = nearest.shape
    rows = np.full((1 << assets, width), len(match), np.int32)
    gained = np.zeros((1 << assets, reach + 1))
    taken = np.zeros(1 << assets, np.int64)
    all_sums = np.zeros((1 << assets, 5))
    for g in range(assets):
        one = 1 << g
        for s in range(one, 2 * one):
            rest = s - one
            taken[s] = min(reach, seen[g] + taken[rest])
            mine = 0
            for t in range(1, taken[s] + 1):
                other = rows[rest, t - mine]
                if mine < seen[g] and nearest[g, mine] < other:
                    rows[s, t] = nearest[g, mine]
                    mine += 1
                else:
                    rows[s, t] = other
                gained[s, t] = gained[s, t - 1] + match[rows[s, t]]
            for t in range(taken[s] + 1, reach + 1):
                gained[s, t] = gained[s, t - 1]
            for column in range(5):
                all_sums[s, column] = sums[g, column] + all_sums[rest, column]
    return rows, gained, taken, all_sums


@compiled_exactly
def value_absence(owner, match, k, beyond, beyond_matches, values):  # type: ignore[no-untyped-def]
    """``leave_one_out`` into ``values``, float64[assets]; False where the arguments do not fit together."""
    for g in range(len(beyond)):
        if not (beyond_matches[g] >= 0.0 and beyond_matches[g] <= beyond[g]):
            return False
    rows = beyond.copy()
    matching = beyond_matches.copy()
    for j in range(len(owner)):
        if owner[j] < 0 or owner[j] >= len(beyond) or not (match[j] >= 0.0 and match[j] <= 1.0):
            return False
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
    return True
