"""UCI Online Retail (D. Chen, 2015, doi:10.24432/C5BW33): invoice lines of a British wholesaler of gifts, 2010-12 to 2011-12.

Each row is one event, in the file's order, with the file's own numbers:

- an invoice ``C...`` is a ``refund`` of the absolute quantity; everything else is a ``purchase`` with the quantity as it
  stands, so that the 1,336 stock corrections with a negative one end in the dead letters (``quantity_invalid``), and so do
  the two bad debts with a negative price (``price_invalid``);
- a row without a customer belongs to an anonymous session, which is its invoice;
- ``occurred_at`` is InvoiceDate read as UTC. Lines of an invoice share a minute; the order within it is the file's.

Download: https://archive.ics.uci.edu/dataset/352/online+retail (save the sheet as CSV), or Kaggle's ``carrie1/ecommerce-data``
(pass ``--encoding latin-1``). Plain or .gz.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import orjson

from schemas.catalog import Product
from streams.replay.lines import Row, rows
from streams.replay.record import Bounds, Catalogue, ReplayEvent, encode, iso_time, malformed

CURRENCY = "GBP"
HEADER = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

#: Lines that are sold and booked but are no products: postage, discounts, samples, bad debts, fees, vouchers.
_NO_PRODUCT = re.compile(r"(POST|DOT|D|M|S|B|C2|CRUK|PADS|AMAZONFEE|BANK CHARGES|GIFT_.*)", re.IGNORECASE)

#: The file has no categories. A product's is the first of these whose words (singular) occur in its title.
_CATEGORIES: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (name, frozenset(words.split()))
    for name, words in (
        ("Christmas", "CHRISTMAS XMAS ADVENT SANTA REINDEER SNOWFLAKE BAUBLE"),
        ("Bags", "BAG SHOPPER TOTE PURSE BACKPACK RUCKSACK"),
        ("Jewellery", "NECKLACE BRACELET EARRING EARRINGS RING BROOCH BEAD PENDANT HAIR HAIRCLIP BANGLE"),
        ("Candles and lights", "LIGHT CANDLE LANTERN LAMP HOLDER CANDLESTICK LAMPSHADE INCENSE"),
        ("Lunch boxes", "LUNCH BENTO SNACK FLASK"),
        ("Cake and baking", "CAKE CAKESTAND CAKECASE BAKING MUFFIN COOKIE JELLY MOULD"),
        ("Tableware", "MUG CUP TEA TEACUP COFFEE PLATE BOWL TEAPOT SAUCER TRAY JUG GLASS SPOON CUTLERY NAPKIN COASTER PLACEMAT"),
        ("Kitchen", "KITCHEN APRON RECIPE JAR TIN OVEN SCALE EGG PANTRY TEATOWEL BREAD"),
        ("Cards and wrap", "CARD WRAP RIBBON GIFT TISSUE TAG ENVELOPE POSTCARD"),
        ("Stationery", "NOTEBOOK PENCIL PEN ERASER MEMO BOOK STICKER JOURNAL PAPER STAMP SKETCHBOOK TAPE CHALK"),
        ("Toys and children", "TOY DOLL GAME PUZZLE CHILDREN CHILDRENS JIGSAW SKIPPING SOLDIER SPACEBOY DOLLY PLAYHOUSE KID BABY CIRCUS"),
        ("Garden", "GARDEN FLOWER PLANT WATERING BIRD GARDENER PARASOL HERB"),
        ("Textiles", "CUSHION QUILT THROW RUG BLANKET DOORMAT TOWEL WATER BEDROOM"),
        (
            "Home decoration",
            "FRAME CLOCK HOOK MIRROR SIGN DRAWER CABINET SHELF STOOL CHAIR BOX HEART DECORATION BUNTING GARLAND WALL HANGER",
        ),
    )
)
_OTHER = "Other"


def is_product(code: str) -> bool:
    """Whether a StockCode stands for a product rather than for postage, a fee or a correction."""
    return _NO_PRODUCT.fullmatch(code) is None


def category(title: str) -> str:
    """The derived category of a title (see ``_CATEGORIES``)."""
    words = set(re.findall(r"[A-Z]+", title.upper()))
    words |= {word[:-1] for word in words if word.endswith("S")}
    return next((name for name, marks in _CATEGORIES if words & marks), _OTHER)


class OnlineRetail:
    """The file at ``path``; at most ``limit`` rows of it."""

    name = "online-retail"

    def __init__(self, path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> None:
        self._path = path
        self._limit = limit
        self._encoding = encoding

    def _rows(self) -> Iterator[Row]:
        return rows(self._path, header=HEADER, limit=self._limit, encoding=self._encoding)

    def catalogue(self) -> Catalogue:
        """One product a StockCode: its most frequent description and its median positive price.

        A code without any positive price was never on offer; it and the codes that are no products are not recommendable.
        """
        titles: defaultdict[str, Counter[str]] = defaultdict(Counter)
        prices: defaultdict[str, Counter[Decimal]] = defaultdict(Counter)
        bounds = Bounds()
        clock = _Clock()
        for row in self._rows():
            if (read := _read(row, clock)) is None:
                bounds.add(clock.ms)
                continue
            code, description = row.cells[1], row.cells[2].strip()
            bounds.add(read.at_ms)
            titles[code][description] += bool(description)
            if read.price.is_finite() and read.price > 0:
                prices[code][read.price] += 1
        return bounds.catalogue(_product(code, titles[code], prices.get(code)) for code in titles)

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``."""
        clock = _Clock(shift_ms)
        for row in self._rows():
            if (read := _read(row, clock)) is None:
                yield malformed(row.raw, row.number, clock.ms)
                continue
            invoice, code, _, _, _, price, customer, country = row.cells
            refund = invoice.startswith("C")
            fields = {
                "event_id": f"online-retail-{row.number}",
                "type": "refund" if refund else "purchase",
                # The file prints customers as floats.
                "user_id": customer.removesuffix(".0") or None,
                "session_id": None if customer else invoice,
                "occurred_at": clock.iso,
                "channel": "web",
                "country": country or None,
                "sku": code,
                "quantity": abs(read.quantity) if refund else read.quantity,
                "unit_price": price,
                "currency": CURRENCY,
                "order_id": invoice,
            }
            try:
                yield encode(fields, read.at_ms)
            except orjson.JSONEncodeError:
                yield malformed(row.raw, row.number, read.at_ms)


class _Numbers:
    """The cells of a row that must be read as numbers."""

    __slots__ = ("at_ms", "price", "quantity")

    def __init__(self, at_ms: int, quantity: int, price: Decimal) -> None:
        self.at_ms = at_ms
        self.quantity = quantity
        self.price = price


class _Clock:
    """InvoiceDate -> ms and ISO text; rows of an invoice share it, so the newest is kept."""

    def __init__(self, shift_ms: int = 0) -> None:
        self._shift_ms = shift_ms
        self._text = ""
        self.ms = 0
        self.iso = ""

    def read(self, text: str) -> int:
        """Parse ``2010-12-01 08:26:00`` or Kaggle's ``12/1/2010 8:26``. Raises ``ValueError``."""
        if text != self._text:
            at = datetime.strptime(text, "%m/%d/%Y %H:%M") if "/" in text else datetime.fromisoformat(text)  # noqa: DTZ007 - UTC below
            self.ms = int(at.replace(tzinfo=UTC).timestamp() * 1000)
            self.iso = iso_time(self.ms + self._shift_ms)
            self._text = text
        return self.ms


def _read(row: Row, clock: _Clock) -> _Numbers | None:
    """The row's numbers, or None where it is no row of this file."""
    if len(row.cells) != len(HEADER):
        return None
    try:
        return _Numbers(clock.read(row.cells[4]), int(row.cells[3]), Decimal(row.cells[5]))
    except (ValueError, InvalidOperation):
        return None


def _product(code: str, titles: Counter[str], prices: Counter[Decimal] | None) -> Product:
    title = titles.most_common(1)[0][0] if titles else ""
    price = median(prices) if prices else None
    return Product(
        sku=code,
        title=title,
        category_path=(category(title),) if title and is_product(code) else (),
        price=price,
        currency=CURRENCY if price is not None else None,
        recommendable=is_product(code) and price is not None,
    )


def median(prices: Counter[Decimal]) -> Decimal:
    """The lower median of prices with their counts: always a price that was really asked. Raises ``StatisticsError`` for none."""
    return statistics.median_low(prices.elements())
