"""Ranked lists as JSON, written by a compiled loop from pieces that are encoded once: 20 explained items cost a few microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.compilation import compiled, copy_bytes
from models.ranking import wording
from models.ranking.lists import AGAIN, BOUGHT, FACTORS, QUERY, SEQUENCE, SESSIONS, SIMILAR, SOURCES, TOGETHER, TRENDING, RankedLists
from models.ranking.neighbours import NeighbourSessions
from models.ranking.wording import (
    BOUGHT_BEFORE,
    BOUGHT_TOGETHER,
    CHOSEN,
    MATCHES_INTERESTS,
    MAY_LIKE,
    POPULAR_IN,
    POPULAR_NOW,
    SEARCHED_FOR,
    SHOPPERS_LIKE_YOU,
    SIMILAR_TO,
    VIEWED_BEFORE,
)

#: Lists are written in chunks of about this many bytes, so that one endless SKU cannot claim memory for the whole batch.
_CHUNK_BYTES: Final = 16_000_000
#: Punctuation, numbers and sentence of an item with a reason of every source, without any name.
_ITEM_OVERHEAD: Final = 700
#: Of a past session that is named.
_NEIGHBOUR_BYTES: Final = 60


class Pieces:
    """Byte strings one behind the other in one array, by number; ``start`` int64[n], ``length`` int32[n]."""

    def __init__(self) -> None:
        self.data: NDArray[np.uint8] = np.empty(1 << 16, dtype=np.uint8)
        self.used = 0
        self.start: NDArray[np.int64] = np.zeros(1024, dtype=np.int64)
        self.length: NDArray[np.int32] = np.zeros(1024, dtype=np.int32)
        self.longest = 0

    def put(self, number: int, piece: bytes) -> None:
        """Set piece ``number``; the place of an earlier one is reused if it is large enough."""
        if number >= len(self.start):
            extra = max(number + 1, 2 * len(self.start)) - len(self.start)
            self.start = np.concatenate([self.start, np.zeros(extra, dtype=np.int64)])
            self.length = np.concatenate([self.length, np.zeros(extra, dtype=np.int32)])
        size = len(piece)
        if size > self.length[number]:
            if self.used + size > len(self.data):
                self.data = np.concatenate([self.data, np.empty(max(size, len(self.data)), dtype=np.uint8)])
            self.start[number] = self.used
            self.used += size
        start = int(self.start[number])
        self.data[start : start + size] = np.frombuffer(piece, dtype=np.uint8)
        self.length[number] = size
        self.longest = max(self.longest, size)


class ListWriter:
    """Writes lists over ``items``; SKUs, titles and categories are encoded when first written and again when a title changed."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._skus = Pieces()
        self._names = Pieces()
        self._categories = Pieces()
        self._categories_done = 0
        self._titles: list[str | None] = []
        self._constants = Pieces()
        for number, piece in enumerate(_constant_pieces()):
            self._constants.put(number, piece)
        self._together = np.array(wording.TOGETHER_BY_TYPE, dtype=np.int64)

    def write(self, lists: RankedLists) -> list[bytes]:
        """Each list as a JSON array of ``schemas.recommendation.RecommendedItem``."""
        self._encode_names(lists)
        written: list[bytes] = []
        limit = lists.rows.shape[1]
        neighbours = lists.neighbours or _no_neighbours(lists)
        purchases = np.full(lists.rows.shape, -1, dtype=np.int32) if lists.purchases is None else lists.purchases
        item_bytes = _ITEM_OVERHEAD + 5 * self._skus.longest + max(self._names.longest, self._categories.longest)
        item_bytes += _NEIGHBOUR_BYTES * neighbours.digests.shape[2]
        step = max(1, _CHUNK_BYTES // (limit * item_bytes + 2))
        for first in range(0, len(lists), step):
            last = min(len(lists), first + step)
            buffer = np.empty((last - first) * (limit * item_bytes + 2), dtype=np.uint8)
            ends = np.zeros(last - first, dtype=np.int64)
            _write(
                lists.rows[first:last], lists.sizes[first:last], lists.shares[first:last], lists.because[first:last],
                lists.pinned[first:last], lists.anchor_rows[first:last], lists.anchor_types[first:last], self._together,
                purchases[first:last], neighbours.digests[first:last], neighbours.millionths[first:last],
                self._constants.data, self._constants.start, self._constants.length,
                self._skus.data, self._skus.start, self._skus.length,
                self._names.data, self._names.start, self._names.length,
                self._categories.data, self._categories.start, self._categories.length,
                buffer, ends,
            )  # fmt: skip
            data = buffer[: int(ends[-1])].tobytes()
            start = 0
            for end in ends.tolist():
                written.append(data[start:end])
                start = end
        return written

    def _encode_names(self, lists: RankedLists) -> None:
        items = self._items
        if len(items) > len(self._titles):
            self._titles += [None] * (len(items) - len(self._titles))
        mentioned = np.zeros(len(items) + 1, dtype=np.bool_)  # the last entry takes the -1 of padding
        mentioned[lists.rows] = True
        mentioned[lists.anchor_rows] = True
        titles, known = items.titles, self._titles
        for row in np.flatnonzero(mentioned[:-1]).tolist():
            title = titles[row]
            if known[row] is not title:
                if known[row] is None:
                    self._skus.put(row, orjson.dumps(items.skus[row]))
                self._names.put(row, orjson.dumps(wording.short_name(title, items.skus[row]))[1:-1])
                known[row] = title
        for code in range(self._categories_done, len(items.categories)):
            leaf = items.categories[code].rsplit(" > ", 1)[-1]
            self._categories.put(code, orjson.dumps(wording.short_name(leaf, leaf))[1:-1])
        self._categories_done = len(items.categories)


#: Numbers of the constant pieces.
_OPEN, _POSITION, _SCORE, _PINNED, _PURCHASE, _EXPLANATION, _REASONS, _SOURCE = range(8)
_BECAUSE: Final = _SOURCE + len(SOURCES)
_NEIGHBOURS: Final = _BECAUSE + 1
_NEIGHBOUR: Final = _NEIGHBOURS + 1
_ITS_SCORE: Final = _NEIGHBOUR + 1
_SENTENCES: Final = _ITS_SCORE + 1


def _no_neighbours(lists: RankedLists) -> NeighbourSessions:
    none = (*lists.rows.shape, 0)
    return NeighbourSessions(np.zeros(none, dtype=np.uint64), np.zeros(none, dtype=np.int32))


def _constant_pieces() -> Sequence[bytes]:
    pieces = [b'{"sku":', b',"position":', b',"score":', b',"pinned":true', b',"purchase_probability":', b',"explanation":"']
    pieces.append(b'","reasons":[')
    pieces += [b'{"source":"%s","score":' % source.encode() for source in SOURCES]
    pieces += [b',"because":', b',"sessions":[', b'{"session":"', b'","score":']
    for before, after in wording.SENTENCES:
        pieces += [before.encode(), after.encode()]
    return pieces


@compiled
def _copy(buffer, at, data, start, length):  # type: ignore[no-untyped-def]
    copy_bytes(buffer, at, data, start, np.int64(length))
    return at + length


@compiled
def _write_decimal(buffer, at, millionths):  # type: ignore[no-untyped-def]
    """Whole part, point, six digits."""
    at = _write_integer(buffer, at, millionths // 1_000_000)
    buffer[at] = 46
    rest = millionths % 1_000_000
    for j in range(6):
        buffer[at + 6 - j] = 48 + rest % 10
        rest //= 10
    return at + 7


@compiled
def _write_hexadecimal(buffer, at, number):  # type: ignore[no-untyped-def]
    """16 digits of a uint64."""
    for j in range(16):
        digit = np.int64((number >> np.uint64(60 - 4 * j)) & np.uint64(15))
        buffer[at + j] = 48 + digit if digit < 10 else 87 + digit
    return at + 16


@compiled
def _write_integer(buffer, at, number):  # type: ignore[no-untyped-def]
    digits = 1
    rest = number // 10
    while rest > 0:
        digits += 1
        rest //= 10
    for j in range(digits):
        buffer[at + digits - 1 - j] = 48 + number % 10
        number //= 10
    return at + digits


@compiled
def _write(  # type: ignore[no-untyped-def]
    rows, sizes, shares, because, pinned, anchor_rows, anchor_types, together, purchases, digests, parts,
    text, text_start, text_length, sku, sku_start, sku_length, name, name_start, name_length,
    category, category_start, category_length, buffer, ends,
):  # fmt: skip
    at = 0
    for i in range(len(sizes)):
        buffer[at] = 91  # [
        at += 1
        for k in range(sizes[i]):
            row = rows[i, k]
            if k > 0:
                buffer[at] = 44  # ,
                at += 1
            total = 0
            main = TRENDING
            for s in range(shares.shape[2]):
                total += shares[i, k, s]
                if shares[i, k, s] > shares[i, k, main]:
                    main = s
            at = _copy(buffer, at, text, text_start[_OPEN], text_length[_OPEN])
            at = _copy(buffer, at, sku, sku_start[row], sku_length[row])
            at = _copy(buffer, at, text, text_start[_POSITION], text_length[_POSITION])
            at = _write_integer(buffer, at, k + 1)
            at = _copy(buffer, at, text, text_start[_SCORE], text_length[_SCORE])
            at = _write_decimal(buffer, at, total)
            if pinned[i, k]:
                at = _copy(buffer, at, text, text_start[_PINNED], text_length[_PINNED])
            if purchases[i, k] >= 0:
                at = _copy(buffer, at, text, text_start[_PURCHASE], text_length[_PURCHASE])
                at = _write_decimal(buffer, at, purchases[i, k])
            at = _copy(buffer, at, text, text_start[_EXPLANATION], text_length[_EXPLANATION])
            why = because[i, k, main]
            sentence = MAY_LIKE
            if pinned[i, k]:
                sentence = CHOSEN
            elif total > 0:
                if main == SIMILAR:
                    sentence = SIMILAR_TO if why >= 0 else MATCHES_INTERESTS
                elif main in (TOGETHER, SESSIONS):
                    sentence = together[anchor_types[i, why]]
                elif main == SEQUENCE:
                    sentence = MATCHES_INTERESTS
                elif main == QUERY:
                    sentence = SEARCHED_FOR
                elif main == FACTORS:
                    sentence = SHOPPERS_LIKE_YOU
                elif main == TRENDING:
                    sentence = POPULAR_IN if why >= 0 else POPULAR_NOW
                else:
                    sentence = BOUGHT_BEFORE if why == BOUGHT else VIEWED_BEFORE
            before = _SENTENCES + 2 * sentence
            at = _copy(buffer, at, text, text_start[before], text_length[before])
            if sentence <= BOUGHT_TOGETHER:
                mentioned = anchor_rows[i, why]
                at = _copy(buffer, at, name, name_start[mentioned], name_length[mentioned])
            elif sentence == POPULAR_IN:
                at = _copy(buffer, at, category, category_start[why], category_length[why])
            at = _copy(buffer, at, text, text_start[before + 1], text_length[before + 1])
            at = _copy(buffer, at, text, text_start[_REASONS], text_length[_REASONS])
            told = 0
            for s in range(shares.shape[2]):
                if shares[i, k, s] > 0 or (total == 0 and s == TRENDING and not pinned[i, k]):
                    if told > 0:
                        buffer[at] = 44
                        at += 1
                    told += 1
                    at = _copy(buffer, at, text, text_start[_SOURCE + s], text_length[_SOURCE + s])
                    at = _write_decimal(buffer, at, shares[i, k, s])
                    rests_on = -1
                    if s == AGAIN:
                        rests_on = row
                    elif s != TRENDING and because[i, k, s] >= 0:
                        rests_on = anchor_rows[i, because[i, k, s]]
                    if rests_on >= 0:
                        at = _copy(buffer, at, text, text_start[_BECAUSE], text_length[_BECAUSE])
                        at = _copy(buffer, at, sku, sku_start[rests_on], sku_length[rests_on])
                    if s == SESSIONS and digests.shape[2] > 0 and digests[i, k, 0] > 0:
                        at = _copy(buffer, at, text, text_start[_NEIGHBOURS], text_length[_NEIGHBOURS])
                        for c in range(digests.shape[2]):
                            if digests[i, k, c] == 0:
                                break
                            if c > 0:
                                buffer[at] = 44
                                at += 1
                            at = _copy(buffer, at, text, text_start[_NEIGHBOUR], text_length[_NEIGHBOUR])
                            at = _write_hexadecimal(buffer, at, digests[i, k, c])
                            at = _copy(buffer, at, text, text_start[_ITS_SCORE], text_length[_ITS_SCORE])
                            at = _write_decimal(buffer, at, parts[i, k, c])
                            buffer[at] = 125  # }
                            at += 1
                        buffer[at] = 93  # ]
                        at += 1
                    buffer[at] = 125  # }
                    at += 1
            buffer[at] = 93  # ]
            buffer[at + 1] = 125
            at += 2
        buffer[at] = 93
        at += 1
        ends[i] = at
