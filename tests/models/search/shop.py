"""A catalogue that can be searched, fed by records as the topics bring them."""

from __future__ import annotations

import numpy as np

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.search.fusion import PARTS, UNIT
from models.search.products import ProductSearch
from models.search.query import normalised
from models.search.taste import Taste
from schemas.catalog import Embedding, Product

Shares = dict[str, float]


class Shop:
    """Products by SKU; vectors are of the encoder ``tiny`` unless a test says otherwise."""

    def __init__(self) -> None:
        self.catalogue = Catalogue("flat", "cpu")
        self.search = ProductSearch(self.catalogue)

    def put(self, sku: str, title: str = "", vector: tuple[float, ...] | np.ndarray | None = None, **facts: object) -> Product:
        product = Product(sku=sku, title=title, **facts)  # type: ignore[arg-type]
        self.catalogue.apply_product(sku.encode(), product.to_json())
        if vector is not None:
            self.embed(sku, vector)
        return product

    def embed(self, sku: str, vector: tuple[float, ...] | np.ndarray, encoder: str = "tiny") -> None:
        unit = np.array(vector, dtype=np.float32) / np.linalg.norm(vector)
        record = Embedding(sku=sku, encoder=encoder, dimensions=len(unit), vector=pack(unit), text_hash="-")
        self.catalogue.apply_embedding(sku.encode(), record.to_json())

    def delete(self, sku: str) -> None:
        self.catalogue.apply_product(sku.encode(), None)

    def find(
        self,
        query: str,
        vector: tuple[float, ...] | np.ndarray | None = None,
        taste: Taste | None = None,
        k: int = 20,
        category: str | None = None,
    ) -> dict[str, Shares]:
        """SKU -> its shares that are not 0, best first."""
        unit = None if vector is None else np.array(vector, dtype=np.float32) / np.float32(np.linalg.norm(vector))
        codes = None if category is None else [self.catalogue.table.categories.index(category)]
        found = self.search.search(normalised(query), unit, taste, codes, k)
        skus = self.catalogue.table.skus
        return {
            skus[row]: {part: share / UNIT for part, share in zip(PARTS, shares, strict=True) if share}
            for row, shares in zip(found.rows.tolist(), found.shares.tolist(), strict=True)
        }
