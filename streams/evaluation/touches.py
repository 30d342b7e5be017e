"""What a record of a log says of an item, read without the cost, and without the refusals, of the contract."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import orjson

from streams.agents.shoppers import Shopper


def touched(value: bytes, types: Container[object]) -> tuple[Shopper, str] | None:
    """Whose event it is and the SKU that it is about; None where it is of another type than ``types``, names nobody
    or no item, or is broken.
    """
    found = read_touch(value, types)
    return None if found is None else (found[0], found[1]["sku"])


def read_touch(value: bytes, types: Container[object]) -> tuple[Shopper, dict[str, Any]] | None:
    """As ``touched``, with all fields of the event instead of its SKU."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str) or not isinstance(fields.get("sku"), str):
        return None
    if fields["type"] not in types:
        return None
    for name, anonymous in (("user_id", False), ("session_id", True)):
        identifier = fields.get(name)
        if identifier and isinstance(identifier, str):
            return Shopper(identifier, anonymous), fields
    return None
