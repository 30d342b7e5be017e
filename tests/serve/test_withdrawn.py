from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.serve.withdrawn import listed_skus, without_withdrawn
from tests.serve.conftest import Store, eventually, serving


def record(*skus: str) -> bytes:
    reasons = [{"source": "trending", "score": 1.0, "because": "gone"}]
    items = [
        {"sku": sku, "position": place, "score": 0.5, "explanation": 'Because you viewed {"sku":"gone","position":', "reasons": reasons}
        for place, sku in enumerate(skus, start=1)
    ]
    return orjson.dumps({"recommendation_id": "r", "policy": "personal", "items": items})


@given(st.lists(st.text(min_size=1, max_size=8), max_size=5))
def test_the_skus_of_a_list_are_read_whatever_they_are_called(skus: list[str]) -> None:
    assert listed_skus(record(*skus)) == skus


def test_a_list_without_withdrawn_products_is_served_as_it_was_written() -> None:
    whole = record("a", "b")
    assert without_withdrawn(whole, {"gone"}) is whole


def test_withdrawn_products_leave_and_the_rest_moves_up() -> None:
    document = orjson.loads(without_withdrawn(record("a", "gone", "b"), {"gone"}))
    assert [(item["sku"], item["position"]) for item in document["items"]] == [("a", 1), ("b", 2)]
    assert document["policy"] == "personal"


def test_a_list_of_which_nothing_is_left_says_so() -> None:
    document = orjson.loads(without_withdrawn(record("gone"), {"gone"}))
    assert (document["items"], document["policy"]) == ([], "empty")
    assert document["reason"]


@pytest.mark.parametrize("how", ["deleted", "sold out"])
def test_a_list_made_before_a_product_went_is_served_without_it(store: Store, how: str) -> None:
    store.product("mug")
    store.product("pan")
    store.put("recommendations", "ann", record("mug", "pan"))
    with serving(store.settings) as (_, client):

        def served() -> list[str]:
            return [item["sku"] for item in client.get("/v1/users/ann/recommendations").json()["items"]]

        assert served() == ["mug", "pan"]
        if how == "deleted":
            store.put("storefront.catalog", "mug", None)
        else:
            store.product("mug", stock=0)
        eventually(lambda: served() == ["pan"])
        store.product("mug")
        eventually(lambda: served() == ["mug", "pan"])
