"""Yoochoose (RecSys Challenge 2015): anonymous sessions of clicks, some of which end in purchases.

``PATH`` is ``yoochoose-clicks.dat`` or its folder; ``yoochoose-buys.dat`` beside it is merged into the sessions. A session's
events are sent together in time order, sessions in the order of the clicks file. Prices are whole numbers in a currency that
the publisher does not name (``XXX``); a price or quantity of 0 means "unknown" there, and a purchase with quantity 0 ends in
the dead letters. The category is the click's: ``S`` is a special offer, 1-12 a category, larger ones a brand, 0 unknown.

Download: https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015 (CC BY-NC-ND 4.0). Plain or .gz.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import numpy as np

from schemas.catalog import Product
from streams.replay.lines import Row, find, rows
from streams.replay.record import Bounds, Catalogue, ReplayEvent, encode, iso_time, malformed

CURRENCY = "XXX"
_BUY = np.dtype([("session", "<i8"), ("at_ms", "<i8"), ("item", "<i8"), ("price", "<i8"), ("quantity", "<i8")])


class Yoochoose:
    """The clicks (and buys) at ``path``; at most ``limit`` clicks, with the buys of their sessions."""

    name = "yoochoose"

    def __init__(self, path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> None:
        self._path = find(path, "yoochoose-clicks.dat") if path.is_dir() else path
        self._limit = limit
        self._encoding = encoding

    def _clicks(self) -> Iterator[Row]:
        return rows(self._path, header=(), limit=self._limit, encoding=self._encoding)

    def _buys(self) -> np.ndarray:
        """All readable buys, sorted by session (40 bytes each; file order within a session)."""
        beside = self._path.with_name(self._path.name.replace("clicks", "buys"))
        if beside == self._path or not beside.is_file():
            return np.empty(0, _BUY)
        cells = ((row.cells, _time_ms(row.cells)) for row in rows(beside, header=(), encoding=self._encoding))
        found = np.fromiter(
            ((int(c[0]), at_ms, int(c[2]), int(c[3]), int(c[4])) for c, at_ms in cells if at_ms is not None and len(c) == 5), _BUY
        )
        return found[np.argsort(found["session"], kind="stable")]

    def catalogue(self) -> Catalogue:
        """One product an item of clicks and buys: category from its newest click, price from its newest buy that has one."""
        categories: dict[str, str] = {}
        sessions: set[int] = set()
        bounds = Bounds()
        for row in self._clicks():
            at_ms = _time_ms(row.cells)
            bounds.add(bounds.last_ms if at_ms is None else at_ms)
            if at_ms is not None:
                sessions.add(int(row.cells[0]))
                categories[row.cells[2]] = row.cells[3] if len(row.cells) > 3 else "0"
        prices: dict[str, int] = {}
        for buy in self._buys():
            if int(buy["session"]) in sessions:
                item = str(buy["item"])
                bounds.add(int(buy["at_ms"]))
                categories.setdefault(item, "0")
                prices[item] = int(buy["price"]) or prices.get(item, 0)
        return bounds.catalogue(_product(item, category, prices.get(item, 0)) for item, category in categories.items())

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``."""
        buys = self._buys()
        last_ms = 0
        for session, group in groupby(self._clicks(), key=lambda row: row.cells[0]):
            timed = []
            for row in group:
                at_ms = _time_ms(row.cells)
                if at_ms is None:
                    yield malformed(row.raw, row.number, last_ms)
                    continue
                last_ms = at_ms
                event = {"event_id": f"yoochoose-click-{row.number}", "type": "click", "sku": row.cells[2]}
                timed.append((at_ms, event))
            if session.isdigit():
                first, last = np.searchsorted(buys["session"], [int(session), int(session) + 1])
                timed += [(int(buys[i]["at_ms"]), _purchase(buys[i], i - first, session)) for i in range(first, last)]
            for at_ms, event in sorted(timed, key=lambda pair: pair[0]):
                shopper = {"session_id": session, "occurred_at": iso_time(at_ms + shift_ms), "channel": "web"}
                yield encode(event | shopper, at_ms)


def _purchase(buy: np.void, line: int, session: str) -> dict[str, object]:
    return {
        "event_id": f"yoochoose-buy-{session}-{line + 1}",
        "type": "purchase",
        "sku": str(buy["item"]),
        "quantity": int(buy["quantity"]),
        "unit_price": str(buy["price"]),
        "currency": CURRENCY,
        "order_id": session,
    }


def _time_ms(cells: list[str]) -> int | None:
    """The row's time in ms, or None where the row cannot be read."""
    if len(cells) < 4 or not cells[0].isdigit() or not all(cell.isdigit() for cell in (cells[2], *cells[4:])):
        return None
    try:
        return int(datetime.fromisoformat(cells[1]).astimezone(UTC).timestamp() * 1000)
    except ValueError:
        return None


def _product(item: str, category: str, price: int) -> Product:
    return Product(
        sku=item,
        category_path=() if category == "0" else (category,),
        price=Decimal(price) if price else None,
        currency=CURRENCY if price else None,
    )
