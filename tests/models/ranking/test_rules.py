"""Business rules in lists: each kind by example, and all of them together against a plain reading of what they say."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profiles import Profile, apply
from models.ranking import COLD_START, EMPTY, RankedLists
from models.rules import BusinessRules
from models.rules.file import Pin
from schemas.catalog import Product
from tests.models.profiles.events import event
from tests.models.ranking.shop import Shop, shopper

DAY_MS = 86_400_000


def rules(**kinds: list[dict[str, Any]]) -> BusinessRules:
    return BusinessRules.model_validate(kinds)


def shop_of(products: str = "abcdef", *, given: BusinessRules | None = None, **options: Any) -> Shop:
    """Everything was bought together with ``a``, the earlier in the alphabet the more often."""
    shop = Shop(products, rules=given, **options)
    for number, sku in enumerate(products[1:], start=2):
        for copy in range(len(products) + 1 - number):
            shop.session(f"{sku}{copy}", "a" + sku)
    return shop


def listed(shop: Shop, profile: Profile | None = None, now_ms: int = 0) -> list[str]:
    return shop.skus(shop.ranker.rank([profile or shopper(("click", "a"))], now_ms))


def from_country(profile: Profile, country: str) -> Profile:
    profile.country = country
    return profile


def moment(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat()


# -- Exclusions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "out"),
    [
        ({"skus": ["b", "unknown"]}, "b"),
        ({"categories": "mugs"}, "bc"),
        ({"categories": "Home > Kitchen"}, "bcd"),
        ({"categories": "Kitchen>Mugs"}, "bc"),
        ({"categories": "Home > Mugs"}, ""),
        ({"categories": "Mug"}, ""),
        ({"brands": ["ACME"]}, "ce"),
        ({"price_from": "19.99"}, "ce"),
        ({"price_below": "19.99"}, "bd"),
        ({"price_from": "5", "price_below": "19.99"}, "d"),
        ({"price_below": "100", "currency": "EUR"}, "e"),
        ({"currency": "USD"}, ""),
        ({"stock_below": 3}, "d"),
        ({"brands": "Acme", "categories": "Mugs"}, "c"),
    ],
)
def test_products_are_excluded_by_what_the_catalogue_says_of_them(condition: dict[str, Any], out: str) -> None:
    shop = Shop(rules=rules(exclude=[condition]))
    shop.product("a", category_path=())
    shop.product("b", category_path=("Home", "Kitchen", "Mugs"), price="4.50", currency="GBP")
    shop.product("c", category_path=("Home", "Kitchen", "Mugs"), brand="Acme", price="19.99", currency="GBP", stock=3)
    shop.product("d", category_path=("Home", "Kitchen"), price="19.98", currency="GBP", stock=2)
    shop.product("e", brand="acme", price="20", currency="EUR", stock=2**40)
    shop.session("u", "abcde")
    assert set(listed(shop)) == set("abcde") - set(out)


def test_prices_are_compared_to_the_penny_however_dear_they_are() -> None:
    shop = Shop(rules=rules(exclude=[{"price_from": "90000000.01"}]))
    shop.product("a", price="90000000.00")
    shop.product("b", price="90000000.01")
    assert listed(shop, Profile()) == ["a"]


def test_an_exclusion_binds_every_source_and_the_popular_lists() -> None:
    shop = shop_of("abc", given=rules(exclude=[{"skus": "b"}]))
    for sku in "abc":
        shop.vector(sku, 1, ord(sku) / 1000)
    shop.session("v", "bbb", "purchase")
    bought = shopper(("purchase", "b"), ("click", "a"))
    assert set(listed(shop, bought)) == {"a", "c"}
    for popular in (shop.ranker.trending(0), shop.ranker.baseline(0)):
        assert {shop.table.skus[row] for row in popular.overall} == {"a", "c"}
        assert shop.table.row("b") not in popular.categories


def test_a_product_is_judged_as_it_is_now() -> None:
    shop = shop_of("abc", given=rules(exclude=[{"stock_below": 3}]))
    assert "b" in listed(shop)
    shop.product("b", stock=2)
    assert "b" not in listed(shop)
    shop.product("n", stock=1)
    assert "n" not in listed(shop)
    shop.product("b", stock=3)
    assert "b" in listed(shop)


def test_other_rules_hold_from_the_next_list_on() -> None:
    shop = shop_of("abc")
    assert set(listed(shop)) == set("abc")
    for out in ("b", "c", "a"):
        shop.ranker.enforce(rules(exclude=[{"skus": out}]))
        assert set(listed(shop)) == set("abc") - {out}
        assert set(listed(shop, Profile())) == set("abc") - {out}  # what was popular a moment ago is listed anew
    shop.ranker.enforce(None)
    assert set(listed(shop)) == set("abc")


def test_what_is_allowed_again_comes_back_among_the_similar() -> None:
    """Also where the list of neighbours was full without it, so that nothing else would make it anew."""
    skus = [f"p{number}" for number in range(40)]
    shop = Shop(rules=rules(exclude=[{"skus": "p1", "until": moment(DAY_MS)}]))
    for number, sku in enumerate(skus):
        shop.product(sku)
        shop.vector(sku, 1, number / 100)

    def most_similar(now_ms: int) -> str:
        items = shop.items(shop.ranker.rank([shopper(("click", "p0"))], now_ms))
        return max(items, key=lambda item: sum(reason.score for reason in item.reasons if reason.source == "similar")).sku

    assert most_similar(DAY_MS - 1) == "p2"
    assert most_similar(DAY_MS) == "p1"
    assert most_similar(DAY_MS - 1) == "p2"  # a clock that was set back
    shop.ranker.enforce(None)
    assert most_similar(0) == "p1"


def test_a_rule_holds_from_its_beginning_until_just_before_its_end() -> None:
    shop = shop_of("ab", given=rules(exclude=[{"skus": "b", "from": moment(1000), "until": moment(2000)}]))
    assert ["b" in listed(shop, now_ms=now) for now in (999, 1000, 1999, 2000)] == [True, False, False, True]


def test_a_rule_for_some_regions_is_for_no_other() -> None:
    shop = shop_of(
        "abc", given=rules(exclude=[{"skus": "b", "for": {"regions": ["de", "AT"]}}, {"skus": "c", "for": {"regions": "unknown"}}])
    )
    profiles = [from_country(shopper(("click", "a")), country) for country in ("DE", "GB", "at", "")]
    lists = shop.rank(*profiles)
    assert [set(shop.skus(lists, place)) for place in range(4)] == [set("ac"), set("abc"), set("ac"), set("ab")]
    assert {shop.table.skus[row] for row in shop.ranker.baseline(0).overall} == set("abc")  # one for all


def test_a_rule_for_those_who_look_at_a_category_goes_by_their_newest_item() -> None:
    shop = Shop(rules=rules(exclude=[{"skus": "x", "for": {"categories": "Kitchen"}}]))
    shop.product("mug", category_path=("Kitchen", "Mugs"))
    shop.product("bag", category_path=("Bags",))
    shop.product("x", category_path=("Bags",))
    page, none = Profile(), Profile()
    apply(page, event("browse", 1, category="Mugs"))
    profiles = [shopper(("click", "bag"), ("click", "mug")), shopper(("click", "mug"), ("click", "bag")), page, none]
    lists = shop.rank(*profiles)
    assert ["x" in shop.skus(lists, place) for place in range(4)] == [False, True, False, True]


def test_a_region_whose_popular_items_are_all_excluded_still_gets_what_it_may_have() -> None:
    shop = Shop(rules=rules(exclude=[{"categories": "Wine", "for": {"regions": "FR"}}]))
    for number in range(300):
        shop.product(f"wine{number}", category_path=("Wine",))
    shop.product("book", category_path=("Books",))
    shop.sessions.apply([])
    for number in range(300):
        shop.session(f"u{number}", [f"wine{number}"], "purchase")
    assert listed(shop, from_country(Profile(), "FR")) == ["book"]


def test_rules_that_leave_nothing_give_an_empty_list_that_says_so() -> None:
    shop = shop_of("ab", given=rules(exclude=[{"categories": "All", "for": {"regions": "FR"}}]))
    lists = shop.rank(from_country(shopper(("click", "a")), "FR"), shopper(("click", "a")))
    assert (lists.policy[0], lists.sizes.tolist()) == (EMPTY, [0, 2])
    assert lists.ruled_out.tolist() == [True, False]
    assert shop.writer.write(lists)[0] == b"[]"
    shop.table.delete("a")
    shop.table.delete("b")
    assert shop.rank(shopper(("click", "a"))).ruled_out.tolist() == [False]  # nothing on sale is no work of rules


def test_rules_hold_where_there_is_no_catalogue() -> None:
    shop = Shop(rules=rules(exclude=[{"skus": "b"}], pin=[{"sku": "c", "position": 1}]))
    shop.session("u", "abc")
    assert listed(shop) == ["c", "a"]


# -- Demotions ----------------------------------------------------------------------------------------------------------


def test_a_buried_product_has_a_part_of_its_score_and_its_reasons_sum_to_it() -> None:
    shop = shop_of("abcd")
    before = {item.sku: item for item in shop.items(shop.rank(shopper(("click", "a"))))}
    shop.ranker.enforce(rules(bury=[{"skus": "b", "factor": 0.5}, {"skus": ["b", "c"], "factor": 0.5}]))
    after = {item.sku: item for item in shop.items(shop.rank(shopper(("click", "a"))))}
    assert after["b"].score == pytest.approx(before["b"].score / 4, abs=3e-6)
    assert after["c"].score == pytest.approx(before["c"].score / 2, abs=3e-6)
    assert after["d"] == before["d"].model_copy(update={"position": after["d"].position})
    assert sum(reason.score for reason in after["b"].reasons) == pytest.approx(after["b"].score, abs=1e-9)


@pytest.mark.parametrize("diversity", [0.0, 0.9])
def test_what_is_buried_to_the_end_comes_behind_all_others(diversity: float) -> None:
    shop = shop_of("abcdef", given=rules(bury=[{"skus": ["b", "a"], "to_end": True}]), diversity=diversity)
    for number, sku in enumerate("abcdef"):
        shop.vector(sku, 1, 0 if sku in "cdef" else number)
    assert set(listed(shop)[4:]) == {"a", "b"}
    short = shop_of("abcdef", given=rules(bury=[{"skus": ["b", "a"], "to_end": True}]), k=4)
    assert set(listed(short)) == set("cdef")


# -- Pins ---------------------------------------------------------------------------------------------------------------


def test_a_pinned_product_is_at_its_place_and_says_so() -> None:
    shop = shop_of("abcdef", given=rules(pin=[{"sku": "f", "position": 1}, {"sku": "e", "position": 3}]), k=4)
    shop.product("new", category_path=())
    items = shop.items(shop.rank(shopper(("click", "a"))))
    assert [(item.sku, item.pinned) for item in items] == [("f", True), ("a", False), ("e", True), ("b", False)]
    assert items[0].explanation == "Chosen by the shop"
    assert sum(reason.score for reason in items[0].reasons) == pytest.approx(items[0].score, abs=1e-9)
    assert items[0].score > 0  # what the sources say of it is told all the same


def test_a_pinned_product_that_no_source_named_claims_no_source() -> None:
    shop = shop_of("abc", given=rules(pin=[{"sku": "b", "position": 1}]), repeats="drop_seen", k=2)
    (first, _) = shop.items(shop.rank(shopper(("click", "b"), ("click", "a"))))  # seen, so no source may name it
    assert (first.sku, first.score, first.reasons, first.explanation) == ("b", 0.0, (), "Chosen by the shop")


def test_pins_reach_as_far_as_the_list_does() -> None:
    shop = shop_of("abcd", given=rules(pin=[{"sku": "d", "position": 9}, {"sku": "c", "position": 5}]))
    assert listed(shop) == ["a", "b", "c", "d"]
    bare = Shop("ab", rules=rules(pin=[{"sku": "a", "position": 2}]), repeats="drop_seen")
    lists = bare.rank(shopper(("click", "a"), ("click", "b")))
    assert (bare.skus(lists), lists.policy[0]) == (["a"], COLD_START)


def test_pins_that_cannot_be_shown_are_passed_over_and_counted() -> None:
    pins = [("unknown", 1), ("gone", 1), ("hidden", 1), ("x", 1), ("b", 1), ("c", 1), ("b", 2), ("d", 5)]
    given = rules(pin=[{"sku": sku, "position": place} for sku, place in pins], exclude=[{"skus": "x"}])
    shop = shop_of("abcdx", given=given, k=4)
    shop.product("gone")
    shop.product("hidden", recommendable=False)
    shop.table.delete("gone")
    lists = shop.rank(shopper(("click", "a")), shopper(("click", "c")))
    assert [shop.skus(lists, place)[0] for place in range(2)] == ["b", "b"]  # the first of the file that may be shown
    assert lists.passed_over == 2 * 5  # beside those that were second to another: unknown, gone, hidden, x, and d beyond the list


def test_a_pin_may_be_for_some_only() -> None:
    pin = {"sku": "f", "position": 1, "for": {"regions": "GB"}, "from": moment(1000)}
    shop = shop_of("abcdef", given=rules(pin=[pin, {"sku": "e", "position": 1}]))
    profiles = [from_country(shopper(("click", "a")), country) for country in ("GB", "FR")]
    for now_ms, first in ((999, ["e", "e"]), (1000, ["f", "e"])):
        lists = shop.ranker.rank(profiles, now_ms)
        assert [shop.skus(lists, place)[0] for place in range(2)] == first


# -- Exposure caps ------------------------------------------------------------------------------------------------------


def brands_of(shop: Shop, skus: list[str]) -> Counter[str]:
    return Counter(shop.table.brands[shop.table.brand[shop.table.row(sku)]].upper() for sku in skus)


def branded(given: BusinessRules, brands: str = "AAAAAAaBBBBCC", **options: Any) -> Shop:
    shop = shop_of("abcdefghijklm", given=given, **options)
    for sku, brand in zip("abcdefghijklm", brands, strict=True):
        shop.product(sku, brand=brand, category_path=("Top", f"Shelf {brand}"))
    return shop


@pytest.mark.parametrize("diversity", [0.0, 0.3])
@pytest.mark.parametrize("cap", [{"at_most": 2}, {"share": "0.25"}, {"at_most": 7, "share": "0.29"}])
def test_no_brand_takes_more_than_its_part_and_others_fill_the_list(cap: dict[str, Any], diversity: float) -> None:
    shop = branded(rules(exposure_caps=[{"per": "brand", **cap}]), k=8, diversity=diversity)
    found = listed(shop)
    assert brands_of(shop, found) == Counter(A=2, B=2, C=2)
    assert found[0] == "a"


@pytest.mark.parametrize(
    ("cap", "size"),
    [
        ({"per": "category", "at_most": 3}, 3 + 1 + 3 + 2),
        ({"per": "category", "level": 1, "at_most": 3}, 3),
        ({"per": "category", "only": ["Shelf B"], "at_most": 1}, 13 - 3),
        ({"per": "brand", "only": ["b", "C"], "at_most": 1}, 13 - 4),
        ({"per": "brand", "at_most": 1, "for": {"regions": "FR"}}, 13),
    ],
)
def test_caps_count_by_category_level_or_names(cap: dict[str, Any], size: int) -> None:
    shop = branded(rules(exposure_caps=[cap]), "AAAAAAXBBBBCC")
    assert len(listed(shop)) == size


def test_pins_count_and_stay_where_a_cap_would_not_let_them_in() -> None:
    given = rules(pin=[{"sku": sku, "position": 5 + n} for n, sku in enumerate("abc")], exposure_caps=[{"per": "brand", "at_most": 2}])
    shop = branded(given, k=7)
    found = listed(shop)
    assert found[4:7] == ["a", "b", "c"]
    assert brands_of(shop, found) == Counter(A=3, B=2, C=2)


# -- All together -------------------------------------------------------------------------------------------------------

SKUS = "abcdefghijkl"
PATHS = [(), ("Home",), ("Home", "Kitchen"), ("Home", "Kitchen", "Mugs"), ("Bags",)]
COUNTRIES = ["", "GB", "DE", "FR"]
TIMES = [0, 1000, 2000, 3000]


def product(sku: str, path: int, brand: str, price: int, stock: int | None, sold: bool) -> Product:
    return Product(
        sku=sku, category_path=PATHS[path], brand=brand, price=None if price == 0 else f"{price}.50", stock=stock, recommendable=sold
    )  # fmt: skip


products = st.builds(
    product, st.sampled_from(SKUS), st.integers(0, 4), st.sampled_from(["", "Acme", "ACME", "Bolt"]), st.integers(0, 4),
    st.sampled_from([None, 0, 1, 5]), st.sampled_from([True, True, True, False]),
)  # fmt: skip
catalogues = st.tuples(*[products.map(lambda one, sku=sku: one.model_copy(update={"sku": sku})) for sku in SKUS])
audiences = st.fixed_dictionaries(
    {}, optional={"regions": st.sets(st.sampled_from(["gb", "DE", "unknown"]), min_size=1), "categories": st.just({"Kitchen"})}
).filter(bool)
common = {"for": audiences, "from": st.sampled_from(TIMES[:2]).map(moment), "until": st.sampled_from(TIMES[2:]).map(moment)}
conditions = {
    "skus": st.sets(st.sampled_from([*SKUS, "nothing"]), min_size=1),
    "categories": st.sets(st.sampled_from(["kitchen", "Home > Kitchen", "Bags", "Nowhere"]), min_size=1),
    "brands": st.sets(st.sampled_from(["acme", "Bolt"]), min_size=1),
    "price_from": st.sampled_from(["1.50", "3"]),
    "price_below": st.sampled_from(["3.50", "4"]),
    "stock_below": st.sampled_from([1, 5, 6]),
}


def rule_of(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional={**(optional or {}), **common})


conditioned = rule_of({}, conditions).filter(lambda rule: any(key in rule for key in conditions))
how = st.one_of(st.just({"to_end": True}), st.sampled_from([{"factor": 0.1}, {"factor": 0.9}]))
caps = st.one_of(
    rule_of({"per": st.just("category"), "at_most": st.integers(1, 3)}, {"level": st.integers(1, 3), "only": st.just({"Kitchen", "Bags"})}),
    rule_of({"per": st.just("brand"), "share": st.sampled_from(["0.1", "0.4", "1"])}, {"only": st.just({"acme"})}),
)
files = st.fixed_dictionaries(
    {
        "exclude": st.lists(conditioned, max_size=3),
        "bury": st.lists(st.builds(lambda one, other: {**one, **other}, conditioned, how), max_size=2),
        "pin": st.lists(rule_of({"sku": st.sampled_from([*SKUS, "nothing"]), "position": st.integers(1, 7)}), max_size=4),
        "exposure_caps": st.lists(caps, max_size=2),
    }
).map(BusinessRules.model_validate)
steps = st.lists(st.one_of(products, files, st.sampled_from(TIMES)), min_size=1, max_size=6)
people = st.lists(
    st.tuples(st.sampled_from(COUNTRIES), st.lists(st.tuples(st.sampled_from(["click", "purchase"]), st.sampled_from(SKUS)), max_size=3)),
    min_size=1, max_size=4,
)  # fmt: skip


class Reading:
    """The rules as a shop assistant would read them, one product and one shopper at a time."""

    def __init__(self, given: BusinessRules, catalogue: dict[str, Product], now_ms: int, profile: Profile) -> None:
        newest = catalogue[profile.recent_skus[-1]].category_path if profile.recent_skus else ()

        def is_for(rule: Any) -> bool:
            if (rule.since and now_ms < rule.since.timestamp() * 1000) or (rule.until and now_ms >= rule.until.timestamp() * 1000):
                return False
            if rule.audience is None:
                return True
            regions = {region.upper() for region in rule.audience.regions}
            return (not regions or (profile.country or "UNKNOWN") in regions) and (
                not rule.audience.categories or self.within(newest, rule.audience.categories)
            )

        self.exclude = [rule for rule in given.exclude if is_for(rule)]
        self.bury = [rule for rule in given.bury if is_for(rule)]
        self.pin = [rule for rule in given.pin if is_for(rule)]
        self.caps = [rule for rule in given.exposure_caps if is_for(rule)]
        self.catalogue = catalogue

    @staticmethod
    def within(path: tuple[str, ...], categories: Any) -> bool:
        return any(f" > {name} > ".lower() in f" > {' > '.join(path)} > ".lower() for name in categories)

    def fits(self, rule: Any, one: Product) -> bool:
        return (
            (not rule.skus or one.sku in rule.skus)
            and (not rule.categories or self.within(one.category_path, rule.categories))
            and (not rule.brands or one.brand.lower() in {brand.lower() for brand in rule.brands})
            and (rule.price_from is None or (one.price is not None and one.price >= rule.price_from))
            and (rule.price_below is None or (one.price is not None and one.price < rule.price_below))
            and (rule.stock_below is None or (one.stock is not None and one.stock < rule.stock_below))
        )

    def may_be_shown(self, sku: str) -> bool:
        one = self.catalogue.get(sku)
        return one is not None and one.recommendable and one.stock != 0 and not any(self.fits(rule, one) for rule in self.exclude)

    def is_last(self, sku: str) -> bool:
        return any(rule.to_end and self.fits(rule, self.catalogue[sku]) for rule in self.bury)

    def group(self, cap: Any, sku: str) -> Any:
        one = self.catalogue[sku]
        if cap.per == "brand":
            return one.brand.lower() if one.brand and (not cap.only or one.brand.lower() in cap.only) else None
        path = tuple(part.lower() for part in one.category_path)
        return path[: cap.level] if path and (not cap.only or self.within(path, cap.only)) else None

    def pins(self, k: int) -> tuple[dict[int, str], int]:
        placed: dict[int, str] = {}
        passed_over = 0
        for pin in self.pin:
            assert isinstance(pin, Pin)
            if not self.may_be_shown(pin.sku) or pin.position > k:
                passed_over += 1
            elif pin.position not in placed and pin.sku not in placed.values():
                placed[pin.position] = pin.sku
        return placed, passed_over


def check(skus: list[str], pinned: list[bool], reading: Reading, k: int) -> int:
    """Hold a list to the rules; how many pins should have been passed over."""
    assert len(set(skus)) == len(skus) <= k
    assert all(reading.may_be_shown(sku) for sku in skus)
    pins, passed_over = reading.pins(k)
    assert [sku for sku, is_pin in zip(skus, pinned, strict=True) if is_pin] == [pins[place] for place in sorted(pins)]
    for place, sku in pins.items():
        at = skus.index(sku) + 1
        assert at == place or (at < place and all(pinned[at - 1 :]))  # the list was too short
    others = [sku for sku, is_pin in zip(skus, pinned, strict=True) if not is_pin]
    last = [reading.is_last(sku) for sku in others]
    assert last == sorted(last)
    for cap in reading.caps:
        limit = cap.limit(k)
        counts = Counter(group for sku in skus if (group := reading.group(cap, sku)) is not None)
        for group, count in counts.items():
            assert count <= limit or not any(reading.group(cap, sku) == group for sku in others)
    if len(skus) < k and len(reading.caps) < 2:  # nothing that may be shown was left out without need
        for sku in reading.catalogue:
            if sku not in skus and reading.may_be_shown(sku):
                full = [
                    cap for cap in reading.caps
                    if (group := reading.group(cap, sku)) is not None
                    and sum(reading.group(cap, one) == group for one in skus) >= cap.limit(k)
                ]  # fmt: skip
                assert full, sku
    return passed_over


@given(catalogues, files, people, steps, st.sampled_from([0.0, 0.3]), st.booleans())
@settings(deadline=None, max_examples=200)
def test_whatever_the_rules_lists_keep_to_them(
    catalogue: tuple[Product, ...], first: BusinessRules, shoppers: list[Any], changes: list[Any], diversity: float, next_visit: bool
) -> None:
    """As products, rules and time change, one step before each batch."""
    k, now_ms, given = 5, 0, first
    shop = Shop(k=k, diversity=diversity, rules=first)
    held: dict[str, Product] = {}

    def publish(one: Product) -> None:
        held[one.sku] = one
        shop.ranker.note_products([shop.table.upsert(one)])

    for number, one in enumerate(catalogue):
        publish(one)
        shop.vector(one.sku, 1, number % 3, number / 8)
    shop.session("u", "abcde")
    shop.session("v", "fgha", "purchase")
    profiles = [from_country(shopper(*history), country) for country, history in shoppers]
    for change in [None, *changes]:
        if isinstance(change, BusinessRules):
            given = change
            shop.ranker.enforce(given)
        elif isinstance(change, Product):
            publish(change)
        elif change is not None:
            now_ms = change
        names = ["uv"[place % 2] for place in range(len(profiles))]
        lists: RankedLists = shop.ranker.rank(profiles, now_ms, names, next_visit=next_visit)
        expected = 0
        for place, profile in enumerate(profiles):
            reading = Reading(given, held, now_ms, profile)
            size = int(lists.sizes[place])
            expected += check(shop.skus(lists, place), lists.pinned[place, :size].tolist(), reading, k)
            on_sale = any(one.recommendable and one.stock != 0 for one in held.values())
            assert bool(lists.ruled_out[place]) == (on_sale and not any(map(reading.may_be_shown, held)))
        assert lists.passed_over == expected
        for item in (item for place in range(len(profiles)) for item in shop_items(shop, lists, place)):
            assert sum(reason.score for reason in item.reasons) == pytest.approx(item.score, abs=1e-9)


def shop_items(shop: Shop, lists: RankedLists, place: int) -> list[Any]:
    items = shop.items(lists, place)
    assert [item.pinned for item in items] == lists.pinned[place, : len(items)].tolist()
    return items


def test_more_sets_of_rules_than_are_kept_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.rules.book._REACHES", 3)
    regions = [f"r{number}" for number in range(8)]
    shop = shop_of(
        "abcdefgh",
        given=rules(exclude=[{"skus": sku, "for": {"regions": region}} for sku, region in zip("abcdefgh", regions, strict=True)]),
    )
    profiles = [from_country(shopper(("click", "a")), region) for region in [*regions, *regions]]
    for _ in range(2):
        lists = shop.rank(*profiles)
        assert [set("abcdefgh") - set(shop.skus(lists, place)) for place in range(16)] == [{sku} for sku in "abcdefgh" * 2]
        shop.product("a")


def test_no_rules_is_what_a_file_without_any_amounts_to() -> None:
    bare, none = shop_of("abcdef", diversity=0.2), shop_of("abcdef", diversity=0.2, given=rules())
    profiles = [shopper(("click", "a"), ("purchase", "c")), Profile()]
    one, other = bare.rank(*profiles), none.rank(*profiles)
    assert bare.writer.write(one) == none.writer.write(other)
    for name in ("rows", "shares", "because", "policy"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_candidates_that_pins_leave_no_room_for_keep_no_other_out() -> None:
    given = rules(
        pin=[{"sku": "x", "position": 3}], exposure_caps=[{"per": "brand", "at_most": 1}, {"per": "category", "at_most": 1}]
    )  # fmt: skip
    shop = shop_of("abcdx", given=given, k=3)
    for sku, brand, category in (("a", "A", "2"), ("b", "B", "1"), ("c", "C", "3"), ("d", "D", "4"), ("x", "A", "1")):
        shop.product(sku, brand=brand, category_path=(category,))
    assert listed(shop) == ["c", "d", "x"]
