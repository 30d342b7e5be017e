"""What a record of a log says of an item, read without the cost, and without the refusals, of the contract."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import orjson

from streams.agents.shoppers import Shopper


def read_touch(value: bytes, types: Container[object]) -> tuple[Shopper, dict[str, Any]] | None:
    """Whose event it is and all its fields, the SKU that it is about among them; None where it is of another type than ``types``, names
    nobody or no item, or is broken.
    """
    fields = read_fields(value)
    if fields is None or not isinstance(fields.get("type"), str) or not isinstance(fields.get("sku"), str):
        return None
    if fields["type"] not in types:
        return None
    shopper = named(fields)
    return None if shopper is None else (shopper, fields)


def read_fields(value: bytes) -> dict[str, Any] | None:
    """The fields of a record; None where it is broken."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def named(fields: Mapping[str, Any]) -> Shopper | None:
    """The user, else the session, that an event names."""
    for name, anonymous in (("user_id", False), ("session_id", True)):
        identifier = fields.get(name)
        if identifier and isinstance(identifier, str):
            return Shopper(identifier, anonymous)
    return None
