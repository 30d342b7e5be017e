"""What one test was worth to every asset of every dimension, in one compiled pass over the arrays of a window.

It is ``truncation``, ``row_table`` and ``asset_game``, one after the other: what a test costs beyond finding its neighbours is then their
arithmetic alone, not the calls around it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.compilation import compiled_exactly
from models.valuation.asset_game import PLAYER_LIMIT, value_absence, value_players
from models.valuation.row_table import UNITS, share_out, take_units
from models.valuation.truncation import value_truncated, vote_truncated
from models.valuation.worth import QUANTUM, ROW_QUANTUM

#: Columns of what is added up of an asset: tests that it takes part in, quanta of its rows (each as large a part as it has of the row's
#: events), rows that it owns, and quanta of its three numbers.
TESTS, ROWS, OWNED, POINTS, PLAYER, WITHOUT = range(6)
COLUMNS: Final = 6
_LIMIT: Final = PLAYER_LIMIT
_QUANTUM: Final = float(QUANTUM)
_PART: Final = ROW_QUANTUM / UNITS


@compiled_exactly
def play(  # type: ignore[no-untyped-def]
    ids, match, beyond_ids, first_id, slot_by_place, row_slots, own, others, k, digammas, label, now_ms,
    skus, assets, counts, owners, newest_ms, weights, asset_rows, bounds_ms, first_age, dimension_of, place_of, rest_of, everything, sums,
):  # fmt: skip
    """(utility, baseline, points int64[a]) of a test in quanta, which are added to ``sums`` int64[a, 6] as well, by asset number.

    ``ids`` int64[m] and ``match`` bool[m]: its ``Neighbours``, ``beyond_ids`` int64[b] those beyond that match; ``slot_by_place`` and
    ``row_slots`` int64[s, 1] (see ``WindowRows``) say in which slot of the table the row of an id stands. ``own`` int64[o]: slots that take
    no part, ``others``: how many rows do. ``digammas`` float64[n]: digamma(n + 1). ``label``: number of the item that came.

    ``skus`` to ``asset_rows``: the ``RowTable``. ``bounds_ms``: see ``Appraiser``, the youngest age being asset ``first_age``.
    ``dimension_of`` int64[a]: the dimension of each asset, those of the table first, then that of age; -1: plays no game. ``place_of``
    int64[a]: its place in the order of names; ``rest_of`` int64[d]: the asset that stands for those beyond ``PLAYER_LIMIT``.
    ``everything``: the asset that all rows are.
    """
    size, rows, matching = len(dimension_of), len(ids), len(beyond_ids)
    if min(len(weights), len(asset_rows)) < size:
        raise ValueError("the table has no room for all assets")  # the loops below check no bounds
    head, matched = np.empty(rows, np.int64), np.empty(matching, np.int64)
    votes = np.empty(rows)
    for i in range(rows):
        head[i] = row_slots[slot_by_place[ids[i] - first_id], 0]
        votes[i] = 1.0 if match[i] else 0.0
    for i in range(matching):
        matched[i] = row_slots[slot_by_place[beyond_ids[i] - first_id], 0]

    # Step 1. What the test shares out, and what of it each row earns by its own match and bears.
    beyond = others - rows
    values = np.empty((1, rows))
    harmonic = digammas[max(others, k)] - digammas[max(rows, k)]
    matched_value, unmatched_value = value_truncated(votes.reshape((1, rows)), matching, beyond, k, harmonic, values)
    utility, baseline = vote_truncated(votes, matching, beyond, k)
    earned, bears = np.empty(rows), np.empty(rows)
    for i in range(rows):
        earned[i] = votes[i] / (max(i + 1, k) if others > k else k)
        bears[i] = values[0, i] - earned[i] - baseline / others
    matched_earned = matched_value - unmatched_value
    rest = unmatched_value - baseline / others
    points = np.zeros(size)
    share_out(skus, assets, counts, weights[:size], label, head, earned, bears, matched, matched_earned, own, rest, points)

    # Step 2. Rows by asset, as parts and by owner, and the ages of those that are told apart. Free slots hold a time after all times.
    present = asset_rows[:size].copy()
    for i in range(len(own)):
        for d in range(owners.shape[1]):
            present[owners[own[i], d]] -= 1
    parts = weights[:size].copy()
    take_units(assets, counts, own, parts)
    ages = len(bounds_ms) + 1
    younger = others + len(own)
    for b in range(ages - 1):
        reached = now_ms - bounds_ms[b]
        older = 0
        for slot in range(len(newest_ms)):
            older += newest_ms[slot] <= reached
        present[first_age + b] = younger - older
        younger = older
    present[first_age + ages - 1] = younger
    for i in range(len(own)):
        present[_age(newest_ms[own[i]], now_ms, bounds_ms, first_age)] -= 1
    for a in range(first_age, first_age + ages):
        points[a] = rest * present[a]
    head_age, matched_age = np.empty(rows, np.int64), np.empty(matching, np.int64)
    for i in range(rows):
        head_age[i] = _age(newest_ms[head[i]], now_ms, bounds_ms, first_age)
        points[head_age[i]] += earned[i] + bears[i] - rest
    for i in range(matching):
        matched_age[i] = _age(newest_ms[matched[i]], now_ms, bounds_ms, first_age)
        points[matched_age[i]] += matched_earned
    present[everything] = others
    points[everything] = utility - baseline

    # Step 3. The games of each dimension, whose players are the assets that have rows.
    player, without = np.zeros(size), np.zeros(size)
    player[everything] = without[everything] = points[everything]
    dimensions = len(rest_of)
    players = np.zeros(dimensions, np.int64)
    seat = np.full(size, -1, np.int64)
    members = np.empty((dimensions, size), np.int64)
    for a in range(size):
        d = dimension_of[a]
        if d >= 0 and present[a] > 0:
            seat[a] = players[d]
            members[d, players[d]] = a
            players[d] += 1
    owner = np.empty(rows, np.int64)
    for d in range(dimensions):
        count = players[d]
        aged = d == dimensions - 1
        rows_beyond, holders = np.empty(count, np.int64), np.zeros(count)
        for p in range(count):
            rows_beyond[p] = present[members[d, p]]
        for i in range(rows):
            owner[i] = seat[head_age[i] if aged else owners[head[i], d]]
            rows_beyond[owner[i]] -= 1
        for i in range(matching):
            holders[seat[matched_age[i] if aged else owners[matched[i], d]]] += 1.0
        results = np.zeros(count)
        fits = value_absence(owner, votes, k, rows_beyond, holders, results)
        for p in range(count):
            without[members[d, p]] = results[p]
        if count > _LIMIT:
            folded = _fold(members[d, :count], present, place_of)
            few_beyond, few_holders = np.zeros(_LIMIT, np.int64), np.zeros(_LIMIT)
            for p in range(count):
                few_beyond[folded[p]] += rows_beyond[p]
                few_holders[folded[p]] += holders[p]
            for i in range(rows):
                owner[i] = folded[owner[i]]
            results = np.zeros(_LIMIT)
            fits = fits and value_players(owner, votes, k, few_beyond, few_holders, results)
            for p in range(count):
                if folded[p] < _LIMIT - 1:
                    player[members[d, p]] += results[folded[p]]
            player[rest_of[d]] += results[_LIMIT - 1]
        else:
            results = np.zeros(count)
            fits = fits and value_players(owner, votes, k, rows_beyond, holders, results)
            for p in range(count):
                player[members[d, p]] += results[p]
        if not fits:
            raise ValueError("the rows of a test do not fit the assets that they belong to")

    # Step 4. Rounded once, here where they arise. What plays for many may have no row itself. Of an age, and of everything, rows are whole.
    quanta = np.empty(size, np.int64)
    for a in range(size):
        quanta[a] = np.int64(np.rint(points[a] * _QUANTUM))
        played = np.int64(np.rint(player[a] * _QUANTUM))
        rows_of = present[a] * ROW_QUANTUM if parts[a] == 0 else np.int64(np.rint(parts[a] * _PART))
        if rows_of > 0 or quanta[a] != 0 or played != 0:
            sums[a, TESTS] += 1
            sums[a, ROWS] += rows_of
            sums[a, OWNED] += present[a]
            sums[a, POINTS] += quanta[a]
            sums[a, PLAYER] += played
            sums[a, WITHOUT] += np.int64(np.rint(without[a] * _QUANTUM))
    return np.int64(np.rint(utility * _QUANTUM)), np.int64(np.rint(baseline * _QUANTUM)), quanta


@compiled_exactly
def _age(newest_ms, now_ms, bounds_ms, first):  # type: ignore[no-untyped-def]
    """The asset of a row by its age: ``first`` for one younger than all of ``bounds_ms``, which rise, one more for each that is reached."""
    asset = first
    while asset - first < len(bounds_ms) and now_ms - newest_ms >= bounds_ms[asset - first]:
        asset += 1
    return asset


@compiled_exactly
def _fold(members, present, place_of):  # type: ignore[no-untyped-def]
    """int64[p]: new numbers for the players, those of most rows first (of as many rows, the first by name), the last for all others."""
    folded = np.full(len(members), _LIMIT - 1, np.int64)
    for number in range(_LIMIT - 1):
        best = -1
        for p in range(len(members)):
            if folded[p] == _LIMIT - 1 and (
                best < 0
                or present[members[p]] > present[members[best]]
                or (present[members[p]] == present[members[best]] and place_of[members[p]] < place_of[members[best]])
            ):
                best = p
        folded[best] = number
    return folded
