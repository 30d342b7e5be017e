from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import orjson
import pytest

from models.simulation import FAULTS, Shelf, Storefront, StorefrontOptions, generate_catalogue
from models.simulation.shopper import affinity
from models.simulation.vocabulary import CATEGORIES
from schemas.catalog import Product
from schemas.decoding import InvalidRecord, decode_event

NOW_MS = 1_790_000_000_000


def records(count, seed=7, shelf=None, **options):
    shop = Storefront(seed, StorefrontOptions(**options), **({"shelf": shelf} if shelf else {}))
    return shop, list(islice(shop.records(), count))


def fields_of(records):
    return [orjson.loads(record.value) for record in records if record.fault is None]


def code_of(record, catalogue):
    try:
        event = decode_event(record.key, record.value, received_ms=NOW_MS)
    except InvalidRecord as error:
        return error.code
    return "sku_unknown" if getattr(event, "sku", None) not in catalogue.rows | {None: 0} else None


def test_equal_seeds_give_equal_catalogues_and_records():
    one, first = records(3_000)
    other, second = records(3_000)
    assert first == second
    assert one.catalogue.products == other.catalogue.products


def test_other_seeds_give_other_records():
    assert records(500, seed=1)[1] != records(500, seed=2)[1]


def test_every_record_is_valid_or_refused_with_the_announced_code():
    shop, made = records(6_000, fault_share=0.05)
    assert [code_of(record, shop.catalogue) for record in made] == [record.fault for record in made]
    assert {record.fault for record in made} == {None, *FAULTS}


def test_the_share_of_faults_is_the_configured_one():
    _, made = records(20_000, fault_share=0.02)
    assert sum(record.fault is not None for record in made) / len(made) == pytest.approx(0.02, abs=0.004)


def test_records_come_in_event_time_order_and_event_ids_are_unique():
    _, made = records(5_000)
    times = [record.occurred_ms for record in made]
    ids = [fields["event_id"] for fields in fields_of(made)]
    assert times == sorted(times)
    assert len(ids) == len(set(ids))


def test_the_funnel_narrows_and_every_event_type_occurs():
    shown = Shelf("list-1", tuple(product.sku for product in generate_catalogue(np.random.default_rng(7), 1_000).products[:20]))
    _, made = records(30_000, shelf=lambda _key: shown)
    count = Counter(fields["type"] for fields in fields_of(made))
    assert set(count) == {"browse", "click", "add_to_cart", "purchase", "refund", "search", "impression", "login"}
    assert count["browse"] + count["click"] > 4 * count["add_to_cart"] > 4 * count["refund"]
    assert count["add_to_cart"] > count["purchase"] > count["refund"]


def test_a_login_is_keyed_by_its_session_and_the_user_goes_on_under_their_own_key():
    _, made = records(10_000, fault_share=0.0)
    logins = [(place, orjson.loads(record.value)) for place, record in enumerate(made) if b'"type":"login"' in record.value]
    assert logins
    for place, login in logins:
        assert made[place].key == login["session_id"].encode()
        later = [r for r in made[place + 1 :] if orjson.loads(r.value)["session_id"] == login["session_id"]]
        assert all(record.key == login["user_id"].encode() for record in later)


def test_shoppers_see_what_suits_their_planted_taste():
    shop, made = records(20_000, fault_share=0.0)
    rows = np.arange(len(shop.catalogue))
    seen = defaultdict(list)
    for fields in fields_of(made):
        if fields["type"] in ("browse", "click") and "user_id" in fields:
            seen[fields["user_id"]].append(shop.catalogue.rows[fields["sku"]])
    users = {user.user_id: user for user in shop._users}
    gains = [
        affinity(users[user], shop.catalogue, np.array(viewed)).mean() / affinity(users[user], shop.catalogue, rows).mean()
        for user, viewed in seen.items()
        if len(viewed) >= 20
    ]
    assert len(gains) > 50
    assert np.median(gains) > 2


def test_planted_partners_are_viewed_together_far_more_often_than_by_chance():
    shop, made = records(40_000, fault_share=0.0)
    visits = defaultdict(set)
    for fields in fields_of(made):
        if fields["type"] in ("browse", "click"):
            visits[fields["session_id"]].add(shop.catalogue.rows[fields["sku"]])
    carted = [shop.catalogue.rows[f["sku"]] for f in fields_of(made) if f["type"] == "add_to_cart"]
    sessions = [f["session_id"] for f in fields_of(made) if f["type"] == "add_to_cart"]
    with_partner = np.mean([bool(visits[s] & set(shop.catalogue.complements[row])) for s, row in zip(sessions, carted, strict=True)])
    with_stranger = np.mean(
        [bool(visits[s] & set(shop.catalogue.complements[(row + 101) % 1_000])) for s, row in zip(sessions, carted, strict=True)]
    )
    assert with_partner > 5 * with_stranger


def test_in_the_closed_loop_clicks_name_the_list_and_the_position_that_led_to_them():
    shop = None

    def shelf(key):
        return Shelf(f"list-of-{key}", tuple(product.sku for product in shop.catalogue.products[:10]))

    shop = Storefront(3, StorefrontOptions(products=60, fault_share=0.0), shelf)
    fields = fields_of(list(islice(shop.records(), 10_000)))
    led = [f for f in fields if f["type"] in ("click", "purchase") and "recommendation_id" in f]
    assert {f["type"] for f in led} == {"click", "purchase"}
    for f in led:
        assert shop.catalogue.products[f["position"] - 1].sku == f["sku"]
    anonymous = [f for f in led if "user_id" not in f and f["type"] == "click"]
    assert anonymous
    assert all(f["recommendation_id"] == f"list-of-session:{f['session_id']}" for f in anonymous)


def test_a_purchase_costs_what_the_catalogue_says_and_a_refund_names_its_order():
    shop, made = records(40_000, fault_share=0.0, refund_share=0.5)
    prices = {product.sku: str(product.price) for product in shop.catalogue.products}
    fields = fields_of(made)
    assert all(prices[f["sku"]] == f["unit_price"] for f in fields if f["type"] in ("purchase", "refund"))
    ordered = {(f["order_id"], f["sku"]) for f in fields if f["type"] == "purchase"}
    refunded = {(f["order_id"], f["sku"]) for f in fields if f["type"] == "refund"}
    assert refunded
    assert refunded <= ordered


def test_titles_are_unique_and_products_are_valid_messages():
    catalogue = generate_catalogue(np.random.default_rng(1), 2_000)
    assert len({product.title for product in catalogue.products}) == 2_000
    assert [Product.model_validate_json(product.to_json()) for product in catalogue.products[:50]] == list(catalogue.products[:50])
    assert {product.category_path for product in catalogue.products} == {words.path for words in CATEGORIES}


def test_a_catalogue_smaller_than_its_categories_is_refused():
    with pytest.raises(ValueError, match="at least"):
        generate_catalogue(np.random.default_rng(1), 3)
