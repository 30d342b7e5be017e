from __future__ import annotations

import pytest

from models.encoder.text import product_text, text_hash
from schemas.catalog import Product


@pytest.mark.parametrize(
    ("product", "text"),
    [
        (Product(sku="1"), ""),
        (Product(sku="1", title="  \n "), ""),
        (Product(sku="1", title="Mug"), "Mug"),
        (Product(sku="1", title="Mug.", description="It holds  tea."), "Mug. It holds tea."),
        (Product(sku="1", title="Mug", brand="Acme", category_path=("Home", "Mugs"), description="Red"), "Mug. Acme. Home, Mugs. Red"),
    ],
)
def test_the_text_of_a_product(product: Product, text: str) -> None:
    assert product_text(product) == text


def test_price_and_stock_do_not_change_the_text() -> None:
    from decimal import Decimal

    assert product_text(Product(sku="1", title="Mug", stock=3, price=Decimal("2.50"), currency="GBP")) == "Mug"


def test_the_hash_covers_text_and_encoder_and_keeps_them_apart() -> None:
    assert text_hash("mug", "a@1") == text_hash("mug", "a@1")
    assert len({text_hash("mug", "a@1"), text_hash("mug", "a@2"), text_hash("mugs", "a@1"), text_hash("1mug", "a@")}) == 4
