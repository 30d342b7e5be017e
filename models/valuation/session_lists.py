"""The items of the sessions of a window and the sessions of each item, as linked lists, and the loop that finds the nearest sessions.

A node is one item of one session. ``nodes`` int32[n, 5] links it to the nodes of its item before and after it, in the order in which
they came, and to the item of its session that came before it. So a session is appended, let grow and taken back in O(its length),
whatever the window holds. Unlike in the live index (``models.retrieval.session_lines``), the list of an item is complete: which
sessions hold what came next must be known of all of them, near or not.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.compilation import compiled
from models.retrieval.session_lines import SESSION_LIMIT

SLOT, ROW, OLDER, NEWER, NEXT = range(5)
NODE: Final = 5
#: Fields of ``state``: nodes ever used, the first free one.
USED, FREE = range(2)
_MS: Final = 1_000


@compiled
def append(slot, rows, second, state, nodes, newest_node, size, first, length, newest):  # type: ignore[no-untyped-def]
    """Items ``rows`` int32[i] of one moment to the session in ``slot``. There must be room for as many nodes."""
    newest[slot] = max(newest[slot], second)
    for row in rows:
        if length[slot] >= SESSION_LIMIT:
            return
        length[slot] += 1
        node = first[slot]
        while node >= 0 and nodes[node, ROW] != row:
            node = nodes[node, NEXT]
        if node >= 0:
            continue
        node = np.int32(state[FREE])
        if node >= 0:
            state[FREE] = nodes[node, NEXT]
        else:
            node = np.int32(state[USED])
            state[USED] += 1
        older = newest_node[row]
        nodes[node, SLOT] = slot
        nodes[node, ROW] = row
        nodes[node, OLDER] = older
        nodes[node, NEWER] = -1
        nodes[node, NEXT] = first[slot]
        if older >= 0:
            nodes[older, NEWER] = node
        newest_node[row] = node
        first[slot] = node
        size[row] += 1


@compiled
def take_back(slot, state, nodes, newest_node, size, first, length, gone):  # type: ignore[no-untyped-def]
    """Undo ``append`` for a session. Into ``gone`` int32[200] the items that no session holds any more; returns how many."""
    count = 0
    node = first[slot]
    while node >= 0:
        row = nodes[node, ROW]
        older = nodes[node, OLDER]
        newer = nodes[node, NEWER]
        if older >= 0:
            nodes[older, NEWER] = newer
        if newer >= 0:
            nodes[newer, OLDER] = older
        else:
            newest_node[row] = older
        size[row] -= 1
        if size[row] == 0:
            gone[count] = row
            count += 1
        after = nodes[node, NEXT]
        nodes[node, NEXT] = state[FREE]
        state[FREE] = node
        node = after
    first[slot] = -1
    length[slot] = 0
    return count


@compiled
def find_nearest(  # type: ignore[no-untyped-def]
    anchors, weights, left_out, label, now_ms, head, recent, half_life, shrink,
    id_by_slot, slot_by_place, first_id, nodes, newest_node, size, length, newest, place, base,
):  # fmt: skip
    """(ids int64[m] of the ``head`` most similar sessions, bool[m] whether they hold ``label``, ids int64[b] of the others that do, base
    of the next call). Similarity is that of ``models.retrieval.session_votes.cast_votes``, to the bit.

    Places hold ``base`` for a session that is left out, more for one that was met, less for every other.
    """
    for slot in left_out:
        place[slot] = base
    limit = len(anchors) * recent
    met = np.empty(limit, np.int32)
    similarity = np.empty(limit, np.float32)
    count = 0
    for a in range(len(anchors)):
        node = newest_node[anchors[a]]
        for _ in range(recent):
            if node < 0:
                break
            slot = nodes[node, SLOT]
            at = place[slot]
            if at > base:
                similarity[at - base - 1] += weights[a]
            elif at < base:
                place[slot] = base + 1 + count
                met[count] = slot
                similarity[count] = weights[a]
                count += 1
            node = nodes[node, OLDER]
    now = now_ms / _MS
    # Most similar first, of equal ones the older: one number says both, as floats above 0 rise with their bits.
    keys = np.empty(count, np.uint64)
    for n in range(count):
        age = max(0.0, now - newest[met[n]]) * _MS
        similarity[n] *= shrink[length[met[n]]] * np.float32(2.0 ** (-age / half_life))
    bits = similarity.view(np.uint32)
    for n in range(count):
        keys[n] = (np.uint64(0xFFFFFFFF - bits[n]) << np.uint64(32)) | np.uint64(id_by_slot[met[n]] - first_id)
    nearest = min(head, count)
    if count > nearest:
        keys = np.partition(keys, nearest - 1)[:nearest]
    keys = np.sort(keys)
    ids = np.empty(nearest, np.int64)
    match = np.zeros(nearest, np.bool_)
    # From here on a place says where in the head a session is; one that was met and is not there is as good as any other.
    for n in range(count):
        place[met[n]] = -1
    for n in range(nearest):
        number = np.int64(keys[n] & np.uint64(0xFFFFFFFF))
        ids[n] = number + first_id
        place[slot_by_place[number]] = base + 1 + n
    beyond = np.empty(size[label] if label >= 0 else 0, np.int64)
    others = 0
    node = newest_node[label] if label >= 0 else np.int32(-1)
    while node >= 0:
        slot = nodes[node, SLOT]
        at = place[slot]
        if at > base:
            match[at - base - 1] = True
        elif at < base:
            beyond[others] = id_by_slot[slot]
            others += 1
        node = nodes[node, OLDER]
    return ids, match, np.sort(beyond[:others]), base + nearest + 1
