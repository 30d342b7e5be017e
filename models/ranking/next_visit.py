"""A list for the next visit: items of which at least one will be wanted, whichever kind of visit that is.

The next visit is guessed to resemble one of the past: the shopper's own, each with a weight that halves with age, or anybody's newest.
An item covers the visits that hold it, and items are taken greedily by the weight that they cover; what is covered counts for the
fraction ``damping`` from then on, for no visit is like another to the last item. With ``damping`` 0 this is the weighted maximum coverage
problem, of which greedy covers at least 1 - 1/e (Nemhauser, Wolsey and Fisher, Mathematical Programming 14, 1978). A small part of the
gain is fixed: what text, pairs and similar sessions say.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.compilation import compiled
from models.ranking.fusion import bar_repeats
from models.ranking.lists import (
    AGAIN,
    BOUGHT,
    COLD_START,
    EMPTY,
    FACTORS,
    PERSONAL,
    SEQUENCE,
    SESSIONS,
    SIMILAR,
    TOGETHER,
    TRENDING,
    UNIT,
    VIEWED,
)


class Coverage(NamedTuple):
    """Weights of a shopper's own visits, of everybody's, and of the other sources; the first is 1. Chosen on the 75 days of Online
    Retail before the cut of its basket protocol. ``own_half_life_s`` in event time; ``own_limit``: newest own visits that count;
    ``sample``: newest visits of everybody that do.
    """

    everybody: float = 0.2
    others: float = 0.01
    damping: float = 0.7
    own_half_life_s: float = 180 * 86_400.0
    own_limit: int = 100
    sample: int = 8_192


DEFAULTS: Final = Coverage()
#: More than any gain: what is buried behind all others comes so far behind.
_LAST: Final = np.float32(16.0)


@compiled
def _said(shares):  # type: ignore[no-untyped-def]
    """What the other sources say of a candidate."""
    return shares[SIMILAR] + shares[TOGETHER] + shares[SESSIONS] + shares[SEQUENCE] + shares[FACTORS]


@compiled
def _enter(row, candidates, by_own, place, base, count):  # type: ignore[no-untyped-def]
    """One more candidate; how many there are now."""
    place[row] = base + count
    candidates[count] = row
    by_own[count] = 0.0
    return count + 1


@compiled
def cover(  # type: ignore[no-untyped-def]
    coverage, rules, part, part_of, policy_code, eligible, place, base,
    bought_start, bought_row, seen_start, seen_row,
    own_of, own_starts, own_rows, own_seconds,
    all_starts, all_rows, all_weights, row_starts, row_sessions, gains, leaders,
    pool, pool_rows, pool_shares, pool_because, pool_sizes, pool_before,
    size, rows, shares, because, sizes, before, policy,
):  # fmt: skip
    """Fill pools of ``size``, in the order of choice, for the shoppers whose ``part_of`` int64[n] is ``part``; shares are parts of the gain
    at that time, and what ``rules`` pin or bury is as in ``fusion.fill_pools``.

    ``own_of`` int64[n + 1]: shopper i's own visits are sessions ``own_of[i]``.. of ``own_starts``, ``own_rows``, ``own_seconds``.
    ``pool_...``: at most ``pool`` candidates of the other sources, as ``fusion.fill_pools`` leaves them. ``place`` int64[rows] and
    ``base`` as there, and so is what is returned. ``policy_code``: 0 allow repeats, 1 bar what was bought, 2 also what was seen.
    """
    whole = np.float32(UNIT / (1.0 + coverage.everybody + coverage.others))
    limit = pool + len(leaders)
    pins = len(rules.pin_rows)
    demoted = len(rules.demotion) > 0
    most = 0
    for i in range(len(sizes)):
        most = max(most, own_starts[own_of[i + 1]] - own_starts[own_of[i]])
    limit += most
    candidates = np.empty(limit, np.int32)
    by_own = np.empty(limit, np.float32)
    by_all = np.empty(limit, np.float32)
    by_others = np.empty(limit, np.float32)
    pooled = np.empty(limit, np.int32)
    own_weights = np.empty(len(own_seconds), np.float32)
    covered = np.ones(len(all_weights), np.float32)
    touched = np.empty(len(all_weights), np.int32)
    for i in range(len(sizes)):
        if part_of[i] != part:
            continue
        base += limit + 2
        bar_repeats(policy_code, i, bought_start, bought_row, seen_start, seen_row, place, base)
        for p in range(pins):
            place[rules.pin_rows[p]] = base - 1
            rows[i, size + p] = rules.pin_rows[p]
            for s in range(shares.shape[2]):
                shares[i, size + p, s] = pool_shares[i, pool + p, s]
                because[i, size + p, s] = pool_because[i, pool + p, s]

        # Step 1. Candidates: the shopper's own, what leads among everybody, what the other sources say. ``place`` as in ``fill_pools``.
        newest = np.int64(-(2**62))
        for v in range(own_of[i], own_of[i + 1]):
            newest = max(newest, np.int64(own_seconds[v]))
        total = 0.0
        for v in range(own_of[i], own_of[i + 1]):
            own_weights[v] = 2.0 ** ((own_seconds[v] - newest) / coverage.own_half_life_s)
            total += own_weights[v]
        count = 0
        for v in range(own_of[i], own_of[i + 1]):
            own_weights[v] /= total
            for q in range(own_starts[v], own_starts[v + 1]):
                row = own_rows[q]
                if place[row] < base - 1 and eligible[row]:
                    count = _enter(row, candidates, by_own, place, base, count)
                if place[row] >= base:
                    by_own[place[row] - base] += own_weights[v]
        personal = count
        for j in range(pool_sizes[i]):
            row = pool_rows[i, j]
            if place[row] < base - 1:  # eligible already
                count = _enter(row, candidates, by_own, place, base, count)
        for j in range(len(leaders)):
            row = leaders[j]
            if place[row] < base - 1 and eligible[row]:
                count = _enter(row, candidates, by_own, place, base, count)
        for c in range(count):
            row = candidates[c]
            by_all[c] = coverage.everybody * gains[row] if row < len(gains) else 0.0
            by_others[c] = 0.0
            pooled[c] = -1
        most_said = 1
        for j in range(pool_sizes[i]):
            said = _said(pool_shares[i, j])
            most_said = max(most_said, said)
        for j in range(pool_sizes[i]):
            at = place[pool_rows[i, j]] - base
            if at >= 0:
                said = _said(pool_shares[i, j])
                by_others[at] = coverage.others * said / most_said
                pooled[at] = j
                if said > 0:
                    personal += 1

        # Step 2. Take the item that covers most of what is not covered yet.
        policy[i] = EMPTY if count + pins == 0 else (PERSONAL if personal > 0 else COLD_START)
        listed = min(size, count)
        before[i] = listed
        met = 0
        for k in range(listed):
            chosen = -1
            highest = np.float32(-np.inf)
            for c in range(count):
                if candidates[c] >= 0:
                    value = by_own[c] + by_all[c] + by_others[c]
                    if demoted:
                        factor = rules.demotion[candidates[c]]
                        value = value * factor if factor >= 0.0 else value * -factor - _LAST
                    if value > highest:
                        highest = value
                        chosen = c
            row = candidates[chosen]
            candidates[chosen] = -1
            rows[i, k] = row
            unit = whole
            if demoted:
                unit *= abs(rules.demotion[row])
                if rules.demotion[row] < 0.0:
                    before[i] = min(before[i], k)
            for s in range(shares.shape[2]):
                shares[i, k, s] = 0
                because[i, k, s] = -1
            shares[i, k, AGAIN] = np.int32(np.rint(unit * max(np.float32(0.0), by_own[chosen])))
            if shares[i, k, AGAIN] > 0:
                because[i, k, AGAIN] = VIEWED
                for j in range(bought_start[i], bought_start[i + 1]):
                    if bought_row[j] == row:
                        because[i, k, AGAIN] = BOUGHT
            shares[i, k, TRENDING] = np.int32(np.rint(unit * max(np.float32(0.0), by_all[chosen])))
            j = pooled[chosen]
            if j >= 0 and by_others[chosen] > 0.0:
                said = _said(pool_shares[i, j])
                for s in (SIMILAR, TOGETHER, SESSIONS, SEQUENCE, FACTORS):
                    shares[i, k, s] = np.int32(np.rint(unit * by_others[chosen] * pool_shares[i, j, s] / said))
                    because[i, k, s] = pool_because[i, j, s]
            if k + 1 == listed:
                break
            for v in range(own_of[i], own_of[i + 1]):
                holds = False
                for q in range(own_starts[v], own_starts[v + 1]):
                    holds |= own_rows[q] == row
                if holds:
                    less = (1.0 - coverage.damping) * own_weights[v]
                    own_weights[v] -= less
                    for q in range(own_starts[v], own_starts[v + 1]):
                        if place[own_rows[q]] >= base:
                            by_own[place[own_rows[q]] - base] -= less
            if row + 1 < len(row_starts):
                for p in range(row_starts[row], row_starts[row + 1]):
                    v = row_sessions[p]
                    if covered[v] == 1.0:
                        touched[met] = v
                        met += 1
                    less = coverage.everybody * (1.0 - coverage.damping) * covered[v] * all_weights[v]
                    covered[v] *= coverage.damping
                    for q in range(all_starts[v], all_starts[v + 1]):
                        if place[all_rows[q]] >= base:
                            by_all[place[all_rows[q]] - base] -= less
        sizes[i] = listed
        for t in range(met):
            covered[touched[t]] = 1.0
    return base + limit + 2
