"""The internal messages that valuation reads and writes, as flat structs: decoding them is most of the cost of an outcome.

They mirror ``schemas.internal`` (tests hold the two together); fields that valuation does not read are skipped unparsed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

import msgspec

from models.metrics import CatalogueCoverage
from models.valuation.arms import ArmSums
from models.valuation.money import MONEY_NAMES, ZERO
from models.valuation.panes import KEPT, TOTAL, PaneId, pane_start
from models.valuation.sums import COUNTED_TYPES, NEVER, PaneRecord
from models.valuation.worth import DECIMALS, Worth
from schemas.base import AMOUNT_DECIMALS, LATEST, TOTAL_LIMIT
from schemas.currency import CURRENCIES

#: The dimension of a partial that carries nothing but the watermark of its source partition; it goes to every partition.
WATERMARK: Final = "watermark"

_LATEST_MS: Final = int(LATEST.timestamp() * 1000)
_LONGEST: Final = 128
_LAST_PARTITION: Final = 0xFFFF
_COUNTED: Final = frozenset(COUNTED_TYPES)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class OutcomeMessage(msgspec.Struct, tag_field="kind", tag="outcome"):
    """What valuation reads of ``schemas.internal.Outcome``."""

    type: str
    channel: str
    occurred_at: datetime
    shopper: str = ""
    arm: str | None = None
    experiment: str | None = None
    consent: bool = True
    sku: str | None = None
    category: str | None = None
    country: str | None = None
    segment: str | None = None
    list_size: int = 0
    rank: int | None = None
    rank_after: int | None = None
    popularity_rank: int | None = None
    revenue: Decimal | None = None
    margin: Decimal | None = None
    currency: str | None = None
    attributed: bool = False


class ExposureMessage(msgspec.Struct, tag_field="kind", tag="exposure"):
    """What valuation reads of ``schemas.internal.Exposure``."""

    occurred_at: datetime
    skus: list[str]
    catalogue_size: int
    encoder: str
    model: str


class ResolutionMessage(msgspec.Struct, tag_field="kind", tag="resolution"):
    """What valuation reads of ``schemas.internal.Resolution``. ``items`` are read by ``shown_items``, where they are rows."""

    resolution_id: str
    shopper: str
    watermark: datetime
    items: msgspec.Raw
    corrects: str | None = None
    arm: str | None = None
    channel: str | None = None
    country: str | None = None
    segment: str | None = None


class SaleMessage(msgspec.Struct):
    """What valuation reads of ``schemas.internal.ItemSale``."""

    revenue: Decimal
    currency: str
    margin: Decimal | None = None


class ShownMessage(msgspec.Struct):
    """What valuation reads of ``schemas.internal.ShownItem``."""

    sku: str
    result: str
    category: str | None = None
    sales: list[SaleMessage] = []


class ForgottenMessage(msgspec.Struct, tag_field="kind", tag="forgotten"):
    """``schemas.internal.Forgotten``."""

    shoppers: list[str]


class PartialMessage(msgspec.Struct):
    """``schemas.internal.PanePartial``; the panes of an asset, and those of ``worth``, by the text of their ``PaneId``. ``arms``: by what
    those of experiments moved, by book. ``neighbours``: those by which ``worth`` was found.
    """

    dimension: str
    source_partition: int
    watermark: datetime
    assets: dict[str, dict[str, PaneRecord]]
    worth: dict[str, Worth] = {}
    arms: dict[str, ArmSums] = {}
    neighbours: Literal["sessions", "embeddings"] = "sessions"
    schema_version: Literal["1.0"] = "1.0"


_SOURCE: Final = msgspec.json.Decoder(OutcomeMessage | ExposureMessage | ResolutionMessage | ForgottenMessage)
_SHOWN: Final = msgspec.json.Decoder(list[ShownMessage])
_PARTIAL: Final = msgspec.json.Decoder(PartialMessage)
_ENCODER: Final = msgspec.json.Encoder()


def decode_source(value: bytes) -> OutcomeMessage | ExposureMessage | ResolutionMessage | ForgottenMessage:
    """Read a record of ``outcomes``. Raises ``msgspec.DecodeError``."""
    message: OutcomeMessage | ExposureMessage | ResolutionMessage | ForgottenMessage = _SOURCE.decode(value)
    return message


def shown_items(message: ResolutionMessage) -> list[ShownMessage]:
    """The items that ``message`` tells of. Raises ``msgspec.DecodeError``, and ``ValueError`` for money that cannot be counted."""
    items: list[ShownMessage] = _SHOWN.decode(message.items)
    for item in items:
        for sale in item.sales:
            if sale.currency not in CURRENCIES:
                raise ValueError(f"currency {sale.currency!r} is none")
            for amount in (sale.revenue, sale.margin):
                if amount is not None:
                    _check_money(amount.copy_abs())
    return items


def decode_partial(value: bytes) -> PartialMessage:
    """Read a record of ``valuation.partials``. Raises ``msgspec.DecodeError``."""
    return _PARTIAL.decode(value)


def check_source(message: OutcomeMessage | ExposureMessage | ResolutionMessage) -> None:
    """Raise ``ValueError`` for money or a time that the partial of this second could not carry, with all that was counted beside it."""
    at = message.watermark if isinstance(message, ResolutionMessage) else message.occurred_at
    if not 0 <= milliseconds(at) < _LATEST_MS:
        raise ValueError(f"{at} is out of range")
    if isinstance(message, OutcomeMessage) and message.revenue is not None:
        if message.currency not in CURRENCIES:
            raise ValueError(f"currency {message.currency!r} is none")
        _check_money(message.revenue.copy_abs())
        if message.margin is not None:
            _check_money(message.margin.copy_abs())


def check_partial(message: PartialMessage) -> None:
    """Raise ``ValueError`` unless everything in ``message`` can be added up and published.

    What was once added to the sums is met again by every later publication, which must not fail.
    """
    if not 1 <= len(message.dimension) <= _LONGEST or "|" in message.dimension:
        raise ValueError(f"dimension {message.dimension[:80]!r} is none")
    if not 0 <= message.source_partition <= _LAST_PARTITION or not 0 <= milliseconds(message.watermark) < _LATEST_MS:
        raise ValueError(f"source partition {message.source_partition} or watermark {message.watermark} is out of range")
    for panes in message.assets.values():
        for text, record in panes.items():
            _check_pane(PaneId.parse(text), record)
    for text, worth in message.worth.items():
        _check_bounds(PaneId.parse(text))
        _check_worth(text, worth)
    for book, sums in message.arms.items():
        _check_arm(book, sums)


def _check_arm(book: str, sums: ArmSums) -> None:
    counts = -NEVER <= sums.shoppers <= NEVER and 0 <= sums.newest_ms < _LATEST_MS
    if not 1 <= len(book) <= 2 * _LONGEST + 1 or not counts or not sums.money.keys() <= MONEY_NAMES:
        raise ValueError(f"the book {book[:80]!r} has no such name, number of shoppers, time or currency")
    for moments in sums.money.values():
        for amount, decimals, limit in (
            (moments.total, AMOUNT_DECIMALS, TOTAL_LIMIT),
            (moments.squares, 2 * AMOUNT_DECIMALS, TOTAL_LIMIT**2),
            (moments.past, AMOUNT_DECIMALS, TOTAL_LIMIT),
            (moments.past_squares, 2 * AMOUNT_DECIMALS, TOTAL_LIMIT**2),
            (moments.products, 2 * AMOUNT_DECIMALS, TOTAL_LIMIT**2),
        ):
            exponent = amount.as_tuple().exponent
            if not isinstance(exponent, int) or abs(amount) >= limit or exponent < -decimals:
                raise ValueError(f"{str(amount)[:80]!r} is no sum over shoppers")


def _check_worth(text: str, worth: Worth) -> None:
    counts = [worth.tests, worth.most_rows, worth.offset_low, worth.offset_high + 1]
    amounts = [worth.utility, worth.baseline, *worth.money.values()]
    names = set(worth.money)
    for credit in worth.credits.values():
        counts += [credit.tests, credit.owned]
        amounts += [credit.rows, credit.points, credit.player, credit.leave_one_out, *credit.money.values()]
        names |= credit.money.keys() | credit.replicates.keys()
        for sums in credit.replicates.values():
            sums.check()
    rows = [credit.rows for credit in worth.credits.values()]
    if min(counts) < 0 or max(counts) > NEVER or min(rows, default=ZERO) < 0 or not names <= MONEY_NAMES:
        raise ValueError(f"what pane {text} was worth holds a number that is out of range, or a currency that is none")
    for amount in amounts:
        exponent = amount.as_tuple().exponent
        # Points to 15 decimals, times an amount of money.
        if not isinstance(exponent, int) or abs(amount) >= TOTAL_LIMIT or exponent < -DECIMALS - AMOUNT_DECIMALS:
            raise ValueError(f"{str(amount)[:80]!r} is no sum of points or money")


def _check_bounds(pane: PaneId) -> None:
    if pane != TOTAL and (pane.length_s not in KEPT or pane_start(pane.start_ms, pane.length_s) != pane.start_ms):
        raise ValueError(f"there is no pane {pane}")
    if not 0 <= pane.start_ms < _LATEST_MS:
        raise ValueError(f"pane {pane} starts before 1970 or after 2099")


def _check_pane(pane: PaneId, record: PaneRecord) -> None:
    _check_bounds(pane)
    low, high = record.offsets
    numbers = [record.tests, record.late, record.clicks, record.conversions, *record.types.values()]
    numbers += [*record.ranks, *record.popularity_ranks, *record.after_ranks, record.first_ms, low, high + 1]
    if min(numbers) < 0 or max(numbers) > NEVER or (record.first_ms >= _LATEST_MS and record.first_ms != NEVER):
        raise ValueError(f"pane {pane} holds a number that is out of range")
    if not record.types.keys() <= _COUNTED or not record.money.keys() <= CURRENCIES:
        raise ValueError(f"pane {pane} holds a type or a currency that is none")
    for takings in record.money.values():
        for amount in takings:
            _check_money(amount)
    if record.served is not None and not (0 <= record.served[0] < _LATEST_MS and 0 <= record.served[3] <= NEVER):
        raise ValueError(f"pane {pane} was served from what is none")
    try:
        CatalogueCoverage(sketch=record.items)
    except Exception as error:  # datasketches raises what its C++ raises
        raise ValueError(f"pane {pane} holds no sketch: {error}") from None


def _check_money(amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 <= amount < TOTAL_LIMIT or exponent < -AMOUNT_DECIMALS:
        raise ValueError(f"{str(amount)[:80]!r} is no amount of money")


def encode_partial(message: PartialMessage) -> bytes:
    """Write a record of ``valuation.partials``; amounts as decimal strings, the sketch in base64."""
    return _ENCODER.encode(message)


def milliseconds(instant: datetime) -> int:
    """A zoned time as whole ms since the epoch, in integer arithmetic."""
    return (instant - _EPOCH) // _MS
