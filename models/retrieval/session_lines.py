"""How sessions and the sessions of each item lie in arrays, and the loops that append to them and take a session back.

``sessions`` int32[s, 16] holds lines, ``blocks`` int32[b, 16] what goes beyond one, ``arena`` int32[u, 4] the lists of sessions by item:
that of ``row`` begins at unit ``offset[row]``, has ``size[row]`` entries and room by its size class ``kind[row]`` (-1: none yet).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.compilation import compiled

#: Items of a session that are held; a bot's ten thousand clicks teach no more than these.
SESSION_LIMIT: Final = 200
#: Newest sessions held of an item, before the oldest quarter gives way.
POSTING_LIMIT: Final = 256
#: A session is a line of 64 bytes, as the processor's cache fetches it: length, second of its newest item, number of the block that
#: goes on with it, and its first items. A block is the number of the next one, and items.
LINE: Final = 16
LENGTH, NEWEST, MORE, ITEMS = range(4)
HEAD: Final = LINE - ITEMS
BLOCK: Final = LINE - 1
#: Capacities of the lists of sessions by item: 4, 16, 64, 256, in units of 4.
CLASSES: Final = 4
UNIT: Final = 4
#: Fields of ``state``: blocks ever used, the first free one, units of the arena ever used, sessions that have an item.
BLOCKS, FREE_BLOCK, ARENA, SESSIONS = range(4)


@compiled
def _allocate(kind, state, free, arena):  # type: ignore[no-untyped-def]
    head = free[kind]
    if head >= 0:
        free[kind] = arena[head, 0]
        return head
    head = state[ARENA]
    state[ARENA] += 4**kind
    return np.int32(head)


@compiled
def _release(row, arena, free, offset, kind):  # type: ignore[no-untyped-def]
    arena[offset[row], 0] = free[kind[row]]
    free[kind[row]] = offset[row]


@compiled
def _move(row, to, state, arena, free, offset, size, kind):  # type: ignore[no-untyped-def]
    """The list of ``row`` into another size class, ``to``, that holds it."""
    entries = arena.ravel()
    moved = _allocate(to, state, free, arena)
    start, target = offset[row] * np.int64(UNIT), moved * np.int64(UNIT)
    for j in range(size[row]):
        entries[target + j] = entries[start + j]
    _release(row, arena, free, offset, kind)
    offset[row] = moved
    kind[row] = to


@compiled
def _post(row, session, state, arena, free, offset, size, kind):  # type: ignore[no-untyped-def]
    entries = arena.ravel()
    if kind[row] < 0:
        kind[row] = 0
        offset[row] = _allocate(0, state, free, arena)
    held = size[row]
    if held == UNIT * 4 ** kind[row]:
        if kind[row] + 1 < CLASSES:
            _move(row, kind[row] + 1, state, arena, free, offset, size, kind)
        else:
            start = offset[row] * np.int64(UNIT)
            gone = held // 4
            for j in range(held - gone):
                entries[start + j] = entries[start + gone + j]
            held -= gone
    entries[offset[row] * np.int64(UNIT) + held] = session
    size[row] = held + 1


@compiled
def append(  # type: ignore[no-untyped-def]
    numbers, rows, seconds, rarity_power, state, sessions, blocks, arena, free, offset, size, kind, frequency, rarity
):
    """Item ``rows[n]`` at ``seconds[n]`` to session ``numbers[n]``, in order. There must be room for all (``SessionIndex``)."""
    for n in range(len(rows)):
        row = rows[n]
        line = sessions[numbers[n]]
        held = line[LENGTH]
        if held == 0:
            line[NEWEST] = seconds[n]
            line[MORE] = -1
            state[SESSIONS] += 1
        line[NEWEST] = max(line[NEWEST], seconds[n])
        if held >= SESSION_LIMIT:
            continue
        known = False
        for j in range(min(held, HEAD)):
            known |= line[ITEMS + j] == row
        left = held - HEAD
        last = np.int32(-1)
        block = line[MORE]
        while block >= 0:
            for j in range(min(left, BLOCK)):
                known |= blocks[block, 1 + j] == row
            left -= BLOCK
            last = block
            block = blocks[block, 0]
        if held < HEAD:
            line[ITEMS + held] = row
        else:
            place = (held - HEAD) % BLOCK
            if place == 0:
                block = np.int32(state[FREE_BLOCK])
                if block >= 0:
                    state[FREE_BLOCK] = blocks[block, 0]
                else:
                    block = np.int32(state[BLOCKS])
                    state[BLOCKS] += 1
                blocks[block, 0] = -1
                if last < 0:
                    line[MORE] = block
                else:
                    blocks[last, 0] = block
                last = block
            blocks[last, 1 + place] = row
        line[LENGTH] = held + 1
        if not known:
            frequency[row] += 1
            rarity[row] = frequency[row] ** -rarity_power
            _post(row, numbers[n], state, arena, free, offset, size, kind)


@compiled
def take_back(  # type: ignore[no-untyped-def]
    session, rows, rarity_power, state, sessions, blocks, arena, free, offset, size, kind, frequency, rarity
):
    """Undo ``append`` for one session; ``rows`` are its distinct items. There must be room for a list of the second largest size for each.

    A list moves to the next smaller size when it fills no more than half of that, so that what comes next does not move it back at once.
    """
    entries = arena.ravel()
    for row in rows:
        frequency[row] -= 1
        rarity[row] = max(frequency[row], 1) ** -rarity_power
        start = offset[row] * np.int64(UNIT)
        kept = 0
        for i in range(size[row]):
            entry = entries[start + i]
            if entry != session:
                entries[start + kept] = entry
                kept += 1
        size[row] = kept
        if kind[row] >= 0 and kept == 0:
            _release(row, arena, free, offset, kind)
            offset[row] = -1
            kind[row] = -1
        elif kind[row] > 0 and 2 * kept <= UNIT * 4 ** (kind[row] - 1):
            _move(row, kind[row] - 1, state, arena, free, offset, size, kind)
    line = sessions[session]
    block = line[MORE]
    while block >= 0:
        after = blocks[block, 0]
        blocks[block, 0] = state[FREE_BLOCK]
        state[FREE_BLOCK] = block
        block = after
    line[LENGTH] = 0
    state[SESSIONS] -= 1
