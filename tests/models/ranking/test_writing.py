from __future__ import annotations

import re

import orjson
import pytest

from models.profiles import Profile, apply
from models.ranking import ListWriter, writing
from schemas.recommendation import RecommendedItem
from tests.models.profiles.events import event
from tests.models.ranking.shop import Shop, shopper


def explanations(shop: Shop, profile: Profile) -> dict[str, str]:
    return {item.sku: item.explanation for item in shop.items(shop.rank(profile))}


def test_each_item_is_explained_by_what_counts_most() -> None:
    shop = Shop("abcdz")
    shop.session("u", "ab")
    shop.session("v", "cd")
    for kind, words in (
        ("click", "Because you viewed Title a"),
        ("add_to_cart", "Goes with Title a in your basket"),
        ("purchase", "Often bought together with Title a"),
    ):
        assert explanations(shop, shopper((kind, "a")))["b"] == words


def test_own_history_popularity_and_the_rest_of_the_range_have_words_of_their_own() -> None:
    shop = Shop("ab")
    shop.product("loose", category_path=())
    shop.product("rest", category_path=("Elsewhere",))
    bought = shopper(("purchase", "a"))
    apply(bought, event("search", 9, minute=3 * 24 * 60))
    assert explanations(shop, bought)["a"] == "You bought this before"
    assert explanations(shop, shopper(("click", "b")))["b"] == "You viewed this recently"
    assert explanations(shop, Profile())["a"] == "You may also like this"
    shop.session("u", ["loose", "b"], "purchase")
    found = explanations(shop, shopper(("click", "a")))
    assert found["loose"] == "Popular right now"
    assert found["b"] == "Popular in All"


def test_machine_readable_reasons_name_the_item_that_they_rest_on() -> None:
    shop = Shop("ab")
    shop.session("u", "ab")
    shop.vector("a", 1, 0)
    shop.vector("b", 1, 0.1)
    item = next(item for item in shop.items(shop.rank(shopper(("click", "a")))) if item.sku == "b")
    assert {reason.source: reason.because for reason in item.reasons} == {"similar": "a", "together": "a", "trending": None}


def test_a_changed_title_is_written_from_then_on() -> None:
    shop = Shop("ab")
    shop.session("u", "ab")
    assert explanations(shop, shopper(("click", "a")))["b"] == "Because you viewed Title a"
    shop.product("a", title="A title that is a good deal longer than before")
    assert explanations(shop, shopper(("click", "a")))["b"] == "Because you viewed A title that is a good deal longer than before"
    shop.product("a", title="")
    assert explanations(shop, shopper(("click", "a")))["b"] == "Because you viewed a"


@pytest.mark.parametrize("name", ['quote " and \\ backslash', "newline\n", "Ünïcode ☕ 漢字", "\u0000\u001f", "'</script>", "x" * 128])
def test_any_name_comes_out_as_it_went_in(name: str) -> None:
    shop = Shop()
    shop.product("b", title="b")
    shop.product(name, title=name, category_path=(name,))
    shop.sessions.apply([])
    shop.session("u", [name, "b"])
    items = shop.items(shop.rank(shopper(("click", name))))
    assert name in {item.sku for item in items}
    found = next(item for item in items if item.sku == "b")
    assert found.explanation.startswith("Because you viewed " + name.strip()[:79])
    assert next(reason for reason in found.reasons if reason.source == "together").because == name


def test_lists_written_in_chunks_are_the_lists_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop("abcdefgh")
    shop.session("u", "abcdefgh")
    lists = shop.rank(*(shopper(("click", sku)) for sku in "abcdefgh"))
    whole = shop.writer.write(lists)
    monkeypatch.setattr(writing, "_CHUNK_BYTES", 1)
    assert ListWriter(shop.table).write(lists) == whole
    assert len({bytes(one) for one in whole}) == 8


def test_scores_have_six_decimals_and_positions_count_from_one() -> None:
    shop = Shop("abcdefghijkl")
    shop.session("u", "abcdefghijkl")
    (written,) = shop.writer.write(shop.rank(shopper(("click", "a"))))
    items = [RecommendedItem.model_validate_json(orjson.dumps(item)) for item in orjson.loads(written)]
    assert [item.position for item in items] == list(range(1, 13))
    scores = re.findall(rb'"score":([^,}]+)', written)
    assert len(scores) > 12
    assert all(re.fullmatch(rb"[01]\.\d{6}", score) for score in scores)
