"""The simulated catalogue: products with coherent text, and the numbers that shoppers choose by."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from models.simulation.chance import Chance
from models.simulation.vocabulary import CATEGORIES, QUALITY, STYLES, VARIANTS, CategoryWords, StyleWords
from schemas.catalog import Product

_CENT = Decimal("0.01")
_COMPLEMENTS = 3


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Products and, row by row, the hidden traits that tastes act on.

    ``category``, ``style``: indices into ``CATEGORIES`` and ``STYLES``, int32 (n,). ``level``: price level within the
    category, 0 cheap .. 1 dear, float64 (n,). ``popularity``: positive weights, float64 (n,). ``complements``: for each product
    the rows of what is bought with it. ``shelves``: for each category the rows that stand on it.
    """

    products: tuple[Product, ...]
    category: NDArray[np.int32]
    style: NDArray[np.int32]
    level: NDArray[np.float64]
    popularity: NDArray[np.float64]
    popularity_cumulative: list[float]
    complements: tuple[tuple[int, ...], ...]
    shelves: tuple[NDArray[np.int64], ...]
    rows: dict[str, int]

    def __len__(self) -> int:
        return len(self.products)


def generate_catalogue(generator: np.random.Generator, size: int, currency: str = "GBP") -> Catalogue:
    """Make ``size`` products spread over all categories and styles. Raises ``ValueError`` for fewer than one a category."""
    if size < len(CATEGORIES):
        raise ValueError(f"a catalogue needs at least {len(CATEGORIES)} products, one a category; got {size}")
    chance = Chance(generator)
    category = (np.arange(size) % len(CATEGORIES)).astype(np.int32)
    style = generator.integers(0, len(STYLES), size).astype(np.int32)
    # Luxury is dear and playful is cheap more often than not, as in any shop.
    lean = np.array([0.5, 0.5, 0.45, 0.5, 0.45, 0.5, 0.3, 0.8])
    level = np.clip(generator.normal(lean[style], 0.22), 0.02, 0.98)
    popularity = generator.permutation(1.0 / np.arange(1, size + 1) ** 0.5)
    seen: set[str] = set()
    products = tuple(
        _product(chance, row, CATEGORIES[category[row]], STYLES[style[row]], float(level[row]), currency, seen) for row in range(size)
    )
    shelves = tuple(np.flatnonzero(category == index) for index in range(len(CATEGORIES)))
    return Catalogue(
        products=products,
        category=category,
        style=style,
        level=level,
        popularity=popularity,
        popularity_cumulative=np.cumsum(popularity).tolist(),
        complements=_complements(chance, category, style, shelves),
        shelves=shelves,
        rows={product.sku: row for row, product in enumerate(products)},
    )


def _product(chance: Chance, row: int, category: CategoryWords, style: StyleWords, level: float, currency: str, seen: set[str]) -> Product:
    low, high = category.prices
    price = Decimal(f"{low * (high / low) ** level:.0f}") - _CENT
    noun, materials = category.goods[chance.below(len(category.goods))]
    material, colour = chance.one_of(materials), chance.one_of(style.colours)
    adjective, feature, variant = chance.one_of(style.adjectives), chance.one_of(category.features), chance.one_of(VARIANTS)
    title = _sentence(f"{adjective} {material} {noun} in {colour}") + (f", {variant}" if variant else "")
    if title in seen:
        title = f"{title}, no. {row}"
    seen.add(title)
    quality = QUALITY[min(int(level * len(QUALITY)), len(QUALITY) - 1)]
    description = f"{_sentence(adjective)} {noun} in {colour} {material}, {feature}. {chance.one_of(style.sentences)} {quality}."
    stock = 0 if chance.happens(0.01) else 20 + chance.below(2_000)
    return Product(
        sku=f"{category.code}-{row:05d}",
        title=title,
        description=description,
        brand=chance.one_of(style.brands),
        category_path=category.path,
        price=price,
        currency=currency,
        margin=(price * Decimal(f"{0.25 + 0.35 * chance.uniform():.2f}")).quantize(_CENT),
        stock=stock,
        attributes={"style": style.name, "colour": colour, "material": material},
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _complements(
    chance: Chance, category: NDArray[np.int32], style: NDArray[np.int32], shelves: tuple[NDArray[np.int64], ...]
) -> tuple[tuple[int, ...], ...]:
    """Plant co-bought pairs: partners stand on a shelf that goes with the product's own and, where there are any, share its style."""
    index = {words.code: number for number, words in enumerate(CATEGORIES)}
    partners: list[tuple[int, ...]] = []
    for row in range(len(category)):
        chosen: list[int] = []
        for code in CATEGORIES[category[row]].goes_with:
            shelf = shelves[index[code]]
            alike = shelf[style[shelf] == style[row]]
            pool = alike if len(alike) else shelf
            chosen.extend(int(pool[chance.below(len(pool))]) for _ in range(_COMPLEMENTS - 1))
        partners.append(tuple(dict.fromkeys(chosen))[:_COMPLEMENTS])
    return tuple(partners)
