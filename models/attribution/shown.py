"""What one shopper was shown and what became of it, kept until the attribution windows are over: bytes that a visit appends to.

A list shown is told of twice at most: once, whole, when its window is over (``Resolved``), and then piece by piece where facts come
later than that (``Correction``), so that all that was ever said of it adds up to what happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple, Self

import msgspec
import xxhash

from models.attribution.memory import Windows

#: Lists kept of a shopper, and their bytes: a visit of some 20 pages with lists of 20 items. The newest is kept whatever its size.
LISTS_LIMIT: Final = 20
BYTES_LIMIT: Final = 4_096
#: Purchases kept in one list, and of lists that are forgotten, so that a refund takes back what it was credited.
SALES_LIMIT: Final = 20
SOLD_LIMIT: Final = 20

#: What became of an item, by falling patience of the shopper: the highest that happened counts.
IGNORED, CLICKED, ADDED, BOUGHT = range(4)
RESULTS: Final = ("ignored", "clicked", "added", "bought")
_KINDS: Final = {"browse": CLICKED, "click": CLICKED, "add_to_cart": ADDED, "purchase": BOUGHT}

Reason = Literal["window", "evicted"]
Lateness = Literal["late", "refund"]


class Sale(msgspec.Struct, array_like=True, frozen=True):
    """Units of one order line, net of refunds. Amounts are decimals as text, ``unit_margin`` for one unit, None where it is not known."""

    order: int
    quantity: int
    revenue: str
    currency: str
    unit_margin: str | None = None

    def margin(self) -> Decimal | None:
        """Of all its units."""
        return None if self.unit_margin is None else Decimal(self.unit_margin) * self.quantity


class Taken(msgspec.Struct, array_like=True):
    """An item that was not ignored: ``index`` in the list's SKUs, time of the first positive and of the newest click (0: none), in s."""

    index: int
    result: int
    first_s: int
    touched_s: int = 0
    sales: list[Sale] = []


class ShownList(msgspec.Struct, array_like=True):
    """A list, or the part of one that impressions tell of. It was first shown by the event at ``partition`` and ``offset``.

    ``places``: a byte for each SKU; empty: 1, 2, 3 and so on. ``resolved``: it was told of, and is kept for what comes late.
    """

    partition: int
    offset: int
    recommendation_id: str
    shown_s: int
    skus: list[str]
    places: bytes = b""
    taken: list[Taken] = []
    resolved: bool = False
    arm: str | None = None

    def place(self, index: int) -> int:
        """The place from 1 of the SKU at ``index``."""
        return self.places[index] if self.places else index + 1

    def of(self, index: int) -> Taken | None:
        """What is known of the SKU at ``index``; None: ignored."""
        return next((taken for taken in self.taken if taken.index == index), None)

    def due_s(self, windows: Windows) -> int:
        """When its window is over: a view's after the showing, a click's after the newest click."""
        touched_s = max([taken.touched_s for taken in self.taken], default=0)
        return max(self.shown_s + windows.view_s, touched_s + windows.click_s if touched_s else 0)

    def kept_until_s(self, windows: Windows) -> int:
        """When it is forgotten: nothing that cites it holds any more, and what was late had the time of a view's window to come."""
        return max(self.due_s(windows), self.shown_s + windows.click_s) + windows.view_s


class Sold(msgspec.Struct, array_like=True, frozen=True):
    """A sale of a list that is forgotten: where it stood, and what a refund takes back."""

    partition: int
    offset: int
    recommendation_id: str
    place: int
    sku: str
    sale: Sale
    arm: str | None = None


class ShownLists(msgspec.Struct, array_like=True, frozen=True):
    """Of one shopper, oldest first: encoded ``ShownList``. ``wake_s``: before any is due or forgotten, look at them; 0: never."""

    lists: tuple[bytes, ...] = ()
    sold: tuple[Sold, ...] = ()
    wake_s: int = 0

    def to_hex(self) -> str:
        """As a text, for a message; empty for nothing."""
        return _ENCODER.encode(self).hex() if self.lists or self.sold else ""

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Invert ``to_hex``. Raises ``ValueError`` where it cannot be what ``to_hex`` gave."""
        if not text:
            return cls()
        try:
            found = msgspec.msgpack.decode(bytes.fromhex(text), type=cls)
            for data in found.lists:
                shown = _LIST.decode(data)
                if not shown.skus or (shown.places and len(shown.places) != len(shown.skus)):
                    raise ValueError("a list shown has no items, or not as many places")
                if not all(0 <= taken.index < len(shown.skus) and 0 < taken.result < len(RESULTS) for taken in shown.taken):
                    raise ValueError("a list shown says something of an item that it does not hold")
                _check_money(sale for taken in shown.taken for sale in taken.sales)
            _check_money(sold.sale for sold in found.sold)
        except (msgspec.DecodeError, ArithmeticError) as error:
            raise ValueError(f"these are no lists shown: {error}") from None
        return found


def _check_money(sales: Iterator[Sale]) -> None:
    for sale in sales:
        for amount in (sale.revenue, sale.unit_margin):
            if amount is not None and not Decimal(amount).is_finite():
                raise ValueError(f"{amount!r} is no amount")


class Fact(NamedTuple):
    """An event about an item. ``cited``: the list that it names. ``sale``: what a purchase brought."""

    kind: str
    sku: str
    at_s: int
    cited: str | None = None
    sale: Sale | None = None


class Resolved(NamedTuple):
    """A list whose window is over, or that had to make room."""

    shown: ShownList
    reason: Reason


class Correction(NamedTuple):
    """What changed for one item of a list that was told of already. ``partition`` and ``offset`` are those of the ``ShownList``, ``by``
    those of the event that came late.

    ``result``: what now became of the item. ``delay_s``: from the showing to this fact (None for a refund). ``sale``: units and money that
    are added, or taken back where they are negative.
    """

    partition: int
    offset: int
    by: tuple[int, int]
    recommendation_id: str
    arm: str | None
    sku: str
    place: int
    result: int
    reason: Lateness
    delay_s: int | None = None
    sale: Sale | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()
_LIST: Final = msgspec.msgpack.Decoder(ShownList)


def order_digest(order_id: str) -> int:
    """63 bits of the order's xxh3-64 (what every reader of MessagePack can hold as a signed number)."""
    return xxhash.xxh3_64_intdigest(order_id.encode()) >> 1


class Follower:
    """Follows one shopper through a micro-batch: ``shown`` is what is known at its beginning.

    Which list a fact speaks for, of those that hold its item (each fact speaks for one at most):

    1. the list that it cites, within ``windows.click_s`` of the showing or of the item's newest click in it;
    2. else, but for a browse, that in which the item was clicked (or put in the basket) last, within ``windows.click_s`` before;
    3. else, but for a browse, that which was shown last, within ``windows.view_s`` before.
    """

    def __init__(self, shown: ShownLists, windows: Windows) -> None:
        self._lists = list(shown.lists)
        self._sold = list(shown.sold)
        self._wake_s = shown.wake_s
        self._windows = windows
        self.resolved: list[Resolved] = []
        self.corrections: list[Correction] = []

    def close(self) -> ShownLists:
        """What is known at the end."""
        return ShownLists(tuple(self._lists), tuple(self._sold), self._wake_s)

    def settle(self, watermark_s: int) -> None:
        """Tell of the lists whose windows are over at ``watermark_s``, and forget what nothing can be said of any more."""
        if not 0 < self._wake_s < watermark_s:
            return
        lists, self._lists, self._wake_s = self._lists, [], 0
        for encoded in lists:
            data, shown = encoded, _LIST.decode(encoded)
            due_s, kept_until_s = shown.due_s(self._windows), shown.kept_until_s(self._windows)
            if due_s < watermark_s and not shown.resolved:
                self.resolved.append(Resolved(shown, "window"))
                data = _ENCODER.encode(msgspec.structs.replace(shown, resolved=True))
            if kept_until_s < watermark_s:
                self._remember(shown)
            else:
                self._lists.append(data)
                self._wake(kept_until_s if due_s < watermark_s else due_s)

    def end(self) -> None:
        """Tell of all that was not told of, and forget everything."""
        while self._lists:
            self._evict()

    def show(self, partition: int, offset: int, recommendation_id: str, at_s: int, skus: Sequence[str], arm: str | None) -> None:
        """The shopper acted, by the event at ``partition`` and ``offset``, in front of this list. The same items as in the list before it
        are no other list while that one's window is not over (by this event's time: what was told by now does not matter).
        """
        if not skus:
            return
        if self._lists:
            newest = _LIST.decode(self._lists[-1])
            alike = newest.recommendation_id == recommendation_id or (newest.skus == skus and not newest.places)
            if alike and at_s <= newest.due_s(self._windows):
                return
        self._open(ShownList(partition, offset, recommendation_id, at_s, list(skus), arm=arm))

    def impress(self, partition: int, offset: int, recommendation_id: str, at_s: int, sku: str, place: int, arm: str | None) -> None:
        """An impression of ``sku`` at ``place`` of a list, whose claim holds. An item shown again is no other showing; one that was not
        shown before, after the list's window, begins a part of its own.
        """
        token = recommendation_id.encode()
        there = None
        for number in reversed(range(len(self._lists))):
            if token in self._lists[number]:
                shown = _LIST.decode(self._lists[number])
                if shown.recommendation_id == recommendation_id:
                    if sku in shown.skus:
                        return
                    if there is None and not shown.resolved and at_s <= shown.due_s(self._windows):
                        there = number, shown
        if there is None:
            self._open(ShownList(partition, offset, recommendation_id, at_s, [sku], bytes((place,)), arm=arm))
            return
        number, shown = there
        shown.places = (shown.places or bytes(range(1, len(shown.skus) + 1))) + bytes((place,))
        shown.skus.append(sku)
        self._lists[number] = _ENCODER.encode(shown)
        self._limit()

    def take(self, by: tuple[int, int], fact: Fact) -> None:
        """A browse, click, add_to_cart or purchase, by the event at that partition and offset."""
        found = self._match(fact)
        if found is None:
            return
        number, shown, index = found
        kind = _KINDS[fact.kind]
        taken = shown.of(index)
        before = IGNORED if taken is None else taken.result
        if taken is None:
            taken = Taken(index, kind, fact.at_s)
            shown.taken.append(taken)
        taken.result = max(before, kind)
        taken.first_s = min(taken.first_s, fact.at_s)
        if kind != BOUGHT:
            taken.touched_s = max(taken.touched_s, fact.at_s)
        kept = fact.sale is None or _keep(shown, taken, fact.sale)
        self._lists[number] = _ENCODER.encode(shown)
        if (shown.resolved and (taken.result > before or fact.sale is not None)) or not kept:
            self._correct(shown, index, by, taken.result, "late", max(0, fact.at_s - shown.shown_s), fact.sale)
        self._limit()

    def refund(self, by: tuple[int, int], sku: str, sale: Sale) -> None:
        """Take back from the newest list that was credited with the order ``sale.order`` what it was; ``sale.revenue`` is of all units."""
        token = sku.encode()
        for number in reversed(range(len(self._lists))):
            if token in self._lists[number]:
                shown = _LIST.decode(self._lists[number])
                for taken in shown.taken:
                    for place, held in enumerate(taken.sales):
                        if shown.skus[taken.index] == sku and (less := _taken_back(held, sale)):
                            taken.sales[place] = _sum(held, less)
                            self._lists[number] = _ENCODER.encode(shown)
                            if shown.resolved:
                                self._correct(shown, taken.index, by, taken.result, "refund", None, less)
                            return
        for place, sold in reversed(list(enumerate(self._sold))):
            if sold.sku == sku and (less := _taken_back(sold.sale, sale)):
                self._sold[place] = msgspec.structs.replace(sold, sale=_sum(sold.sale, less))
                self.corrections.append(
                    Correction(
                        sold.partition, sold.offset, by, sold.recommendation_id, sold.arm, sku, sold.place, BOUGHT, "refund", sale=less
                    )
                )
                return

    def join(self, other: ShownLists) -> None:
        """Take up what a session of the same shopper was shown."""
        there = {(shown.partition, shown.offset): shown for shown in map(_LIST.decode, (*self._lists, *other.lists))}
        ordered = sorted(there.values(), key=lambda shown: (shown.shown_s, shown.partition, shown.offset))
        self._lists = [_ENCODER.encode(shown) for shown in ordered]
        self._sold = [*other.sold, *self._sold][-SOLD_LIMIT:]
        if other.wake_s:
            self._wake(other.wake_s)
        self._limit()

    def _match(self, fact: Fact) -> tuple[int, ShownList, int] | None:
        token, windows, at_s = fact.sku.encode(), self._windows, fact.at_s
        best: tuple[int, ShownList, int] | None = None
        highest = (0, 0)
        for number in reversed(range(len(self._lists))):
            if token not in self._lists[number]:
                continue
            shown = _LIST.decode(self._lists[number])
            if fact.sku not in shown.skus:
                continue
            index = shown.skus.index(fact.sku)
            taken = shown.of(index)
            touched_s = taken.touched_s if taken is not None else 0
            if shown.recommendation_id == fact.cited and at_s <= max(shown.shown_s, touched_s) + windows.click_s:
                return number, shown, index
            if fact.kind == "browse":
                continue
            rank = (0, 0)
            if touched_s and touched_s <= at_s <= touched_s + windows.click_s:
                rank = (2, touched_s)
            elif shown.shown_s <= at_s <= shown.shown_s + windows.view_s:
                rank = (1, shown.shown_s)
            if rank > highest:
                best, highest = (number, shown, index), rank
        return best

    def _open(self, shown: ShownList) -> None:
        self._lists.append(_ENCODER.encode(shown))
        self._wake(shown.shown_s + self._windows.view_s)
        self._limit()

    def _wake(self, at_s: int) -> None:
        self._wake_s = min(self._wake_s or at_s, at_s)

    def _limit(self) -> None:
        while len(self._lists) > LISTS_LIMIT or (len(self._lists) > 1 and sum(map(len, self._lists)) > BYTES_LIMIT):
            self._evict()

    def _evict(self) -> None:
        shown = _LIST.decode(self._lists.pop(0))
        if not shown.resolved:
            self.resolved.append(Resolved(shown, "evicted"))
        self._remember(shown)

    def _remember(self, shown: ShownList) -> None:
        for taken in shown.taken:
            for sale in taken.sales:
                place, sku = shown.place(taken.index), shown.skus[taken.index]
                self._sold.append(Sold(shown.partition, shown.offset, shown.recommendation_id, place, sku, sale, shown.arm))
        del self._sold[:-SOLD_LIMIT]

    def _correct(
        self, shown: ShownList, index: int, by: tuple[int, int], result: int, reason: Lateness, delay_s: int | None, sale: Sale | None
    ) -> None:
        self.corrections.append(
            Correction(
                shown.partition, shown.offset, by, shown.recommendation_id, shown.arm, shown.skus[index], shown.place(index), result,
                reason, delay_s, sale,
            )
        )  # fmt: skip


def _keep(shown: ShownList, taken: Taken, sale: Sale) -> bool:
    """Whether the list has room for the sale, which then is in it."""
    for place, held in enumerate(taken.sales):
        if (held.order, held.currency, held.unit_margin) == (sale.order, sale.currency, sale.unit_margin):
            taken.sales[place] = _sum(held, sale)
            return True
    if sum(len(other.sales) for other in shown.taken) >= SALES_LIMIT:
        return False
    taken.sales.append(sale)
    return True


def _sum(held: Sale, more: Sale) -> Sale:
    revenue = format(Decimal(held.revenue) + Decimal(more.revenue), "f")
    return Sale(held.order, held.quantity + more.quantity, revenue, held.currency, held.unit_margin)


def _taken_back(held: Sale, refund: Sale) -> Sale | None:
    """What of ``held`` goes, negative: as many units as both have."""
    units = min(held.quantity, refund.quantity)
    if units <= 0 or (held.order, held.currency) != (refund.order, refund.currency):
        return None
    revenue = Decimal(refund.revenue) * units / refund.quantity
    return Sale(held.order, -units, format(-revenue, "f"), held.currency, held.unit_margin)
