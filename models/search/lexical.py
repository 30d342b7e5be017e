"""Search by word: an inverted index over product texts, in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.catalog.items import CATEGORY_SEPARATOR
from models.search.query import match_expression, unified
from schemas.catalog import Product

#: Of sku, title, brand, category and description in BM25, set by hand: what a product is called tells more than what is said of it.
FIELD_WEIGHTS: Final = (4.0, 4.0, 2.0, 2.0, 1.0)
#: Rows taken from a filtered search at once.
_CHUNK: Final = 256


class LexicalUnavailableError(ValueError):
    """The SQLite of this Python has no full-text search."""


class LexicalIndex:
    """Products by the words of SKU, title, brand, category path and description; SQLite's FTS5, ranked by BM25.

    Words are runs of letters and digits, without case and diacritics (``unicode61``). A text that has not changed is not indexed
    again, so stock and prices may change at any rate. Not for two threads at once; nothing is written to disk.

    BM25: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009; k1 = 1.2 and b = 0.75 are FTS5's.

    Example:
        >>> index = LexicalIndex()
        >>> index.apply({7: Product(sku="a", title="Café crème"), 9: Product(sku="b", title="Creme brulee"), 11: None})
        >>> index.search("cafe", 5)[0].tolist(), index.search("crem", 5)[0].tolist(), len(index)
        ([7], [7, 9], 2)

    """

    def __init__(self) -> None:
        self._fingerprints: dict[int, int] = {}
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE product USING fts5("
                "sku, title, brand, category, description, tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3')"
            )
        except sqlite3.OperationalError as error:
            raise LexicalUnavailableError(f"search needs a Python whose SQLite has FTS5: {error}") from error
        weights = ", ".join(map(str, FIELD_WEIGHTS))
        self._database.execute("INSERT INTO product (product, rank) VALUES ('rank', ?)", (f"bm25({weights})",))
        self._database.commit()

    def __len__(self) -> int:
        """Products that can be found."""
        return len(self._fingerprints)

    def apply(self, products: Mapping[int, Product | None]) -> None:
        """Set the products of these rows, None to let one go. All of it is found, or not found, by the next search."""
        gone: list[tuple[int]] = []
        new: list[tuple[int | str, ...]] = []
        for row, product in products.items():
            former = self._fingerprints.get(row)
            if product is None:
                if former is not None:
                    del self._fingerprints[row]
                    gone.append((row,))
                continue
            texts = _texts(product)
            fingerprint = xxhash.xxh3_64_intdigest("\x00".join(texts).encode())
            if fingerprint == former:
                continue
            if former is not None:
                gone.append((row,))
            self._fingerprints[row] = fingerprint
            new.append((row, *texts))
        if gone or new:
            with self._database:
                self._database.executemany("DELETE FROM product WHERE rowid = ?", gone)
                self._database.executemany(
                    "INSERT INTO product (rowid, sku, title, brand, category, description) VALUES (?, ?, ?, ?, ?, ?)", new
                )

    def search(self, query: str, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The at most ``k`` best products for a normalised query, best first, of equals the lower row first: (rows int64[n], BM25
        float64[n], higher is better). ``allowed``: bool by row; None lets all through. Whatever the query is, it is no error.
        """
        expression = match_expression(query)
        found: list[tuple[int, float]] = []
        if expression:
            cursor = self._database.execute(
                "SELECT rowid, -rank FROM product WHERE product MATCH ? ORDER BY rank, rowid LIMIT ?",
                (expression, k if allowed is None else -1),
            )
            while len(found) < k and (chunk := cursor.fetchmany(_CHUNK)):
                found += chunk if allowed is None else [pair for pair in chunk if allowed[pair[0]]]
            cursor.close()
        rows, scores = zip(*found[:k], strict=True) if found else ((), ())
        return np.array(rows, dtype=np.int64), np.array(scores, dtype=np.float64)

    def close(self) -> None:
        """Let go of the memory."""
        self._database.close()


def _texts(product: Product) -> tuple[str, ...]:
    fields = (product.sku, product.title, product.brand, CATEGORY_SEPARATOR.join(product.category_path), product.description)
    return tuple(map(unified, fields))
