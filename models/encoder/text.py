"""What of a product is embedded, and the hash that says whether it has changed."""

from __future__ import annotations

from typing import Final

import xxhash

from schemas.catalog import Product

#: Between the parts: a sentence's end to a language model.
_SEPARATOR: Final = ". "


def product_text(product: Product) -> str:
    """Title, brand, category path and description, in this order, absent ones left out; white space is collapsed.

    Example:
        >>> product_text(Product(sku="1", title="Red  mug", brand="Acme", category_path=("Kitchen", "Mugs")))
        'Red mug. Acme. Kitchen, Mugs'

    """
    parts = (product.title, product.brand, ", ".join(product.category_path), product.description)
    kept = [collapsed for part in parts if (collapsed := " ".join(part.split()))]
    return _SEPARATOR.join([*(part.rstrip(".") for part in kept[:-1]), *kept[-1:]])


def text_hash(text: str, encoder_version: str) -> str:
    """32 hexadecimal digits over a text and the encoder that embeds it: xxh3-128, a fingerprint, not a defence.

    Example:
        >>> text_hash("Red mug", "minilm@1") == text_hash("Red mug", "minilm@2")
        False

    """
    return xxhash.xxh3_128(f"{encoder_version}\x00{text}".encode()).hexdigest()
