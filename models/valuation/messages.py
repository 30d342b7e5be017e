"""The internal messages that valuation reads and writes, as flat structs: decoding them is most of the cost of an outcome.

They mirror ``schemas.internal`` (tests hold the two together); fields that valuation does not read are skipped unparsed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

import msgspec

from models.valuation.sums import PaneRecord

#: The dimension of a partial that carries nothing but the watermark of its source partition; it goes to every partition.
WATERMARK: Final = "watermark"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class OutcomeMessage(msgspec.Struct, tag_field="kind", tag="outcome"):
    """What valuation reads of ``schemas.internal.Outcome``."""

    type: str
    channel: str
    occurred_at: datetime
    sku: str | None = None
    category: str | None = None
    country: str | None = None
    segment: str | None = None
    list_size: int = 0
    rank: int | None = None
    rank_after: int | None = None
    popularity_rank: int | None = None
    revenue: Decimal | None = None
    currency: str | None = None
    attributed: bool = False


class ExposureMessage(msgspec.Struct, tag_field="kind", tag="exposure"):
    """What valuation reads of ``schemas.internal.Exposure``."""

    occurred_at: datetime
    skus: list[str]
    catalogue_size: int
    encoder: str
    model: str


class PartialMessage(msgspec.Struct):
    """``schemas.internal.PanePartial``; the panes of an asset by the text of their ``PaneId``."""

    dimension: str
    source_partition: int
    watermark: datetime
    assets: dict[str, dict[str, PaneRecord]]
    schema_version: Literal["1.0"] = "1.0"


_SOURCE: Final = msgspec.json.Decoder(OutcomeMessage | ExposureMessage)
_PARTIAL: Final = msgspec.json.Decoder(PartialMessage)
_ENCODER: Final = msgspec.json.Encoder()


def decode_source(value: bytes) -> OutcomeMessage | ExposureMessage:
    """Read a record of ``outcomes``. Raises ``msgspec.DecodeError``."""
    message: OutcomeMessage | ExposureMessage = _SOURCE.decode(value)
    return message


def decode_partial(value: bytes) -> PartialMessage:
    """Read a record of ``valuation.partials``. Raises ``msgspec.DecodeError``."""
    return _PARTIAL.decode(value)


def encode_partial(message: PartialMessage) -> bytes:
    """Write a record of ``valuation.partials``; amounts as decimal strings, the sketch in base64."""
    return _ENCODER.encode(message)


def milliseconds(instant: datetime) -> int:
    """A zoned time as whole ms since the epoch, in integer arithmetic."""
    return (instant - _EPOCH) // _MS
