"""What every message shares: ids, zoned times, exact money, versions, and where a record came from."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from schemas.currency import CURRENCIES

#: The version this code writes. Readers accept any minor of the same major.
SCHEMA_VERSION = "1.0"
SUPPORTED_MAJOR = 1
#: Begins the name of an anonymous shopper where users and sessions share a key space (the topic ``recommendations``).
SESSION_PREFIX = "session:"

#: An event older than this is a clock that was never set (1970), not history.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
#: The far bound of the contract; workers also refuse what lies more than a day ahead of the broker's clock.
LATEST = datetime(2100, 1, 1, tzinfo=UTC)

#: Largest unit price, in whole currency units: above any real product, below a slipped decimal point.
MAX_UNIT_PRICE = Decimal(100_000_000)
#: Digits after the point that an amount may carry: more than any ISO 4217 minor unit, because wholesale prices do.
AMOUNT_DECIMALS = 6
MAX_QUANTITY = 1_000_000
#: Sums stay below this: no stream is long enough to reach it, as ten of the dearest orders are to reach 15 digits.
TOTAL_LIMIT = Decimal(10) ** 40
#: RFC 3339's date-time, leap seconds left out: what Python's clocks do not know cannot be kept.
TIME_PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


def _check_version(value: str) -> str:
    major = value.split(".", 1)[0]
    if major != str(SUPPORTED_MAJOR):
        raise PydanticCustomError(
            "version_unsupported",
            "schema_version {version} has a major that this reader does not know (it reads {major}.x)",
            {"version": value, "major": SUPPORTED_MAJOR},
        )
    return value


def _check_time(value: datetime) -> datetime:
    if not EARLIEST <= value < LATEST:
        raise PydanticCustomError("time_out_of_range", "time must lie in 2000..2099", {})
    return value


def _parse_amount(value: Any) -> Decimal:
    """Read exact money: a decimal string. JSON numbers are binary floats to most writers, so they are refused.

    Plain digits only: ``Decimal`` alone would also take ``1E2``, ``1_000``, spaces and the digits of other scripts.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise PydanticCustomError("amount_invalid", "amount is not finite", {})
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("amount_invalid", 'amounts are decimal strings such as "12.50", not numbers', {})
    if _DECIMAL_STRING.fullmatch(value) is None:
        raise PydanticCustomError("amount_invalid", 'amount is not a decimal string such as "12.50"', {})
    return Decimal(value)


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _check_amount(value: Decimal) -> Decimal:
    if abs(value) >= _AMOUNT_LIMIT or _decimals(value) > AMOUNT_DECIMALS:
        raise PydanticCustomError(
            "amount_invalid", "amounts have at most 15 digits before the point and {decimals} after it", {"decimals": AMOUNT_DECIMALS}
        )
    return value


def _check_total(value: Decimal) -> Decimal:
    if abs(value) >= TOTAL_LIMIT or _decimals(value) > AMOUNT_DECIMALS:
        raise PydanticCustomError(
            "amount_invalid", "totals have at most 40 digits before the point and {decimals} after it", {"decimals": AMOUNT_DECIMALS}
        )
    return value


def _check_price(value: Decimal) -> Decimal:
    # Minus zero is refused too: the schema's pattern knows no sign, and whoever writes one has taken a refund for a price.
    if value.is_signed() or value > MAX_UNIT_PRICE or _decimals(value) > AMOUNT_DECIMALS:
        raise PydanticCustomError(
            "price_invalid",
            "price must lie in 0..{limit} with at most {decimals} decimals",
            {"limit": str(MAX_UNIT_PRICE), "decimals": AMOUNT_DECIMALS},
        )
    return value


def _check_quantity(value: int) -> int:
    if not 1 <= value <= MAX_QUANTITY:
        raise PydanticCustomError("quantity_invalid", "quantity must lie in 1..{limit}", {"limit": MAX_QUANTITY})
    return value


def _write_amount(value: Decimal) -> str:
    """Plain digits: ``str`` would write 1E+2 for ``Decimal("1E2")``."""
    return format(value, "f")


def _check_currency(value: str) -> str:
    if value not in CURRENCIES:
        raise PydanticCustomError("field_invalid", "not an ISO 4217 currency code", {})
    return value


def _check_user(value: str) -> str:
    if value.startswith(SESSION_PREFIX):
        raise PydanticCustomError("field_invalid", "a user_id does not begin with session:, which marks anonymous shoppers", {})
    return value


class _AsRfc3339:
    """Of a time in JSON: the form that its schema promises. Pydantic alone would also take ``1699956000``, ``2023-11-14_10:00Z`` and
    other spellings that no other reader of the same topic understands.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The pattern first, in Rust: a check in Python would cost as much as the rest of the time's parsing."""
        inner = handler(source)
        parsed = cast("CoreSchema", {**inner, "strict": False})  # what comes here is a text that fits the pattern
        text = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=TIME_PATTERN, strict=True),
            custom_error_type="field_invalid",
            custom_error_message="a time is a text such as 2026-03-01T10:15:00Z, with its seconds and its zone (RFC 3339)",
        )
        return core_schema.json_or_python_schema(core_schema.chain_schema([text, parsed]), inner)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A date-time, and its pattern, because most validators take a format for a mere remark."""
        return {"type": "string", "format": "date-time", "pattern": TIME_PATTERN}


_DECIMAL_STRING = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_AMOUNT_LIMIT = Decimal(10) ** 15
_TOTAL_SCHEMA = {"type": "string", "pattern": r"^-?0*[0-9]{1,40}(\.[0-9]{1,6})?$", "examples": ["12.50"]}
_AMOUNT_SCHEMA = {"type": "string", "pattern": r"^-?0*[0-9]{1,15}(\.[0-9]{1,6})?$", "examples": ["12.50"]}
_PRICE_SCHEMA = {"type": "string", "pattern": r"^0*([0-9]{1,8}(\.[0-9]{1,6})?|100000000(\.0{1,6})?)$", "examples": ["12.50"]}

#: A decimal string in JSON, an exact ``Decimal`` in Python; may be negative (a refund, a loss). At most six decimals.
Amount = Annotated[
    Decimal,
    BeforeValidator(_parse_amount),
    AfterValidator(_check_amount),
    PlainSerializer(_write_amount, when_used="json"),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
#: What amounts add up to: as an ``Amount``, but with room for any number of them.
TotalAmount = Annotated[
    Decimal,
    BeforeValidator(_parse_amount),
    AfterValidator(_check_total),
    PlainSerializer(_write_amount, when_used="json"),
    WithJsonSchema(_TOTAL_SCHEMA),
]
#: An amount in 0..100,000,000.
Price = Annotated[
    Decimal,
    BeforeValidator(_parse_amount),
    AfterValidator(_check_price),
    PlainSerializer(_write_amount, when_used="json"),
    WithJsonSchema(_PRICE_SCHEMA),
]
Quantity = Annotated[
    int,
    AfterValidator(_check_quantity),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_QUANTITY}),
]
Identifier = Annotated[str, Field(min_length=1, max_length=256)]
Sku = Annotated[str, Field(min_length=1, max_length=128)]
Label = Annotated[str, Field(min_length=1, max_length=128)]
#: ISO 4217 alphabetic code.
Currency = Annotated[
    str, AfterValidator(_check_currency), WithJsonSchema({"type": "string", "enum": sorted(CURRENCIES), "examples": ["GBP"]})
]
#: A user. ``session:`` begins the names of anonymous shoppers in our topics, so no user may be called so.
UserId = Annotated[
    str,
    Field(min_length=1, max_length=256),
    AfterValidator(_check_user),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256, "not": {"pattern": f"^{SESSION_PREFIX}"}}),
]
SchemaVersion = Annotated[
    str,
    Field(pattern=r"^[0-9]+\.[0-9]+$"),  # \d would take the digits of other scripts
    AfterValidator(_check_version),
    WithJsonSchema({"type": "string", "pattern": rf"^{SUPPORTED_MAJOR}\.[0-9]+$", "examples": [SCHEMA_VERSION]}),
]
#: A time with its zone as RFC 3339 writes it, to the second at least: 2026-03-01T10:15:00Z, 2026-03-01T12:15:00.250+02:00.
ZonedTime = Annotated[AwareDatetime, _AsRfc3339()]
#: When something happened: a ``ZonedTime`` in 2000..2099.
EventTime = Annotated[ZonedTime, AfterValidator(_check_time)]


class Message(BaseModel):
    """Base of every message: immutable, unknown fields dropped (a newer minor version may add some), types strict, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Encode as UTF-8 JSON; fields that are ``None`` are absent rather than null."""
        return self.model_dump_json(exclude_none=True).encode()


class Origin(Message):
    """The place of a record in Kafka."""

    topic: str
    partition: int
    offset: int
