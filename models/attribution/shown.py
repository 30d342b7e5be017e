"""What one shopper was shown, as bytes that a visit appends to: the lists, what was taken up of each, and what was sold by those that are
forgotten. ``models.attribution.following`` says how they change.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import accumulate, pairwise
from struct import Struct, unpack
from struct import error as StructError  # noqa: N812
from typing import Annotated, Final, Self

import msgspec
import xxhash

from models.attribution.memory import Windows
from schemas.base import AMOUNT_DECIMALS, TOTAL_LIMIT
from schemas.currency import CURRENCIES

#: What became of an item, by falling patience of the shopper: the highest that happened counts.
IGNORED, CLICKED, ADDED, BOUGHT = range(4)
RESULTS: Final = ("ignored", "clicked", "added", "bought")

#: What is checked where bytes are read, for some come from another worker.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


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


class Source(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whence an event came: its channel, and the country and segment of its shopper, as far as it names them."""

    channel: _Label | None = None
    country: _Label | None = None
    segment: _Label | None = None


class ShownList(msgspec.Struct, array_like=True, gc=False):
    """A list, or the part of one that impressions tell of. It was first shown by the event at ``partition`` and ``offset``,
    whose ``source`` it has.

    ``places``: a byte for each SKU; empty: 1, 2, 3 and so on. ``resolved``: it was told of, and is kept for what comes late.
    """

    partition: Count
    offset: Count
    recommendation_id: Name
    shown_s: Seconds
    arm: Name | None
    source: Source
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
    arm: str | None = None
    source: Source = Source()


#: MessagePack of anything that is kept here, and of a list.
pack: Final = msgspec.msgpack.Encoder().encode
#: Bytes of one list.
SIZE: Final = Struct("<I")
_SKUS: Final = msgspec.msgpack.Decoder(list[str])
_LIST: Final = msgspec.msgpack.Decoder(ShownList)
#: What is in ``ShownLists.sold`` and ``ShownLists.touched``.
read_sales: Final = msgspec.msgpack.Decoder(tuple[Sold, ...]).decode
read_touched: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_NONE: Final = msgspec.Raw(pack(()))


class _EarlierList(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A ``ShownList`` as it was stored before it had a ``source``."""

    partition: Count
    offset: Count
    recommendation_id: Name
    shown_s: Seconds
    arm: Name | None
    resolved: bool
    taken: list[Taken]
    places: bytes
    items: msgspec.Raw


_EARLIER: Final = msgspec.msgpack.Decoder(_EarlierList)


def read_list(data: bytes) -> ShownList:
    """Decode a list; one that was stored before lists had a ``source`` has one that names nothing. Raises ``msgspec.DecodeError``."""
    try:
        return _LIST.decode(data)
    except msgspec.ValidationError:
        old = _EARLIER.decode(data)
    return ShownList(
        old.partition, old.offset, old.recommendation_id, old.shown_s, old.arm, Source(), old.resolved, old.taken, old.places, old.items
    )


class ShownLists(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of one shopper, oldest first: ``data`` is encoded ``ShownList`` joined, ``sizes`` the bytes of each (uint32). ``wake_s``: before any
    is due or forgotten, look at them; 0: never.

    ``sold`` and ``touched`` stay encoded, because all that is kept of a shopper is read with each of their visits, and few ask for these:
    they cost more to decode than all the rest.
    """

    data: bytes = b""
    sizes: bytes = b""
    sold: msgspec.Raw = _NONE
    wake_s: Count = 0
    touched: msgspec.Raw = _NONE

    @property
    def lists(self) -> list[bytes]:
        """The encoded lists. Raises ``struct.error`` where the sizes are none."""
        return [self.data[start:end] for start, end in pairwise(starts(self.sizes))]

    @property
    def sales(self) -> tuple[Sold, ...]:
        """What was sold by lists that are forgotten."""
        return read_sales(self.sold)

    @property
    def taken_up(self) -> tuple[str, ...]:
        """Every SKU that was taken up in one of the lists, and some that were so in lists that are forgotten."""
        return read_touched(self.touched)

    def to_hex(self) -> str:
        """As a text, for a message; empty for nothing."""
        return pack(self).hex() if self.data or self.sold != _NONE else ""

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Invert ``to_hex``. Raises ``ValueError`` where it cannot be what ``to_hex`` gave."""
        if not text:
            return cls()
        try:
            found = msgspec.msgpack.decode(bytes.fromhex(text), type=cls)
            lists, touched = found.lists, found.taken_up
            if b"".join(lists) != found.data:
                raise ValueError("the lists shown are not as long as it says")
            for data in lists:
                shown = read_list(data)
                skus = shown.skus
                if not all(taken.sku in touched for taken in shown.taken):
                    raise ValueError("an item that was taken up is not among those that were")
                if not skus or not all(skus) or (shown.places and (len(shown.places) != len(skus) or 0 in shown.places)):
                    raise ValueError("a list shown has no items, or not as many places")
                if not all(taken.sku in skus for taken in shown.taken):
                    raise ValueError("a list shown says something of an item that it does not hold")
                _check_money(sale for taken in shown.taken for sale in taken.sales)
            _check_money(sold.sale for sold in found.sales)
        except (msgspec.DecodeError, ArithmeticError, StructError) as error:
            raise ValueError(f"these are no lists shown: {error}") from None
        return found


def starts(sizes: bytes) -> list[int]:
    """Where each list begins, and the last ends. Raises ``struct.error`` where ``sizes`` are none."""
    return list(accumulate(unpack(f"<{len(sizes) // SIZE.size}I", sizes), initial=0))


def order_digest(order_id: str) -> int:
    """63 bits of the order's xxh3-64 (what every reader of MessagePack can hold as a signed number)."""
    return xxhash.xxh3_64_intdigest(order_id.encode()) >> 1


def _check_money(sales: Iterable[Sale]) -> None:
    for sale in sales:
        for amount in (sale.revenue, sale.unit_margin):
            parsed = Decimal(amount or 0)
            exponent = parsed.as_tuple().exponent
            if not isinstance(exponent, int) or exponent < -AMOUNT_DECIMALS or not abs(parsed) < TOTAL_LIMIT:
                raise ValueError(f"{amount!r} is no amount")
        if sale.currency not in CURRENCIES:
            raise ValueError(f"{sale.currency!r} is no currency")
