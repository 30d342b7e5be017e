"""How the columns of your own log become the fields of an event: a small TOML file, or flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.catalog import Product
from streams.replay.record import ReplayError, iso_time

_INTEGERS = frozenset({"quantity", "position"})
#: Numbers above this are epoch milliseconds, below it epoch seconds (it is the year 2286 in seconds, 1970 in milliseconds).
_SECONDS_LIMIT = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Mapping:
    """The mapping; its TOML form has the same four tables.

    ::

        [columns]        # field of the event = column of the file; a field that is not listed is read from a column of its own name
        sku = "product_id"
        occurred_at = "ts"
        [constants]      # fields that every row shares
        channel = "web"
        [types]          # word in the type column = event type
        view = "browse"
        [product]        # field of the product = column: title, description, brand, category, price
        title = "name"

    Times are ISO 8601 (UTC where no zone is given) or epoch seconds or milliseconds. A row without an ``event_id`` gets
    one from the data set's name and its row number.
    """

    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    product: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Mapping:
        """Read the TOML form. Raises ``ReplayError``."""
        try:
            tables = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ReplayError(f"mapping {path}: {error}") from error
        names = {"columns", "constants", "types", "product"}
        if tables.keys() - names or not all(isinstance(t, dict) and all(isinstance(v, str) for v in t.values()) for t in tables.values()):
            raise ReplayError(f"mapping {path}: it may hold the tables {', '.join(sorted(names))}, with text values; it holds {tables}")
        return cls(**tables)

    def merged(
        self, *, columns: Sequence[str] = (), constants: Sequence[str] = (), types: Sequence[str] = (), product: Sequence[str] = ()
    ) -> Mapping:
        """The mapping with ``name=value`` flags laid over it. Raises ``ReplayError`` for a flag without ``=``."""
        return Mapping(
            columns=self.columns | _pairs(columns),
            constants=self.constants | _pairs(constants),
            types=self.types | _pairs(types),
            product=self.product | _pairs(product),
        )

    def event(self, row: MappingType[str, Any], *, event_id: str, shift_ms: int) -> tuple[dict[str, Any], int]:
        """The event's fields and its time in ms. A value that cannot be converted stays as it is, for the contract to refuse.

        Raises ``ValueError`` when the time cannot be read.
        """
        fields: dict[str, Any] = {"event_id": event_id}
        for name in EVENT_FIELDS:
            value = row.get(self.columns.get(name, name))
            if value not in (None, ""):
                fields[name] = value
        fields |= self.constants
        at_ms = time_ms(fields.get("occurred_at", ""))
        fields["occurred_at"] = iso_time(at_ms + shift_ms)
        if "type" in fields:
            fields["type"] = self.types.get(str(fields["type"]), fields["type"])
        for name in _INTEGERS & fields.keys():
            text = str(fields[name])
            fields[name] = int(text) if text.removeprefix("-").isdigit() else text
        return {name: value if name in _INTEGERS else str(value) for name, value in fields.items()}, at_ms

    def catalogue_entry(self, row: MappingType[str, Any]) -> Product | None:
        """The product that the row speaks of, None where it names none.

        The price is the mapped column's, else the event's, where both price and currency can be read.
        """
        sku = str(row.get(self.columns.get("sku", "sku")) or self.constants.get("sku", ""))
        if not sku:
            return None
        texts = {name: str(row.get(column) or "") for name, column in self.product.items()}
        price = texts.pop("price", "") or str(row.get(self.columns.get("unit_price", "unit_price")) or "")
        currency = str(row.get(self.columns.get("currency", "currency")) or self.constants.get("currency", ""))
        category = texts.pop("category", "")
        known = {name: text for name, text in texts.items() if name in ("title", "description", "brand")}
        money = {"price": price, "currency": currency} if price and currency else {}
        path = tuple(category.replace(">", "/").split("/")) if category else ()
        for extras in (money, {}):
            try:
                return Product.model_validate({"sku": sku, **known, "category_path": tuple(p.strip() for p in path if p.strip()), **extras})
            except ValidationError:
                continue
        return None


#: The fields of an event that a log may hold.
EVENT_FIELDS = (
    "event_id", "type", "user_id", "session_id", "occurred_at", "channel", "country", "segment", "sku", "category", "quantity",
    "unit_price", "currency", "order_id", "query", "recommendation_id", "position",
)  # fmt: skip


def _pairs(flags: Sequence[str]) -> dict[str, str]:
    found = {}
    for flag in flags:
        name, equals, value = flag.partition("=")
        if not equals or not name:
            raise ReplayError(f"{flag!r} is not NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def time_ms(value: Any) -> int:
    """An instant as ms since the epoch, from ISO 8601 (UTC where no zone is given) or epoch seconds or ms. Raises ``ValueError``."""
    text = str(value).strip()
    if text.replace(".", "", 1).isdigit():
        number = float(text)
        return int(number if number >= _SECONDS_LIMIT else number * 1000)
    at = datetime.fromisoformat(text.removesuffix(" UTC"))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
