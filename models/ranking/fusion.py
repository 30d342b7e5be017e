"""Candidates of every source into one pool for each shopper: a normalised weighted sum whose shares can be told apart."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.compilation import compiled
from models.ranking.lists import (
    AGAIN,
    BOUGHT,
    COLD_START,
    EMPTY,
    FACTORS,
    PERSONAL,
    QUERY,
    SEQUENCE,
    SESSIONS,
    SIMILAR,
    SOURCES,
    TOGETHER,
    TRENDING,
    UNIT,
    VIEWED,
)
from models.retrieval.columns import keep_best
from models.rules.arrays import keep_within

SOURCE_COUNT: Final = len(SOURCES)
_CATEGORY_LIMIT: Final = 48
#: Categories whose popular items a shopper is offered.
_TASTES: Final = 3
_PURCHASE: Final = 3
#: Below any score: what comes behind all others, and what is pinned and so no candidate any more.
_LAST: Final = 4 * UNIT
_PINNED: Final = -(1 << 30)


class Parameters(NamedTuple):
    """How sources are weighed. Source weights are relative: they are divided by their sum, without ``query`` for a shopper who searched for
    nothing. Set by hand on the first 60,000 rows of Online Retail (0.299 against 0.061 of popularity, hit rate at 20, lists following a
    shopper event by event), on the newest sessions of Diginetica's training part (see ``BLENDED``), on 17,000 events of REES46 (0.564
    against 0.411 of the shopper's own items), and on ``models.simulation``. Times in ms.

    ``floor``: cosine below which text says nothing. ``own_half_life``: age at which a purchase counts half. ``ripe``: time until a
    purchase is likely again; a list made sooner scales the item by ``unripe_factor``. ``viewed`` and ``bought``: what a fresh click and
    a fresh first purchase count in ``again``, where 1 is the whole share of that source.
    """

    similar: float = 0.2
    together: float = 0.45
    sessions: float = 0.6
    trending: float = 0.15
    again: float = 0.9
    sequence: float = 0.6
    query: float = 0.6
    factors: float = 0.05
    floor: float = 0.3
    own_half_life: float = 60 * 86_400_000.0
    ripe: float = 12 * 3_600_000.0
    unripe_factor: float = 0.15
    viewed: float = 1.0
    bought: float = 0.6


DEFAULTS: Final = Parameters()


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
def bar_repeats(policy_code, i, bought_start, bought_row, seen_start, seen_row, place, base):  # type: ignore[no-untyped-def]
    """Mark in ``place`` (see ``fill_pools``) what shopper i may not be shown again: ``policy_code`` 0 nothing, 1 what was bought, 2 also
    what was seen.
    """
    if policy_code >= 1:
        for j in range(bought_start[i], bought_start[i + 1]):
            if bought_row[j] >= 0:
                place[bought_row[j]] = base - 1
    if policy_code == 2:
        for j in range(seen_start[i], seen_start[i + 1]):
            if seen_row[j] >= 0:
                place[seen_row[j]] = base - 1


@compiled
def fill_pools(  # type: ignore[no-untyped-def]
    parameters, rules, part, part_of, policy_code, eligible, category, brand, place, base, k, pool,
    now_ms, bought_start, bought_row, bought_purchases, bought_at, seen_start, seen_row,
    affinity_start, affinity_category, affinity_weight,
    anchor_rows, anchor_weights, anchor_types,
    similar_slot, similar_rows, similar_scores,
    together_slot, together_sizes, together_rows, together_weights, rarity,
    session_rows, session_scores, session_because, session_sizes,
    sequence_rows, sequence_scores, sequence_sizes,
    query_rows, query_scores, query_sizes, factor_rows, factor_scores, factor_sizes,
    overall, overall_values, category_rows, category_values,
    pool_rows, pool_shares, pool_because, pool_sizes, pool_before, policy,
):  # fmt: skip
    """For each of the shoppers whose ``part_of`` int64[n] is ``part`` the best ``pool`` candidates for a list of ``k``, best first (see
    ``RankedLists`` for the meaning of the arrays), and from column ``pool`` on the items that ``rules`` (``models.rules.arrays``) pin.

    ``policy_code``: 0 allow repeats, 1 bar what was bought, 2 also what was seen. ``pool_before``: so many candidates come before those
    that are buried behind all others. Returns the next ``base``.
    """
    most_bought = 0
    for i in range(len(now_ms)):
        most_bought = max(most_bought, bought_start[i + 1] - bought_start[i])
    limit = anchor_rows.shape[1] * (similar_rows.shape[1] + together_rows.shape[1] + 1) + most_bought
    limit += session_rows.shape[1] + sequence_rows.shape[1] + query_rows.shape[1] + factor_rows.shape[1]
    limit += _TASTES * category_rows.shape[1] + len(overall)
    vote_row = np.empty(limit, np.int32)
    vote_source = np.empty(limit, np.int8)
    vote_why = np.empty(limit, np.int32)
    vote_value = np.empty(limit, np.float32)
    rows = np.empty(limit, np.int32)
    values = np.empty((limit, SOURCE_COUNT), np.float32)
    best = np.empty((limit, SOURCE_COUNT), np.float32)
    because = np.empty((limit, SOURCE_COUNT), np.int32)
    shares = np.empty((limit, SOURCE_COUNT), np.int32)
    scores = np.empty(limit, np.int32)
    chosen = np.empty(pool, np.int32)
    codes = np.empty(_CATEGORY_LIMIT, np.int32)
    tastes = np.empty(_CATEGORY_LIMIT, np.float32)
    maxima = np.empty(SOURCE_COUNT, np.float32)
    weights = np.array([
        parameters.similar, parameters.together, parameters.sessions, parameters.trending, parameters.again, parameters.sequence,
        parameters.query, parameters.factors,
    ], dtype=np.float32)  # fmt: skip
    # Who searched for nothing has scores as if there were no such source.
    total = max(weights.sum(), np.float32(1e-9))
    total_unasked = max(total - weights[QUERY], np.float32(1e-9))
    pins = len(rules.pin_rows)
    for i in range(len(now_ms)):  # not over places in an array, which might be negative: that check at every index costs a third more
        if part_of[i] != part:
            continue
        base += limit + 2
        bar_repeats(policy_code, i, bought_start, bought_row, seen_start, seen_row, place, base)

        # Step 1. Every source casts its votes: (row, source, value, why).
        votes = 0
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
                    vote_row[votes], vote_source[votes], vote_why[votes] = similar_rows[slot, j], SIMILAR, a
                    vote_value[votes] = weight * (score - parameters.floor)
                    votes += 1
            slot = together_slot[anchor] if anchor < len(together_slot) else -1
            if slot >= 0:
                scale = weight * rarity[anchor]
                for j in range(together_sizes[slot]):
                    if together_weights[slot, j] <= 0.0:  # all that they have to do with each other comes from sources that count nothing
                        continue
                    row = together_rows[slot, j]
                    vote_row[votes], vote_source[votes], vote_why[votes] = row, TOGETHER, a
                    vote_value[votes] = scale * together_weights[slot, j] * rarity[row]
                    votes += 1
            if anchor_types[i, a] != _PURCHASE:
                vote_row[votes], vote_source[votes], vote_why[votes] = anchor, AGAIN, VIEWED
                vote_value[votes] = parameters.viewed * weight
                votes += 1
        for j in range(session_sizes[i]):
            vote_row[votes], vote_source[votes], vote_why[votes] = session_rows[i, j], SESSIONS, session_because[i, j]
            vote_value[votes] = session_scores[i, j]
            votes += 1
        for j in range(sequence_sizes[i]):
            vote_row[votes], vote_source[votes], vote_why[votes] = sequence_rows[i, j], SEQUENCE, -1
            vote_value[votes] = sequence_scores[i, j]
            votes += 1
        for j in range(query_sizes[i]):
            vote_row[votes], vote_source[votes], vote_why[votes] = query_rows[i, j], QUERY, -1
            vote_value[votes] = query_scores[i, j]
            votes += 1
        for j in range(factor_sizes[i]):
            vote_row[votes], vote_source[votes], vote_why[votes] = factor_rows[i, j], FACTORS, -1
            vote_value[votes] = factor_scores[i, j]
            votes += 1
        for j in range(bought_start[i], bought_start[i + 1]):
            row = bought_row[j]
            if row >= 0:
                age = max(0.0, float(now_ms[i] - bought_at[j]))
                vote_row[votes], vote_source[votes], vote_why[votes] = row, AGAIN, BOUGHT
                vote_value[votes] = parameters.bought * np.log2(1.0 + bought_purchases[j]) * 2.0 ** (-age / parameters.own_half_life)
                votes += 1
        personal_votes = votes
        kinds = _category_tastes(
            anchor_rows[i], anchor_weights[i], category, affinity_category[affinity_start[i] : affinity_start[i + 1]],
            affinity_weight[affinity_start[i] : affinity_start[i + 1]], codes, tastes,
        )  # fmt: skip
        for _ in range(min(kinds, _TASTES)):
            c = 0
            for other in range(1, kinds):
                if tastes[other] > tastes[c]:
                    c = other
            taste = tastes[c]
            tastes[c] = -1.0
            if codes[c] >= category_rows.shape[0]:
                continue
            scale = taste / max(category_values[codes[c], 0], np.float32(1e-9))
            for j in range(category_rows.shape[1]):
                if category_rows[codes[c], j] < 0:
                    break
                vote_row[votes], vote_source[votes], vote_why[votes] = category_rows[codes[c], j], TRENDING, codes[c]
                vote_value[votes] = scale * category_values[codes[c], j]
                votes += 1
        for j in range(len(overall)):
            vote_row[votes], vote_source[votes], vote_why[votes] = overall[j], TRENDING, -1
            vote_value[votes] = np.float32(0.5) * overall_values[j]
            votes += 1

        # Step 2. Add the votes up by candidate. ``place`` holds base + index of rows met for this shopper, base - 1 for rows that
        # the repeats policy bars, smaller numbers for all others: nothing need be cleared between shoppers.
        count = 0
        personal = 0
        for vote in range(votes):
            if vote == personal_votes:
                personal = count
            row = vote_row[vote]
            source = vote_source[vote]
            at = place[row]
            if at == base - 1:
                continue
            if at < base:
                if not eligible[row]:
                    continue
                at = base + count
                place[row] = at
                rows[count] = row
                for s in range(SOURCE_COUNT):
                    values[count, s] = 0.0
                    best[count, s] = 0.0
                    because[count, s] = -1
                count += 1
            index = at - base
            value = vote_value[vote]
            values[index, source] += value
            if value > best[index, source]:
                best[index, source] = value
                because[index, source] = vote_why[vote]
        if votes == personal_votes:
            personal = count

        # Step 3. Normalise each source by its best candidate, weigh, and keep the best of the sums.
        policy[i] = EMPTY if count + pins == 0 else (PERSONAL if personal > 0 else COLD_START)
        for s in range(SOURCE_COUNT):
            maxima[s] = 1.0 if s in (AGAIN, QUERY) else 1e-9
        for c in range(count):
            for s in range(SOURCE_COUNT):
                maxima[s] = max(maxima[s], values[c, s])
        for c in range(count):
            scores[c] = -1
        for j in range(bought_start[i], bought_start[i + 1]):
            row = bought_row[j]
            if row >= 0 and place[row] >= base and now_ms[i] - bought_at[j] < parameters.ripe:
                scores[place[row] - base] = -2
        unit = np.float32(UNIT) / (total if query_sizes[i] > 0 else total_unasked)
        for c in range(count):
            factor = unit * np.float32(parameters.unripe_factor if scores[c] == -2 else 1.0)
            score = 0
            for s in range(SOURCE_COUNT):
                share = np.int32(np.rint(factor * weights[s] * values[c, s] / maxima[s]))
                shares[c, s] = share
                score += share
            scores[c] = score
        if len(rules.demotion) > 0:  # a pass of its own, so that the loop above costs nothing more without rules
            for c in range(count):
                demotion = rules.demotion[rows[c]]
                if demotion != 1.0:
                    score = 0
                    for s in range(SOURCE_COUNT):
                        shares[c, s] = np.int32(np.rint(abs(demotion) * shares[c, s]))
                        score += shares[c, s]
                    scores[c] = score - _LAST if demotion < 0.0 else score
        for p in range(pins):
            pool_rows[i, pool + p] = rules.pin_rows[p]
            at = place[rules.pin_rows[p]] - base
            for s in range(SOURCE_COUNT):
                pool_shares[i, pool + p, s] = shares[at, s] if at >= 0 else 0
                pool_because[i, pool + p, s] = because[at, s] if at >= 0 else -1
            if at >= 0:
                scores[at] = _PINNED
        if len(rules.cap_limits) > 0:
            kept = keep_within(rules, pool / k, scores, count, rows, rules.pin_rows, pins, category, brand, chosen)
        else:
            kept = keep_best(scores, count, chosen)
        while kept > 0 and scores[chosen[kept - 1]] == _PINNED:
            kept -= 1
        before = kept
        while before > 0 and scores[chosen[before - 1]] < 0:
            before -= 1
        pool_before[i] = before
        for j in range(kept):
            c = chosen[j]
            pool_rows[i, j] = rows[c]
            for s in range(SOURCE_COUNT):
                pool_shares[i, j, s] = shares[c, s]
                pool_because[i, j, s] = because[c, s]
        pool_sizes[i] = kept
    return base + limit + 2
