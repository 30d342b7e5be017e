"""What the most similar past sessions say: how they are weighed, and the loop that lets them vote."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.retrieval.columns import keep_best
from models.retrieval.session_lines import BLOCK, HEAD, ITEMS, LENGTH, MORE, NEWEST, SESSION_LIMIT, UNIT

#: Places are int32: before they run out, all begin again.
_LAST_BASE: Final = 2**30
_MS: Final = 1_000
#: Places before and after the matched item that a neighbour's votes reach. Beyond, ``BLENDED`` would give at most a twenty-fifth of a
#: vote; and a shop whose sessions all have 200 items paid ten times as much for a list as one with sessions of ten.
REACH: Final = 32


class SessionParameters(NamedTuple):
    """How past sessions are weighed. Lengths and distances in items, ``age_half_life`` in ms.

    ``recent``: newest sessions looked at of each item of the shopper's, at most ``POSTING_LIMIT`` of them; ``neighbours``: the most
    similar ones that vote. ``length``: power of a session's length that its similarity is divided by (0.5: cosine). ``forward`` and
    ``backward``: how many items after and before the matched one a vote falls to 1/e (beyond ``REACH`` items there is none);
    ``backward_weight``: what one before it counts at all. ``rarity``: power of the number of sessions with an item that its votes are
    divided by. ``repeat``: weight of items of the shopper's own session.
    """

    recent: int = 100
    neighbours: int = 300
    length: float = 0.3
    age_half_life: float = 30 * 86_400_000.0
    forward: float = 1.5
    backward: float = 3.0
    backward_weight: float = 0.4
    rarity: float = 0.15
    repeat: float = 2.0


#: As one source among others, which look after repeats and pairs: the session index says what similar sessions hold, near the matched
#: item or not. Lists of all sources on the newest 5 % of Diginetica's training part: 50.8 % hit rate at 20 and MRR 18.3 (with the
#: defaults above 49.3 and 18.1, without the source 48.6 and 15.9); on Online Retail MRR 9.9 (9.6, 9.9), at the weights of that time.
BLENDED: Final = SessionParameters(recent=256, neighbours=500, forward=10.0, backward=10.0, backward_weight=0.7, repeat=1.0)


class Votes(NamedTuple):
    """Candidates of n shoppers, best first: ``rows`` int32[n, c] (-1 beyond ``sizes`` int32[n]), ``scores`` float32[n, c],
    ``because`` int32[n, c]: the place in the shopper's anchors that the strongest vote came through.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    because: NDArray[np.int32]
    sizes: NDArray[np.int32]


class Carriers(NamedTuple):
    """Of items listed for n shoppers the sessions that voted for them, most first: ``sessions`` int64[n, k, c] numbers (-1: no more),
    ``values`` float32[n, k, c] their votes, ``totals`` float32[n, k] the votes of all that voted.
    """

    sessions: NDArray[np.int64]
    values: NDArray[np.float32]
    totals: NDArray[np.float32]


def no_carriers(shoppers: int, items: int, limit: int) -> Carriers:
    """Room for ``limit`` sessions of each of ``items`` items of each shopper, and none there yet."""
    return Carriers(
        np.full((shoppers, items, limit), -1, dtype=np.int64),
        np.zeros((shoppers, items, limit), dtype=np.float32),
        np.zeros((shoppers, items), dtype=np.float32),
    )


def no_votes(shoppers: int, limit: int = 1) -> Votes:
    """Room for ``limit`` candidates of each shopper, and none there yet."""
    return Votes(
        np.full((shoppers, limit), -1, dtype=np.int32),
        np.zeros((shoppers, limit), dtype=np.float32),
        np.full((shoppers, limit), -1, dtype=np.int32),
        np.zeros(shoppers, dtype=np.int32),
    )


@compiled
def _meet(  # type: ignore[no-untyped-def]
    parameters, shrink, anchor_rows, anchor_weights, own, now_ms, sessions, entries, offset, size, session_votes,
    session_place, base, met, similarity, through,
):  # fmt: skip
    """Into ``met`` the sessions that share an anchor of one shopper, with their ``similarity`` and the place of the anchor that they are
    met ``through``. Returns how many, and the least similarity of those that vote.
    """
    count = 0
    for a in range(len(anchor_rows)):
        row = anchor_rows[a]
        if row < 0:
            break
        if offset[row] < 0:
            continue
        start = offset[row] * np.int64(UNIT)
        oldest = max(0, size[row] - parameters.recent)
        for j in range(size[row] - 1, oldest - 1, -1):
            session = entries[start + j]
            at = session_place[session]
            if at >= base:
                similarity[at - base] += anchor_weights[a]
            elif session != own:
                session_place[session] = base + count
                met[count] = session
                similarity[count] = anchor_weights[a]
                through[count] = a
                count += 1
    now = now_ms / _MS
    for n in range(count):
        age = max(0.0, now - sessions[met[n], NEWEST]) * _MS
        similarity[n] *= shrink[sessions[met[n], LENGTH]] * np.float32(2.0 ** (-age / parameters.age_half_life))
    if len(session_votes) > 0:  # a pass of its own, so that the loop above costs nothing more without
        for n in range(count):
            similarity[n] *= session_votes[met[n]]
    least = np.float32(0.0)
    if count > parameters.neighbours:
        least = np.partition(similarity[:count], count - parameters.neighbours)[count - parameters.neighbours]
    return count, least


@compiled
def _read(line, blocks, matched_row, session_rows):  # type: ignore[no-untyped-def]
    """Into ``session_rows`` the items of a session. Returns how many, and where ``matched_row`` stands last."""
    held = line[LENGTH]
    for j in range(min(held, HEAD)):
        session_rows[j] = line[ITEMS + j]
    place = HEAD
    block = line[MORE]
    while block >= 0:
        for j in range(min(held - place, BLOCK)):
            session_rows[place + j] = blocks[block, 1 + j]
        place += BLOCK
        block = blocks[block, 0]
    matched = held - 1
    while session_rows[matched] != matched_row:
        matched -= 1
    return held, matched


@compiled
def _vote(similarity, forward, backward, place, matched):  # type: ignore[no-untyped-def]
    """What a neighbour says of its item at ``place``, by the distance from where it was ``matched``."""
    if place > matched:
        return similarity * forward[place - matched]
    if place < matched:
        return similarity * backward[matched - place]
    return similarity


@compiled
def cast_votes(  # type: ignore[no-untyped-def]
    parameters, forward, backward, shrink, anchor_rows, anchor_weights, own, now_ms,
    sessions, blocks, arena, offset, size, rarity, session_votes,
    session_place, item_place, base, out_rows, out_scores, out_because, out_sizes,
):  # fmt: skip
    """``session_votes`` float32[s]: what each session's votes count, 0..1; empty: all alike.

    Places hold base + index of what was met for this shopper and less for everything else: nothing is cleared in between.
    """
    entries = arena.ravel()
    anchors = anchor_rows.shape[1]
    limit = anchors * parameters.recent
    met = np.empty(limit, np.int32)
    similarity = np.empty(limit, np.float32)
    through = np.empty(limit, np.int32)
    room = limit * 16
    rows = np.empty(room, np.int32)
    scores = np.empty(room, np.float32)
    because = np.empty(room, np.int32)
    strongest = np.empty(room, np.float32)
    session_rows = np.empty(SESSION_LIMIT, np.int32)
    for i in range(len(anchor_rows)):
        if base > _LAST_BASE:
            session_place[:] = -1
            item_place[:] = -1
            base = 0
        # Step 1. Sessions that share an anchor, and how similar they are.
        count, least = _meet(
            parameters, shrink, anchor_rows[i], anchor_weights[i], own[i], now_ms[i], sessions, entries, offset, size, session_votes,
            session_place, base, met, similarity, through,
        )  # fmt: skip

        # Step 2. Each neighbour votes for its items, by their distance from the matched one.
        items = 0
        for n in range(count):
            if similarity[n] < least or similarity[n] <= 0.0:
                continue
            held, matched = _read(sessions[met[n]], blocks, anchor_rows[i, through[n]], session_rows)
            first, end = max(0, matched - REACH), min(held, matched + REACH + 1)
            if items + held > room:
                room *= 2
                rows = np.concatenate((rows, np.empty_like(rows)))
                scores = np.concatenate((scores, np.empty_like(scores)))
                because = np.concatenate((because, np.empty_like(because)))
                strongest = np.concatenate((strongest, np.empty_like(strongest)))
            for j in range(first, end):
                value = _vote(similarity[n], forward, backward, j, matched)
                row = session_rows[j]
                at = item_place[row]
                if at < base:
                    at = np.int32(base + items)
                    item_place[row] = at
                    rows[items] = row
                    scores[items] = value
                    strongest[items] = value
                    because[items] = through[n]
                    items += 1
                else:
                    scores[at - base] += value
                    if value > strongest[at - base]:
                        strongest[at - base] = value
                        because[at - base] = through[n]
        for a in range(anchors):
            row = anchor_rows[i, a]
            if row < 0:
                break
            if item_place[row] >= base:
                scores[item_place[row] - base] *= np.float32(parameters.repeat)

        # Step 3. The best of them, those in fewer sessions ahead of those in many.
        for n in range(items):
            scores[n] *= rarity[rows[n]]
        kept = keep_best(scores, items, out_rows[i])
        while kept > 0 and scores[out_rows[i, kept - 1]] <= 0:
            kept -= 1
            out_rows[i, kept] = -1
        for j in range(kept):
            n = out_rows[i, j]
            out_rows[i, j] = rows[n]
            out_scores[i, j] = scores[n]
            out_because[i, j] = because[n]
        out_sizes[i] = kept
        base += max(count, items) + 1
    return base


@compiled
def trace_votes(  # type: ignore[no-untyped-def]
    parameters, forward, backward, shrink, anchor_rows, anchor_weights, own, now_ms, sessions, blocks, arena, offset, size,
    session_votes, session_place, item_place, base, listed, carriers, values, totals,
):  # fmt: skip
    """Whose votes items got: for each of ``listed`` int32[n, k] (-1: none) into ``carriers`` int64[n, k, c] the sessions that voted most
    for it, best first (-1: no more), into ``values`` float32[n, k, c] their votes and into ``totals`` float32[n, k] those of all.
    ``session_votes`` and places as in ``cast_votes``.
    """
    entries = arena.ravel()
    limit = anchor_rows.shape[1] * parameters.recent
    met = np.empty(limit, np.int32)
    similarity = np.empty(limit, np.float32)
    through = np.empty(limit, np.int32)
    session_rows = np.empty(SESSION_LIMIT, np.int32)
    votes = np.zeros(listed.shape[1], np.float32)
    for i in range(len(anchor_rows)):
        if base > _LAST_BASE:
            session_place[:] = -1
            item_place[:] = -1
            base = 0
        count, least = _meet(
            parameters, shrink, anchor_rows[i], anchor_weights[i], own[i], now_ms[i], sessions, entries, offset, size, session_votes,
            session_place, base, met, similarity, through,
        )  # fmt: skip
        for k in range(listed.shape[1]):
            if listed[i, k] >= 0:
                item_place[listed[i, k]] = base + k
        for n in range(count):
            if similarity[n] < least or similarity[n] <= 0.0:
                continue
            held, matched = _read(sessions[met[n]], blocks, anchor_rows[i, through[n]], session_rows)
            for j in range(max(0, matched - REACH), min(held, matched + REACH + 1)):
                k = item_place[session_rows[j]] - base
                if k >= 0:
                    votes[k] += _vote(similarity[n], forward, backward, j, matched)
            for j in range(max(0, matched - REACH), min(held, matched + REACH + 1)):
                k = item_place[session_rows[j]] - base
                if k >= 0 and votes[k] > 0.0:
                    totals[i, k] += votes[k]
                    at = carriers.shape[2]
                    while at > 0 and (carriers[i, k, at - 1] < 0 or values[i, k, at - 1] < votes[k]):
                        at -= 1
                    for c in range(carriers.shape[2] - 1, at, -1):
                        carriers[i, k, c] = carriers[i, k, c - 1]
                        values[i, k, c] = values[i, k, c - 1]
                    if at < carriers.shape[2]:
                        carriers[i, k, at] = met[n]
                        values[i, k, at] = votes[k]
                    votes[k] = 0.0
        base += max(count, listed.shape[1]) + 1
    return base
