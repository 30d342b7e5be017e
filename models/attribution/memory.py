"""What one shopper was sent, took up and bought of late, in at most some 2.4 KB of bytes that grow by appending.

It is read and written with every event but asked by few of them, so lists are kept as hashes that nothing decodes unless an
event cites a list: 4 bytes of its id, 3 of each SKU. A false claim passes for true with a chance below 1e-5 (100 items in 2^24).
Order lines are hashes of 8 bytes, each with the margin of a unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Final, NamedTuple, Self

import msgspec
import xxhash

from schemas.base import AMOUNT_DECIMALS

#: Bytes of lists kept: 22 lists of 20 items, and any number of repetitions of the same items at 9 bytes each.
LISTS_LIMIT: Final = 1_540
#: Touches of each kind kept: an open basket, and some pages of impressions.
TOUCH_LIMIT: Final = 20
DIGEST_SIZE: Final = 3

#: Before a list's items: digest of its id, time in s, number of items. One more byte with that number ends the list, so that the
#: newest can be read from behind; the oldest are cut off in front.
_HEADER: Final = Struct("<IIB")
_TIME: Final = Struct("<I")
#: In place of a number of items (at most 100): the same items as the list after it, and nothing more.
_SAME: Final = 255
#: Digest of the list's id, time in s, digest of the SKU, the item's place in that list.
_TOUCH: Final = Struct("<II3sB")
_ITEM_OFFSET: Final = 8
_UINT32: Final = 0xFFFF_FFFF
#: Order lines kept, so that what is sent back takes back the margin that it was sold with.
ORDER_LINES_LIMIT: Final = 20
#: The order line's digest, then the margin of a unit in units of the smallest decimal, as a signed number of so many bytes: 15 digits
#: before the point and 6 after it fit. The lowest of these numbers stands for none.
_MARGIN_SIZE: Final = 10
_ORDER_LINE: Final = Struct(f"8s{_MARGIN_SIZE}s")
_NO_MARGIN: Final = -(1 << (8 * _MARGIN_SIZE - 1))


class Windows(NamedTuple):
    """How long after it a list, a click and a view count (VALUATION section 1), in seconds."""

    click_s: int = 7 * 86_400
    view_s: int = 86_400


class SentList(NamedTuple):
    """A list as it is remembered. ``digest`` is that of its id, ``items`` are those of its SKUs, in order; ``at_s`` since the epoch."""

    digest: int
    at_s: int
    items: tuple[bytes, ...]


class Touch(NamedTuple):
    """An item of a list taken up: clicked, or viewed in it. ``place`` from 1."""

    digest: int
    at_s: int
    item: bytes
    place: int


def sku_digest(sku: str) -> bytes:
    """3 bytes of the SKU's xxh3-64.

    >>> sku_digest("85123A").hex()
    '00639e'
    """
    return xxhash.xxh3_64_digest(sku.encode())[:DIGEST_SIZE]


def list_digest(recommendation_id: str) -> int:
    """32 bits of the id's xxh3-64."""
    return xxhash.xxh3_64_intdigest(recommendation_id.encode()) & _UINT32


def _line_digest(order_id: str, sku: str, currency: str) -> bytes:
    return xxhash.xxh3_64_digest("\0".join((order_id, sku, currency)).encode())


def _margin_of(encoded: bytes) -> Decimal | None:
    scaled = int.from_bytes(encoded, "little", signed=True)
    return None if scaled == _NO_MARGIN else Decimal(scaled).scaleb(-AMOUNT_DECIMALS)


def seconds(ms: int) -> int:
    """Whole seconds, as far as 32 bits tell them (1970 to 2106)."""
    return min(max(ms // 1000, 0), _UINT32)


class Memory(msgspec.Struct, array_like=True, frozen=True):
    """Lists sent, oldest first, the newest included; clicks and views of their items, in the order in which they came; the margins of
    order lines, the newest last.

    Times are on the clock of the events, so that a replay of the log judges as the first reading did. Methods return a new memory.
    """

    lists: bytes = b""
    clicks: bytes = b""
    views: bytes = b""
    margins: bytes = b""

    def sent(self, recommendation_id: str, at_ms: int, items: bytes, windows: Windows) -> Memory:
        """One more list, made at ``at_ms``; ``items`` are the ``sku_digest`` of its SKUs, joined. What no window reaches goes."""
        at_s = seconds(at_ms)
        lists = self.lists
        count = len(items) // DIGEST_SIZE
        if lists and lists[-1] == count:
            first = len(lists) - 1 - len(items)
            if lists[first:-1] == items:  # an impression or a search seldom changes the list
                lists = lists[: first - 1] + b"\xff"
        lists = b"".join((lists, _HEADER.pack(list_digest(recommendation_id), at_s, count), items, bytes((count,))))
        return Memory(_cut(lists, at_s - windows.click_s), self.clicks, self.views, self.margins)

    def place(self, recommendation_id: str, sku: str, since_s: int) -> int | None:
        """The place from 1 of ``sku`` in that list, if it was sent (or the item taken up in it) at ``since_s`` or later; else None."""
        wanted = list_digest(recommendation_id)
        item = sku_digest(sku)
        place = self._place_in_list(_TIME.pack(wanted), item, since_s)
        if place is not None:
            return place
        for touch in (*_found(self.clicks, item), *_found(self.views, item)):
            if touch.digest == wanted and touch.at_s >= since_s:
                return touch.place
        return None

    def _place_in_list(self, digest: bytes, item: bytes, since_s: int) -> int | None:
        lists = self.lists
        if digest not in lists:
            return None
        start, inside = 0, False
        while start < len(lists):
            if lists[start : start + len(digest)] == digest:
                inside = _TIME.unpack_from(lists, start + _TIME.size)[0] >= since_s
            count = lists[start + _HEADER.size - 1]
            start += _HEADER.size
            if count == _SAME:
                continue
            end = start + DIGEST_SIZE * count
            if inside:
                at = _aligned(lists[start:end], item, DIGEST_SIZE, 0)
                return None if at is None else at // DIGEST_SIZE + 1
            start = end + 1
        return None

    def clicked(self, touch: Touch) -> Memory:
        """With one more click; an item's newest one counts."""
        return Memory(self.lists, _touched(self.clicks, touch), self.views, self.margins)

    def viewed(self, touch: Touch) -> Memory:
        """With one more view; an item's newest one counts."""
        return Memory(self.lists, self.clicks, _touched(self.views, touch), self.margins)

    def was_clicked(self, sku: str, since_s: int) -> bool:
        """Whether ``sku`` was clicked out of a list at ``since_s`` or later."""
        return any(touch.at_s >= since_s for touch in _found(self.clicks, sku_digest(sku)))

    def was_viewed(self, sku: str, since_s: int) -> bool:
        """Whether ``sku`` was viewed in a list at ``since_s`` or later."""
        return any(touch.at_s >= since_s for touch in _found(self.views, sku_digest(sku)))

    def bought(self, order_id: str, sku: str, currency: str, unit_margin: Decimal | None) -> Memory:
        """With one more order line, and what a unit of it earns (None: not known)."""
        scaled = _NO_MARGIN if unit_margin is None else int(unit_margin.scaleb(AMOUNT_DECIMALS))
        margins = _with_line(self.margins, _line_digest(order_id, sku, currency), scaled.to_bytes(_MARGIN_SIZE, "little", signed=True))
        return Memory(self.lists, self.clicks, self.views, margins)

    def unit_margin(self, order_id: str, sku: str, currency: str, otherwise: Decimal | None) -> Decimal | None:
        """What a unit of that order line earned when it was bought, None where that was not known; ``otherwise`` of a line that is not
        remembered.
        """
        at = _aligned(self.margins, _line_digest(order_id, sku, currency), _ORDER_LINE.size, 0)
        return otherwise if at is None else _margin_of(_ORDER_LINE.unpack_from(self.margins, at)[1])

    def without_orders(self) -> Memory:
        """As if nothing had been bought."""
        return Memory(self.lists, self.clicks, self.views) if self.margins else self

    def order_lines(self) -> list[tuple[bytes, Decimal | None]]:
        """(digest, margin of a unit) of the order lines, oldest first. Raises ``ValueError`` where the bytes are none of ours."""
        if len(self.margins) % _ORDER_LINE.size:
            raise ValueError(f"order lines take {_ORDER_LINE.size} bytes each")
        return [(digest, _margin_of(scaled)) for digest, scaled in _ORDER_LINE.iter_unpack(self.margins)]

    def joined(self, other: Memory) -> Memory:
        """Both memories of one shopper, in the order of their times (the present one first where equal)."""
        lists = {sent.digest: sent for sent in (*self.sent_lists(), *other.sent_lists())}
        encoded = [
            _HEADER.pack(sent.digest, sent.at_s, len(sent.items)) + b"".join(sent.items) + bytes((len(sent.items),))
            for sent in sorted(lists.values(), key=lambda sent: sent.at_s)
        ]
        margins = self.margins
        for digest, scaled in _ORDER_LINE.iter_unpack(other.margins):
            margins = _with_line(margins, digest, scaled)
        return Memory(_cut(b"".join(encoded), 0), _joined(self.clicks, other.clicks), _joined(self.views, other.views), margins)

    def sent_lists(self) -> list[SentList]:
        """The lists, oldest first. Raises ``ValueError`` where the bytes are none of ours."""
        found: list[SentList] = []
        alike: list[tuple[int, int]] = []
        lists, start = self.lists, 0
        try:
            while start < len(lists):
                digest, at_s, count = _HEADER.unpack_from(lists, start)
                start += _HEADER.size
                alike.append((digest, at_s))
                if count == _SAME:
                    continue
                end = start + DIGEST_SIZE * count
                if lists[end] != count:
                    raise ValueError("a list of the memory does not end where its length says")
                items = tuple(lists[at : at + DIGEST_SIZE] for at in range(start, end, DIGEST_SIZE))
                found.extend(SentList(*head, items) for head in alike)
                alike.clear()
                start = end + 1
        except (IndexError, StructError) as error:
            raise ValueError(f"the memory of lists ends too early: {error}") from None
        if alike:
            raise ValueError("the newest list of the memory has no items of its own")
        return found

    def touches(self) -> tuple[list[Touch], list[Touch]]:
        """Clicks and views. Raises ``ValueError`` where the bytes are none of ours."""
        if len(self.clicks) % _TOUCH.size or len(self.views) % _TOUCH.size:
            raise ValueError(f"clicks and views take {_TOUCH.size} bytes each")
        return list(_touches(self.clicks)), list(_touches(self.views))

    def to_hex(self) -> tuple[str, str, str, str]:
        """As four texts, for a message."""
        return self.lists.hex(), self.clicks.hex(), self.views.hex(), self.margins.hex()

    @classmethod
    def from_hex(cls, lists: str, clicks: str, views: str, margins: str) -> Self:
        """Invert ``to_hex``. Raises ``ValueError`` where it cannot be what ``to_hex`` gave."""
        memory = cls(bytes.fromhex(lists), bytes.fromhex(clicks), bytes.fromhex(views), bytes.fromhex(margins))
        memory.sent_lists()
        memory.touches()
        memory.order_lines()
        return memory


def _cut(lists: bytes, oldest_s: int) -> bytes:
    """Without the oldest lists: those too many for ``LISTS_LIMIT``, and those of before ``oldest_s``, the newest excepted."""
    start, end, header = 0, len(lists), _HEADER.size
    while start < end:
        _, at_s, count = _HEADER.unpack_from(lists, start)
        if end - start <= LISTS_LIMIT and at_s >= oldest_s:
            break
        start += header if count == _SAME else header + DIGEST_SIZE * count + 1
    return lists[start:]


def _touches(encoded: bytes) -> Iterator[Touch]:
    return map(Touch._make, _TOUCH.iter_unpack(encoded))


def _aligned(encoded: bytes, wanted: bytes, width: int, offset: int) -> int | None:
    """Where the first entry of ``width`` bytes begins that has ``wanted`` at its ``offset``."""
    at = encoded.find(wanted)
    while at >= 0:
        if at % width == offset:
            return at - offset
        at = encoded.find(wanted, at + 1)
    return None


def _found(encoded: bytes, item: bytes) -> tuple[Touch, ...]:
    """The touch of ``item``, if there is one."""
    at = _aligned(encoded, item, _TOUCH.size, _ITEM_OFFSET)
    return () if at is None else (Touch._make(_TOUCH.unpack_from(encoded, at)),)


def _touched(encoded: bytes, touch: Touch) -> bytes:
    at = _aligned(encoded, touch.item, _TOUCH.size, _ITEM_OFFSET)
    if at is not None and Touch._make(_TOUCH.unpack_from(encoded, at)).at_s > touch.at_s:
        return encoded
    return _renewed(encoded, at, _TOUCH.pack(*touch), TOUCH_LIMIT)


def _with_line(encoded: bytes, digest: bytes, scaled: bytes) -> bytes:
    at = _aligned(encoded, digest, _ORDER_LINE.size, 0)
    return _renewed(encoded, at, _ORDER_LINE.pack(digest, scaled), ORDER_LINES_LIMIT)


def _renewed(encoded: bytes, at: int | None, entry: bytes, limit: int) -> bytes:
    """With ``entry`` at the end, and without the former one, which begins at ``at`` if there is one; the newest ``limit`` stay."""
    if at is not None:
        encoded = encoded[:at] + encoded[at + len(entry) :]
    return (encoded + entry)[-limit * len(entry) :]


def _joined(encoded: bytes, more: bytes) -> bytes:
    both = sorted((*_touches(encoded), *_touches(more)), key=lambda touch: touch.at_s)
    joined = b""
    for touch in both:
        joined = _touched(joined, touch)
    return joined
