"""Sessions of the live index as plain arrays, and the newest of all with what each item would reach among them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.retrieval.session_lines import BLOCK, HEAD, ITEMS, LENGTH, MORE, NEWEST

#: Items by gain that a list may draw on, beside a shopper's own.
LEADERS: Final = 200


class PastSessions(NamedTuple):
    """s sessions: session i has the distinct items ``rows[starts[i] : starts[i + 1]]`` int32, the newest at ``seconds`` int32[s]."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    seconds: NDArray[np.int32]


class Audience(NamedTuple):
    """Sessions of everybody, by the newest of which it is guessed what the next one holds.

    ``weights`` float32[s] sum to 1 and halve with age. ``row_starts`` int64[m + 1], ``row_sessions`` int32[t]: the sessions by item.
    ``gains`` float32[m]: weight of the sessions that hold an item. ``leaders`` int32[<= 200]: the items of the largest gains, best first.
    """

    sessions: PastSessions
    weights: NDArray[np.float32]
    row_starts: NDArray[np.int64]
    row_sessions: NDArray[np.int32]
    gains: NDArray[np.float32]
    leaders: NDArray[np.int32]


def gather(numbers: NDArray[np.int64], sessions: NDArray[np.int32], blocks: NDArray[np.int32], place: NDArray[np.int32]) -> PastSessions:
    """The sessions with these numbers, from the lines and blocks of ``session_lines``. ``place`` int32[m], all -1, is left so."""
    starts = np.zeros(len(numbers) + 1, dtype=np.int64)
    rows = np.empty(int(sessions[numbers, LENGTH].sum()), dtype=np.int32)
    seconds = np.ascontiguousarray(sessions[numbers, NEWEST])
    count = _gather(numbers, sessions, blocks, place, starts, rows)
    return PastSessions(starts, rows[:count], seconds)


def audience(sessions: PastSessions, half_life_s: float, items: int, votes: NDArray[np.float32] | None = None) -> Audience:
    """Of ``sessions`` as everybody's, for ``items`` items. ``votes`` float32[s]: what each counts beside its age; None: all alike."""
    newest = int(sessions.seconds.max(initial=0))
    weights = np.exp2(-(newest - sessions.seconds.astype(np.float64)) / half_life_s)
    if votes is not None:
        weights *= votes
    weights = (weights / max(weights.sum(), 1e-9)).astype(np.float32)
    lengths = np.diff(sessions.starts)
    gains = np.bincount(sessions.rows, weights=np.repeat(weights, lengths), minlength=items).astype(np.float32)
    order = np.argsort(sessions.rows, kind="stable")
    row_starts = np.concatenate([[0], np.cumsum(np.bincount(sessions.rows, minlength=items))]).astype(np.int64)
    row_sessions: NDArray[np.int32] = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[order]
    leading = min(LEADERS, int(np.count_nonzero(gains)))
    found = np.argpartition(-gains, leading - 1)[:leading] if leading else np.empty(0, np.int64)
    leaders: NDArray[np.int32] = found[np.argsort(-gains[found], kind="stable")].astype(np.int32)
    return Audience(sessions, weights, row_starts, row_sessions, gains, leaders)


@compiled
def _gather(numbers, sessions, blocks, place, starts, rows):  # type: ignore[no-untyped-def]
    end = 0
    for i in range(len(numbers)):
        first = end
        line = sessions[numbers[i]]
        more = line[MORE]
        for j in range(line[LENGTH]):
            if j < HEAD:
                row = line[ITEMS + j]
            else:
                at = (j - HEAD) % BLOCK
                if at == 0 and j > HEAD:
                    more = blocks[more, 0]
                row = blocks[more, 1 + at]
            if place[row] < 0:
                place[row] = 1
                rows[end] = row
                end += 1
        for j in range(first, end):
            place[rows[j]] = -1
        starts[i + 1] = end
    return end
