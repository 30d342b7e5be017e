"""Candidates of every source into one pool for each shopper: a normalised weighted sum whose shares can be told apart."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.compilation import compiled
from models.ranking.lists import AGAIN, BOUGHT, COLD_START, EMPTY, PERSONAL, SIMILAR, TOGETHER, TRENDING, UNIT, VIEWED

#: Candidates looked at for one shopper; the sources together rarely give half of that.
CANDIDATE_LIMIT: Final = 4096
_CATEGORY_LIMIT: Final = 48
_PURCHASE: Final = 3


class Parameters(NamedTuple):
    """How sources are weighed. Source weights are relative: they are divided by their sum. Tuned on the first part of Online Retail
    (prequential hit rate at 20); times in ms.

    ``floor``: cosine below which text says nothing. ``commonness``: how far a neighbour's count is divided by how common both items
    are (1: cosine; 0: not at all). ``own_half_life``: age at which a purchase counts half. ``ripe``: time until a purchase is likely
    again; a list made sooner scales the item by ``unripe_factor``. ``viewed``: weight of a view beside a purchase in ``again``.
    """

    similar: float = 0.2
    together: float = 0.45
    trending: float = 0.1
    again: float = 0.25
    floor: float = 0.3
    commonness: float = 1.0
    own_half_life: float = 60 * 86_400_000.0
    ripe: float = 12 * 3_600_000.0
    unripe_factor: float = 0.3
    viewed: float = 0.3


DEFAULTS: Final = Parameters()


@compiled
def _add(row, source, value, why, base, count, place, eligible, rows, values, best, because):  # type: ignore[no-untyped-def]
    """Credit ``value`` to the candidate ``row``; returns the new number of candidates. ``place`` holds base + index of rows met for
    this shopper, base - 1 for rows that the repeats policy bars, smaller numbers for all others.
    """
    at = place[row]
    if at == base - 1:
        return count
    if at < base:
        if not eligible[row] or count == len(rows):
            return count
        at = base + count
        place[row] = at
        rows[count] = row
        for s in range(4):
            values[count, s] = 0.0
            best[count, s] = 0.0
            because[count, s] = -1
        count += 1
    index = at - base
    values[index, source] += value
    if value > best[index, source]:
        best[index, source] = value
        because[index, source] = why
    return count


@compiled
def _category_tastes(anchor_rows, anchor_weights, category, affinity_category, affinity_weight, codes, tastes):  # type: ignore[no-untyped-def]
    """Weights of the categories of the anchors and of the category pages, scaled to sum 1. Returns how many."""
    count = 0
    total = 0.0
    for a in range(len(anchor_rows) + len(affinity_category)):
        if a < len(anchor_rows):
            if anchor_rows[a] < 0:
                continue
            code = category[anchor_rows[a]]
            weight = anchor_weights[a]
        else:
            code = affinity_category[a - len(anchor_rows)]
            weight = affinity_weight[a - len(anchor_rows)]
        if code < 0:
            continue
        total += weight
        for c in range(count):
            if codes[c] == code:
                tastes[c] += weight
                break
        else:
            if count < len(codes):
                codes[count] = code
                tastes[count] = weight
                count += 1
    for c in range(count):
        tastes[c] /= max(total, 1e-9)
    return count


@compiled
def fill_pools(  # type: ignore[no-untyped-def]
    parameters, policy_code, eligible, category, place, base,
    now_ms, bought_start, bought_row, bought_purchases, bought_at, seen_start, seen_row,
    affinity_start, affinity_category, affinity_weight,
    anchor_rows, anchor_weights, anchor_types,
    similar_slot, similar_rows, similar_scores, fresh_rows, fresh_scores,
    together_slot, together_sizes, together_rows, together_weights, occurrences,
    overall, overall_values, category_rows, category_values,
    pool_rows, pool_shares, pool_because, pool_sizes, policy,
):  # fmt: skip
    """For each of n shoppers the best ``pool_rows.shape[1]`` candidates, best first (see ``RankedLists`` for the meaning of the arrays).

    ``policy_code``: 0 allow repeats, 1 bar what was bought, 2 also what was seen. Returns the next ``base``.
    """
    limit = CANDIDATE_LIMIT
    rows = np.empty(limit, np.int32)
    values = np.empty((limit, 4), np.float32)
    best = np.empty((limit, 4), np.float32)
    because = np.empty((limit, 4), np.int32)
    shares = np.empty((limit, 4), np.int32)
    scores = np.empty(limit, np.int32)
    codes = np.empty(_CATEGORY_LIMIT, np.int32)
    tastes = np.empty(_CATEGORY_LIMIT, np.float32)
    maxima = np.empty(4, np.float32)
    size = pool_rows.shape[1]
    total = parameters.similar + parameters.together + parameters.trending + parameters.again
    weights = np.array(
        [parameters.similar / total, parameters.together / total, parameters.trending / total, parameters.again / total], dtype=np.float32
    )
    for i in range(len(now_ms)):
        base += limit + 2
        count = 0
        if policy_code >= 1:
            for j in range(bought_start[i], bought_start[i + 1]):
                if bought_row[j] >= 0:
                    place[bought_row[j]] = base - 1
        if policy_code == 2:
            for j in range(seen_start[i], seen_start[i + 1]):
                if seen_row[j] >= 0:
                    place[seen_row[j]] = base - 1

        for a in range(anchor_rows.shape[1]):
            anchor = anchor_rows[i, a]
            if anchor < 0:
                break
            weight = anchor_weights[i, a]
            slot = similar_slot[anchor] if anchor < len(similar_slot) else -1
            if slot >= 0:
                for j in range(similar_rows.shape[1]):
                    score = similar_scores[slot, j]
                    if score < parameters.floor:
                        break
                    value = weight * (score - parameters.floor)
                    count = _add(similar_rows[slot, j], SIMILAR, value, a, base, count, place, eligible, rows, values, best, because)
            slot = together_slot[anchor] if anchor < len(together_slot) else -1
            if slot >= 0:
                scale = weight / (occurrences[anchor] + 1e-9) ** (0.5 * parameters.commonness)
                for j in range(together_sizes[slot]):
                    row = together_rows[slot, j]
                    value = scale * together_weights[slot, j] / (occurrences[row] + 1e-9) ** (0.5 * parameters.commonness)
                    count = _add(row, TOGETHER, value, a, base, count, place, eligible, rows, values, best, because)
        for j in range(fresh_rows.shape[1]):
            row = fresh_rows[i, j]
            if row < 0 or fresh_scores[i, j] < parameters.floor:
                break
            known = place[row] >= base and values[place[row] - base, SIMILAR] > 0.0
            if not known:
                value = fresh_scores[i, j] - parameters.floor
                count = _add(row, SIMILAR, value, 0, base, count, place, eligible, rows, values, best, because)

        for j in range(bought_start[i], bought_start[i + 1]):
            row = bought_row[j]
            if row >= 0:
                age = max(0.0, float(now_ms[i] - bought_at[j]))
                value = np.log2(1.0 + bought_purchases[j]) * 2.0 ** (-age / parameters.own_half_life)
                count = _add(row, AGAIN, value, BOUGHT, base, count, place, eligible, rows, values, best, because)
        for a in range(anchor_rows.shape[1]):
            row = anchor_rows[i, a]
            if row >= 0 and anchor_types[i, a] != _PURCHASE:
                value = parameters.viewed * anchor_weights[i, a]
                count = _add(row, AGAIN, value, VIEWED, base, count, place, eligible, rows, values, best, because)
        personal = count

        kinds = _category_tastes(
            anchor_rows[i], anchor_weights[i], category, affinity_category[affinity_start[i] : affinity_start[i + 1]],
            affinity_weight[affinity_start[i] : affinity_start[i + 1]], codes, tastes,
        )  # fmt: skip
        for c in range(kinds):
            if codes[c] >= category_rows.shape[0]:
                continue
            leader = max(category_values[codes[c], 0], np.float32(1e-9))
            for j in range(category_rows.shape[1]):
                row = category_rows[codes[c], j]
                if row < 0:
                    break
                value = tastes[c] * category_values[codes[c], j] / leader
                count = _add(row, TRENDING, value, codes[c], base, count, place, eligible, rows, values, best, because)
        for j in range(len(overall)):
            value = np.float32(0.5) * overall_values[j]
            count = _add(overall[j], TRENDING, value, -1, base, count, place, eligible, rows, values, best, because)

        policy[i] = EMPTY if count == 0 else (PERSONAL if personal > 0 else COLD_START)
        for s in range(4):
            maxima[s] = 1e-9
        for c in range(count):
            for s in range(4):
                maxima[s] = max(maxima[s], values[c, s])
        for c in range(count):
            scores[c] = -1
        for j in range(bought_start[i], bought_start[i + 1]):
            row = bought_row[j]
            if row >= 0 and place[row] >= base and now_ms[i] - bought_at[j] < parameters.ripe:
                scores[place[row] - base] = -2
        for c in range(count):
            factor = np.float32(UNIT) * np.float32(parameters.unripe_factor if scores[c] == -2 else 1.0)
            score = 0
            for s in range(4):
                share = np.int32(np.rint(factor * weights[s] * values[c, s] / maxima[s]))
                shares[c, s] = share
                score += share
            scores[c] = score
        kept = 0
        for c in range(count):
            if kept == size and scores[c] <= scores[pool_rows[i, kept - 1]]:
                continue
            at = kept if kept < size else size - 1
            while at > 0 and scores[pool_rows[i, at - 1]] < scores[c]:
                pool_rows[i, at] = pool_rows[i, at - 1]
                at -= 1
            pool_rows[i, at] = c
            if kept < size:
                kept += 1
        for j in range(kept):
            c = pool_rows[i, j]
            pool_rows[i, j] = rows[c]
            for s in range(4):
                pool_shares[i, j, s] = shares[c, s]
                pool_because[i, j, s] = because[c, s]
        pool_sizes[i] = kept
    return base + limit + 2
