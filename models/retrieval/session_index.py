"""The live session index: for what a shopper does now, the most similar past sessions and what they went on to, learned item by item."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.retrieval.columns import longer
from models.retrieval.past_sessions import PastSessions, gather
from models.retrieval.session_lines import (
    ARENA,
    BLOCKS,
    CLASSES,
    ITEMS,
    LENGTH,
    LINE,
    MORE,
    POSTING_LIMIT,
    SESSION_LIMIT,
    SESSIONS,
    UNIT,
    append,
    take_back,
)  # fmt: skip
from models.retrieval.session_votes import (
    Carriers,
    SessionParameters,
    Votes,
    cast_votes,
    no_carriers,
    no_votes,
    trace_votes,
)

_FIRST_ROWS: Final = 1024
#: Items appended between two looks at the room that is left.
_CHUNK: Final = 4096
_MS: Final = 1_000
_ALIKE: Final = np.empty(0, dtype=np.float32)


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
        self._sessions = np.zeros((_FIRST_ROWS, LINE), dtype=np.int32)
        self._blocks = np.zeros((_FIRST_ROWS, LINE), dtype=np.int32)
        self._arena = np.zeros((_FIRST_ROWS, UNIT), dtype=np.int32)
        self._free = np.full(CLASSES, -1, dtype=np.int32)
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
        return int(self._state[SESSIONS])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def items_of(self, session: int) -> list[int]:
        """Rows of the session numbered ``session``, oldest first; the first ``SESSION_LIMIT`` of them."""
        if session >= len(self._sessions) or self._sessions[session, LENGTH] == 0:
            return []
        line: list[int] = self._sessions[session].tolist()
        rows, more = line[ITEMS:], line[MORE]
        while more >= 0:
            block = self._blocks[more].tolist()
            rows += block[1:]
            more = block[0]
        return rows[: line[LENGTH]]

    def sessions_of(self, row: int) -> list[int]:
        """Numbers of the newest sessions with an item, oldest first; at most ``POSTING_LIMIT``."""
        if row >= len(self._offset) or self._offset[row] < 0:
            return []
        start = int(self._offset[row]) * UNIT
        numbers: list[int] = self._arena.ravel()[start : start + self._size[row]].tolist()
        return numbers

    def add(self, sessions: NDArray[np.int64], rows: NDArray[np.int32], at_ms: NDArray[np.int64]) -> None:
        """Append n items (rows >= 0) at times ``at_ms`` to the sessions numbered ``sessions``, in order. O(session) an item."""
        if len(rows) == 0:
            return
        self._reserve(int(sessions.max()) + 1, int(rows.max()) + 1)
        seconds = np.clip(at_ms // _MS, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._reserve_room(len(rows[part]))
            append(
                sessions[part], rows[part], seconds[part], self._parameters.rarity, self._state, self._sessions, self._blocks,
                self._arena, self._free, self._offset, self._size, self._kind, self._frequency, self._rarity,
            )  # fmt: skip

    def remove(self, session: int) -> int:
        """Take the session numbered ``session`` back, with all that it taught. Returns how many items it held."""
        rows = self.items_of(session)
        if not rows:
            return 0
        distinct = np.unique(np.array(rows, dtype=np.int32))
        self._arena = longer(self._arena, int(self._state[ARENA]) + len(distinct) * 4 ** (CLASSES - 2), 0)
        take_back(
            session, distinct, self._parameters.rarity, self._state, self._sessions, self._blocks,
            self._arena, self._free, self._offset, self._size, self._kind, self._frequency, self._rarity,
        )  # fmt: skip
        return len(rows)

    def vote(
        self,
        anchor_rows: NDArray[np.int32],
        anchor_weights: NDArray[np.float32],
        own: NDArray[np.int64],
        now_ms: NDArray[np.int64],
        limit: int,
        session_votes: NDArray[np.float32] = _ALIKE,
    ) -> Votes:
        """The best ``limit`` candidates of n shoppers.

        ``anchor_rows`` int32[n, a]: distinct items of each shopper, padded with -1, by falling ``anchor_weights`` float32[n, a].
        ``own`` int64[n]: number of the shopper's own session (-1: none), which does not vote. ``now_ms`` int64[n].
        ``session_votes`` float32[s]: what the votes of each session count, 0..1, by its number; empty: all alike.
        """
        self._reserve(0, int(anchor_rows.max(initial=-1)) + 1)
        votes = no_votes(len(anchor_rows), limit)
        self._base = cast_votes(
            self._parameters, self._forward, self._backward, self._shrink, anchor_rows, anchor_weights, own, now_ms,
            self._sessions, self._blocks, self._arena, self._offset, self._size, self._rarity, session_votes,
            self._session_place, self._item_place, self._base, *votes,
        )  # fmt: skip
        return votes

    def trace(
        self,
        anchor_rows: NDArray[np.int32],
        anchor_weights: NDArray[np.float32],
        own: NDArray[np.int64],
        now_ms: NDArray[np.int64],
        listed: NDArray[np.int32],
        limit: int,
        session_votes: NDArray[np.float32] = _ALIKE,
    ) -> Carriers:
        """The ``limit`` sessions that voted most for each of the items ``listed`` int32[n, k] (-1: none); the others as in ``vote``."""
        self._reserve(0, int(max(anchor_rows.max(initial=-1), listed.max(initial=-1))) + 1)
        found = no_carriers(len(listed), listed.shape[1], limit)
        self._base = trace_votes(
            self._parameters, self._forward, self._backward, self._shrink, anchor_rows, anchor_weights, own, now_ms,
            self._sessions, self._blocks, self._arena, self._offset, self._size, session_votes,
            self._session_place, self._item_place, self._base, listed, *found,
        )  # fmt: skip
        return found

    def gather(self, sessions: NDArray[np.int64]) -> PastSessions:
        """The sessions numbered ``sessions``, which must be held, as plain arrays."""
        return gather(sessions, self._sessions, self._blocks, np.full(len(self._offset), -1, dtype=np.int32))

    def _reserve(self, sessions: int, rows: int) -> None:
        self._sessions = longer(self._sessions, sessions, 0)
        self._session_place = longer(self._session_place, sessions, -1)
        self._offset = longer(self._offset, rows, -1)
        self._size = longer(self._size, rows, 0)
        self._kind = longer(self._kind, rows, -1)
        self._frequency = longer(self._frequency, rows, 0)
        self._rarity = longer(self._rarity, rows, 1)
        self._item_place = longer(self._item_place, rows, -1)

    def _reserve_room(self, items: int) -> None:
        """For the worst case: every item opens a block and moves a list to the largest size."""
        self._blocks = longer(self._blocks, int(self._state[BLOCKS]) + items, 0)
        self._arena = longer(self._arena, int(self._state[ARENA]) + items * (POSTING_LIMIT // UNIT), 0)
