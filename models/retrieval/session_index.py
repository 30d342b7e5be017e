"""The live session index: for what a shopper does now, the most similar past sessions and what they went on to, learned item by item."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled

#: Items of a session that are held; a bot's ten thousand clicks teach no more than these.
SESSION_LIMIT: Final = 200
#: Newest sessions held of an item, before the oldest quarter gives way.
POSTING_LIMIT: Final = 256
#: A session is a line of 64 bytes, as the processor's cache fetches it: length, second of its newest item, number of the block that
#: goes on with it, and its first items. A block is the number of the next one, and items.
_LINE: Final = 16
_LENGTH, _NEWEST, _MORE, _ITEMS = range(4)
_HEAD: Final = _LINE - _ITEMS
_BLOCK: Final = _LINE - 1
#: Capacities of the lists of sessions by item: 4, 16, 64, 256, in units of 4.
_CLASSES: Final = 4
_UNIT: Final = 4
_FIRST_ROWS: Final = 1024
#: Items appended between two looks at the room that is left.
_CHUNK: Final = 4096
#: Places are int32: before they run out, all begin again.
_LAST_BASE: Final = 2**30
_FIELDS: Final = 4
_BLOCKS, _FREE_BLOCK, _ARENA, _SESSIONS = range(_FIELDS)
_MS: Final = 1_000


class SessionParameters(NamedTuple):
    """How past sessions are weighed. Lengths and distances in items, ``age_half_life`` in ms.

    ``recent``: newest sessions looked at of each item of the shopper's, at most ``POSTING_LIMIT`` of them; ``neighbours``: the most
    similar ones that vote. ``length``: power of a session's length that its similarity is divided by (0.5: cosine). ``forward`` and
    ``backward``: how many items after and before the matched one a vote falls to 1/e; ``backward_weight``: what one before it counts
    at all. ``rarity``: power of the number of sessions with an item that its votes are divided by. ``repeat``: weight of items of the
    shopper's own session.
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


class Votes(NamedTuple):
    """Candidates of n shoppers, best first: ``rows`` int32[n, c] (-1 beyond ``sizes`` int32[n]), ``scores`` float32[n, c],
    ``because`` int32[n, c]: the place in the shopper's anchors that the strongest vote came through.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    because: NDArray[np.int32]
    sizes: NDArray[np.int32]


class SessionIndex:
    """Sessions by item and items by session, in flat arrays: VMIS-kNN (Kersbergen et al., SIGMOD 2022) with VSTAN's decays
    (Ludewig et al., UMUAI 2020), appended to and taken back while it answers.

    The similarity of a past session is the sum of the weights of the anchors that it shares, over its length to the power of
    ``length``, halved by every ``age_half_life`` since its newest item. Each of the most similar ones votes for its items, less the
    farther they stand from the matched item: of those shared, the one that weighs most, where it stood last.

    Example:
        >>> index = SessionIndex()
        >>> index.add(np.array([0, 0, 0]), np.array([7, 8, 9], dtype=np.int32), np.array([0, 1, 2]))
        >>> votes = index.vote(np.array([[7]], np.int32), np.ones((1, 1), np.float32), np.array([-1]), np.array([2]), limit=3)
        >>> votes.rows
        array([[7, 8, 9]], dtype=int32)

    """

    def __init__(self, parameters: SessionParameters | None = None) -> None:
        self._state = np.array([0, -1, 0, 0], dtype=np.int64)
        self._sessions = _empty_sessions(_FIRST_ROWS)
        self._blocks = np.zeros((_FIRST_ROWS, _LINE), dtype=np.int32)
        self._arena = np.zeros((_FIRST_ROWS, _UNIT), dtype=np.int32)
        self._free = np.full(_CLASSES, -1, dtype=np.int32)
        self._offset = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._size = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._kind = np.full(_FIRST_ROWS, -1, dtype=np.int8)
        self._frequency = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._rarity = np.ones(_FIRST_ROWS, dtype=np.float32)
        self._session_place = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._item_place = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._base = 0
        self.parameters = parameters or SessionParameters()

    @property
    def parameters(self) -> SessionParameters:
        """How past sessions are weighed; may be set at any time."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: SessionParameters) -> None:
        if not 1 <= parameters.recent <= POSTING_LIMIT:
            raise ValueError(f"recent must lie in 1..{POSTING_LIMIT}, got {parameters.recent}")
        self._parameters = parameters
        distance = np.arange(SESSION_LIMIT + 1)
        self._forward = np.exp(-distance / max(parameters.forward, 1e-6)).astype(np.float32)
        self._backward = (parameters.backward_weight * np.exp(-distance / max(parameters.backward, 1e-6))).astype(np.float32)
        self._shrink = (np.maximum(distance, 1) ** -parameters.length).astype(np.float32)
        self._rarity[:] = np.maximum(self._frequency, 1) ** -parameters.rarity

    def __len__(self) -> int:
        """Sessions held that have an item."""
        return int(self._state[_SESSIONS])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def items_of(self, session: int) -> list[int]:
        """Rows of the session numbered ``session``, oldest first; the first ``SESSION_LIMIT`` of them."""
        if session >= len(self._sessions):
            return []
        line: list[int] = self._sessions[session].tolist()
        rows, more = line[_ITEMS:], line[_MORE]
        while more >= 0:
            block = self._blocks[more].tolist()
            rows += block[1:]
            more = block[0]
        return rows[: line[_LENGTH]]

    def sessions_of(self, row: int) -> list[int]:
        """Numbers of the newest sessions with an item, oldest first; at most ``POSTING_LIMIT``."""
        if row >= len(self._offset) or self._offset[row] < 0:
            return []
        start = int(self._offset[row]) * _UNIT
        numbers: list[int] = self._arena.ravel()[start : start + self._size[row]].tolist()
        return numbers

    def add(self, sessions: NDArray[np.int64], rows: NDArray[np.int32], at_ms: NDArray[np.int64]) -> None:
        """Append n items (rows >= 0) at times ``at_ms`` to the sessions numbered ``sessions``, in order. O(session) an item."""
        if len(rows) == 0:
            return
        self._reserve(int(sessions.max()) + 1, int(rows.max()) + 1)
        seconds = np.clip(at_ms // _MS, np.iinfo(np.int32).min + 1, np.iinfo(np.int32).max).astype(np.int32)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._reserve_room(len(rows[part]))
            _append(
                sessions[part], rows[part], seconds[part], self._parameters.rarity, self._state, self._sessions, self._blocks,
                self._arena, self._free, self._offset, self._size, self._kind, self._frequency, self._rarity,
            )  # fmt: skip

    def remove(self, session: int) -> int:
        """Take the session numbered ``session`` back, with all that it taught. Returns how many items it held."""
        if session >= len(self._sessions) or self._sessions[session, _LENGTH] == 0:
            return 0
        rows = self.items_of(session)
        _take_back(
            session, np.unique(np.array(rows, dtype=np.int32)), self._parameters.rarity, self._state, self._sessions, self._blocks,
            self._arena, self._offset, self._size, self._frequency, self._rarity,
        )  # fmt: skip
        return len(rows)

    def vote(
        self,
        anchor_rows: NDArray[np.int32],
        anchor_weights: NDArray[np.float32],
        own: NDArray[np.int64],
        now_ms: NDArray[np.int64],
        limit: int,
    ) -> Votes:
        """The best ``limit`` candidates of n shoppers.

        ``anchor_rows`` int32[n, a]: distinct items of each shopper, padded with -1, by falling ``anchor_weights`` float32[n, a].
        ``own`` int64[n]: number of the shopper's own session (-1: none), which does not vote. ``now_ms`` int64[n].
        """
        shoppers = len(anchor_rows)
        self._reserve(0, int(anchor_rows.max(initial=-1)) + 1)
        votes = Votes(
            np.full((shoppers, limit), -1, dtype=np.int32), np.zeros((shoppers, limit), dtype=np.float32),
            np.full((shoppers, limit), -1, dtype=np.int32), np.zeros(shoppers, dtype=np.int32),
        )  # fmt: skip
        self._base = _vote(
            self._parameters, self._forward, self._backward, self._shrink, anchor_rows, anchor_weights, own, now_ms,
            self._sessions, self._blocks, self._arena, self._offset, self._size, self._rarity,
            self._session_place, self._item_place, self._base, *votes,
        )  # fmt: skip
        return votes

    def _reserve(self, sessions: int, rows: int) -> None:
        if sessions > len(self._sessions):
            grown = _empty_sessions(_room(sessions, len(self._sessions)))
            grown[: len(self._sessions)] = self._sessions
            self._sessions = grown
            self._session_place = _longer(self._session_place, len(grown), -1)
        if rows > len(self._offset):
            rows = _room(rows, len(self._offset))
            self._offset = _longer(self._offset, rows, -1)
            self._size = _longer(self._size, rows, 0)
            self._kind = _longer(self._kind, rows, -1)
            self._frequency = _longer(self._frequency, rows, 0)
            self._rarity = _longer(self._rarity, rows, 1)
            self._item_place = _longer(self._item_place, rows, -1)

    def _reserve_room(self, items: int) -> None:
        """For the worst case: every item opens a block and moves a list to the largest size."""
        blocks = int(self._state[_BLOCKS]) + items
        if blocks > len(self._blocks):
            self._blocks = _longer(self._blocks, _room(blocks, len(self._blocks)), 0)
        units = int(self._state[_ARENA]) + items * (POSTING_LIMIT // _UNIT)
        if units > len(self._arena):
            self._arena = _longer(self._arena, _room(units, len(self._arena)), 0)


def _room(wanted: int, had: int) -> int:
    return max(wanted, had + had // 2)


def _longer(column: NDArray, size: int, fill: int) -> NDArray:  # type: ignore[type-arg]
    grown = np.full((size, *column.shape[1:]), fill, dtype=column.dtype)
    grown[: len(column)] = column
    return grown


def _empty_sessions(size: int) -> NDArray[np.int32]:
    sessions = np.zeros((size, _LINE), dtype=np.int32)
    sessions[:, _MORE] = -1
    sessions[:, _NEWEST] = np.iinfo(np.int32).min
    return sessions


@compiled
def _allocate(kind, state, free, arena):  # type: ignore[no-untyped-def]
    head = free[kind]
    if head >= 0:
        free[kind] = arena[head, 0]
        return head
    head = state[_ARENA]
    state[_ARENA] += 4**kind
    return np.int32(head)


@compiled
def _post(row, session, state, arena, free, offset, size, kind):  # type: ignore[no-untyped-def]
    entries = arena.ravel()
    if kind[row] < 0:
        kind[row] = 0
        offset[row] = _allocate(0, state, free, arena)
    held = size[row]
    if held == _UNIT * 4 ** kind[row]:
        start = offset[row] * np.int64(_UNIT)
        if kind[row] + 1 < _CLASSES:
            moved = _allocate(kind[row] + 1, state, free, arena)
            to = moved * np.int64(_UNIT)
            for j in range(held):
                entries[to + j] = entries[start + j]
            arena[offset[row], 0] = free[kind[row]]
            free[kind[row]] = offset[row]
            offset[row] = moved
            kind[row] += 1
        else:
            gone = held // 4
            for j in range(held - gone):
                entries[start + j] = entries[start + gone + j]
            held -= gone
    entries[offset[row] * np.int64(_UNIT) + held] = session
    size[row] = held + 1


@compiled
def _append(  # type: ignore[no-untyped-def]
    numbers, rows, seconds, rarity_power, state, sessions, blocks, arena, free, offset, size, kind, frequency, rarity
):
    for n in range(len(rows)):
        row = rows[n]
        line = sessions[numbers[n]]
        line[_NEWEST] = max(line[_NEWEST], seconds[n])
        held = line[_LENGTH]
        if held >= SESSION_LIMIT:
            continue
        known = False
        for j in range(min(held, _HEAD)):
            known |= line[_ITEMS + j] == row
        left = held - _HEAD
        last = np.int32(-1)
        block = line[_MORE]
        while block >= 0:
            for j in range(min(left, _BLOCK)):
                known |= blocks[block, 1 + j] == row
            left -= _BLOCK
            last = block
            block = blocks[block, 0]
        if held < _HEAD:
            line[_ITEMS + held] = row
        else:
            place = (held - _HEAD) % _BLOCK
            if place == 0:
                block = np.int32(state[_FREE_BLOCK])
                if block >= 0:
                    state[_FREE_BLOCK] = blocks[block, 0]
                else:
                    block = np.int32(state[_BLOCKS])
                    state[_BLOCKS] += 1
                blocks[block, 0] = -1
                if last < 0:
                    line[_MORE] = block
                else:
                    blocks[last, 0] = block
                last = block
            blocks[last, 1 + place] = row
        line[_LENGTH] = held + 1
        if held == 0:
            state[_SESSIONS] += 1
        if not known:
            frequency[row] += 1
            rarity[row] = frequency[row] ** -rarity_power
            _post(row, numbers[n], state, arena, free, offset, size, kind)


@compiled
def _take_back(  # type: ignore[no-untyped-def]
    session, rows, rarity_power, state, sessions, blocks, arena, offset, size, frequency, rarity
):
    """``rows``: the distinct items of the session."""
    entries = arena.ravel()
    for row in rows:
        frequency[row] -= 1
        rarity[row] = max(frequency[row], 1) ** -rarity_power
        start = offset[row] * np.int64(_UNIT)
        kept = 0
        for i in range(size[row]):
            entry = entries[start + i]
            if entry != session:
                entries[start + kept] = entry
                kept += 1
        size[row] = kept
    line = sessions[session]
    block = line[_MORE]
    while block >= 0:
        after = blocks[block, 0]
        blocks[block, 0] = state[_FREE_BLOCK]
        state[_FREE_BLOCK] = block
        block = after
    line[_LENGTH] = 0
    line[_MORE] = -1
    line[_NEWEST] = np.iinfo(np.int32).min
    state[_SESSIONS] -= 1


@compiled
def _vote(  # type: ignore[no-untyped-def]
    parameters, forward, backward, shrink, anchor_rows, anchor_weights, own, now_ms,
    sessions, blocks, arena, offset, size, rarity,
    session_place, item_place, base, out_rows, out_scores, out_because, out_sizes,
):  # fmt: skip
    """Places hold base + index of what was met for this shopper and less for everything else: nothing is cleared in between."""
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
        count = 0
        for a in range(anchors):
            row = anchor_rows[i, a]
            if row < 0:
                break
            if offset[row] < 0:
                continue
            start = offset[row] * np.int64(_UNIT)
            oldest = max(0, size[row] - parameters.recent)
            for j in range(size[row] - 1, oldest - 1, -1):
                session = entries[start + j]
                at = session_place[session]
                if at >= base:
                    similarity[at - base] += anchor_weights[i, a]
                elif session != own[i]:
                    session_place[session] = base + count
                    met[count] = session
                    similarity[count] = anchor_weights[i, a]
                    through[count] = a
                    count += 1
        now = now_ms[i] / _MS
        for n in range(count):
            age = max(0.0, now - sessions[met[n], _NEWEST]) * _MS
            similarity[n] *= shrink[sessions[met[n], _LENGTH]] * np.float32(2.0 ** (-age / parameters.age_half_life))
        least = np.float32(0.0)
        if count > parameters.neighbours:
            least = np.partition(similarity[:count], count - parameters.neighbours)[count - parameters.neighbours]

        # Step 2. Each neighbour votes for its items, by their distance from the matched one.
        items = 0
        for n in range(count):
            if similarity[n] < least:
                continue
            line = sessions[met[n]]
            held = line[_LENGTH]
            for j in range(min(held, _HEAD)):
                session_rows[j] = line[_ITEMS + j]
            place = _HEAD
            block = line[_MORE]
            while block >= 0:
                for j in range(min(held - place, _BLOCK)):
                    session_rows[place + j] = blocks[block, 1 + j]
                place += _BLOCK
                block = blocks[block, 0]
            matched_row = anchor_rows[i, through[n]]
            matched = held - 1
            while session_rows[matched] != matched_row:
                matched -= 1
            if items + held > room:
                room *= 2
                rows = np.concatenate((rows, np.empty_like(rows)))
                scores = np.concatenate((scores, np.empty_like(scores)))
                because = np.concatenate((because, np.empty_like(because)))
                strongest = np.concatenate((strongest, np.empty_like(strongest)))
            for j in range(held):
                if j > matched:
                    value = similarity[n] * forward[j - matched]
                elif j < matched:
                    value = similarity[n] * backward[matched - j]
                else:
                    value = similarity[n]
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
        kept = 0
        width = out_rows.shape[1]
        for n in range(items):
            value = scores[n] * rarity[rows[n]]
            if value <= 0 or (kept == width and value <= out_scores[i, width - 1]):
                continue
            at = kept if kept < width else width - 1
            while at > 0 and out_scores[i, at - 1] < value:
                out_scores[i, at] = out_scores[i, at - 1]
                out_rows[i, at] = out_rows[i, at - 1]
                out_because[i, at] = out_because[i, at - 1]
                at -= 1
            out_scores[i, at] = value
            out_rows[i, at] = rows[n]
            out_because[i, at] = because[n]
            if kept < width:
                kept += 1
        out_sizes[i] = kept
        base += max(count, items) + 1
    return base
