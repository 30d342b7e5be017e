"""What is similar and what is trending under business rules: as in lists, for whoever asks, and by the file of the moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from models.rules import read_rules
from streams.runtime.errors import RulesWrong
from streams.serve import start
from tests.serve.conftest import Store, eventually, serving


def stock(store: Store) -> Store:
    for number in range(6):
        store.product(f"mug {number}", "Kitchen", "Mugs", vector=(1, 0.01 * number, 0))
    for number in range(4):
        store.product(f"pan {number}", "Kitchen", "Pans", vector=(0.9, 0.1, 0.01 * number))
    for number in range(6):
        store.session(f"s{number}", *[f"mug {other}" for other in range(6 - number)], "pan 0")
    return store


def with_rules(store: Store, tmp_path: Path, text: str) -> Any:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return store.settings.model_copy(update={"business_rules": path})


def skus(client: httpx.Client, path: str, **parameters: Any) -> list[str]:
    return [item["sku"] for item in client.get(path, params=parameters).raise_for_status().json()["items"]]


SIMILAR, TRENDING = "/v1/items/mug 0/similar", "/v1/trending"


def test_rules_bind_answers_as_they_bind_lists(store: Store, tmp_path: Path) -> None:
    text = """
    exclude: [{skus: [mug 1]}]
    pin: [{sku: pan 3, position: 1}]
    exposure_caps: [{per: category, only: [Mugs], at_most: 2}]
    """
    settings = with_rules(stock(store), tmp_path, text)
    with serving(settings) as (_, client):
        for path in (SIMILAR, TRENDING):
            reply = client.get(path, params={"k": 5}).json()
            found = [item["sku"] for item in reply["items"]]
            assert found[0] == "pan 3"
            assert [item.get("pinned") for item in reply["items"]] == [True] + [None] * (len(found) - 1)
            assert "mug 1" not in found
            assert len([sku for sku in found if sku.startswith("mug")]) == 2
            assert reply["rules"] == read_rules(text.encode()).digest
        assert "mug 0" not in skus(client, SIMILAR, k=100)


def test_rules_for_some_are_for_who_looks_there_and_is_there(store: Store, tmp_path: Path) -> None:
    text = """
    exclude: [{skus: [mug 2], for: {regions: [IE, unknown]}}]
    bury: [{skus: [mug 0], to_end: true, for: {categories: [Mugs]}}]
    """
    with serving(with_rules(stock(store), tmp_path, text)) as (_, client):
        assert "mug 2" not in skus(client, SIMILAR)
        assert "mug 2" not in skus(client, SIMILAR, country="ie")
        assert "mug 2" in skus(client, SIMILAR, country="GB")
        assert skus(client, TRENDING)[0] in ("mug 0", "pan 0")
        assert skus(client, TRENDING, category="Kitchen > Mugs")[-1] == "mug 0"


def test_a_product_is_not_pinned_to_itself(store: Store, tmp_path: Path) -> None:
    with serving(with_rules(stock(store), tmp_path, "pin: [{sku: mug 0, position: 1}]")) as (_, client):
        assert "mug 0" not in skus(client, SIMILAR)
        assert skus(client, "/v1/items/mug 1/similar")[0] == "mug 0"


def test_a_share_is_one_of_the_places_asked_for(store: Store, tmp_path: Path) -> None:
    text = "exposure_caps: [{per: category, only: [Mugs], share: 0.5}]"
    with serving(with_rules(stock(store), tmp_path, text)) as (_, client):
        for k in (2, 4):
            assert len([sku for sku in skus(client, TRENDING, k=k) if sku.startswith("mug")]) == k // 2


def test_a_changed_file_is_taken_up_and_products_that_change_are_judged_anew(store: Store, tmp_path: Path) -> None:
    settings = with_rules(stock(store), tmp_path, "exclude: [{stock_below: 3}]")
    with serving(settings) as (_, client):
        assert "mug 1" in skus(client, SIMILAR)
        store.product("mug 1", "Kitchen", "Mugs", stock=2)
        eventually(lambda: "mug 1" not in skus(client, SIMILAR))
        (tmp_path / "new.yaml").write_text("exclude: [{skus: [mug 2]}]")
        (tmp_path / "new.yaml").replace(tmp_path / "rules.yaml")
        eventually(lambda: "mug 2" not in skus(client, SIMILAR))
        assert "mug 1" in skus(client, SIMILAR)


def test_a_file_without_valid_rules_refuses_the_start(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RulesWrong, match="holds no valid business rules"):
        start(with_rules(store, tmp_path, "exclude: [{}]"))


def test_a_country_that_is_none_is_refused(store: Store) -> None:
    with serving(store.settings) as (_, client):
        assert client.get("/v1/trending", params={"country": "x" * 129}).status_code == 422
