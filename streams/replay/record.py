"""What a data set gives: a catalogue, then events in the order of its file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import orjson

from schemas.base import MAX_QUANTITY
from schemas.catalog import Product

#: Kind of a record whose amount the contract is bound to refuse (quantity or price out of range).
REFUSED = "refused"
#: Kind of a line that could not be read as a row; it is sent as it is.
MALFORMED = "malformed"


class ReplayError(RuntimeError):
    """A data set cannot be read or sent; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class ReplayEvent:
    """One record for ``storefront.events``.

    ``at_ms``: when it happened (ms since the epoch, before any shift). ``kind``: the event type, or ``refused`` or ``malformed``.
    ``amount``: quantity x unit price with the file's own sign and digits, where the row has both.
    """

    key: bytes
    value: bytes
    at_ms: int
    kind: str
    amount: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What one pass over the file found: products by sku, the number of events, first and last event time (ms; 0 when empty)."""

    products: tuple[Product, ...]
    events: int
    first_ms: int
    last_ms: int


class Dataset(Protocol):
    """One data set at one path. Both methods read the file anew and hold no more of it than the catalogue needs."""

    name: str

    def catalogue(self) -> Catalogue:
        """Read the file once for products and bounds."""
        ...

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """Events in the file's order, ``occurred_at`` moved by ``shift_ms``."""
        ...


class Bounds:
    """Count, first and last time of the events seen."""

    def __init__(self) -> None:
        self.events = 0
        self.first_ms = 0
        self.last_ms = 0

    def add(self, at_ms: int) -> None:
        """Count one event."""
        self.first_ms = at_ms if self.events == 0 else min(self.first_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)
        self.events += 1

    def catalogue(self, products: Iterator[Product]) -> Catalogue:
        """Close the pass."""
        return Catalogue(tuple(products), self.events, self.first_ms, self.last_ms)


def iso_time(at_ms: int) -> str:
    """An instant (ms since the epoch) as RFC 3339 in UTC; milliseconds only where there are any."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).replace(tzinfo=None)
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds") + "Z"


def encode(fields: dict[str, Any], at_ms: int) -> ReplayEvent:
    """Serialise an event's ``fields`` (``None`` = absent). The key is the user, else the session; a login's is its session.

    Raises ``orjson.JSONEncodeError`` where a text is not UTF-8: the caller then sends the raw line.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    kind = fields["type"]
    first, second = ("session_id", "user_id") if kind == "login" else ("user_id", "session_id")
    key = str(fields.get(first) or fields.get(second) or "").encode()
    amount = None
    if "unit_price" in fields:
        amount = _amount(fields["unit_price"], fields.get("quantity", 1))
        if amount is None or Decimal(fields["unit_price"]) < 0 or not 1 <= fields.get("quantity", 1) <= MAX_QUANTITY:
            kind = REFUSED
    return ReplayEvent(key, orjson.dumps(fields), at_ms, kind, amount, fields.get("currency"))


def _amount(price: Any, quantity: Any) -> Decimal | None:
    """Quantity x price, None where either is not what the contract asks for."""
    try:
        amount = Decimal(price) * quantity if isinstance(price, str) and isinstance(quantity, int) else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None


def malformed(line: bytes, number: int, at_ms: int) -> ReplayEvent:
    """A line that is no row, as it is; the key only places it. Workers put it into the dead letters."""
    return ReplayEvent(b"line-%d" % number, line, at_ms, MALFORMED)
