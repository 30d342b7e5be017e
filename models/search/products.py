"""Search over a catalogue: what is found by word and by meaning, fused, for one shopper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.catalogue import Catalogue
from models.index.base import Float32
from models.search.fusion import Fused, fuse
from models.search.lexical import LexicalIndex
from models.search.semantic import nearest
from models.search.taste import Taste, affinity
from schemas.catalog import Product

#: Products taken from each of the two ways of searching: as many as a reply may hold.
DEPTH: Final = 100
#: Cosine between a query and a product's text below which the product is not found by meaning: without a floor every query, however
#: odd, would find ``DEPTH`` products. By MiniLM, over 95 % of the simulated shop's products lie above it for the noun in their title and
#: 5 % of those of other categories do [tests/models/search/test_products.py].
FLOOR: Final = 0.3


class ProductSearch:
    """Both ways of searching over one ``Catalogue``, which it follows from its first record on.

    Only what is active (``ItemTable.active``) is found. Not thread-safe, as the catalogue is not. Raises what ``LexicalIndex`` and
    ``Catalogue.follow`` raise.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lexical = LexicalIndex()
        catalogue.follow(self._take_up)

    def search(
        self, query: str, vector: Float32 | None, taste: Taste | None = None, categories: Sequence[int] | None = None, k: int = DEPTH
    ) -> Fused:
        """The at most ``k`` best products for a normalised query, in any of the category codes ``categories`` (None: everywhere).

        ``vector``: the query's, float32[d], by the catalogue's encoder; None leaves meaning out.
        ``taste``: what lifts products for this shopper (``models.search.fusion``).
        """
        table, index = self._catalogue.table, self._catalogue.index
        allowed: NDArray[np.bool_] | None = None
        if categories is not None:
            allowed = table.active & np.isin(table.category, categories)
        depth = max(k, DEPTH)
        lexical = self._lexical.search(query, depth, allowed)
        semantic = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        if vector is not None and len(index):
            rows, cosines = nearest(index, vector, depth, table.active if allowed is None else allowed)
            near = cosines >= FLOOR
            semantic = rows[near], cosines[near]
        fused = fuse(lexical, semantic, None if taste is None else partial(affinity, taste, table))
        return Fused(fused.rows[:k], fused.shares[:k])

    def close(self) -> None:
        """Let go of the memory of the words."""
        self._lexical.close()

    def _take_up(self, products: Mapping[int, Product | None]) -> None:
        active = self._catalogue.table.active
        self._lexical.apply({row: product if active[row] else None for row, product in products.items()})
