"""What the items of a window that were shown to shoppers were worth to the tests that came after them: the other provider of neighbours.

A row is an item that was shown, placed at its vector, and its label whether it was taken up (clicked, added to a basket or bought). A
test is the next item of which that is known: its neighbours are the items shown whose vectors are nearest, those shown to the same shopper
left out. It is scored before it enters. Utility, baseline, games, sums and money are those of past sessions (``appraisal``).

A vector is taken as it is when the row enters, and stays so for that row; an item without one is neither row nor test. Vectors of two
encoders cannot be compared, so when the first comes of another one the window begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from models.valuation.appraisal import Happening, Line, RowAppraiser, Rules
from models.valuation.money import Margin
from models.valuation.neighbours import EmbeddingNeighbours, Float32

_TAKEN: Final = "taken"
_IGNORED: Final = "ignored"
#: Vectors come as half floats (``schemas.catalog.Embedding``), which hold them exactly.
_HALF: Final = np.dtype("<f2")


class Placement(NamedTuple):
    """Where an item stands: float32[d], by ``encoder``."""

    encoder: str
    vector: Float32


class Receipt(NamedTuple):
    """What came in for an item shown, below 0 what went back, and what it earns."""

    amount: Decimal
    currency: str
    margin: Margin | None


class ShownItem(NamedTuple):
    """An item of the list that resolution ``shown`` told of. ``result``: what became of it. ``names``: its asset in each of
    ``EVENT_DIMENSIONS``. ``tested``: whether it says how good predictions were; what those saw who are held out only teaches.
    """

    at_ms: int
    shopper: str
    shown: str
    sku: str
    result: str
    names: tuple[str | None, ...]
    receipts: Sequence[Receipt] = ()
    tested: bool = True

    @property
    def taken(self) -> bool:
        """Whether it was taken up."""
        return self.result != _IGNORED


class ShownAppraiser(RowAppraiser):
    """Rows are items shown. ``take`` one item at a time, ``correct`` what was said of one. ``placement_of`` finds the vector of a SKU, None
    where it has none; ``unplaced``: how many items were left out for that.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules or Rules(neighbours="embeddings"))
        self.placement_of: Callable[[str], Placement | None] = lambda _sku: None
        self.unplaced = 0
        self._encoder = ""
        self._window: EmbeddingNeighbours = self._empty(1)

    def take(self, offset: int, item: ShownItem) -> None:
        """One item of which it is known what became of it: a test first, and then part of the window."""
        placement = self.placement_of(item.sku)
        if placement is None:
            self.unplaced += 1
            return
        packed = placement.vector.astype(_HALF).tobytes()
        # The same encoder cut to another width is another one: their vectors do not go into one index.
        encoder = f"{placement.encoder}/{len(placement.vector)}"
        if encoder != self._encoder and self._lines:
            for held in list(self._lines):
                self._drop(held)
        appraisal = None
        if item.tested and self._others(item.shopper):
            found = self._window.neighbours(None, item.shopper, _unpacked(packed), item.taken)
            appraisal = self._play(item.shopper, found, _TAKEN if item.taken else _IGNORED, item.at_ms, offset)
        number = self._next
        self._open(number, Line(item.shopper, 0, [], [], item.shown, item.taken, encoder, packed))
        sales = [_happening(item, receipt) for receipt in item.receipts]
        self._learn(number, offset, item.sku, item.names, item.at_ms, sales, appraisal)

    def correct(self, offset: int, item: ShownItem) -> None:
        """What became of the item is something else, while its row is in the window: it matches by that from now on, and what went back is
        taken back. What came in late was foretold as something else, so nothing is credited with it.
        """
        numbers = [number for number in self._of_shopper.get(item.shopper, ()) if self._is_of(self._lines[number], item)]
        for number in numbers:
            self._relabel(number, item.taken)
        for receipt in item.receipts:
            if receipt.amount < 0:
                self._refund(offset, _happening(item, receipt), numbers)
            elif numbers:
                self._buy(numbers[-1], offset, _happening(item, receipt), None)

    @staticmethod
    def _is_of(line: Line, item: ShownItem) -> bool:
        return line.shown == item.shown and line.events[0][0] == item.sku

    def _relabel(self, number: int, taken: bool) -> None:
        line, slot = self._lines[number], self._slots[number]
        if line.taken == taken:
            return
        sku = line.events[0][0]
        self._items.let_go(self._label(line, sku))
        line.taken = taken
        self._table.skus[slot, 0] = self._items.hold(self._label(line, sku))
        self._window.relabel(str(number), taken)
        self._changed.add(number)

    def _enter(self, number: int, slot: int) -> None:
        line = self._lines[number]
        vector = _unpacked(line.vector)
        if line.encoder != self._encoder:
            self._encoder = line.encoder
            self._window = self._empty(len(vector))
        self._window.add(str(number), line.shopper, vector, line.taken, (slot,))

    @staticmethod
    def _label(line: Line, sku: str) -> str:
        return _TAKEN if line.taken else _IGNORED

    def _empty(self, dimensions: int) -> EmbeddingNeighbours:
        return EmbeddingNeighbours(self.rules.rows, dimensions, head=self.rules.head, asset_dimensions=1)


def _unpacked(packed: bytes) -> Float32:
    return np.frombuffer(packed, _HALF).astype(np.float32)


def _happening(item: ShownItem, receipt: Receipt) -> Happening:
    kind = "purchase" if receipt.amount > 0 else "refund"
    return Happening(item.at_ms, kind, item.shopper, item.sku, item.names, receipt.amount, receipt.currency, item.tested, receipt.margin)
