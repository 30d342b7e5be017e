from __future__ import annotations

import doctest
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.search import lexical
from models.search.lexical import LexicalIndex, LexicalUnavailableError
from models.search.query import normalised
from schemas.catalog import Product


def index_of(*titles: str) -> LexicalIndex:
    index = LexicalIndex()
    index.apply({row: Product(sku=f"s{row}", title=title) for row, title in enumerate(titles)})
    return index


def found(index: LexicalIndex, query: str, k: int = 10, allowed: np.ndarray | None = None) -> list[int]:
    rows, scores = index.search(normalised(query), k, allowed)
    assert (rows.dtype, scores.dtype, len(rows)) == (np.int64, np.float64, len(scores))
    assert (np.diff(scores) <= 0).all()
    return rows.tolist()


def test_the_examples_hold() -> None:
    assert doctest.testmod(lexical).failed == 0


def test_the_more_words_fit_the_higher_a_product_stands() -> None:
    index = index_of("blue pan", "red pan", "blue mug", "red mug", "green lamp")
    assert found(index, "red mug")[0] == 3
    assert set(found(index, "red mug")) == {1, 2, 3}


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    index = index_of("mug white", "mug black", "mug grey", "mug pink", "lamp teal")
    assert found(index, "teal mug")[0] == 4


def test_a_word_is_found_by_its_beginning_but_the_whole_word_comes_first() -> None:
    index = index_of("magnet", "magnetic board", "mug", "lamp", "pan", "sofa")
    assert found(index, "magnet") == [0, 1]
    assert found(index, "magn") == [0, 1]
    assert found(index, "m") == []


def test_case_accents_and_wide_letters_do_not_matter() -> None:
    index = index_of("Café Crème", "ＭＵＧ")
    assert found(index, "cafe creme") == found(index, "CAFÉ") == [0]
    assert found(index, "mug") == [1]


def test_every_text_of_a_product_is_searched_and_its_title_counts_most() -> None:
    index = LexicalIndex()
    index.apply({
        0: Product(sku="a", title="x", description="copper"),
        1: Product(sku="b", title="x", brand="Copper"),
        2: Product(sku="c", title="copper"),
        3: Product(sku="d", title="x", category_path=("Kitchen", "Copper")),
        4: Product(sku="COPPER-7", title="x"),
        5: Product(sku="f", title="x"),
    })  # fmt: skip
    assert set(found(index, "copper")) == {0, 1, 2, 3, 4}
    assert found(index, "copper")[-1] == 0
    assert found(index, "copper-7") == [4]


def test_a_word_with_signs_in_it_is_a_phrase() -> None:
    index = index_of("drill XR-500/B", "drill 500 XR", "drill B500")
    assert found(index, "xr-500/b") == [0]
    assert found(index, "XR-500") == [0]


def test_equal_products_have_equal_scores_and_come_in_the_order_of_their_rows() -> None:
    index = index_of("red mug", "blue pan", "red mug", "red mug")
    rows, scores = index.search("mug", 10)
    assert rows.tolist() == [0, 2, 3]
    assert len(set(scores.tolist())) == 1
    assert found(index, "mug", k=2) == [0, 2]


def test_a_filter_goes_on_until_enough_is_found() -> None:
    index = index_of(*["mug"] * 700)
    allowed = np.zeros(1024, dtype=np.bool_)
    allowed[[3, 650, 699]] = True
    assert found(index, "mug", 2, allowed) == [3, 650]
    assert found(index, "mug", 10, allowed) == [3, 650, 699]


def test_a_change_counts_at_once_and_an_unchanged_text_is_left_alone() -> None:
    index = index_of("red mug", "pan")
    before = index._database.total_changes
    index.apply({0: Product(sku="s0", title="red mug", stock=3)})
    assert index._database.total_changes == before
    index.apply({0: Product(sku="s0", title="blue lamp"), 1: None})
    assert found(index, "red mug pan") == []
    assert found(index, "lamp") == [0]
    assert len(index) == 1
    index.apply({0: None, 1: None, 7: None})
    assert (found(index, "lamp"), len(index)) == ([], 0)


def test_a_product_without_text_is_found_by_its_sku_alone() -> None:
    index = LexicalIndex()
    index.apply({0: Product(sku="85123A")})
    assert found(index, "85123a") == found(index, "8512") == [0]


@pytest.mark.parametrize(
    "query",
    [
        '"', '""', '"""', "'", "red'; DROP TABLE product; --", "title:mug", "mug AND", "AND OR NOT NEAR",
        "NEAR(red mug)", "(", "mug)", "mug*",
        "^mug", "-mug", "+", "{title brand}: mug", "mug\x00", "🛒", "🛒mug", "é" * 256, "a " * 128, "%", "\\", "?1", "𐐷𐐷",
        "ﷺ " * 128, "\u200d",
    ],
)  # fmt: skip
def test_no_query_is_an_error(query: str) -> None:
    index = index_of("red mug", "and or not near")
    assert set(found(index, query)) <= {0, 1}
    assert found(index, "mug") == [0], "the index is as it was"


@given(st.text(max_size=256))
def test_whatever_is_typed_is_no_error(query: str) -> None:
    assert set(found(SHARED, query)) <= {0, 1, 2}


SHARED = index_of("red mug", "Blue 5\" pan, 'steel'", "🛒 trolley")


def test_a_word_between_signs_is_found_all_the_same() -> None:
    index = index_of("red mug", "pan", "🎄🛒trolley")
    assert found(index, "trolley") == [2]
    for query in ('"mug"', "(mug)", "mug*", "^mug", "-mug", "🛒mug", "'mug'", "mug\x00"):
        assert found(index, query) == [0], query


def test_a_python_without_full_text_search_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(sqlite3.Connection):
        def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
            return super().execute(statement.replace("fts5", "fts_unheard_of"), *arguments)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **options: connect(*arguments, factory=Bare, **options))
    with pytest.raises(LexicalUnavailableError, match="FTS5"):
        LexicalIndex()
