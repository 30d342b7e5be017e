"""REES46 "eCommerce behavior data from multi category store": views, baskets and purchases with prices in USD.

``view`` becomes ``browse``, ``cart`` ``add_to_cart``, ``purchase`` ``purchase`` (its order is the session: the file names none);
any other type is sent under its own name and refused by the contract. A line that was cut off is sent as it is and ends in
the dead letters. The files hold no titles: a product's is its brand and the last part of its category code.

Download: https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store or
https://rees46.com/en/datasets (free with attribution to REES46). Plain or .gz.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import orjson

from schemas.catalog import Product
from streams.replay.lines import Row, rows
from streams.replay.record import Bounds, Catalogue, ReplayEvent, encode, iso_time, malformed

CURRENCY = "USD"
HEADER = ("event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price", "user_id", "user_session")
_TYPES = {"view": "browse", "cart": "add_to_cart", "purchase": "purchase"}


class Rees46:
    """The file at ``path``; at most ``limit`` rows of it."""

    name = "rees46"

    def __init__(self, path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> None:
        self._path = path
        self._limit = limit
        self._encoding = encoding

    def _rows(self) -> Iterator[tuple[Row, int | None]]:
        """Rows with their times in ms; None where the row cannot be read."""
        text, at_ms = "", 0
        for row in rows(self._path, header=HEADER, limit=self._limit, encoding=self._encoding):
            try:
                if row.cells[0] != text:
                    at_ms = int(datetime.strptime(row.cells[0], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp() * 1000)
                    text = row.cells[0]
                Decimal(row.cells[6])
            except (ValueError, InvalidOperation, IndexError):
                yield row, None
            else:
                # A cut in the last column leaves nine cells, but no whole session id (a UUID).
                yield row, at_ms if len(row.cells) == len(HEADER) and len(row.cells[8]) in (0, 36) else None

    def catalogue(self) -> Catalogue:
        """One product a product_id, as its newest row describes it."""
        newest: dict[str, list[str]] = {}
        bounds = Bounds()
        for row, at_ms in self._rows():
            bounds.add(bounds.last_ms if at_ms is None else at_ms)
            if at_ms is not None:
                newest[row.cells[2]] = row.cells
        return bounds.catalogue(_product(cells) for cells in newest.values())

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``."""
        last_ms = 0
        for row, at_ms in self._rows():
            if at_ms is None:
                yield malformed(row.raw, row.number, last_ms)
                continue
            last_ms = at_ms
            _, kind, product, _, _, _, price, user, session = row.cells
            priced = kind != "view"
            fields = {
                "event_id": f"rees46-{row.number}",
                "type": _TYPES.get(kind, kind),
                "user_id": user or None,
                "session_id": session or None,
                "occurred_at": iso_time(at_ms + shift_ms),
                "channel": "web",
                "sku": product,
                "quantity": 1 if priced else None,
                "unit_price": price if priced else None,
                "currency": CURRENCY if priced else None,
                "order_id": session if kind == "purchase" else None,
            }
            try:
                yield encode(fields, at_ms)
            except orjson.JSONEncodeError:
                yield malformed(row.raw, row.number, at_ms)


def _product(cells: list[str]) -> Product:
    _, _, sku, category_id, code, brand, price, _, _ = cells
    path = tuple(code.split(".")) if code else ()
    amount = Decimal(price)
    offered = amount.is_finite() and amount > 0
    return Product(
        sku=sku,
        title=" ".join(part for part in (brand, path[-1].replace("_", " ") if path else "") if part),
        brand=brand,
        category_path=path,
        price=amount if offered else None,
        currency=CURRENCY if offered else None,
        attributes={"category_id": category_id} if category_id else {},
    )
