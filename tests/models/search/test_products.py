"""Search over a catalogue that changes, and what words and meaning each find that the other cannot."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalog.catalogue import Catalogue
from models.encoder.encoder import TextEncoder
from models.encoder.text import product_text
from models.search.fusion import BOOST
from models.search.products import FLOOR, ProductSearch
from models.search.query import normalised
from models.search.taste import LISTED, SIMILAR, Taste
from models.simulation.catalogue import generate_catalogue
from models.simulation.vocabulary import CATEGORIES
from schemas.catalog import Product
from tests.models.search.shop import Shop


def test_words_and_meaning_each_have_their_share() -> None:
    shop = Shop()
    shop.put("a", "red mug", (1, 0))
    shop.put("b", "crimson cup", (0.9, 0.1))
    shop.put("c", "red pan")
    shop.put("d", "sofa", (0, 1))
    found = shop.find("red mug", (1, 0))
    assert list(found) == ["a", "c", "b"]
    assert found["a"] == {"lexical": 0.4, "semantic": 0.4}
    assert set(found["b"]) == {"semantic"}
    assert set(found["c"]) == {"lexical"}


def test_what_lies_below_the_floor_is_not_found_by_meaning() -> None:
    shop = Shop()
    shop.put("near", "x", (FLOOR + 0.01, np.sqrt(1 - (FLOOR + 0.01) ** 2)))
    shop.put("far", "x", (FLOOR - 0.01, np.sqrt(1 - (FLOOR - 0.01) ** 2)))
    assert list(shop.find("mug", (1, 0))) == ["near"]


def test_without_a_vector_words_alone_count() -> None:
    shop = Shop()
    shop.put("a", "red mug", (1, 0))
    assert shop.find("mug") == {"a": {"lexical": 0.4}}


def test_an_empty_catalogue_has_nothing_to_find() -> None:
    assert Shop().find("mug", (1, 0)) == {}
    assert Shop().find("mug", (1, 0), Taste(("a",), (1.0,))) == {}


@pytest.mark.parametrize("how", ["deleted", "sold out", "not recommendable"])
def test_a_catalogue_that_shrinks_to_nothing_and_comes_back(how: str) -> None:
    shop = Shop()
    for number in range(5):
        shop.put(f"m{number}", "red mug", (1, 0.01 * number))
    shop.catalogue.index.merge()
    for number in range(5):
        assert f"m{number}" in shop.find("red mug", (1, 0))
        if how == "deleted":
            shop.delete(f"m{number}")
        else:
            shop.put(f"m{number}", "red mug", **({"stock": 0} if how == "sold out" else {"recommendable": False}))
        assert f"m{number}" not in shop.find("red mug", (1, 0))
    assert shop.find("red mug", (1, 0)) == {}
    shop.put("m3", "red mug")
    assert shop.find("red mug", (1, 0)) == {"m3": {"lexical": 0.4, "semantic": 0.4}}


def test_a_product_is_found_by_word_before_its_vector_is_there() -> None:
    shop = Shop()
    shop.put("a", "red mug")
    assert shop.find("mug", (1, 0)) == {"a": {"lexical": 0.4}}
    shop.embed("a", (1, 0))
    assert shop.find("mug", (1, 0)) == {"a": {"lexical": 0.4, "semantic": 0.4}}


def test_a_vector_without_a_product_is_not_found() -> None:
    shop = Shop()
    shop.embed("a", (1, 0))
    assert shop.find("mug", (1, 0)) == {}


def test_a_new_title_takes_the_place_of_the_old_one() -> None:
    shop = Shop()
    shop.put("a", "red mug")
    shop.put("a", "blue lamp")
    assert shop.find("mug") == {}
    assert list(shop.find("lamp")) == ["a"]


def test_several_records_of_a_product_in_one_batch_leave_the_last() -> None:
    shop = Shop()
    records = [Product(sku="a", title=title).to_json() for title in ("mug", "pan")]
    shop.catalogue.apply_products(
        [(b"a", records[0]), (b"a", None), (b"a", records[1]), (b"b", Product(sku="b", title="pan").to_json()), (b"b", None)]
    )
    assert list(shop.find("mug pan")) == ["a"]


def test_products_without_text_are_found_by_sku_and_break_nothing() -> None:
    shop = Shop()
    shop.put("85123A")
    shop.put("b", "mug")
    assert list(shop.find("mug", (1, 0))) == ["b"]
    assert list(shop.find("85123a", (1, 0))) == ["85123A"]


def test_duplicates_are_equal_and_keep_their_order() -> None:
    shop = Shop()
    for sku in ("first", "second", "third"):
        shop.put(sku, "red mug", (1, 0))
    found = shop.find("red mug", (1, 0))
    assert list(found) == ["first", "second", "third"]
    assert all(shares == {"lexical": 0.4, "semantic": 0.4} for shares in found.values())
    assert list(shop.find("red mug", (1, 0), Taste(("third",), (1.0,)))) == ["third", "first", "second"]


def test_taste_lifts_by_a_bounded_share_of_relevance() -> None:
    shop = Shop()
    shop.put("a", "mug", (1, 0))
    shop.put("b", "mug", (1, 0))
    found = shop.find("mug", (1, 0), Taste(("b", "elsewhere"), (1.0, 1.0)))
    assert list(found) == ["b", "a"]
    assert found["b"]["personal"] == pytest.approx(0.8 * BOOST * (LISTED + SIMILAR), abs=1e-6)
    assert found["a"]["personal"] == pytest.approx(0.8 * BOOST * SIMILAR, abs=1e-6)


def test_a_category_bounds_both_ways_of_searching() -> None:
    shop = Shop()
    shop.put("mug", "red mug", (1, 0), category_path=("Kitchen",))
    shop.put("sofa", "red mug sofa", (1, 0), category_path=("Living",))
    shop.put("none", "red mug", (1, 0))
    assert shop.find("red mug", (1, 0), category="Living") == {"sofa": {"lexical": 0.4, "semantic": 0.4}}
    shop.delete("sofa")
    assert shop.find("red mug", (1, 0), category="Living") == {}


def test_no_more_than_asked_for() -> None:
    shop = Shop()
    for number in range(150):
        shop.put(f"m{number}", f"mug {number}", (1, 0.001 * number))
    assert len(shop.find("mug", (1, 0), k=100)) == 100
    assert list(shop.find("mug", (1, 0), k=1)) == [next(iter(shop.find("mug", (1, 0), k=100)))]


def test_a_catalogue_that_holds_products_already_cannot_be_followed() -> None:
    catalogue = Catalogue("flat", "cpu")
    catalogue.apply_product(b"a", Product(sku="a").to_json())
    with pytest.raises(ValueError, match="before any record"):
        ProductSearch(catalogue)


PRODUCTS = (
    Product(sku="p1", title="Velvet couch, three seats", category_path=("Living", "Seating")),
    Product(sku="p2", title="Cordless drill XR-5042", category_path=("Workshop",)),
    Product(sku="p3", title="Cordless drill XR-5017", category_path=("Workshop",)),
    Product(sku="p4", title="Enamel mug, red", category_path=("Kitchen", "Mugs")),
    Product(sku="p5", title="Wool blanket", category_path=("Living", "Textiles")),
    Product(sku="p6", title="Ceramic vase, blue", category_path=("Living", "Decoration")),
    Product(sku="p7", title="Running shoes for women", category_path=("Sports",)),
    Product(sku="p8", title="Notebook, dotted", category_path=("Stationery",)),
)


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", threads=1)


@pytest.fixture(scope="module")
def meaningful(minilm: TextEncoder) -> Shop:
    """A small shop with the vectors of a real encoder."""
    shop = Shop()
    for product, vector in zip(PRODUCTS, minilm.encode([product_text(product) for product in PRODUCTS]), strict=True):
        shop.catalogue.apply_product(product.sku.encode(), product.to_json())
        shop.embed(product.sku, vector, minilm.version)
    return shop


@pytest.mark.parametrize(
    ("query", "sku"), [("sofa", "p1"), ("sneakers", "p7"), ("coffee cup", "p4"), ("something warm to sleep under", "p5")]
)
def test_a_synonym_is_found_by_meaning_where_no_word_fits(meaningful: Shop, minilm: TextEncoder, query: str, sku: str) -> None:
    found = meaningful.find(query, minilm.encode([normalised(query)])[0])
    assert next(iter(found)) == sku
    assert set(found[sku]) == {"semantic"}
    assert sku not in meaningful.find(query)


def test_a_model_number_is_told_apart_by_word_where_meaning_sees_twins(meaningful: Shop, minilm: TextEncoder) -> None:
    for number, sku in (("5042", "p2"), ("xr-5017", "p3"), ("drill XR-5017", "p3")):
        vector = minilm.encode([normalised(number)])[0]
        assert next(iter(meaningful.find(number, vector))) == sku
        assert "lexical" in meaningful.find(number, vector)[sku]
    assert list(meaningful.find("5017")) == ["p3"]


def test_the_floor_parts_what_a_word_means_from_the_rest(minilm: TextEncoder) -> None:
    catalogue = generate_catalogue(np.random.default_rng(1), 160)
    vectors = minilm.encode([product_text(product) for product in catalogue.products])
    nouns = [(code, noun) for code, words in enumerate(CATEGORIES) for noun, _ in words.goods]
    same: list[float] = []
    other: list[float] = []
    for (code, noun), cosines in zip(nouns, minilm.encode([noun for _, noun in nouns]) @ vectors.T, strict=True):
        same += cosines[[noun in product.title.split(" in ")[0] for product in catalogue.products]].tolist()
        other += cosines[catalogue.category != code].tolist()
    assert (np.array(same) >= FLOOR).mean() > 0.95
    assert (np.array(other) >= FLOOR).mean() < 0.07
    for nonsense in minilm.encode(["asdf qwer zxcv", "quantum physics", "invoice 2024 tax", "123456"]):
        assert (vectors @ nonsense).max() < FLOOR
