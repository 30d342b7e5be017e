"""RetailRocket: views, baskets and transactions of anonymous visitors, with hashed item properties.

``PATH`` is ``events.csv`` or its folder. ``view`` becomes ``browse``, ``addtocart`` ``add_to_cart``, ``transaction``
``purchase``. The file is not in time order, so its events are sorted first (as arrays: 21 bytes an event). It hides prices:
purchases carry a price of 0 in ``XXX``, ISO 4217's "no currency". Categories come from ``item_properties_part*.csv`` and
``category_tree.csv`` where they lie beside it; titles do not exist.

Download: https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset (CC BY-NC-SA 4.0). Plain or .gz.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from schemas.catalog import Product
from streams.replay.lines import find, rows
from streams.replay.record import Bounds, Catalogue, ReplayEvent, encode, iso_time, malformed

CURRENCY = "XXX"
HEADER = ("timestamp", "visitorid", "event", "itemid", "transactionid")
_TYPES = ("view", "addtocart", "transaction")
_NAMES = ("browse", "add_to_cart", "purchase")


class RetailRocket:
    """The events at ``path``; at most ``limit`` rows of the file (taken before sorting)."""

    name = "retailrocket"

    def __init__(self, path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> None:
        self._path = find(path, "events.csv") if path.is_dir() else path
        self._limit = limit
        self._encoding = encoding

    def catalogue(self) -> Catalogue:
        """One product an itemid that occurs in the events, with its category's path from the root where the files tell it."""
        skus: dict[str, None] = {}
        bounds = Bounds()
        for row in rows(self._path, header=HEADER, limit=self._limit, encoding=self._encoding):
            sound = _sound(row.cells)
            bounds.add(int(row.cells[0]) if sound else bounds.last_ms)
            if sound:
                skus[row.cells[3]] = None
        categories = self._categories()
        return bounds.catalogue(Product(sku=sku, category_path=categories.get(sku, ())) for sku in skus)

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``; sorted by time, rows of one millisecond in the file's order, malformed lines last."""
        times, visitors, items, orders, kinds, numbers = (array(code) for code in "qqqqbq")
        broken: list[tuple[int, bytes]] = []
        for row in rows(self._path, header=HEADER, limit=self._limit, encoding=self._encoding):
            if not _sound(row.cells):
                broken.append((row.number, row.raw))
                continue
            at_ms, visitor, kind, item, order = row.cells
            times.append(int(at_ms))
            visitors.append(int(visitor))
            kinds.append(_TYPES.index(kind))
            items.append(int(item))
            orders.append(int(order or -1))
            numbers.append(row.number)
        at_ms = 0
        for i in np.argsort(np.frombuffer(times, np.int64), kind="stable") if times else ():
            at_ms, kind = times[i], _NAMES[kinds[i]]
            fields = {
                "event_id": f"retailrocket-{numbers[i]}",
                "type": kind,
                "user_id": str(visitors[i]),
                "occurred_at": iso_time(at_ms + shift_ms),
                "channel": "web",
                "sku": str(items[i]),
                "quantity": None if kind == "browse" else 1,
                "unit_price": "0" if kind == "purchase" else None,
                "currency": CURRENCY if kind == "purchase" else None,
                "order_id": str(orders[i]) if kind == "purchase" else None,
            }
            yield encode(fields, at_ms)
        for number, raw in broken:
            yield malformed(raw, number, at_ms)

    def _categories(self) -> dict[str, tuple[str, ...]]:
        """Item -> path of category ids from the root, from the property files beside the events (none: empty)."""
        folder = self._path.parent
        properties = sorted(folder.glob("item_properties_part*.csv*"))
        if not properties:
            return {}
        parents: dict[str, str] = {}
        for row in rows(find(folder, "category_tree.csv"), header=("categoryid", "parentid")):
            parents[row.cells[0]] = row.cells[1] if len(row.cells) > 1 else ""
        newest: dict[str, tuple[int, str]] = {}
        for part in properties:
            for row in rows(part, header=("timestamp", "itemid", "property", "value")):
                at_ms, item, name, value = row.cells
                if name == "categoryid" and int(at_ms) >= newest.get(item, (0, ""))[0]:
                    newest[item] = (int(at_ms), value)
        paths = {leaf: _path(leaf, parents) for leaf in {leaf for _, leaf in newest.values()}}
        return {item: paths[leaf] for item, (_, leaf) in newest.items()}


def _sound(cells: list[str]) -> bool:
    return (
        len(cells) == len(HEADER)
        and cells[2] in _TYPES
        and all(cells[i].isdigit() for i in (0, 1, 3))
        and (cells[4].isdigit() or (not cells[4] and cells[2] != "transaction"))
    )


def _path(leaf: str, parents: dict[str, str]) -> tuple[str, ...]:
    path = [leaf]
    while (parent := parents.get(path[0], "")) and parent not in path:
        path.insert(0, parent)
    return tuple(path)
