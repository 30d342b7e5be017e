from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.items import ItemTable
from schemas.catalog import Product


def test_rows_are_dense_and_never_reused() -> None:
    table = ItemTable(4)
    assert [table.upsert(Product(sku=sku)) for sku in "abc"] == [0, 1, 2]
    table.delete("b")
    assert table.upsert(Product(sku="d")) == 3
    assert table.upsert(Product(sku="b")) == 1
    assert table.rows(["d", "x", "a"]).tolist() == [3, -1, 0]
    assert table.rows([]).dtype == np.int32
    assert table.skus == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("product", "active"),
    [
        (Product(sku="a"), True),
        (Product(sku="a", stock=3), True),
        (Product(sku="a", stock=0), False),
        (Product(sku="a", recommendable=False), False),
        (Product(sku="a", recommendable=False, stock=5), False),
    ],
)
def test_only_what_may_be_shown_is_active(product: Product, active: bool) -> None:
    table = ItemTable(4)
    row = table.upsert(product)
    assert bool(table.active[row]) is active
    assert bool(table.present[row]) is True
    assert table.active_count == int(active)


def test_a_sku_becomes_known_as_a_product_and_stays_known() -> None:
    table = ItemTable(4)
    table.intern("event-only")
    table.set_vector("vector-only", np.ones(4, dtype=np.float32))
    table.delete("deleted-before-it-was-seen")
    table.upsert(Product(sku="sold"))
    table.delete("sold")
    known = {sku: table.known(sku) for sku in ("event-only", "vector-only", "deleted-before-it-was-seen", "sold", "never")}
    assert known == {"event-only": False, "vector-only": False, "deleted-before-it-was-seen": True, "sold": True, "never": False}
    assert table.active_count == 0


def test_an_upsert_replaces_every_fact() -> None:
    table = ItemTable(4)
    row = table.upsert(Product(sku="a", title="Mug", category_path=("Kitchen", "Mugs"), price=Decimal("2.50"), currency="GBP"))
    assert (table.titles[row], table.categories[table.category[row]], float(table.price[row])) == ("Mug", "Kitchen > Mugs", 2.5)
    version = table.version
    table.upsert(Product(sku="a", title="Cup"))
    assert (table.titles[row], int(table.category[row]), table.version) == ("Cup", -1, version + 1)
    assert np.isnan(table.price[row])


def test_brand_currency_and_stock_are_codes_and_numbers_that_tell_none() -> None:
    table = ItemTable(4)
    full = table.upsert(Product(sku="a", brand="Acme", price=Decimal("90000000.01"), currency="EUR", stock=2**40))
    table.upsert(Product(sku="b", brand="Bolt", currency="GBP", stock=0))
    bare = table.upsert(Product(sku="c"))
    assert (table.brands, table.currencies) == (["Acme", "Bolt"], ["EUR", "GBP"])
    assert (table.brand[:3].tolist(), table.currency[:3].tolist(), table.stock[1:3].tolist()) == ([0, 1, -1], [0, 1, -1], [0, -1])
    assert table.price[full] == 90000000.01
    assert table.stock[full] == 2**31 - 1  # more than anybody asks for
    table.upsert(Product(sku="a"))
    assert (table.brand[full], table.currency[full], table.stock[full]) == (-1, -1, -1)
    assert np.isnan(table.price[bare])


def test_a_deleted_product_keeps_its_title_for_explanations() -> None:
    table = ItemTable(4)
    row = table.upsert(Product(sku="a", title="Mug", category_path=("Kitchen",)))
    table.delete("a")
    assert (table.titles[row], table.categories[table.category[row]], bool(table.active[row])) == ("Mug", "Kitchen", False)


def test_columns_grow_and_keep_what_they_hold() -> None:
    table = ItemTable(2)
    for place in range(3000):
        table.upsert(Product(sku=str(place), category_path=(f"c{place % 7}",), stock=place % 2))
        if place % 3 == 0:
            table.set_vector(str(place), np.array([place, 1], dtype=np.float32))
    assert len(table) == 3000
    assert table.capacity >= 3000
    facts = (table.category, table.brand, table.price, table.currency, table.stock)
    lengths = {len(column) for column in (table.active, table.present, *facts, table.vectors, table.has_vector)}
    assert lengths == {table.capacity}
    assert np.flatnonzero(table.active).tolist() == list(range(1, 3000, 2))
    assert np.flatnonzero(table.has_vector).tolist() == list(range(0, 3000, 3))
    assert table.vectors[2997].tolist() == [2997, 1]
    assert table.categories == [f"c{place}" for place in range(7)]
    assert table.stock[:4].tolist() == [0, 1, 0, 1]
    assert (table.brand[:3000] == -1).all()


def test_vectors_of_another_width_are_refused() -> None:
    table = ItemTable(4)
    with pytest.raises(ValueError, match="dimensions"):
        table.set_vector("a", np.ones(3, dtype=np.float32))
    table.drop_vector("never seen")
    table.set_vector("a", np.ones(4, dtype=np.float32))
    table.drop_vector("a")
    assert not table.has_vector[table.row("a")]
    assert not table.vectors[table.row("a")].any()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["sell", "hide", "sold out", "delete", "intern"])), max_size=30))
def test_the_count_of_active_products_is_the_sum_of_the_column(actions: list[tuple[str, str]]) -> None:
    table = ItemTable(1)
    last: dict[str, str] = {}
    for sku, action in actions:
        if action == "delete":
            table.delete(sku)
        elif action == "intern":
            table.intern(sku)
        else:
            table.upsert(Product(sku=sku, recommendable=action != "hide", stock=0 if action == "sold out" else None))
        if action != "intern":
            last[sku] = action
    assert table.active_count == int(table.active.sum()) == sum(action == "sell" for action in last.values())
