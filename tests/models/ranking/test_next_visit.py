from __future__ import annotations

import numpy as np
import pytest

from models.profiles import Profile
from models.ranking import RankedLists
from models.ranking.lists import COLD_START, EMPTY, PERSONAL, SOURCES, UNIT
from models.ranking.next_visit import Coverage
from models.retrieval import SessionItems
from tests.models.ranking.shop import Shop, shopper

DAY_MS = 86_400_000


def lists(shop: Shop, *shoppers: tuple[Profile, str]) -> RankedLists:
    return shop.ranker.rank([profile for profile, _ in shoppers], 0, [name for _, name in shoppers], next_visit=True)


def test_a_newcomer_gets_something_for_every_kind_of_visit() -> None:
    """The most popular are bought together: the second of them would reach nobody whom the first does not."""
    shop = Shop("abcd")
    for number in range(3):
        shop.session(f"x{number}", "ab", "purchase")
    for number in range(3):
        shop.session(f"y{number}", "c", "purchase")
    assert shop.skus(lists(shop, (Profile(), "")))[:3] == ["a", "c", "b"]
    assert shop.skus(shop.rank(Profile()))[:3] == ["a", "b", "c"]


def test_own_visits_come_before_everybodys_and_the_newer_before_the_older() -> None:
    shop = Shop("abcdef")
    for number in range(9):
        shop.session(f"x{number}", "f", "purchase", at_ms=400 * DAY_MS)
    for day, sku in ((0, "a"), (200, "b"), (399, "c")):
        shop.sessions.apply([_visit("u", day, sku)])
    found = lists(shop, (shopper(("purchase", "a"), ("purchase", "b"), ("purchase", "c")), "u"))
    assert shop.skus(found)[:4] == ["c", "b", "f", "a"]
    assert found.policy.tolist() == [PERSONAL]
    explanations = {item.sku: item.explanation for item in shop.items(found)}
    assert explanations["c"] == "You bought this before"
    assert explanations["f"] == "Popular right now"


def test_shares_sum_to_the_score_and_scores_fall() -> None:
    shop = _random_shop(3)
    found = lists(shop, *[(shopper(("purchase", "a"), ("click", "b"), ("purchase", "c")), f"s{number}") for number in range(10)])
    scores = found.shares.sum(axis=2)
    assert (found.shares >= 0).all()
    for row, size in zip(scores, found.sizes, strict=True):
        assert (np.diff(row[:size]) <= len(SOURCES)).all()  # a share is rounded to a millionth
        assert 0 < row[0] <= UNIT + len(SOURCES)
    for item in shop.items(found):
        assert item.score == pytest.approx(sum(reason.score for reason in item.reasons), abs=1e-9)


def test_what_was_bought_may_be_barred() -> None:
    shop = _random_shop(5, repeats="drop_bought")
    profile = shopper(("purchase", "a"), ("purchase", "b"), ("click", "c"))
    found = shop.skus(lists(shop, (profile, "s1")))
    assert not {"a", "b"} & set(found)
    assert len(found) == 5


def test_nothing_on_sale_gives_an_empty_list() -> None:
    shop = Shop()
    shop.product("a", stock=0)
    shop.session("u", "a", "purchase")
    assert lists(shop, (shopper(("purchase", "a")), "u")).policy.tolist() == [EMPTY]


def test_before_anybody_came_there_is_a_list_all_the_same() -> None:
    shop = Shop("abc")
    found = lists(shop, (Profile(), "u"))
    assert (sorted(shop.skus(found)), found.policy.tolist()) == (["a", "b", "c"], [COLD_START])


@pytest.mark.parametrize("seed", range(4))
def test_a_list_is_the_same_alone_and_among_others(seed: int) -> None:
    shop = _random_shop(seed)
    crowd = [(shopper(("purchase", "abcdefgh"[number % 8]), ("click", "d")), f"s{number}") for number in range(12)]
    together = lists(shop, *crowd)
    for place, one in enumerate(crowd):
        alone = lists(shop, one)
        assert shop.skus(alone) == shop.skus(together, place)
        np.testing.assert_array_equal(alone.shares[0], together.shares[place])


@pytest.mark.parametrize("seed", range(8))
def test_each_item_covers_most_of_what_those_before_it_left(seed: int) -> None:
    """Against a greedy search over sets."""
    coverage = Coverage(others=0.0)
    shop = _random_shop(seed, coverage=coverage)
    found = lists(shop, (shopper(("purchase", "a")), "s3"))
    visits = {name: [set(held) for held in shop.held[name]] for name in shop.held}
    newest = max(at for ats in shop.at_ms.values() for at in ats)
    total = sum(2 ** (-(newest - at) / shop.half_life_ms) for ats in shop.at_ms.values() for at in ats)
    mass: list[tuple[set[str], float]] = [
        (items, coverage.everybody * 2 ** (-(newest - at) / shop.half_life_ms) / total)
        for name in visits
        for items, at in zip(visits[name], shop.at_ms[name], strict=True)
    ]
    ages = [2 ** (at / 1000 / coverage.own_half_life_s) for at in shop.at_ms["s3"]]
    mass += [(items, age / sum(ages)) for items, age in zip(visits["s3"], ages, strict=True)]
    unit = UNIT / (1 + coverage.everybody)
    for place, sku in enumerate(shop.skus(found)):
        gains = {other: sum(weight for items, weight in mass if other in items) for other in "abcdefgh"}
        listed = shop.skus(found)[:place]
        best = max(gain for other, gain in gains.items() if other not in listed)
        assert gains[sku] == pytest.approx(best, abs=1e-5)
        assert found.shares[0, place].sum() / unit == pytest.approx(gains[sku], abs=1e-5)
        mass = [(items, weight * coverage.damping if sku in items else weight) for items, weight in mass]


class _Held(Shop):
    half_life_ms = 30.0 * DAY_MS
    held: dict[str, list[str]]
    at_ms: dict[str, list[int]]


def _random_shop(seed: int, **options) -> _Held:
    chance = np.random.default_rng(seed)
    shop = _Held("abcdefgh", half_life_ms=_Held.half_life_ms, **{"k": 5, **options})
    shop.held, shop.at_ms = {}, {}
    for number in range(15):
        name = f"s{number}"
        days = np.sort(chance.choice(90, int(chance.integers(1, 6)), replace=False)).tolist()
        shop.held[name] = ["".join(chance.choice(list("abcdefgh"), int(chance.integers(1, 5)), replace=False)) for _ in days]
        shop.at_ms[name] = [day * DAY_MS for day in days]
        shop.sessions.apply([_visit(name, day, skus) for day, skus in zip(days, shop.held[name], strict=True)])
    return shop


def _visit(name: str, day: int, skus: str) -> SessionItems:
    return SessionItems(f"{name}@{day}", name, 0, tuple(skus), (day * DAY_MS,) * len(skus), ("purchase",) * len(skus))
