"""Which rows of the item table a rule means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import CATEGORY_SEPARATOR, ItemTable
from models.rules.file import Condition

_ARROW: Final = CATEGORY_SEPARATOR.strip()


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of a category path, in lower case, without the spaces around them.

    Example:
        >>> path_parts("Kitchen > Mugs>Large")
        ('kitchen', 'mugs', 'large')

    """
    return tuple(part.strip().casefold() for part in path.split(_ARROW))


def lies_in(path: str, category: str) -> bool:
    """Whether ``category``, one part of a path or several in a row, is in ``path``.

    Example:
        >>> [lies_in("Home > Kitchen > Mugs", name) for name in ("kitchen", "Kitchen > Mugs", "Home > Mugs", "Mug")]
        [True, True, False, False]

    """
    parts, wanted = path_parts(path), path_parts(category)
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts) - len(wanted) + 1))


def in_category(categories: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path lies in one of ``categories``."""
    return lambda path: any(lies_in(path, category) for category in categories)


def is_brand(brands: Sequence[str]) -> Callable[[str], bool]:
    """Whether a brand is one of ``brands``."""
    wanted = {brand.casefold() for brand in brands}
    return lambda brand: brand.casefold() in wanted


class Fitting:
    """For each code of a growing list of ``names`` whether it fits, asked once a name."""

    def __init__(self, names: Sequence[str], fits: Callable[[str], bool]) -> None:
        self._names = names
        self._fits = fits
        self._known = np.zeros(1, dtype=np.bool_)  # the last entry is that of the code -1, "none"

    def of(self, codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[n] for int32[n] codes, false where -1."""
        known = len(self._known) - 1
        if known < len(self._names):
            new = [self._fits(name) for name in self._names[known:]]
            self._known = np.concatenate([self._known[:-1], np.array([*new, False], dtype=np.bool_)])
        return self._known[codes]


class Selection:
    """The products that ``condition`` is about."""

    def __init__(self, condition: Condition, items: ItemTable) -> None:
        self._condition = condition
        self._items = items
        self._categories = Fitting(items.categories, in_category(condition.categories)) if condition.categories else None
        self._brands = Fitting(items.brands, is_brand(condition.brands)) if condition.brands else None

    def of(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[n]: whether each of int32[n] ``rows`` fits, as its product is now."""
        condition, items = self._condition, self._items
        fits = np.ones(len(rows), dtype=np.bool_)
        if condition.skus:
            fits &= np.isin(rows, items.rows(condition.skus))
        if self._categories is not None:
            fits &= self._categories.of(items.category[rows])
        if self._brands is not None:
            fits &= self._brands.of(items.brand[rows])
        if condition.price_from is not None:
            fits &= items.price[rows] >= float(condition.price_from)
        if condition.price_below is not None:
            fits &= items.price[rows] < float(condition.price_below)
        if condition.currency is not None:
            code = items.currencies.index(condition.currency) if condition.currency in items.currencies else len(items.currencies)
            fits &= items.currency[rows] == code
        if condition.stock_below is not None:
            stock = items.stock[rows]
            fits &= (stock >= 0) & (stock < condition.stock_below)
        return fits
