"""Which items meet in sessions: for each item its strongest neighbours, learned item by item, decayed by age, and unlearnable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.retrieval.columns import longer

#: Neighbours kept of an item; the weakest gives way. 64 x 12 bytes = 768 bytes an item that has neighbours.
NEIGHBOUR_LIMIT: Final = 64
#: Items of the same session before an item that it is paired with.
WINDOW: Final = 20
#: A meeting at distance d counts 1 / (1 + DISTANCE_DECAY * (d - 1)).
DISTANCE_DECAY: Final = 0.15
#: What came after counts 1; what came before counts this.
BACKWARD: Final = 0.7
#: Weights are 2^(time / half-life) on a running scale; rescale before float32 loses range.
_RESCALE_AT: Final = 40.0
#: One rescale shrinks by 2^-60 at most, and nothing shrinks below 2^-60: what is that much older than the newest counts nothing
#: beside it either way, and a shop whose clock jumps by years keeps finite weights and the order that it had learned.
_SHRINK_LIMIT: Final = 60.0
_FLOOR: Final = np.float32(2.0**-60)
#: Log positions are compared by these bits alone: the log is far shorter, so a difference tells before from after.
_POSITION_BITS: Final = 2**32 - 1
_FIRST_ROWS: Final = 1024
#: Fields of ``slots``: slots ever used, and the first of those that are free again, each of which names the next one in its ``rows``.
_USED, _FREE = range(2)
_NOWHERE: Final = np.empty(0, dtype=np.int32)
_ALIKE: Final = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A view for the ranking loop, valid until the next change: item row -> ``slot`` (-1: none) -> the first ``sizes[slot]`` of
    ``rows`` int32[s, c] and ``weights`` float32[s, c] (unordered). ``rarity`` float32[rows] is 1 / sqrt(the item's own decayed count),
    so that weight * rarity * rarity is the cosine of the two items' sessions.
    """

    slot: NDArray[np.int32]
    sizes: NDArray[np.int32]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    rarity: NDArray[np.float32]


class Cooccurrence:
    """Decayed counts of how often two items stood near each other in a session.

    A log of the last ``log_limit`` session items links each to the one before it in its session. It serves to pair a new item with
    its predecessors, and to take a session back exactly: erasing subtracts what adding had added, as far as it is still there. A
    neighbour that gave way took all weights with it, and where it came back it has those of later meetings only: each entry
    knows since when it counts.

    Where the log also says from which source each item came (``with_sources``), sources can count less (``weigh``): a meeting counts what
    the lesser of its two items does. Which neighbours are kept depends on all that was added alone; what they count is kept beside it, and
    is what ``view`` shows. So of what the log holds it is a function of the log and the weights of the moment; what has left it
    counts as it did until they change, and then in full.

    Example:
        >>> index = Cooccurrence(half_life_ms=1e9)
        >>> index.add(np.array([0, 0]), np.array([7, 8], dtype=np.int32), np.array([0, 0]))
        >>> index.neighbours_of(7)
        [(8, 1.0)]
        >>> index.remove(0)
        2
        >>> index.neighbours_of(7)
        []

    """

    def __init__(
        self, half_life_ms: float, log_limit: int = 4_000_000, neighbour_limit: int = NEIGHBOUR_LIMIT, *, with_sources: bool = False
    ) -> None:
        self._half_life = half_life_ms
        self._log_limit = log_limit
        self._origin_ms: float | None = None
        self._slot = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._occurrences = np.zeros(_FIRST_ROWS, dtype=np.float32)
        self._rarity = np.zeros(_FIRST_ROWS, dtype=np.float32)
        self._sizes = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._rows = np.full((_FIRST_ROWS, neighbour_limit), -1, dtype=np.int32)
        self._weights = np.zeros((_FIRST_ROWS, neighbour_limit), dtype=np.float32)
        self._since = np.zeros((_FIRST_ROWS, neighbour_limit), dtype=np.uint32)
        self._slots = np.array([0, -1], dtype=np.int64)
        self._log_row = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._log_previous = np.full(_FIRST_ROWS, -1, dtype=np.int64)
        self._log_weight = np.zeros(_FIRST_ROWS, dtype=np.float32)
        self._head = 0
        self._last = np.full(_FIRST_ROWS, -1, dtype=np.int64)
        # Without sources these stay empty, and while all sources count in full all but the first.
        self._log_source = np.full(_FIRST_ROWS if with_sources else 0, -1, dtype=np.int32)
        self._source_weights = _ALIKE
        self._counted = np.zeros((0, neighbour_limit), dtype=np.float32)
        self._counted_occurrences = np.zeros(0, dtype=np.float32)
        self._counted_rarity = np.zeros(0, dtype=np.float32)

    @property
    def oldest(self) -> int:
        """Log position of the oldest item that is still held."""
        return max(0, self._head - len(self._log_row))

    def last_position(self, session: int) -> int:
        """Log position of the session's newest item, -1 if it has none."""
        return int(self._last[session]) if session < len(self._last) else -1

    def view(self, rows: int) -> Neighbours:
        """For rows below ``rows``; see ``Neighbours``. What counts nothing has weight 0."""
        self._reserve_rows(rows)
        if self.weighed:
            return Neighbours(self._slot, self._sizes, self._rows, self._counted, self._counted_rarity)
        return Neighbours(self._slot, self._sizes, self._rows, self._weights, self._rarity)

    @property
    def weighed(self) -> bool:
        """Whether some source counts less than 1."""
        return len(self._counted) > 0

    def weigh(self, source_weights: NDArray[np.float32]) -> None:
        """From now on items from source s count ``source_weights[s]`` float32, 0..1. O(window) for each item of the log."""
        self._source_weights = source_weights
        if not (source_weights < 1).any():
            self._counted, self._counted_occurrences, self._counted_rarity = (
                column[:0].copy() for column in (self._counted, self._counted_occurrences, self._counted_rarity)
            )
            return
        self._counted, self._counted_occurrences = self._weights.copy(), self._occurrences.copy()
        self._counted_rarity = np.zeros_like(self._rarity)
        _recount(
            self._head, self._log_row, self._log_previous, self._log_weight, self._log_source, source_weights, self._slot, self._sizes,
            self._rows, self._since, self._counted, self._counted_occurrences,
        )  # fmt: skip
        self._note_rarity()

    def held(self) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
        """(rows int32[h], times in ms float64[h], sources int32[h]) of the items that the log holds."""
        places = np.flatnonzero(self._log_row[: min(self._head, len(self._log_row))] >= 0)
        at_ms = (self._origin_ms or 0.0) + self._half_life * np.log2(self._log_weight[places].astype(np.float64))
        return self._log_row[places], at_ms, self._log_source[places]

    def add(
        self,
        sessions: NDArray[np.int64],
        rows: NDArray[np.int32],
        at_ms: NDArray[np.int64],
        sources: NDArray[np.int32] = _NOWHERE,
        source_weights: NDArray[np.float32] = _ALIKE,
    ) -> None:
        """Append n items (rows >= 0) at times ``at_ms`` to the sessions numbered ``sessions``, in order. O(window) an item.

        ``sources`` int32[n], if they are kept: numbers below the length of ``source_weights``, which are those of ``weigh`` and of sources
        that came since.
        """
        if len(rows) == 0:
            return
        self._reserve_rows(int(rows.max()) + 1)
        self._reserve_log(self._head + len(rows))
        self._last = longer(self._last, int(sessions.max()) + 1, -1)
        exponents = self._exponents(at_ms)
        self._source_weights = source_weights
        weights, done = np.exp2(exponents).astype(np.float32), 0
        while done < len(rows):
            self._reserve_slots(int(self._slots[_USED]) + WINDOW + 1)
            done, self._head = _append(
                done, sessions, rows, weights, self._last, self._log_row, self._log_previous, self._log_weight,
                self._head, self._slot, self._slots, self._sizes, self._rows, self._weights, self._since, self._occurrences, self._rarity,
                sources, source_weights, self._log_source, self._counted, self._counted_occurrences, self._counted_rarity,
            )  # fmt: skip

    def remove(self, session: int) -> int:
        """Take back everything that the session numbered ``session`` taught. Returns how many of its items were still in the log."""
        if session >= len(self._last) or self._last[session] < 0:
            return 0
        removed: int = _subtract(
            self._last[session], self._head, self._log_row, self._log_previous, self._log_weight,
            self._slot, self._slots, self._sizes, self._rows, self._weights, self._since, self._occurrences, self._rarity,
            self._source_weights, self._log_source, self._counted, self._counted_occurrences, self._counted_rarity,
        )  # fmt: skip
        self._last[session] = -1
        return removed

    def forget_session(self, session: int) -> None:
        """Free the number ``session`` for reuse; what it taught stays, as counts that no longer know it."""
        if session < len(self._last):
            self._last[session] = -1

    def neighbours_of(self, row: int) -> list[tuple[int, float]]:
        """(row, weight) of an item's neighbours, strongest first, weights as of now's scale."""
        slot = int(self._slot[row]) if row < len(self._slot) else -1
        if slot < 0:
            return []
        size = self._sizes[slot]
        pairs = zip(self._rows[slot, :size].tolist(), self._weights[slot, :size].tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def _exponents(self, at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._origin_ms is None:
            self._origin_ms = float(at_ms.min())
        exponents = np.asarray((at_ms - self._origin_ms) / self._half_life, dtype=np.float64)
        newest = float(exponents.max())
        if newest > _RESCALE_AT:
            factor = np.float32(2.0 ** -min(newest, _SHRINK_LIMIT))
            for column in (self._weights, self._occurrences, self._log_weight, self._counted, self._counted_occurrences):
                np.multiply(column, factor, out=column)
                np.maximum(column, _FLOOR, out=column, where=column > 0)
            known = self._occurrences > 0
            self._rarity[known] = 1 / np.sqrt(self._occurrences[known])
            self._note_rarity()
            self._origin_ms += newest * self._half_life
            exponents -= newest
        return np.maximum(exponents, -_SHRINK_LIMIT, out=exponents)

    def _note_rarity(self) -> None:
        known = self._counted_occurrences > 0
        self._counted_rarity[known] = 1 / np.sqrt(self._counted_occurrences[known])

    def _reserve_rows(self, rows: int) -> None:
        self._slot = longer(self._slot, rows, -1)
        self._occurrences = longer(self._occurrences, rows, 0)
        self._rarity = longer(self._rarity, rows, 0)
        if self.weighed:
            self._counted_occurrences = longer(self._counted_occurrences, rows, 0)
            self._counted_rarity = longer(self._counted_rarity, rows, 0)

    def _reserve_slots(self, slots: int) -> None:
        self._sizes = longer(self._sizes, slots, 0)
        self._rows = longer(self._rows, slots, -1)
        self._weights = longer(self._weights, slots, 0)
        self._since = longer(self._since, slots, 0)
        if self.weighed:
            self._counted = longer(self._counted, slots, 0)

    def _reserve_log(self, positions: int) -> None:
        """Until it is full the log has never wrapped, so it may simply grow."""
        wanted = min(positions, self._log_limit)
        self._log_row = longer(self._log_row, wanted, -1, self._log_limit)
        self._log_previous = longer(self._log_previous, wanted, -1, self._log_limit)
        self._log_weight = longer(self._log_weight, wanted, 0, self._log_limit)
        if len(self._log_source):
            self._log_source = longer(self._log_source, wanted, -1, self._log_limit)


@compiled
def _strengthen(row, slots_by_row, slots, sizes, rows, weights, since, counted, neighbour, weight, counts, position):  # type: ignore[no-untyped-def]
    slot = slots_by_row[row]
    if slot < 0:
        slot = slots[_FREE]
        if slot >= 0:
            slots[_FREE] = rows[slot, 0]
        else:
            slot = slots[_USED]
            slots[_USED] += 1
        slots_by_row[row] = slot
    size = sizes[slot]
    weakest = 0
    least = np.float32(np.inf)
    for j in range(size):
        if rows[slot, j] == neighbour:
            weights[slot, j] += weight
            if len(counted) > 0:
                counted[slot, j] += counts * weight
            return
        if weights[slot, j] < least:
            least = weights[slot, j]
            weakest = j
    place = weakest
    if size < rows.shape[1]:
        place = size
        sizes[slot] = size + 1
    rows[slot, place] = neighbour
    weights[slot, place] = weight
    since[slot, place] = position & _POSITION_BITS
    if len(counted) > 0:
        counted[slot, place] = counts * weight


@compiled
def _append(  # type: ignore[no-untyped-def]
    begin, sessions, item_rows, item_weights, last, log_row, log_previous, log_weight, head, slot, slots, sizes, rows, weights,
    since, occurrences, rarity, sources, source_weights, log_source, counted, counted_occurrences, counted_rarity,
):  # fmt: skip
    """Items from ``begin`` on, while there is room for the slots that one and those before it may need. Returns how many are done."""
    length = len(log_row)
    weighed = len(counted) > 0
    for i in range(begin, len(item_rows)):
        if slots[_USED] + WINDOW + 1 > len(sizes):
            return i, head
        row = item_rows[i]
        weight = item_weights[i]
        mine = source_weights[sources[i]] if weighed else np.float32(1.0)
        position = last[sessions[i]]
        distance = 0
        while position >= 0 and position >= head - length and distance < WINDOW:
            other = log_row[position % length]
            if other >= 0 and other != row:
                met = weight / np.float32(1.0 + DISTANCE_DECAY * distance)
                counts = min(mine, source_weights[log_source[position % length]]) if weighed else np.float32(1.0)
                _strengthen(other, slot, slots, sizes, rows, weights, since, counted, row, met, counts, head)
                _strengthen(row, slot, slots, sizes, rows, weights, since, counted, other, met * np.float32(BACKWARD), counts, head)
            distance += 1
            position = log_previous[position % length]
        place = head % length
        log_row[place] = row
        log_weight[place] = weight
        log_previous[place] = last[sessions[i]]
        last[sessions[i]] = head
        occurrences[row] += weight
        rarity[row] = np.float32(1.0) / np.sqrt(occurrences[row])
        if len(log_source) > 0:
            log_source[place] = sources[i]
        if weighed:
            counted_occurrences[row] += mine * weight
            counted_rarity[row] = np.float32(1.0) / np.sqrt(counted_occurrences[row]) if counted_occurrences[row] > 0.0 else np.float32(0.0)
        head += 1
    return len(item_rows), head


@compiled
def _before(position, since):  # type: ignore[no-untyped-def]
    """Whether a meeting at ``position`` lies before the entry: it gave way once, and this weight with it."""
    return ((position & _POSITION_BITS) - np.int64(since)) & _POSITION_BITS > _POSITION_BITS // 2


@compiled
def _less(held, weight):  # type: ignore[no-untyped-def]
    """``held`` less ``weight``, 0 where rounding is all that is left."""
    left = held - weight
    return left if left > np.float32(1e-4) * weight else np.float32(0.0)


@compiled
def _weaken(row, slots_by_row, slots, sizes, rows, weights, since, counted, neighbour, weight, counts, position):  # type: ignore[no-untyped-def]
    slot = slots_by_row[row]
    size = sizes[slot] if slot >= 0 else 0
    for j in range(size):
        if rows[slot, j] == neighbour:
            if _before(position, since[slot, j]):
                return
            left = _less(weights[slot, j], weight)
            if left == 0.0:
                end = size - 1
                rows[slot, j] = rows[slot, end]
                weights[slot, j] = weights[slot, end]
                since[slot, j] = since[slot, end]
                rows[slot, end] = -1
                weights[slot, end] = 0.0
                sizes[slot] = end
                if len(counted) > 0:
                    counted[slot, j] = counted[slot, end]
                    counted[slot, end] = 0.0
                if end == 0:
                    rows[slot, 0] = slots[_FREE]
                    slots[_FREE] = slot
                    slots_by_row[row] = -1
            else:
                weights[slot, j] = left
                if len(counted) > 0:
                    counted[slot, j] = _less(counted[slot, j], counts * weight)
            return


@compiled
def _subtract(  # type: ignore[no-untyped-def]
    newest, head, log_row, log_previous, log_weight, slot, slots, sizes, rows, weights, since, occurrences, rarity, source_weights,
    log_source, counted, counted_occurrences, counted_rarity,
):  # fmt: skip
    length = len(log_row)
    weighed = len(counted) > 0
    removed = 0
    at = newest
    while at >= 0 and at >= head - length:
        row = log_row[at % length]
        weight = log_weight[at % length]
        mine = source_weights[log_source[at % length]] if weighed else np.float32(1.0)
        position = log_previous[at % length]
        distance = 0
        while position >= 0 and position >= head - length and distance < WINDOW:
            other = log_row[position % length]
            if other >= 0 and other != row:
                met = weight / np.float32(1.0 + DISTANCE_DECAY * distance)
                counts = min(mine, source_weights[log_source[position % length]]) if weighed else np.float32(1.0)
                _weaken(other, slot, slots, sizes, rows, weights, since, counted, row, met, counts, at)
                _weaken(row, slot, slots, sizes, rows, weights, since, counted, other, met * np.float32(BACKWARD), counts, at)
            distance += 1
            position = log_previous[position % length]
        occurrences[row] = _less(occurrences[row], weight)
        rarity[row] = np.float32(1.0) / np.sqrt(occurrences[row]) if occurrences[row] > 0.0 else np.float32(0.0)
        if weighed:
            counted_occurrences[row] = _less(counted_occurrences[row], mine * weight)
            counted_rarity[row] = np.float32(1.0) / np.sqrt(counted_occurrences[row]) if counted_occurrences[row] > 0.0 else np.float32(0.0)
        removed += 1
        at = log_previous[at % length]
    at = newest
    while at >= 0 and at >= head - length:
        log_row[at % length] = -1
        at = log_previous[at % length]
    return removed


@compiled
def _discount(slot, sizes, rows, since, counted, neighbour, weight, position):  # type: ignore[no-untyped-def]
    for j in range(sizes[slot] if slot >= 0 else 0):
        if rows[slot, j] == neighbour:
            if not _before(position, since[slot, j]):
                counted[slot, j] = _less(counted[slot, j], weight)
            return


@compiled
def _recount(  # type: ignore[no-untyped-def]
    head, log_row, log_previous, log_weight, log_source, source_weights, slot, sizes, rows, since, counted, counted_occurrences
):
    """Take from ``counted`` and ``counted_occurrences``, which hold all, what the items of the log count less than 1."""
    length = len(log_row)
    for at in range(max(0, head - length), head):
        row = log_row[at % length]
        if row < 0:
            continue
        weight = log_weight[at % length]
        mine = source_weights[log_source[at % length]]
        if mine < 1.0:
            counted_occurrences[row] = _less(counted_occurrences[row], (np.float32(1.0) - mine) * weight)
        position = log_previous[at % length]
        distance = 0
        while position >= 0 and position >= head - length and distance < WINDOW:
            other = log_row[position % length]
            if other >= 0 and other != row:
                less = np.float32(1.0) - min(mine, source_weights[log_source[position % length]])
                if less > 0.0:
                    met = less * weight / np.float32(1.0 + DISTANCE_DECAY * distance)
                    _discount(slot[other], sizes, rows, since, counted, row, met, at)
                    _discount(slot[row], sizes, rows, since, counted, other, met * np.float32(BACKWARD), at)
            distance += 1
            position = log_previous[position % length]
