"""Products as dense rows: the integer that every in-memory index knows an item by, and the columns that ranking reads."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.attribution.memory import DIGEST_SIZE, sku_digest
from models.catalog.vectors import VectorColumn
from schemas.catalog import Product

_FIRST_CAPACITY: Final = 1024
#: What the column of stocks holds for more.
_MOST_STOCK: Final = 2**31 - 1
#: Between the parts of a category path; also what ``valuation.rolling`` prints as the asset of the category dimension.
CATEGORY_SEPARATOR: Final = " > "


class ItemTable:
    """SKUs as int32 rows, never reused within a process, and one column for each fact that ranking needs.

    Columns have ``capacity`` >= ``len(table)`` entries and are replaced when they grow, so read them through the table each
    time rather than keep one. Entries at or beyond ``len(table)`` are inactive. A row of -1 means "unknown": mask it before
    indexing. A deleted product keeps its row, title, category and margin (old events still speak of it), but is never active.

    ``active``: the product exists, is recommendable and its stock is not 0. ``category``, ``brand`` and ``currency`` are codes, places in
    ``categories``, ``brands`` and ``currencies``, -1 where the product names none. ``price`` float64 is in the product's own currency, NaN
    where it has none; ``stock`` -1 where it is unknown. ``version`` counts changes to products. ``digests``: uint8[capacity, 3], the
    ``sku_digest`` of each row.

    Example:
        >>> from schemas.catalog import Product
        >>> table = ItemTable(dimensions=4)
        >>> table.upsert(Product(sku="a", title="Red mug", category_path=("Kitchen", "Mugs")))
        0
        >>> table.row("a"), table.row("b"), table.categories
        (0, -1, ['Kitchen > Mugs'])

    """

    def __init__(self, dimensions: int) -> None:
        self.skus: list[str] = []
        self.titles: list[str] = []
        self.categories: list[str] = []
        self.brands: list[str] = []
        self.currencies: list[str] = []
        self.version = 0
        self.active_count = 0
        self._rows: dict[str, int] = {}
        self._margins: dict[str, tuple[str, Decimal]] = {}
        self._category_codes: dict[str, int] = {}
        self._brand_codes: dict[str, int] = {}
        self._currency_codes: dict[str, int] = {}
        self.active: NDArray[np.bool_] = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self.present: NDArray[np.bool_] = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self.category: NDArray[np.int32] = np.full(_FIRST_CAPACITY, -1, dtype=np.int32)
        self.brand: NDArray[np.int32] = np.full(_FIRST_CAPACITY, -1, dtype=np.int32)
        self.price: NDArray[np.float64] = np.full(_FIRST_CAPACITY, np.nan, dtype=np.float64)
        self.currency: NDArray[np.int16] = np.full(_FIRST_CAPACITY, -1, dtype=np.int16)
        self.stock: NDArray[np.int32] = np.full(_FIRST_CAPACITY, -1, dtype=np.int32)
        self.digests: NDArray[np.uint8] = np.zeros((_FIRST_CAPACITY, DIGEST_SIZE), dtype=np.uint8)
        self._seen: NDArray[np.bool_] = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._vectors = VectorColumn(dimensions, _FIRST_CAPACITY)

    def __len__(self) -> int:
        """Rows given out."""
        return len(self.skus)

    @property
    def capacity(self) -> int:
        """Length of every column."""
        return len(self.active)

    @property
    def dimensions(self) -> int:
        """Width of ``vectors``; changes only when the catalogue takes up another encoder."""
        return self._vectors.dimensions

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32[capacity, d]; zeros where ``has_vector`` is false."""
        return self._vectors.values

    @property
    def has_vector(self) -> NDArray[np.bool_]:
        """bool[capacity]."""
        return self._vectors.present

    def row(self, sku: str) -> int:
        """The row of ``sku``, -1 if it has none."""
        return self._rows.get(sku, -1)

    def rows(self, skus: Sequence[str]) -> NDArray[np.int32]:
        """int32[n] rows in the order of ``skus``, -1 where unknown."""
        find = self._rows.get
        return np.fromiter(map(find, skus, repeat(-1)), dtype=np.int32, count=len(skus))

    def intern(self, sku: str) -> int:
        """The row of ``sku``, given out now if it has none. It makes no product of it."""
        row = self._rows.get(sku)
        if row is None:
            row = len(self.skus)
            if row == self.capacity:
                self._grow(2 * row)
            self._rows[sku] = row
            self.skus.append(sku)
            self.titles.append("")
            self.digests[row] = np.frombuffer(sku_digest(sku), dtype=np.uint8)
        return row

    def known(self, sku: str) -> bool:
        """Whether the catalogue ever held ``sku`` as a product, deleted ones included."""
        row = self._rows.get(sku)
        return row is not None and bool(self._seen[row])

    def unit_margin(self, sku: str, currency: str) -> Decimal | None:
        """What one unit of ``sku`` earns in ``currency``; None where the catalogue names no margin, or another currency."""
        named, margin = self._margins.get(sku, ("", None))
        return margin if named == currency else None

    def upsert(self, product: Product) -> int:
        """Take up a product whole, replacing what was known of its SKU. Returns its row."""
        row = self.intern(product.sku)
        self.titles[row] = product.title
        self.category[row] = _code(CATEGORY_SEPARATOR.join(product.category_path), self.categories, self._category_codes)
        self.brand[row] = _code(product.brand, self.brands, self._brand_codes)
        self.price[row] = np.nan if product.price is None else float(product.price)
        self.currency[row] = _code(product.currency or "", self.currencies, self._currency_codes)
        self.stock[row] = -1 if product.stock is None else min(product.stock, _MOST_STOCK)
        if product.margin is not None and product.currency is not None:
            self._margins[product.sku] = (product.currency, product.margin)
        else:
            self._margins.pop(product.sku, None)
        self._seen[row] = True
        self.present[row] = True
        self._set_active(row, product.recommendable and product.stock != 0)
        self.version += 1
        return row

    def delete(self, sku: str) -> None:
        """Take a product out of every list; its row, title, category and margin stay. A SKU never seen is remembered as known."""
        row = self.intern(sku)
        self._seen[row] = True
        self.present[row] = False
        self._set_active(row, False)
        self.version += 1

    def set_vector(self, sku: str, vector: NDArray[np.float32]) -> int:
        """Store the float32[d] vector of ``sku``, product or not yet. Returns its row. Raises ``ValueError`` on another width."""
        row = self.intern(sku)
        self._vectors.set(row, vector)
        return row

    def drop_vector(self, sku: str) -> None:
        """Forget the vector of ``sku``, if it has one."""
        row = self._rows.get(sku)
        if row is not None:
            self._vectors.drop(row)

    def swap_vectors(self, column: VectorColumn) -> VectorColumn:
        """Put another encoder's vectors in place of the present ones, which are returned."""
        column.reserve(self.capacity)
        former, self._vectors = self._vectors, column
        return former

    def _set_active(self, row: int, active: bool) -> None:
        self.active_count += int(active) - int(self.active[row])
        self.active[row] = active

    def _grow(self, capacity: int) -> None:
        extra = capacity - self.capacity
        self.active = np.concatenate([self.active, np.zeros(extra, dtype=np.bool_)])
        self.present = np.concatenate([self.present, np.zeros(extra, dtype=np.bool_)])
        self.digests = np.concatenate([self.digests, np.zeros((extra, DIGEST_SIZE), dtype=np.uint8)])
        self._seen = np.concatenate([self._seen, np.zeros(extra, dtype=np.bool_)])
        self.category = np.concatenate([self.category, np.full(extra, -1, dtype=np.int32)])
        self.brand = np.concatenate([self.brand, np.full(extra, -1, dtype=np.int32)])
        self.price = np.concatenate([self.price, np.full(extra, np.nan, dtype=np.float64)])
        self.currency = np.concatenate([self.currency, np.full(extra, -1, dtype=np.int16)])
        self.stock = np.concatenate([self.stock, np.full(extra, -1, dtype=np.int32)])
        self._vectors.reserve(capacity)


def _code(name: str, names: list[str], codes: dict[str, int]) -> int:
    """The place of ``name`` in ``names``, where it is put if it is new; -1 for no name."""
    if not name:
        return -1
    found = codes.get(name)
    if found is None:
        found = codes[name] = len(names)
        names.append(name)
    return found
