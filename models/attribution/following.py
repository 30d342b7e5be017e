"""What becomes of the lists that one shopper was shown, followed until the attribution windows are over.

A list shown is told of twice at most: once, whole, when its window is over (``Resolved``), and then piece by piece where facts come
later than that (``Correction``), so that all that was ever said of it adds up to what happened.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from models.attribution.memory import Windows
from models.attribution.shown import (
    ADDED,
    BOUGHT,
    CLICKED,
    IGNORED,
    SIZE,
    Sale,
    ShownList,
    ShownLists,
    Sold,
    Source,
    Taken,
    pack,
    read_list,
    read_sales,
    read_touched,
    starts,
)

#: Lists kept of a shopper, and their bytes: a visit of some 20 pages with lists of 20 items. The newest is kept whatever its size.
LISTS_LIMIT: Final = 20
BYTES_LIMIT: Final = 4_096
#: Purchases kept in one list, and of lists that are forgotten, so that a refund takes back what it was credited.
SALES_LIMIT: Final = 20
SOLD_LIMIT: Final = 20

#: SKUs taken up that are remembered until it is looked up which of them still count.
_TOUCHED_LIMIT: Final = 60
_KINDS: Final = {"browse": CLICKED, "click": CLICKED, "add_to_cart": ADDED, "purchase": BOUGHT}
_NO_PLACES: Final = pack(b"")

Reason = Literal["window", "evicted"]
Lateness = Literal["late", "refund"]


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
    those of the event that came late; ``arm`` and ``source`` are the list's.

    ``result``: what now became of the item. ``delay_s``: from the showing to this fact (None for a refund). ``sale``: units and money that
    are added, or taken back where they are negative.
    """

    partition: int
    offset: int
    by: tuple[int, int]
    recommendation_id: str
    arm: str | None
    source: Source
    sku: str
    place: int
    result: int
    reason: Lateness
    delay_s: int | None = None
    sale: Sale | None = None


class Follower:
    """Follows one shopper through a micro-batch: ``shown`` is what is known at its beginning.

    Which list a fact speaks for, of those that hold its item (each fact speaks for one at most):

    1. the list that it cites, within ``windows.click_s`` of the showing or of the item's newest click in it;
    2. else, but for a browse, that in which the item was clicked (or put in the basket) last, within ``windows.click_s`` before;
    3. else, but for a browse, that which was shown last of those shown within ``windows.view_s`` before.
    """

    def __init__(self, shown: ShownLists, windows: Windows) -> None:
        # The lists stay in one piece, which is searched as it is: only a list that holds what was searched for is decoded.
        self._data, self._sizes = shown.data, shown.sizes
        self._touched = bytes(shown.touched)
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
        return ShownLists(self._data, self._sizes, self._sold, self._wake_s, msgspec.Raw(self._touched))

    def settle(self, watermark_s: int) -> None:
        """Tell of the lists whose windows are over at ``watermark_s``, and forget what nothing can be said of any more."""
        if not 0 < self._wake_s < watermark_s:
            return
        lists = self._clear()
        self._wake_s = 0
        for encoded in lists:
            data, shown = encoded, read_list(encoded)
            due_s, kept_until_s = shown.due_s(self._windows), shown.kept_until_s(self._windows)
            if due_s < watermark_s and not shown.resolved:
                self.resolved.append(Resolved(shown, "window"))
                data = pack(msgspec.structs.replace(shown, resolved=True))
            if kept_until_s < watermark_s:
                self._remember(shown)
            else:
                self._add(data, shown)
                self._wake(kept_until_s if due_s < watermark_s else due_s)

    def end(self) -> None:
        """Tell of all that was not told of, and forget everything."""
        self._store_newest()
        while self._sizes:
            self._evict()

    def show(
        self, partition: int, offset: int, recommendation_id: str, at_s: int, skus: list[str], arm: str | None, source: Source
    ) -> None:
        """The shopper acted, by the event of ``source`` at ``partition`` and ``offset``, in front of this list. The same items as in the
        list before it are no other list while that one's window is not over (by this event's time: what was told by now does not
        matter).
        """
        if not skus:
            return
        self._store_newest()
        items = pack(skus)
        if self._sizes:
            start = len(self._data) - SIZE.unpack(self._sizes[-SIZE.size :])[0]
            # What ends in no places and these items holds just them: the mark of bytes is none of text.
            alike = self._data.endswith(_NO_PLACES + items, start)
            if alike or self._data.find(recommendation_id.encode(), start) >= 0:
                before = read_list(self._data[start:])
                if (alike or before.recommendation_id == recommendation_id) and at_s <= before.due_s(self._windows):
                    return
        self._open(ShownList(partition, offset, recommendation_id, at_s, arm, source, False, [], b"", msgspec.Raw(items)), skus)

    def impress(
        self, partition: int, offset: int, recommendation_id: str, at_s: int, sku: str, place: int, arm: str | None, source: Source
    ) -> None:
        """An impression of ``sku`` at ``place`` of a list, whose claim holds. An item shown again is no other showing; one that was not
        shown before, after the list's window, begins a part of its own.
        """
        self._store_newest()
        there = None
        for number, shown in self._holding(recommendation_id.encode()):
            if shown.recommendation_id == recommendation_id:
                if sku in shown.skus:
                    return
                if there is None and not shown.resolved and at_s <= shown.due_s(self._windows):
                    there = number, shown
        if there is None:
            items = msgspec.Raw(pack([sku]))
            self._open(ShownList(partition, offset, recommendation_id, at_s, arm, source, False, [], bytes((place,)), items), [sku])
            return
        number, shown = there
        skus = shown.skus
        shown.places = (shown.places or bytes(range(1, len(skus) + 1))) + bytes((place,))
        shown.items = msgspec.Raw(pack([*skus, sku]))
        self._change(number, shown)
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
            self._change(number, shown)
            self._limit()
        if (shown.resolved and (taken.result > before or fact.sale is not None)) or not kept:
            self._correct(shown, taken, by, "late", max(0, fact.at_s - shown.shown_s), fact.sale)

    def refund(self, by: tuple[int, int], sku: str, sale: Sale) -> None:
        """Take back from the newest list that was credited with the order ``sale.order`` what it was; ``sale.revenue`` is of all units."""
        token = sku.encode()
        if touched := token in self._touched:
            self._store_newest()
        for number, shown in self._holding(token) if touched else ():
            taken = shown.of(sku)
            for place, held in enumerate(taken.sales if taken is not None else ()):
                if taken is not None and (less := _taken_back(held, sale)):
                    taken.sales[place] = _sum(held, less)
                    self._change(number, shown)
                    if shown.resolved:
                        self._correct(shown, taken, by, "refund", None, less)
                    return
        forgotten = list(read_sales(self._sold))
        for place, sold in reversed(list(enumerate(forgotten))):
            if sold.sku == sku and (less := _taken_back(sold.sale, sale)):
                forgotten[place] = msgspec.structs.replace(sold, sale=_sum(sold.sale, less))
                self._sold = msgspec.Raw(pack(forgotten))
                self.corrections.append(
                    Correction(
                        sold.partition, sold.offset, by, sold.recommendation_id, sold.arm, sold.source, sku, sold.place, BOUGHT, "refund",
                        sale=less,
                    )
                )  # fmt: skip
                return

    def join(self, other: ShownLists) -> None:
        """Take up what a session of the same shopper was shown."""
        forgotten = other.sales
        if not other.data and not forgotten:
            return
        there = {(shown.partition, shown.offset): shown for shown in map(read_list, (*self._clear(), *other.lists))}
        for shown in sorted(there.values(), key=lambda shown: (shown.shown_s, shown.partition, shown.offset)):
            self._add(pack(shown), shown)
        self._sold = msgspec.Raw(pack((*forgotten, *read_sales(self._sold))[-SOLD_LIMIT:]))
        if other.wake_s:
            self._wake(other.wake_s)
        self._limit()

    def _match(self, fact: Fact) -> tuple[int, ShownList] | None:
        """The number of the list (of ``_newest``: -1), and the list."""
        windows, at_s, sku, newest = self._windows, fact.at_s, fact.sku, self._newest
        token = sku.encode()
        in_newest = newest is not None and sku in self._newest_skus
        if not in_newest and token not in self._data:
            return None
        touched = token in self._touched  # or a SKU that it is a part of, which costs a look at more lists and changes nothing
        cited = None if fact.cited is None else fact.cited.encode()
        clicked, clicked_s = None, 0
        if touched or cited is not None:
            for number, shown in self._naming(sku, None if touched else cited):
                taken = shown.of(sku)
                touched_s = taken.touched_s if taken is not None else 0
                if shown.recommendation_id == fact.cited and at_s <= max(shown.shown_s, touched_s) + windows.click_s and sku in shown.skus:
                    return number, shown
                if clicked_s < touched_s <= at_s <= touched_s + windows.click_s:
                    clicked, clicked_s = (number, shown), touched_s
        if fact.kind == "browse" or clicked is not None:
            return None if fact.kind == "browse" else clicked
        if in_newest and newest is not None and newest.shown_s <= at_s <= newest.shown_s + windows.view_s:
            return -1, newest
        for number, shown in self._holding(token):
            if shown.shown_s <= at_s <= shown.shown_s + windows.view_s and sku in shown.skus:
                return number, shown
        return None

    def _naming(self, sku: str, cited: bytes | None) -> Iterator[tuple[int, ShownList]]:
        """The lists that may hold ``sku``, the newest first: all, or those that may be ``cited``."""
        if self._newest is not None and sku in self._newest_skus:
            yield -1, self._newest
        yield from self._holding(sku.encode(), cited)

    def _holding(self, token: bytes, cited: bytes | None = None) -> Iterator[tuple[int, ShownList]]:
        """The stored lists in whose bytes ``token`` occurs, and ``cited`` if it is given, the last one first. None may be changed before
        the last is taken.
        """
        data = self._data
        at = data.rfind(token)
        bounds = starts(self._sizes) if at >= 0 else []
        while at >= 0:
            number = bisect_right(bounds, at) - 1
            start, end = bounds[number : number + 2]
            if cited is None or data.find(cited, start, end) >= 0:
                yield number, read_list(data[start:end])
            at = data.rfind(token, 0, start)

    def _open(self, shown: ShownList, skus: list[str]) -> None:
        self._store_newest()
        self._newest, self._newest_skus = shown, skus
        self._wake(shown.shown_s + self._windows.view_s)

    def _store_newest(self) -> None:
        shown = self._newest
        if shown is not None:
            self._newest = None
            self._append(pack(shown))
            self._limit()

    def _append(self, data: bytes) -> None:
        self._data += data
        self._sizes += SIZE.pack(len(data))

    def _change(self, number: int, shown: ShownList) -> None:
        """Put ``shown`` in the place of the stored list of that number."""
        bounds = starts(self._sizes)
        data = pack(shown)
        self._data = b"".join((self._data[: bounds[number]], data, self._data[bounds[number + 1] :]))
        place = number * SIZE.size
        self._sizes = b"".join((self._sizes[:place], SIZE.pack(len(data)), self._sizes[place + SIZE.size :]))

    def _clear(self) -> list[bytes]:
        """The stored lists, which are stored no longer; nothing counts as taken up until they are added again."""
        self._store_newest()
        lists = ShownLists(self._data, self._sizes).lists
        self._data = self._sizes = b""
        self._touched = pack(())
        return lists

    def _add(self, data: bytes, shown: ShownList) -> None:
        self._append(data)
        for taken in shown.taken:
            self._touch(taken.sku)

    def _touch(self, sku: str) -> None:
        known = read_touched(self._touched)
        if sku in known:
            return
        if len(known) >= _TOUCHED_LIMIT:  # those of lists that made room go
            kept = [taken.sku for data in ShownLists(self._data, self._sizes).lists for taken in read_list(data).taken]
            kept += [taken.sku for taken in self._newest.taken] if self._newest is not None else []
            known = tuple(dict.fromkeys(kept))
        self._touched = pack(tuple(dict.fromkeys((*known, sku))))

    def _wake(self, at_s: int) -> None:
        self._wake_s = min(self._wake_s or at_s, at_s)

    def _limit(self) -> None:
        while len(self._sizes) > LISTS_LIMIT * SIZE.size or (len(self._data) > BYTES_LIMIT and len(self._sizes) > SIZE.size):
            self._evict()

    def _evict(self) -> None:
        (size,) = SIZE.unpack_from(self._sizes)
        data, self._data, self._sizes = self._data[:size], self._data[size:], self._sizes[SIZE.size :]
        shown = read_list(data)
        if not shown.resolved:
            self.resolved.append(Resolved(shown, "evicted"))
        self._remember(shown)

    def _remember(self, shown: ShownList) -> None:
        sold = [
            Sold(shown.partition, shown.offset, shown.recommendation_id, shown.place(taken.sku), taken.sku, sale, shown.arm, shown.source)
            for taken in shown.taken
            for sale in taken.sales
        ]
        if sold:
            self._sold = msgspec.Raw(pack((*read_sales(self._sold), *sold)[-SOLD_LIMIT:]))

    def _correct(
        self, shown: ShownList, taken: Taken, by: tuple[int, int], reason: Lateness, delay_s: int | None, sale: Sale | None
    ) -> None:
        self.corrections.append(
            Correction(
                shown.partition, shown.offset, by, shown.recommendation_id, shown.arm, shown.source, taken.sku, shown.place(taken.sku),
                taken.result, reason, delay_s, sale,
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
