"""The catalogue: what a storefront says of a product, and the vector that the embed worker made of its text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.base import SCHEMA_VERSION, Amount, Currency, Identifier, Label, Message, Price, SchemaVersion, Sku


class Product(Message):
    """One product, whole (an upsert); a record with this key and a null value deletes it.

    ``stock`` absent means unknown, which counts as in stock. ``recommendable`` false keeps a sellable line that is no
    product (postage, a fee, a discount) out of every list. ``margin`` is per unit, in ``currency``.
    """

    sku: Sku
    title: Annotated[str, Field(max_length=512)] = ""
    description: Annotated[str, Field(max_length=20_000)] = ""
    brand: Annotated[str, Field(max_length=128)] = ""
    category_path: tuple[Label, ...] = ()
    price: Price | None = None
    currency: Currency | None = None
    margin: Amount | None = None
    stock: Annotated[int, Field(ge=0)] | None = None
    recommendable: bool = True
    attributes: dict[str, str] = Field(default_factory=dict)
    schema_version: SchemaVersion = SCHEMA_VERSION


class Embedding(Message):
    """A product's text as a unit vector: little-endian IEEE half floats, base64; null value = product deleted.

    ``text_hash`` covers the embedded text and the encoder, so equal hashes mean that nothing need be embedded again.
    """

    sku: Sku
    encoder: Identifier
    dimensions: Annotated[int, Field(gt=0)]
    vector: str
    text_hash: str
    schema_version: SchemaVersion = SCHEMA_VERSION
