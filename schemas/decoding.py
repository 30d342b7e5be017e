"""From raw bytes to a valid event, or to a stable code that says why not.

The codes are a contract: storefront teams alert on them, and ``assay dead-letters list --code`` selects by them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas.base import SchemaVersion
from schemas.catalog import Product
from schemas.events import EVENT_ADAPTER, Event

#: Every dead-letter code, with what the producer should do about it.
CODES: Final[dict[str, str]] = {
    "value_missing": "The record has no value; events are never deleted by a null value.",
    "value_too_large": "The value is larger than max_event_bytes.",
    "encoding_invalid": "The value is not UTF-8.",
    "json_invalid": "The value is not JSON; nothing may come before it, not even a byte order mark, and NaN and Infinity are no JSON. "
    "Nor is it read when it nests deeper than 200 or holds a number of over 4,300 digits.",
    "object_expected": "The value is JSON, but not an object.",
    "type_unknown": "The event type is missing or not one of ours.",
    "version_unsupported": "schema_version has a major that this worker does not read; upgrade the worker.",
    "key_missing": "The record has no key; key events by user_id, else by session_id, and products by sku.",
    "key_mismatch": "The key is not the event's user_id (or session_id while anonymous, and for login), or not the product's sku.",
    "shopper_missing": "Neither user_id nor session_id is given.",
    "field_missing": "A field that this event type needs is missing.",
    "field_invalid": "A field has the wrong type or a value that is not allowed.",
    "amount_invalid": 'An amount is not a decimal string such as "12.50".',
    "price_invalid": "The price is negative, absurdly large or has more than six decimals.",
    "quantity_invalid": "The quantity is not in 1..1,000,000.",
    "currency_missing": "unit_price and currency come together.",
    "time_out_of_range": "occurred_at lies outside 2000..2099.",
    "time_in_future": "occurred_at lies more than a day after the broker received the record.",
    "sku_unknown": "The catalogue never held this sku; publish the product first, then replay the dead letter.",
    "embedding_failed": "The encoder failed on the product's text, so it has no vector; replay the dead letter once the encoder is mended.",
    "processing_failed": "The worker failed on this record; the message holds the error. Report it.",
    "memory_exhausted": "The worker ran out of memory on this record alone, at every attempt; see what is special about it, then "
    "replay it, if need be on a worker with more memory.",
}

_FROM_PYDANTIC: Final[dict[str, str]] = {
    "json_invalid": "json_invalid",
    "dict_type": "object_expected",
    "model_type": "object_expected",
    "model_attributes_type": "object_expected",
    "union_tag_invalid": "type_unknown",
    "union_tag_not_found": "type_unknown",
    "missing": "field_missing",
}

_VERSION_ADAPTER: Final[TypeAdapter[str]] = TypeAdapter(SchemaVersion)
_FUTURE_ALLOWANCE = timedelta(days=1)


class InvalidRecord(ValueError):
    """A record that breaks the contract: stable ``code``, field ``path`` (empty for the whole record), readable ``message``."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(f"{code}{f' at {path}' if path else ''}: {message}")
        self.code = code
        self.path = path
        self.message = message


def from_validation_error(error: ValidationError, value: bytes, *, tagged: bool = True) -> InvalidRecord:
    """Reduce pydantic's report to its first, most basic fault. An unsupported version comes before all others:
    what a newer major means by its fields is not ours to judge. ``tagged``: paths begin with a union's tag, which is left out.
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fault = next((f for f in faults if f["type"] == "version_unsupported"), faults[0])
    code = _FROM_PYDANTIC.get(fault["type"], fault["type"] if fault["type"] in CODES else "field_invalid")
    if code == "json_invalid":
        try:
            value.decode("utf-8")
        except UnicodeDecodeError as bad:
            return InvalidRecord("encoding_invalid", "", str(bad))
    if code == "type_unknown" and (refused := _version_fault(value)) is not None:
        return refused
    path = ".".join(str(part) for part in fault["loc"][1 if tagged else 0 :])
    return InvalidRecord(code, path, fault["msg"])


def _version_fault(value: bytes) -> InvalidRecord | None:
    """The complaint about ``schema_version``, for events whose type is unknown: a newer major may well have new types."""
    try:
        _VERSION_ADAPTER.validate_python(from_json(value).get("schema_version"))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if fault["type"] == "version_unsupported":
            return InvalidRecord("version_unsupported", "schema_version", fault["msg"])
    return None


def refuse_nan(value: bytes) -> None:
    """Refuse a value that pydantic took although it holds NaN or Infinity in a field that nobody reads: JSON knows neither, so other
    readers of the topic would fail on it. Raises ``InvalidRecord``.
    """
    if b"NaN" in value or b"Infinity" in value:  # most likely in a text
        try:
            from_json(value, allow_inf_nan=False)
        except ValueError as bad:
            raise InvalidRecord("json_invalid", "", f"Invalid JSON: {bad}") from None


def decode_event(key: bytes | None, value: bytes | None, *, received_ms: int, max_bytes: int = 1_048_576) -> Event:
    """Validate one record of ``storefront.events``.

    ``received_ms`` is the record's broker timestamp (ms since the epoch), the clock that "future" is judged by; a record without one
    (0 or less) is believed.
    Raises ``InvalidRecord`` with one of ``CODES``.
    """
    if value is None:
        raise InvalidRecord("value_missing", "", "null value")
    if len(value) > max_bytes:
        raise InvalidRecord("value_too_large", "", f"{len(value)} bytes, limit {max_bytes}")
    if not key:
        raise InvalidRecord("key_missing", "", "null or empty key")
    try:
        event = EVENT_ADAPTER.validate_json(value)
    except ValidationError as error:
        raise from_validation_error(error, value) from None
    if key != event.key.encode():
        raise InvalidRecord("key_mismatch", "", f"key {key[:80]!r}, the event's is {event.key!r}")
    refuse_nan(value)
    if received_ms > 0 and event.occurred_at.timestamp() * 1000 > received_ms + _FUTURE_ALLOWANCE.total_seconds() * 1000:
        received = datetime.fromtimestamp(received_ms / 1000, UTC)
        raise InvalidRecord("time_in_future", "occurred_at", f"{event.occurred_at} was received at {received}")
    return event


def decode_product(key: bytes | None, value: bytes | None, *, max_bytes: int = 1_048_576) -> Product | None:
    """Validate one record of ``storefront.catalog``. None means: the product of this key is deleted.

    Raises ``InvalidRecord`` with one of ``CODES``.
    """
    if not key:
        raise InvalidRecord("key_missing", "", "null or empty key")
    if value is None:
        try:
            key.decode("utf-8")
        except UnicodeDecodeError as bad:
            raise InvalidRecord("encoding_invalid", "", f"key: {bad}") from None
        return None
    if len(value) > max_bytes:
        raise InvalidRecord("value_too_large", "", f"{len(value)} bytes, limit {max_bytes}")
    try:
        product = Product.model_validate_json(value)
    except ValidationError as error:
        raise from_validation_error(error, value, tagged=False) from None
    refuse_nan(value)
    if key != product.sku.encode():
        raise InvalidRecord("key_mismatch", "", f"key {key[:80]!r}, the product's is {product.sku!r}")
    return product
