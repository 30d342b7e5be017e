"""Factors as a source of the worker's lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.factors.model import FactorModel
from models.factors.source import FactorSource, watch_factors
from models.profiles import Profile, apply
from models.profiles.columns import columns_of
from schemas.catalog import Product
from tests.models.profiles.events import event
from tests.models.ranking.shop import Shop, shopper
from tests.models.retrieval.trained_sources import found, table

SKUS = [f"i{number}" for number in range(20)]


def kinds(skus: list[str] = SKUS, sharper: float = 0.0) -> FactorModel:
    """Even items lie in one direction, odd ones in another, those of a higher number a little less."""
    strength = 1.0 - np.arange(len(skus)) / 100
    vectors = np.stack([strength * (np.arange(len(skus)) % 2 == kind) for kind in (0, 1)], axis=1) + sharper
    return FactorModel(vectors.astype(np.float32), skus, 0.05, 8.0)


def test_items_of_the_shoppers_kind_are_found_among_what_is_on_sale() -> None:
    items = table(SKUS[::-1])  # rows are not the model's
    source = FactorSource(kinds(), items)
    nobody, even, stranger, odd = found(
        source, items, Profile(), shopper(("click", "i8")), shopper(("click", "unheard-of")), shopper(("purchase", "i5"))
    )
    assert (nobody, even, stranger, odd) == ([], ["i0", "i2", "i4"], [], ["i1", "i3", "i5"])
    source.note([items.upsert(Product(sku="i2", title="gone", stock=0))])
    assert found(source, items, shopper(("click", "i8"))) == [["i0", "i4", "i6"]]
    source.note([items.upsert(Product(sku="i2", title="back"))])
    assert found(source, items, shopper(("click", "i8"))) == [["i0", "i2", "i4"]]


def test_effort_and_repetition_count_and_a_purchase_is_not_counted_twice() -> None:
    items = table(SKUS)
    source = FactorSource(kinds(), items)
    assert found(source, items, shopper(("browse", "i1"), ("purchase", "i2")))[0][0] == "i0"
    assert found(source, items, shopper(*[("browse", "i1")] * 5, ("purchase", "i2")))[0][0] == "i1"
    columns = columns_of([shopper(("purchase", "i2"), ("click", "i3"), ("click", "i3"))], items.rows, lambda name: ())
    starts, places, weights = source._items_of(columns)
    assert (starts.tolist(), places.tolist(), weights.tolist()) == ([0, 2], [2, 3], [1.5, 2.0])


def test_purchases_of_long_ago_still_speak() -> None:
    items = table(SKUS)
    profile = shopper(("purchase", "i1"))
    for number in range(60):
        apply(profile, event("click", 100 + number, minute=number, sku="elsewhere"))
    assert "i1" not in profile.recent_skus
    assert found(FactorSource(kinds(), items), items, profile) == [["i1", "i3", "i5"]]


def test_an_item_that_was_not_trained_on_waits() -> None:
    items = table([*SKUS, "new"])
    source = FactorSource(kinds(), items)
    assert "new" not in found(source, items, shopper(("click", "i0"), ("click", "new")), limit=21)[0]


def test_a_catalogue_that_grows_is_followed() -> None:
    items = table(SKUS[:2])
    source = FactorSource(kinds([f"i{number}" for number in range(3_000)]), items)
    assert found(source, items, shopper(("click", "i0"))) == [["i0"]]
    for number in range(2, 3_000):
        items.upsert(Product(sku=f"i{number}"))
    assert found(source, items, shopper(("click", "i0"))) == [["i0", "i2", "i4"]]


def test_lists_name_the_source_and_its_share() -> None:
    shop = Shop()
    for sku in SKUS:
        shop.product(sku)
    model = kinds()
    shop.ranker.factors = FactorSource(model, shop.table)
    lists = shop.rank(shopper(("click", "i4")))
    items = {item.sku: item for item in shop.items(lists)}
    assert lists.model == f"blend-4+{model.name}"
    assert [reason.source for reason in items["i0"].reasons] == ["factors"]
    assert items["i0"].explanation == "Chosen by shoppers like you"
    shop.ranker.factors = None
    assert all(reason.source != "factors" for item in shop.items(shop.rank(shopper(("click", "i4")))) for reason in item.reasons)


def test_a_folder_is_watched(tmp_path: Path) -> None:
    kinds().save(tmp_path, {})
    watched = watch_factors(tmp_path)
    assert watched.poll() is None
    other = kinds(sharper=0.1)
    other.save(tmp_path, {})
    taken = watched.poll()
    assert taken is not None
    assert taken.name == other.name
