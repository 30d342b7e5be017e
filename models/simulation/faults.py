"""Records as a storefront gets them wrong: each kind of fault with the dead-letter code that it must end in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """One record for ``storefront.events``. ``fault`` is the code that a reader must refuse it with, None for a valid event."""

    key: bytes | None
    value: bytes | None
    occurred_ms: int
    fault: str | None = None


def _changed(**changes: Any) -> Callable[[bytes, Fields], tuple[bytes | None, bytes | None]]:
    return lambda key, fields: (key, orjson.dumps({**fields, **changes}))


def _without(name: str) -> Callable[[bytes, Fields], tuple[bytes | None, bytes | None]]:
    return lambda key, fields: (key, orjson.dumps({k: v for k, v in fields.items() if k != name}))


_ORDER: Final[Fields] = {"type": "purchase", "order_id": "simulated", "quantity": 1, "unit_price": "9.99", "currency": "GBP"}

#: code -> what was done to a valid click to deserve it.
FAULTS: Final[dict[str, Callable[[bytes, Fields], tuple[bytes | None, bytes | None]]]] = {
    "json_invalid": lambda key, fields: (key, orjson.dumps(fields)[:-20]),
    "encoding_invalid": lambda key, fields: (key, orjson.dumps(fields).replace(b'"channel":"', b'"channel":"\xff')),
    "object_expected": lambda key, fields: (key, orjson.dumps([fields["event_id"]])),
    "value_missing": lambda key, _: (key, None),
    "key_missing": lambda _, fields: (None, orjson.dumps(fields)),
    "key_mismatch": lambda _, fields: (b"somebody-else", orjson.dumps(fields)),
    "type_unknown": _changed(type="wishlist"),
    "version_unsupported": _changed(schema_version="9.0"),
    "field_missing": _without("occurred_at"),
    "field_invalid": _changed(sku=12345),
    "amount_invalid": _changed(**{**_ORDER, "unit_price": 9.99}),
    "price_invalid": _changed(**{**_ORDER, "unit_price": "-9.99"}),
    "quantity_invalid": _changed(**{**_ORDER, "quantity": 0}),
    "time_out_of_range": _changed(occurred_at="1970-01-01T00:00:00Z"),
    "time_in_future": _changed(occurred_at="2099-12-31T00:00:00Z"),
    "sku_unknown": _changed(sku="NO-SUCH-PRODUCT"),
}


def spoil(code: str, key: bytes, fields: Fields, occurred_ms: int) -> SimulatedRecord:
    """A copy of a valid click with a fault of kind ``code`` (one of ``FAULTS``) and an event id of its own."""
    broken_key, value = FAULTS[code](key, {**fields, "event_id": f"{fields['event_id']}-spoilt"})
    return SimulatedRecord(broken_key, value, occurred_ms, code)
