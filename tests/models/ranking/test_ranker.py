from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profiles import Profile, apply
from models.ranking import COLD_START, EMPTY, PERSONAL
from models.ranking.lists import UNIT
from tests.models.profiles.events import event
from tests.models.ranking.shop import Shop, shopper

DAY = 24 * 60.0


def test_items_that_others_took_together_are_recommended() -> None:
    shop = Shop("abcd")
    shop.session("u", "ab")
    assert shop.skus(shop.rank(shopper(("click", "a"))))[:2] == ["a", "b"]  # after what was just looked at


def test_similar_texts_are_recommended_to_the_first_shopper_of_all() -> None:
    shop = Shop("abc")
    shop.vector("a", 1, 0)
    shop.vector("b", 0, 1)
    shop.vector("c", 1, 0.2)
    lists = shop.rank(shopper(("click", "a")))
    assert shop.skus(lists) == ["a", "c", "b"]  # what was just looked at, what is like it, the rest
    assert lists.policy[0] == PERSONAL


def test_a_newcomer_gets_what_is_popular() -> None:
    shop = Shop("abc")
    shop.session("u", "c", "purchase")
    lists = shop.rank(Profile(events=1))
    assert shop.skus(lists) == ["c", "a", "b"]  # then whatever is on sale
    assert lists.policy[0] == COLD_START


def test_a_newcomer_who_opened_a_category_gets_what_is_popular_in_it() -> None:
    shop = Shop()
    shop.product("mug", category_path=("Kitchen", "Mugs"))
    shop.product("bag", category_path=("Bags",))
    shop.session("u", "")
    shop.sessions.apply([])
    profile = Profile()
    apply(profile, event("browse", 1, category="Mugs"))
    shop.session("v", ["bag", "bag", "mug"], "purchase")
    lists = shop.rank(profile)
    assert shop.skus(lists) == ["mug", "bag"]
    assert shop.items(lists)[0].explanation == "Popular in Mugs"
    assert lists.policy[0] == COLD_START


def test_what_was_bought_comes_back_but_not_at_once() -> None:
    shop = Shop("abcdef", k=3)
    shop.session("u", "bcd", "purchase")
    bought = shopper(*[("purchase", "a")] * 3)
    assert "a" not in shop.skus(shop.rank(bought))
    apply(bought, event("search", 99, minute=3 * DAY))
    assert shop.skus(shop.rank(bought))[0] == "a"


@pytest.mark.parametrize(
    ("repeats", "left"), [("allow", {"a", "b", "c", "d"}), ("drop_bought", {"b", "c", "d"}), ("drop_seen", {"c", "d"})]
)
def test_whether_known_items_return_is_the_storefronts_choice(repeats: str, left: set[str]) -> None:
    shop = Shop("abcd", repeats=repeats)
    shop.session("u", "abcd")
    profiles = [shopper(("purchase", "a"), ("click", "b")), shopper(("click", "d"))]
    lists = shop.rank(*profiles)
    assert set(shop.skus(lists, 0)) == left
    assert "a" in shop.skus(lists, 1)  # one shopper's purchases bar nothing for another


def test_what_is_deleted_out_of_stock_or_no_product_is_never_listed() -> None:
    shop = Shop("abcde")
    for sku in "abcde":
        shop.vector(sku, 1, ord(sku) / 1000)
    shop.session("u", "abcde", "purchase")
    profile = shopper(("click", "a"), ("purchase", "b"))
    assert set(shop.skus(shop.rank(profile))) == set("abcde")
    shop.table.delete("a")
    shop.product("b", stock=0)
    shop.product("c", recommendable=False)
    assert set(shop.skus(shop.rank(profile))) == set("de")
    shop.product("b", stock=1)
    assert set(shop.skus(shop.rank(profile))) == set("bde")


def test_a_product_is_recommended_right_after_its_upsert() -> None:
    shop = Shop("ab")
    shop.vector("a", 1, 0)
    shop.vector("b", 0, 1)
    shop.index.merge()
    profile = shopper(("click", "a"))
    shop.rank(profile)
    shop.product("n")
    shop.vector("n", 1, 0.1)
    lists = shop.rank(profile)
    assert shop.skus(lists)[1] == "n"
    assert shop.items(lists)[1].explanation == "Similar to Title a"


def test_an_empty_catalogue_gives_an_empty_list() -> None:
    shop = Shop()
    lists = shop.rank(shopper(("search", "")), Profile())
    assert lists.policy.tolist() == [EMPTY, EMPTY]
    assert shop.writer.write(lists) == [b"[]", b"[]"]


def test_a_catalogue_that_sells_nothing_gives_an_empty_list() -> None:
    shop = Shop()
    shop.product("a", stock=0)
    assert shop.rank(shopper(("click", "a"))).policy.tolist() == [EMPTY]


def test_without_any_catalogue_the_items_of_events_are_recommended() -> None:
    shop = Shop()
    shop.session("u", "abc")
    lists = shop.rank(shopper(("click", "a")))
    assert set(shop.skus(lists)) == {"a", "b", "c"}
    assert {item.sku: item.explanation for item in shop.items(lists)}["b"] == "Because you viewed a"


def test_sessions_like_this_one_have_a_say_and_the_shoppers_own_has_not() -> None:
    shop = Shop("abcd")
    mine = shopper(("click", "a"))
    shop.session("other", "ab", at_ms=mine.last_ms)
    shop.session("u", "acd", at_ms=mine.last_ms)

    def said(*shoppers: str) -> dict[str, str | None]:
        lists = shop.ranker.rank([mine], 0, shoppers)
        return {item.sku: reason.because for item in shop.items(lists) for reason in item.reasons if reason.source == "sessions"}

    assert said("u") == {"a": "a", "b": "a"}
    assert said("other") == {"a": "a", "c": "a", "d": "a"}
    assert said("stranger") == said() == {"a": "a", "b": "a", "c": "a", "d": "a"}
    shop.sessions.erase("other")
    assert said("u") == {}


@pytest.mark.parametrize("source", ["similar", "together", "sessions", "trending"])
def test_a_source_that_fails_is_left_out_and_named(source: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop("abcd")
    for sku in "abcd":
        shop.vector(sku, 1, ord(sku) / 100)
    shop.session("u", "abc")

    def fail(*_args, **_kwargs):
        raise RuntimeError("index on fire")

    owner = {
        "similar": (shop.neighbours, "ensure"),
        "together": (shop.sessions.cooccurrence, "view"),
        "sessions": (shop.sessions.index, "vote"),
        "trending": (shop.sessions.trending, "lists"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*owner[source], fail)
        for _ in range(2):
            lists = shop.rank(shopper(("click", "a")))
            assert lists.degraded == (source,)
            assert shop.skus(lists)
            assert source not in {reason.source for item in shop.items(lists) for reason in item.reasons}
    assert caplog.text.count("failed; lists are made without it") == 1  # said once, not once a batch
    assert shop.rank(shopper(("click", "a"))).degraded == ()
    assert "works again" in caplog.text


def test_diversity_parts_near_copies() -> None:
    def ranked(diversity: float) -> list[str]:
        shop = Shop("axyz", k=2, diversity=diversity, repeats="drop_seen")
        shop.session("u", "axyz")
        shop.vector("x", 1, 0)
        shop.vector("y", 1, 0.001)
        shop.vector("z", 0, 1)
        return shop.skus(shop.rank(shopper(("click", "a"))))

    assert ranked(0.0) == ["x", "y"]
    assert ranked(0.5) == ["x", "z"]


def test_lists_hold_at_most_k_items_each_once() -> None:
    shop = Shop("abcdefghijklmnopqrstuvwxyz", k=7, diversity=0.2)
    shop.session("u", "abcdefghijklmnopqrstuvwxyz")
    listed = shop.skus(shop.rank(shopper(("click", "a"), ("click", "k"))))
    assert len(listed) == 7
    assert len(set(listed)) == 7


steps = st.lists(st.tuples(st.sampled_from(["browse", "click", "add_to_cart", "purchase"]), st.sampled_from("abcdefgh")), max_size=12)


@given(st.lists(steps, min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_a_batch_gives_each_shopper_the_list_that_they_would_get_alone(histories: list[list[tuple[str, str]]]) -> None:
    shop = Shop("abcdefgh", k=5, diversity=0.1)
    for number, sku in enumerate("abcdefgh"):
        shop.vector(sku, 1, number % 3, number / 8)
    shop.session("u", "abcd")
    shop.session("v", "dgha", "purchase")
    profiles = [shopper(*history) for history in histories]
    together = shop.rank(*profiles)
    written = shop.writer.write(together)
    for place, profile in enumerate(profiles):
        alone = shop.rank(profile)
        assert shop.writer.write(alone) == [written[place]]
        assert alone.policy[0] == together.policy[place]


@given(steps)
@settings(deadline=None, max_examples=50)
def test_shares_are_whole_and_sum_to_the_score(history: list[tuple[str, str]]) -> None:
    shop = Shop("abcdefgh", k=5, diversity=0.1)
    for number, sku in enumerate("abcdefgh"):
        shop.vector(sku, 1, number % 3, number / 8)
    shop.session("u", "abcd")
    lists = shop.rank(shopper(*history))
    np.testing.assert_allclose(lists.scores(), lists.shares.sum(axis=2) / UNIT)
    for item in shop.items(lists):
        assert sum(reason.score for reason in item.reasons) == pytest.approx(item.score, abs=1e-9)
        assert 0 <= item.score <= 1
