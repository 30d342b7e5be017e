"""Whose data a prediction rests on: the rows of a rolling window nearest to a test, and whether they carry what the test turned out to be.

Two providers, one contract. ``SessionNeighbours``: rows are past sessions, near by the similarity by which session-kNN serves lists, and
they match where they hold the item that came next. ``EmbeddingNeighbours``: rows are items shown, near by their vectors, and they match
where what became of them (clicked or bought, or not) became of the test too. Both are asked one test at a time, before it is learned, and
what they answer depends on what is held and the order in which it came, item by item, alone: not on how a stream was cut, nor on what the
window held before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.index.base import VectorIndex
from models.index.factory import create_index
from models.profiles.interest import ANCHOR_LIMIT, POSITION_DECAY
from models.retrieval.columns import longer
from models.retrieval.session_lines import SESSION_LIMIT
from models.retrieval.session_votes import BLENDED, SessionParameters
from models.valuation.session_lists import NODE, USED, append, find_nearest, take_back
from models.valuation.window_rows import WindowRows

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

#: Rows that are put in order; what lies beyond is counted. The values of those in order stay exact (``knn_shapley.truncated``).
HEAD: Final = 256
_FIRST_ROWS: Final = 256
_WEIGHTS: Final = tuple(POSITION_DECAY**place for place in range(ANCHOR_LIMIT))
_MS: Final = 1_000
_OLDEST: Final = np.iinfo(np.int32).min
_NEWEST: Final = np.iinfo(np.int32).max


class Neighbours(NamedTuple):
    """What a window says of one test. ``rows`` int64[m]: ids of the nearest, nearest first, of equal ones the older; ``match`` bool[m].

    ``beyond`` int64[b]: ids of the rows farther off, or not near at all, that match, in rising order. ``left_out`` int64[l]: ids of the
    rows of the test's own session or shopper, in rising order, which are in neither. So of a window of N rows N - l - m lie beyond.
    """

    rows: Int64
    match: Bool
    beyond: Int64
    left_out: Int64


class Lookup(NamedTuple):
    """How compiled loops find the assets of rows: those of id i are ``assets[slot_by_place[i - first_id]]`` (int32[p], int64[s, d])."""

    first_id: int
    slot_by_place: NDArray[np.int32]
    assets: Int64


class NeighbourWindow(Protocol):
    """A rolling window of rows that tests are set beside (``neighbours``, whose arguments are the provider's own)."""

    def __len__(self) -> int:
        """Rows held."""
        ...

    @property
    def ids(self) -> Int64:
        """int64[n]: ids of the rows held, oldest first."""
        ...

    def assets(self, rows: Int64) -> Int64:
        """int64[n, d]: the assets of rows held, by their ids int64[n]."""
        ...

    def totals(self, dimension: int) -> Int64:
        """int64[g]: how many of the rows held each asset of ``dimension`` has, by its number."""
        ...

    @property
    def lookup(self) -> Lookup:
        """As long as nothing is added or forgotten."""
        ...

    def erase(self, shopper: str) -> int:
        """Forget the rows of ``shopper``; how many."""
        ...


class SessionNeighbours:
    """The newest ``capacity`` sessions, in the order in which they began, each with its distinct items.

    The similarity of a session is the sum of the weights of the anchors that it shares (of each anchor the ``recent`` sessions that
    touched it last count), over its length to the power of ``length``, halved by every ``age_half_life`` since its newest item: that of
    ``SessionIndex`` under the same ``parameters``. (The index lets the oldest quarter go of an item that 256 sessions hold, so it sees 192
    to 256 of them, the window always ``recent``.) Sessions that share no anchor are not near at all.

    Example:
        >>> window = SessionNeighbours(capacity=100)
        >>> for session, shopper, items in (("s1", "ann", "abc"), ("s2", "bob", "ad"), ("s3", "cat", "xc"), ("s4", "dan", "a")):
        ...     window.add(session, shopper, items, at_ms=0)
        >>> found = window.neighbours("s4", "dan", ["a"], label="c", now_ms=0)
        >>> found.rows.tolist(), found.match.tolist(), found.beyond.tolist(), found.left_out.tolist()
        ([1, 0], [False, True], [2], [3])

    """

    def __init__(self, capacity: int, parameters: SessionParameters = BLENDED, *, head: int = HEAD, dimensions: int = 0) -> None:
        if capacity < 1 or head < 1:
            raise ValueError(f"capacity and head must be at least 1, got {capacity} and {head}")
        self._capacity = capacity
        self._head = head
        self._parameters = parameters
        self._rows = WindowRows(dimensions)
        self._slots: dict[str, int] = {}
        self._items: dict[Hashable, int] = {}
        self._item_names: list[Hashable] = []
        self._free_items: list[int] = []
        self._state = np.array([0, -1], dtype=np.int64)
        self._nodes = np.zeros((_FIRST_ROWS, NODE), dtype=np.int32)
        self._newest_node = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._size = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._first = np.full(_FIRST_ROWS, -1, dtype=np.int32)
        self._length = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._newest = np.zeros(_FIRST_ROWS, dtype=np.int32)
        self._place = np.full(_FIRST_ROWS, -1, dtype=np.int64)
        self._gone = np.empty(SESSION_LIMIT, dtype=np.int32)
        self._base = 0
        self._shrink = (np.maximum(np.arange(SESSION_LIMIT + 1), 1) ** -parameters.length).astype(np.float32)

    def __len__(self) -> int:
        """Sessions held."""
        return len(self._rows)

    def __contains__(self, session: str) -> bool:
        """Whether ``session`` is held."""
        return session in self._slots

    @property
    def ids(self) -> Int64:
        """See ``NeighbourWindow.ids``."""
        return self._rows.ids

    @property
    def lookup(self) -> Lookup:
        """See ``NeighbourWindow.lookup``."""
        return Lookup(self._rows.first_id, self._rows.slot_by_place, self._rows.asset_table)

    def add(self, session: str, shopper: str, items: Sequence[Hashable], at_ms: int, assets: Sequence[int] = ()) -> None:
        """Append a session with ``items``, oldest first, the newest at ``at_ms``; one that is held grows by them, and ``shopper`` and
        ``assets`` (one number a dimension) stay. Then the oldest goes, if there are more than ``capacity``. 200 items of a session count.
        """
        slot = self._slots.get(session)
        if slot is None:
            slot = self._rows.take(session, shopper, assets)
            self._slots[session] = slot
            self._first, self._length = longer(self._first, slot + 1, -1), longer(self._length, slot + 1, 0)
            self._newest, self._place = longer(self._newest, slot + 1, 0), longer(self._place, slot + 1, -1)
            self._newest[slot] = _OLDEST
        rows = np.fromiter(map(self._item, items), np.int32, len(items))
        self._nodes = longer(self._nodes, int(self._state[USED]) + len(rows), 0)
        second = np.int32(min(max(at_ms // _MS, _OLDEST), _NEWEST))
        append(
            np.int32(slot), rows, second, self._state, self._nodes, self._newest_node, self._size, self._first, self._length, self._newest
        )
        if self._length[slot] >= SESSION_LIMIT:
            # An item beyond the 200th of its session may be one that nobody holds.
            for row in set(rows.tolist()):
                if self._size[row] == 0:
                    self._forget_item(row)
        if len(self._rows) > self._capacity:
            self._release(self._rows.oldest)

    def extend(self, session: str, item: Hashable, at_ms: int) -> bool:
        """A session that is held grows by ``item``; whether it is held."""
        if session not in self._slots:
            return False
        self.add(session, "", (item,), at_ms)
        return True

    def erase(self, shopper: str) -> int:
        """Forget the sessions of ``shopper``; how many."""
        slots = self._rows.slots_of(None, shopper).tolist()
        for slot in slots:
            self._release(slot)
        return len(slots)

    def neighbours(
        self,
        own_session: str | None,
        shopper: str | None,
        anchor_items: Sequence[Hashable],
        label: Hashable,
        now_ms: int,
        anchor_weights: Sequence[float] | None = None,
    ) -> Neighbours:
        """The ``head`` sessions most similar to one whose items so far are ``anchor_items``, newest first; they match where they hold
        ``label``, the item that came next. ``own_session`` and the sessions of ``shopper`` are left out.

        Of the anchors the first nine distinct ones count, each 0.7 times what the one before it does; or all of them, distinct ones, what
        ``anchor_weights`` say.
        """
        anchors: list[int] = []
        weights: list[float] = []
        if anchor_weights is None:
            anchor_items = list(dict.fromkeys(anchor_items))[:ANCHOR_LIMIT]
            anchor_weights = _WEIGHTS[: len(anchor_items)]
        for item, weight in zip(anchor_items, anchor_weights, strict=True):
            row = self._items.get(item)
            if row is not None:
                anchors.append(row)
                weights.append(weight)
        left_out = self._rows.slots_of(own_session, shopper)
        rows, match, beyond, self._base = find_nearest(
            np.array(anchors, np.int32), np.array(weights, np.float32), left_out, self._items.get(label, -1), now_ms, self._head,
            self._parameters.recent, self._parameters.age_half_life, self._shrink, self._rows.id_by_slot, self._rows.slot_by_place,
            self._rows.first_id, self._nodes, self._newest_node, self._size, self._length, self._newest, self._place, self._base,
        )  # fmt: skip
        return Neighbours(rows, match, beyond, np.sort(self._rows.id_by_slot[left_out]))

    def assets(self, rows: Int64) -> Int64:
        """See ``NeighbourWindow.assets``."""
        return self._rows.assets(rows)

    def totals(self, dimension: int) -> Int64:
        """See ``NeighbourWindow.totals``."""
        return self._rows.totals(dimension)

    def _item(self, item: Hashable) -> int:
        row = self._items.get(item)
        if row is None:
            if self._free_items:
                row = self._free_items.pop()
                self._item_names[row] = item
            else:
                row = len(self._item_names)
                self._item_names.append(item)
                self._newest_node, self._size = longer(self._newest_node, row + 1, -1), longer(self._size, row + 1, 0)
            self._items[item] = row
        return row

    def _forget_item(self, row: int) -> None:
        del self._items[self._item_names[row]]
        self._item_names[row] = None
        self._free_items.append(row)

    def _release(self, slot: int) -> None:
        gone = take_back(
            np.int32(slot), self._state, self._nodes, self._newest_node, self._size, self._first, self._length, self._gone
        )  # fmt: skip
        for row in self._gone[:gone].tolist():
            self._forget_item(row)
        del self._slots[self._rows.session(slot)]
        self._rows.release(slot)


class EmbeddingNeighbours:
    """The newest ``capacity`` items shown, by unit vectors of ``dimensions`` numbers, each ``label``led clicked or bought, or not.

    ``index``: an empty one of those dimensions; unless given an exact scan on the CPU, whose answers are exact.

    Example:
        >>> window = EmbeddingNeighbours(capacity=100, dimensions=2)
        >>> for shopper, vector, label in (("ann", [1, 0], True), ("bob", [0.6, 0.8], False), ("cat", [0, 1], True)):
        ...     window.add("s-" + shopper, shopper, np.array(vector, np.float32), label)
        >>> found = window.neighbours("s-bob", "bob", np.array([0.8, 0.6], np.float32), label=True)
        >>> found.rows.tolist(), found.match.tolist(), found.beyond.tolist(), found.left_out.tolist()
        ([0, 2], [True, True], [], [1])

    """

    def __init__(
        self, capacity: int, dimensions: int, *, head: int = HEAD, asset_dimensions: int = 0, index: VectorIndex | None = None
    ) -> None:
        if capacity < 1 or head < 1:
            raise ValueError(f"capacity and head must be at least 1, got {capacity} and {head}")
        self._capacity = capacity
        self._head = head
        self._index = index if index is not None else create_index("flat", dimensions, "cpu")
        self._rows = WindowRows(asset_dimensions)
        self._labels: Bool = np.zeros(_FIRST_ROWS, dtype=np.bool_)

    def __len__(self) -> int:
        """Rows held."""
        return len(self._rows)

    @property
    def ids(self) -> Int64:
        """See ``NeighbourWindow.ids``."""
        return self._rows.ids

    @property
    def lookup(self) -> Lookup:
        """See ``NeighbourWindow.lookup``."""
        return Lookup(self._rows.first_id, self._rows.slot_by_place, self._rows.asset_table)

    def add(self, session: str, shopper: str, vector: Float32, label: bool, assets: Sequence[int] = ()) -> None:
        """Append an item shown to ``shopper`` in ``session``: its float32[d] ``vector`` and what became of it. Then the oldest row goes,
        where there are more than ``capacity``.
        """
        slot = self._rows.take(session, shopper, assets)
        self._labels = longer(self._labels, slot + 1, 0)
        self._labels[slot] = label
        self._index.upsert(np.array([slot]), np.asarray(vector, np.float32)[None])
        if len(self._rows) > self._capacity:
            self._release([self._rows.oldest])
        if self._index.needs_merge:
            self._index.merge()

    def relabel(self, session: str, label: bool) -> None:
        """What became of the items shown in ``session`` is ``label`` after all."""
        self._labels[self._rows.slots_of(session, None)] = label

    def erase(self, shopper: str) -> int:
        """Forget the rows of ``shopper``; how many."""
        slots = self._rows.slots_of(None, shopper).tolist()
        self._release(slots)
        return len(slots)

    def neighbours(self, own_session: str | None, shopper: str | None, vector: Float32, label: bool) -> Neighbours:
        """The ``head`` rows nearest to ``vector`` float32[d]; they match where their label is ``label``. Rows of ``own_session`` and of
        ``shopper`` are left out.
        """
        left_out = self._rows.slots_of(own_session, shopper)
        slots = self._nearest(np.asarray(vector, np.float32)[None], left_out)
        ids = self._rows.ids
        near, out = self._rows.id_by_slot[slots], np.sort(self._rows.id_by_slot[left_out])
        matching = ids[self._labels[self._rows.slots(ids)] == label]
        beyond = matching[~np.isin(matching, near) & ~np.isin(matching, out)]
        return Neighbours(near, self._labels[slots] == label, beyond, out)

    def assets(self, rows: Int64) -> Int64:
        """See ``NeighbourWindow.assets``."""
        return self._rows.assets(rows)

    def totals(self, dimension: int) -> Int64:
        """See ``NeighbourWindow.totals``."""
        return self._rows.totals(dimension)

    def _nearest(self, query: Float32, left_out: NDArray[np.int32]) -> Int64:
        """Slots of the nearest rows, nearest first, ties by id. An item is shown many times, so ties are the rule: the search goes on until
        what it found last is farther off than what is kept last.
        """
        wanted = min(self._head, len(self._rows) - len(left_out))
        if not wanted:
            return np.empty(0, np.int64)
        width = wanted + len(left_out) + 1
        while True:
            scores, found = self._index.search(query, min(width, len(self._rows)))
            scores, slots = scores[0][found[0] >= 0], found[0][found[0] >= 0]
            kept = ~np.isin(slots, left_out)
            order = np.lexsort((self._rows.id_by_slot[slots[kept]], -scores[kept]))[:wanted]
            if width >= len(self._rows) or (len(order) == wanted and scores[-1] < scores[kept][order[-1]]):
                return np.asarray(slots[kept][order], dtype=np.int64)
            width *= 2

    def _release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._rows.release(slot)
        self._index.delete(np.array(slots, dtype=np.int64))
