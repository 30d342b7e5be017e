"""What one shopper was shown and what became of it, kept until the attribution windows are over: bytes that a visit appends to.

A list shown is told of twice at most: once, whole, when its window is over (``Resolved``), and then piece by piece where facts come
later than that (``Correction``), so that all that was ever said of it adds up to what happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import accumulate, pairwise
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Annotated, Final, Literal, NamedTuple, Self

import msgspec
import xxhash

from models.attribution.memory import Windows
from schemas.base import AMOUNT_DECIMALS, TOTAL_LIMIT
from schemas.currency import CURRENCIES

#: Lists kept of a shopper, and their bytes: a visit of some 20 pages with lists of 20 items. The newest is kept whatever its size.
LISTS_LIMIT: Final = 20
BYTES_LIMIT: Final = 4_096
#: Purchases kept in one list, and of lists that are forgotten, so that a refund takes back what it was credited.
SALES_LIMIT: Final = 20
SOLD_LIMIT: Final = 20

#: SKUs taken up that are remembered until it is looked up which of them still count.
_TOUCHED_LIMIT: Final = 60

#: What became of an item, by falling patience of the shopper: the highest that happened counts.
IGNORED, CLICKED, ADDED, BOUGHT = range(4)
RESULTS: Final = ("ignored", "clicked", "added", "bought")
_KINDS: Final = {"browse": CLICKED, "click": CLICKED, "add_to_cart": ADDED, "purchase": BOUGHT}

#: What is checked where bytes are read, for some come from another worker.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]

Reason = Literal["window", "evicted"]
Lateness = Literal["late", "refund"]


class Sale(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Units of one order line, net of refunds. Amounts are decimals as text, ``unit_margin`` for one unit, None where it is not known."""

    order: int
    quantity: Count
    revenue: str
    currency: str
    unit_margin: str | None = None

    def margin(self) -> Decimal | None:
        """Of all its units."""
        return None if self.unit_margin is None else Decimal(self.unit_margin) * self.quantity


class Taken(msgspec.Struct, array_like=True, gc=False):
    """An item that was not ignored: time of the first positive and of the newest click (0: none), in s."""

    sku: str
    result: Annotated[int, msgspec.Meta(ge=CLICKED, le=BOUGHT)]
    first_s: Seconds
    touched_s: Seconds = 0
    sales: list[Sale] = []


class ShownList(msgspec.Struct, array_like=True, gc=False):
    """A list, or the part of one that impressions tell of. It was first shown by the event at ``partition`` and ``offset``.

    ``places``: a byte for each SKU; empty: 1, 2, 3 and so on. ``resolved``: it was told of, and is kept for what comes late.
    """

    partition: Count
    offset: Count
    recommendation_id: Name
    shown_s: Seconds
    arm: Name | None
    resolved: bool
    taken: list[Taken]
    places: bytes
    # Encoded, because it is asked of few lists which items they hold; last, so that a list's bytes end in these: see ``Follower.show``.
    items: msgspec.Raw

    @property
    def skus(self) -> list[str]:
        """The items, in the order in which they were shown."""
        return _SKUS.decode(self.items)

    def place(self, sku: str) -> int:
        """The place from 1 of ``sku``."""
        index = self.skus.index(sku)
        return self.places[index] if self.places else index + 1

    def of(self, sku: str) -> Taken | None:
        """What is known of ``sku``; None: ignored."""
        return next((taken for taken in self.taken if taken.sku == sku), None)

    def due_s(self, windows: Windows) -> int:
        """When its window is over: a view's after the showing, a click's after the newest click."""
        touched_s = max([taken.touched_s for taken in self.taken], default=0)
        return max(self.shown_s + windows.view_s, touched_s + windows.click_s if touched_s else 0)

    def kept_until_s(self, windows: Windows) -> int:
        """When it is forgotten: nothing that cites it holds any more, and what was late had the time of a view's window to come."""
        return max(self.due_s(windows), self.shown_s + windows.click_s) + windows.view_s


class Sold(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A sale of a list that is forgotten: where it stood, and what a refund takes back."""

    partition: Count
    offset: Count
    recommendation_id: Name
    place: Annotated[int, msgspec.Meta(ge=1)]
    sku: str
    sale: Sale
    arm: Name | None = None


class ShownLists(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of one shopper, oldest first: ``data`` is encoded ``ShownList`` joined, ``sizes`` the bytes of each (uint32). ``wake_s``: before any
    is due or forgotten, look at them; 0: never. ``touched``: every SKU that was taken up in one of the lists, and some that were so in
    lists that are forgotten.
    """

    data: bytes = b""
    sizes: bytes = b""
    sold: tuple[Sold, ...] = ()
    wake_s: Count = 0
    touched: tuple[str, ...] = ()

    @property
    def lists(self) -> list[bytes]:
        """The encoded lists. Raises ``struct.error`` where the sizes are none."""
        ends = [0, *accumulate(size for (size,) in _SIZE.iter_unpack(self.sizes))]
        return [self.data[start:end] for start, end in pairwise(ends)]

    def to_hex(self) -> str:
        """As a text, for a message; empty for nothing."""
        return _ENCODER.encode(self).hex() if self.data or self.sold else ""

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Invert ``to_hex``. Raises ``ValueError`` where it cannot be what ``to_hex`` gave."""
        if not text:
            return cls()
        try:
            found = msgspec.msgpack.decode(bytes.fromhex(text), type=cls)
            lists = found.lists
            if b"".join(lists) != found.data:
                raise ValueError("the lists shown are not as long as it says")
            for data in lists:
                shown = _LIST.decode(data)
                skus = shown.skus
                if not all(taken.sku in found.touched for taken in shown.taken):
                    raise ValueError("an item that was taken up is not among those that were")
                if not skus or not all(skus) or (shown.places and (len(shown.places) != len(skus) or 0 in shown.places)):
                    raise ValueError("a list shown has no items, or not as many places")
                if not all(taken.sku in skus for taken in shown.taken):
                    raise ValueError("a list shown says something of an item that it does not hold")
                _check_money(sale for taken in shown.taken for sale in taken.sales)
            _check_money(sold.sale for sold in found.sold)
        except (msgspec.DecodeError, ArithmeticError, StructError) as error:
            raise ValueError(f"these are no lists shown: {error}") from None
        return found


def _check_money(sales: Iterator[Sale]) -> None:
    for sale in sales:
        for amount in (sale.revenue, sale.unit_margin):
            parsed = Decimal(amount or 0)
            exponent = parsed.as_tuple().exponent
            if not isinstance(exponent, int) or exponent < -AMOUNT_DECIMALS or not abs(parsed) < TOTAL_LIMIT:
                raise ValueError(f"{amount!r} is no amount")
        if sale.currency not in CURRENCIES:
            raise ValueError(f"{sale.currency!r} is no currency")


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
_SIZE: Final = Struct("<I")
_SKUS: Final = msgspec.msgpack.Decoder(list[str])
_NO_PLACES: Final = _ENCODER.encode(b"")


def order_digest(order_id: str) -> int:
    """63 bits of the order's xxh3-64 (what every reader of MessagePack can hold as a signed number)."""
    return xxhash.xxh3_64_intdigest(order_id.encode()) >> 1


class Follower:
    """Follows one shopper through a micro-batch: ``shown`` is what is known at its beginning.

    Which list a fact speaks for, of those that hold its item (each fact speaks for one at most):

    1. the list that it cites, within ``windows.click_s`` of the showing or of the item's newest click in it;
    2. else, but for a browse, that in which the item was clicked (or put in the basket) last, within ``windows.click_s`` before;
    3. else, but for a browse, that which was shown last of those shown within ``windows.view_s`` before.
    """

    def __init__(self, shown: ShownLists, windows: Windows) -> None:
        # In one piece as long as no list but the newest is changed, which most micro-batches do without; else one by one.
        self._data, self._sizes = shown.data, shown.sizes
        self._lists: list[bytes] | None = None
        self._touched = shown.touched
        self._sold = shown.sold
        self._wake_s = shown.wake_s
        self._windows = windows
        # The list opened last, which is encoded but once.
        self._newest: ShownList | None = None
        self._newest_skus: list[str] = []
        #: What there is to tell, complete once it is closed.
        self.resolved: list[Resolved] = []
        self.corrections: list[Correction] = []

    def close(self) -> ShownLists:
        """What is known at the end."""
        self._store_newest()
        if self._lists is not None:
            self._data = b"".join(self._lists)
            self._sizes = b"".join([_SIZE.pack(len(data)) for data in self._lists])
            self._lists = None
        return ShownLists(self._data, self._sizes, self._sold, self._wake_s, self._touched)

    def settle(self, watermark_s: int) -> None:
        """Tell of the lists whose windows are over at ``watermark_s``, and forget what nothing can be said of any more."""
        if not 0 < self._wake_s < watermark_s:
            return
        lists, self._lists, self._wake_s, self._touched = self._split(), [], 0, ()
        for encoded in lists:
            data, shown = encoded, _LIST.decode(encoded)
            due_s, kept_until_s = shown.due_s(self._windows), shown.kept_until_s(self._windows)
            if due_s < watermark_s and not shown.resolved:
                self.resolved.append(Resolved(shown, "window"))
                data = _ENCODER.encode(msgspec.structs.replace(shown, resolved=True))
            if kept_until_s < watermark_s:
                self._remember(shown)
            else:
                self._add(data, shown)
                self._wake(kept_until_s if due_s < watermark_s else due_s)

    def end(self) -> None:
        """Tell of all that was not told of, and forget everything."""
        while self._split():
            self._evict()

    def show(self, partition: int, offset: int, recommendation_id: str, at_s: int, skus: list[str], arm: str | None) -> None:
        """The shopper acted, by the event at ``partition`` and ``offset``, in front of this list. The same items as in the list before it
        are no other list while that one's window is not over (by this event's time: what was told by now does not matter).
        """
        if not skus:
            return
        items = _ENCODER.encode(skus)
        last = self._last()
        # What ends in no places and these items holds just them: the mark of bytes is none of text.
        alike = last.endswith(_NO_PLACES + items)
        if alike or recommendation_id.encode() in last:
            before = _LIST.decode(last)
            if (alike or before.recommendation_id == recommendation_id) and at_s <= before.due_s(self._windows):
                return
        self._open(ShownList(partition, offset, recommendation_id, at_s, arm, False, [], b"", msgspec.Raw(items)), skus)

    def impress(self, partition: int, offset: int, recommendation_id: str, at_s: int, sku: str, place: int, arm: str | None) -> None:
        """An impression of ``sku`` at ``place`` of a list, whose claim holds. An item shown again is no other showing; one that was not
        shown before, after the list's window, begins a part of its own.
        """
        lists = self._split()
        token = recommendation_id.encode()
        there = None
        for number in range(len(lists) - 1, -1, -1):
            if token in lists[number]:
                shown = _LIST.decode(lists[number])
                if shown.recommendation_id == recommendation_id:
                    if sku in shown.skus:
                        return
                    if there is None and not shown.resolved and at_s <= shown.due_s(self._windows):
                        there = number, shown
        if there is None:
            items = msgspec.Raw(_ENCODER.encode([sku]))
            self._open(ShownList(partition, offset, recommendation_id, at_s, arm, False, [], bytes((place,)), items), [sku])
            return
        number, shown = there
        skus = shown.skus
        shown.places = (shown.places or bytes(range(1, len(skus) + 1))) + bytes((place,))
        shown.items = msgspec.Raw(_ENCODER.encode([*skus, sku]))
        lists[number] = _ENCODER.encode(shown)
        self._limit()

    def take(self, by: tuple[int, int], fact: Fact) -> None:
        """A browse, click, add_to_cart or purchase, by the event at that partition and offset."""
        found = self._match(fact)
        if found is None:
            return
        number, shown = found
        kind = _KINDS[fact.kind]
        taken = shown.of(fact.sku)
        before = IGNORED if taken is None else taken.result
        if taken is None:
            taken = Taken(fact.sku, kind, fact.at_s)
            shown.taken.append(taken)
            self._touch(fact.sku)
        taken.result = max(before, kind)
        taken.first_s = min(taken.first_s, fact.at_s)
        if kind != BOUGHT:
            taken.touched_s = max(taken.touched_s, fact.at_s)
        kept = fact.sale is None or _keep(shown, taken, fact.sale)
        if shown is not self._newest:
            self._split_but_newest()[number] = _ENCODER.encode(shown)
            self._limit()
        if (shown.resolved and (taken.result > before or fact.sale is not None)) or not kept:
            self._correct(shown, taken, by, "late", max(0, fact.at_s - shown.shown_s), fact.sale)

    def refund(self, by: tuple[int, int], sku: str, sale: Sale) -> None:
        """Take back from the newest list that was credited with the order ``sale.order`` what it was; ``sale.revenue`` is of all units."""
        lists = self._split() if sku in self._touched else []
        for number, shown in self._naming(sku) if lists else ():
            taken = shown.of(sku)
            for place, held in enumerate(taken.sales if taken is not None else ()):
                if taken is not None and (less := _taken_back(held, sale)):
                    taken.sales[place] = _sum(held, less)
                    lists[number] = _ENCODER.encode(shown)
                    if shown.resolved:
                        self._correct(shown, taken, by, "refund", None, less)
                    return
        for place, sold in reversed(list(enumerate(self._sold))):
            if sold.sku == sku and (less := _taken_back(sold.sale, sale)):
                changed = msgspec.structs.replace(sold, sale=_sum(sold.sale, less))
                self._sold = (*self._sold[:place], changed, *self._sold[place + 1 :])
                self.corrections.append(
                    Correction(
                        sold.partition, sold.offset, by, sold.recommendation_id, sold.arm, sku, sold.place, BOUGHT, "refund", sale=less
                    )
                )
                return

    def join(self, other: ShownLists) -> None:
        """Take up what a session of the same shopper was shown."""
        if not other.data and not other.sold:
            return
        there = {(shown.partition, shown.offset): shown for shown in map(_LIST.decode, (*self._split(), *other.lists))}
        self._lists, self._touched = [], ()
        for shown in sorted(there.values(), key=lambda shown: (shown.shown_s, shown.partition, shown.offset)):
            self._add(_ENCODER.encode(shown), shown)
        self._sold = (*other.sold, *self._sold)[-SOLD_LIMIT:]
        if other.wake_s:
            self._wake(other.wake_s)
        self._limit()

    def _match(self, fact: Fact) -> tuple[int, ShownList] | None:
        """The number of the list (of ``_newest``: -1), and the list."""
        windows, at_s, sku = self._windows, fact.at_s, fact.sku
        cited = None if fact.cited is None else fact.cited.encode()
        clicked, clicked_s = None, 0
        if self._lists is None and self._newest is None and sku.encode() not in self._data:
            return None
        if sku in self._touched or cited is not None:
            for number, shown in self._naming(sku, None if sku in self._touched else cited):
                taken = shown.of(sku)
                touched_s = taken.touched_s if taken is not None else 0
                if shown.recommendation_id == fact.cited and at_s <= max(shown.shown_s, touched_s) + windows.click_s and sku in shown.skus:
                    return number, shown
                if clicked_s < touched_s <= at_s <= touched_s + windows.click_s:
                    clicked, clicked_s = (number, shown), touched_s
        if fact.kind == "browse" or clicked is not None:
            return None if fact.kind == "browse" else clicked
        newest = self._newest
        if newest is not None:
            if sku in self._newest_skus and newest.shown_s <= at_s <= newest.shown_s + windows.view_s:
                return -1, newest
            if self._lists is None and sku.encode() not in self._data:
                return None
        for number, shown in self._naming(sku):
            if shown.shown_s <= at_s <= shown.shown_s + windows.view_s and sku in shown.skus:
                return number, shown
        return None

    def _naming(self, sku: str, cited: bytes | None = None) -> Iterator[tuple[int, ShownList]]:
        """The lists that may hold ``sku`` (or a SKU that it is a part of), the last one first; all, or those that may be ``cited``."""
        token = sku.encode()
        if self._newest is not None and sku in self._newest_skus:
            yield -1, self._newest
        lists = self._split_but_newest()
        for number in range(len(lists) - 1, -1, -1):
            data = lists[number]
            if token in data and (cited is None or cited in data):
                yield number, _LIST.decode(data)

    def _open(self, shown: ShownList, skus: list[str]) -> None:
        self._store_newest()
        self._newest, self._newest_skus = shown, skus
        self._wake(shown.shown_s + self._windows.view_s)

    def _store_newest(self) -> None:
        shown, self._newest = self._newest, None
        if shown is None:
            return
        data = _ENCODER.encode(shown)
        if self._lists is None:
            self._data += data
            self._sizes += _SIZE.pack(len(data))
        else:
            self._lists.append(data)
        self._limit()

    def _last(self) -> bytes:
        self._store_newest()
        if self._lists is not None:
            return self._lists[-1] if self._lists else b""
        return self._data[-_SIZE.unpack(self._sizes[-_SIZE.size :])[0] :] if self._sizes else b""

    def _split_but_newest(self) -> list[bytes]:
        if self._lists is None:
            self._lists = ShownLists(self._data, self._sizes).lists
        return self._lists

    def _split(self) -> list[bytes]:
        self._store_newest()
        return self._split_but_newest()

    def _add(self, data: bytes, shown: ShownList) -> None:
        self._split_but_newest().append(data)
        for taken in shown.taken:
            self._touch(taken.sku)

    def _touch(self, sku: str) -> None:
        if sku not in self._touched:
            self._touched = (*self._touched, sku)
            if len(self._touched) > _TOUCHED_LIMIT:  # those of lists that made room go
                kept = [taken.sku for data in self._split_but_newest() for taken in _LIST.decode(data).taken]
                kept += [taken.sku for taken in self._newest.taken] if self._newest is not None else []
                self._touched = tuple(dict.fromkeys([*kept, sku]))

    def _wake(self, at_s: int) -> None:
        self._wake_s = min(self._wake_s or at_s, at_s)

    def _limit(self) -> None:
        if self._lists is None:
            while len(self._sizes) > LISTS_LIMIT * _SIZE.size or (len(self._data) > BYTES_LIMIT and len(self._sizes) > _SIZE.size):
                self._evict()
        else:
            while len(self._lists) > LISTS_LIMIT or (len(self._lists) > 1 and sum(map(len, self._lists)) > BYTES_LIMIT):
                self._evict()

    def _evict(self) -> None:
        if self._lists is None:
            (size,) = _SIZE.unpack_from(self._sizes)
            data, self._data, self._sizes = self._data[:size], self._data[size:], self._sizes[_SIZE.size :]
        else:
            data = self._lists.pop(0)
        shown = _LIST.decode(data)
        if not shown.resolved:
            self.resolved.append(Resolved(shown, "evicted"))
        self._remember(shown)

    def _remember(self, shown: ShownList) -> None:
        sold = [
            Sold(shown.partition, shown.offset, shown.recommendation_id, shown.place(taken.sku), taken.sku, sale, shown.arm)
            for taken in shown.taken
            for sale in taken.sales
        ]
        if sold:
            self._sold = (*self._sold, *sold)[-SOLD_LIMIT:]

    def _correct(
        self, shown: ShownList, taken: Taken, by: tuple[int, int], reason: Lateness, delay_s: int | None, sale: Sale | None
    ) -> None:
        self.corrections.append(
            Correction(
                shown.partition, shown.offset, by, shown.recommendation_id, shown.arm, taken.sku, shown.place(taken.sku), taken.result,
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
