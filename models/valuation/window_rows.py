"""The rows of a rolling window: numbered as they came, whose they are, and to which assets they belong."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.retrieval.columns import longer

Int64 = NDArray[np.int64]

_FIRST_ROWS: Final = 256


class WindowRows:
    """Ids of rows, which rise and never come back, and their slots, which do: what a provider knows of a row stands in arrays by slot.

    A row has one asset number in each of ``dimensions``.

    Example:
        >>> rows = WindowRows(dimensions=1)
        >>> [rows.take("s1", "ann", [0]), rows.take("s2", "ann", [1]), rows.take("s3", "bob", [1])]
        [0, 1, 2]
        >>> rows.release(rows.oldest), rows.take("s4", "cat", [0])
        (0, 0)
        >>> rows.ids.tolist(), rows.slots_of("s4", "ann").tolist(), rows.totals(0).tolist()
        ([1, 2, 3], [0, 1], [1, 2])

    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        #: Id of the row in each slot, int64[s].
        self.id_by_slot: Int64 = np.full(_FIRST_ROWS, -1, np.int64)
        #: Slot of the row ``first_id`` + place, int32[p]: with ``first_id`` what finds slots for ids in a compiled loop.
        self.slot_by_place: NDArray[np.int32] = np.full(_FIRST_ROWS, -1, np.int32)
        self.first_id = 0
        self._next_id = 0
        self._held: OrderedDict[int, int] = OrderedDict()
        self._free: list[int] = []
        self._owners: list[tuple[str, str]] = []
        self._by_session: dict[str, dict[int, None]] = {}
        self._by_shopper: dict[str, dict[int, None]] = {}
        self._assets: Int64 = np.zeros((_FIRST_ROWS, dimensions), np.int64)
        self._totals: list[Int64] = [np.zeros(_FIRST_ROWS, np.int64) for _ in range(dimensions)]

    def __len__(self) -> int:
        """Rows held."""
        return len(self._held)

    @property
    def ids(self) -> Int64:
        """int64[n]: ids of the rows held, oldest first."""
        return np.fromiter(self._held, np.int64, len(self._held))

    @property
    def asset_table(self) -> Int64:
        """int64[s, d]: the assets of the row in each slot."""
        return self._assets

    @property
    def oldest(self) -> int:
        """Slot of the oldest row. Raises ``StopIteration`` where there is none."""
        return next(iter(self._held.values()))

    def take(self, session: str, shopper: str, assets: Sequence[int]) -> int:
        """A slot for a new row of ``session`` and ``shopper``. Raises ``ValueError`` where ``assets`` are not one a dimension."""
        if len(assets) != self._dimensions:
            raise ValueError(f"a row of this window has {self._dimensions} assets, got {len(assets)}")
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._owners)
            self._owners.append(("", ""))
            self.id_by_slot = longer(self.id_by_slot, slot + 1, -1)
            self._assets = longer(self._assets, slot + 1, 0)
        number = self._next_id
        self._next_id += 1
        if number - self.first_id >= len(self.slot_by_place):
            self._make_room(number)
        self.slot_by_place[number - self.first_id] = slot
        self.id_by_slot[slot] = number
        self._held[number] = slot
        self._owners[slot] = session, shopper
        self._by_session.setdefault(session, {})[slot] = None
        self._by_shopper.setdefault(shopper, {})[slot] = None
        self._assets[slot] = assets
        for dimension, asset in enumerate(assets):
            self._totals[dimension] = longer(self._totals[dimension], asset + 1, 0)
            self._totals[dimension][asset] += 1
        return slot

    def release(self, slot: int) -> int:
        """Let the row in ``slot`` go; its id. The slot is given to another row."""
        number = int(self.id_by_slot[slot])
        del self._held[number]
        self.id_by_slot[slot] = -1
        for dimension, asset in enumerate(self._assets[slot].tolist()):
            self._totals[dimension][asset] -= 1
        for name, slots in zip(self._owners[slot], (self._by_session, self._by_shopper), strict=True):
            del slots[name][slot]
            if not slots[name]:
                del slots[name]
        self._owners[slot] = "", ""
        self._free.append(slot)
        return number

    def session(self, slot: int) -> str:
        """Whose row is in ``slot``."""
        return self._owners[slot][0]

    def slots_of(self, session: str | None, shopper: str | None) -> NDArray[np.int32]:
        """int32[l]: slots of the rows of a session or of a shopper, in rising order."""
        slots = {} if shopper is None else self._by_shopper.get(shopper, {})
        if session is not None:
            slots = slots | self._by_session.get(session, {})
        return np.array(sorted(slots), np.int32)

    def slots(self, ids: Int64) -> NDArray[np.int32]:
        """int32[n]: slots of rows held, by their ids int64[n]."""
        return np.asarray(self.slot_by_place[ids - self.first_id])

    def assets(self, ids: Int64) -> Int64:
        """int64[n, d]: the assets of rows held, by their ids int64[n]."""
        return np.asarray(self._assets[self.slots(ids)])

    def totals(self, dimension: int) -> Int64:
        """int64[g]: how many of the rows held each asset of ``dimension`` has, by its number."""
        used = np.flatnonzero(self._totals[dimension])
        return self._totals[dimension][: used[-1] + 1 if len(used) else 0].copy()

    def _make_room(self, number: int) -> None:
        """Let go of the places before the oldest row that is held, or take more: id ``number`` is next."""
        oldest = next(iter(self._held), number)
        kept = self.slot_by_place[oldest - self.first_id : number - self.first_id].copy()
        self.first_id = oldest
        self.slot_by_place = longer(self.slot_by_place, 2 * (len(kept) + 1), -1)
        self.slot_by_place[: len(kept)] = kept
