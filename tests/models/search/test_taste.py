from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.catalog.items import ItemTable
from models.search.taste import CATEGORY, FLOOR, LISTED, SIMILAR, Taste, affinity, taste_of
from schemas.catalog import Product
from schemas.recommendation import CausedBy, Recommendations, RecommendedItem, Versions


def recommended(*scores: tuple[str, float], policy: Any = "personal") -> Recommendations:
    items = tuple(
        RecommendedItem(sku=sku, position=place, score=score, explanation="", reasons=())
        for place, (sku, score) in enumerate(scores, start=1)
    )
    return Recommendations(
        recommendation_id="r", user_id="ann", generated_at=datetime(2026, 3, 1, tzinfo=UTC), policy=policy, items=items,
        caused_by=CausedBy(topic="t", partition=0, first_offset=0, last_offset=0, events=1),
        versions=Versions(encoder="e", model="m", index=1),
    )  # fmt: skip


@pytest.fixture
def table() -> ItemTable:
    """Two mugs and a pan in the kitchen, a sofa, and a lamp without category and vector."""
    table = ItemTable(2)
    for sku, category in (("mug", "Kitchen"), ("cup", "Kitchen"), ("pan", "Pans"), ("sofa", "Living"), ("lamp", "")):
        table.upsert(Product(sku=sku, category_path=(category,) if category else ()))
    for sku, vector in (("mug", (1, 0)), ("cup", (0.8, 0.6)), ("pan", (0, 1)), ("sofa", (-1, 0))):
        table.set_vector(sku, np.array(vector, dtype=np.float32))
    return table


def test_weights_are_scores_over_the_best_one() -> None:
    assert taste_of(recommended(("mug", 0.8), ("pan", 0.2))) == Taste(("mug", "pan"), (1.0, 0.25))


@pytest.mark.parametrize("policy", ["cold_start", "empty"])
def test_a_list_that_rests_on_nothing_the_shopper_did_is_no_taste(policy: str) -> None:
    assert taste_of(recommended(("mug", 0.8), policy=policy)) is None


def test_an_empty_list_is_no_taste_nor_is_one_without_scores() -> None:
    assert taste_of(recommended()) is None
    assert taste_of(recommended(("mug", 0.0))) is None


def test_an_affinity_is_the_sum_of_listed_category_and_similar(table: ItemTable) -> None:
    found = affinity(Taste(("mug",), (1.0,)), table, np.arange(5))
    assert found.tolist() == pytest.approx([
        LISTED + CATEGORY + SIMILAR,
        CATEGORY + SIMILAR * (0.8 - FLOOR) / (1 - FLOOR),
        0.0,
        0.0,
        0.0,
    ])  # fmt: skip


def test_weights_grade_it(table: ItemTable) -> None:
    found = affinity(Taste(("mug", "pan"), (1.0, 0.5)), table, np.array([0, 2, 1]))
    centre = np.array([1.0, 0.5]) / np.sqrt(1.25)
    similar = [(cosine - FLOOR) / (1 - FLOOR) for cosine in (centre[0], centre[1], 0.8 * centre[0] + 0.6 * centre[1])]
    listed, category = [1.0, 0.5, 0.0], [1.0, 0.5, 1.0]
    expected = LISTED * np.array(listed) + CATEGORY * np.array(category) + SIMILAR * np.array(similar)
    assert found.tolist() == pytest.approx(expected.tolist())


def test_a_list_of_products_that_the_table_does_not_know_says_nothing(table: ItemTable) -> None:
    assert affinity(Taste(("gone", "nowhere"), (1.0, 0.5)), table, np.arange(5)).tolist() == [0.0] * 5
    assert affinity(Taste(("gone", "mug"), (1.0, 0.5)), table, np.array([0])).tolist() == pytest.approx([LISTED * 0.5 + CATEGORY + SIMILAR])


def test_a_list_without_categories_and_vectors_lifts_only_itself(table: ItemTable) -> None:
    assert affinity(Taste(("lamp",), (1.0,)), table, np.arange(5)).tolist() == [0.0, 0.0, 0.0, 0.0, LISTED]


def test_tastes_that_cancel_out_have_no_centre(table: ItemTable) -> None:
    found = affinity(Taste(("mug", "sofa"), (1.0, 1.0)), table, np.array([0, 1]))
    assert found.tolist() == pytest.approx([LISTED + CATEGORY, CATEGORY])


def test_no_rows_have_no_affinities(table: ItemTable) -> None:
    assert affinity(Taste(("mug",), (1.0,)), table, np.zeros(0, dtype=np.int64)).shape == (0,)
