from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.decoding import InvalidRecord, decode_event
from streams.replay import open_dataset
from tests.conftest import DataSets

SESSION = "72d76fde-8bb3-4e00-8c23-a032dfed738c"
LOG = f"""\
event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,{SESSION}
2019-10-01 00:00:01 UTC,cart,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,554748717,{SESSION}
2019-10-01 00:00:02 UTC,purchase,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,554748717,{SESSION}
2019-10-01 00:00:03 UTC,remove_from_cart,3900821,2053013552326770905,,,31.00,554748717,{SESSION}
2019-10-01 00:00:04 UTC,view,3900821,2053013552326770905,,,0.00,,{SESSION}
2019-10-01 00:00:05 UTC,view,44600062,21038074595953877"""


def rees46(folder: Path, log: str = LOG):
    (folder / "log.csv").write_text(log)
    return open_dataset("rees46", folder / "log.csv")


def test_should_follow_the_funnel(tmp_path: Path):
    view, cart, purchase, removed, anonymous, cut = rees46(tmp_path).events()
    assert [event.kind for event in (view, cart, purchase, removed)] == ["browse", "add_to_cart", "purchase", "remove_from_cart"]
    assert json.loads(view.value) == {
        "event_id": "rees46-1",
        "type": "browse",
        "user_id": "541312140",
        "session_id": SESSION,
        "occurred_at": "2019-10-01T00:00:00Z",
        "channel": "web",
        "sku": "44600062",
    }
    bought = json.loads(purchase.value)
    assert (bought["order_id"], bought["unit_price"], bought["currency"], bought["quantity"]) == (SESSION, "33.20", "USD", 1)
    assert "order_id" not in json.loads(cart.value)
    assert (purchase.key, anonymous.key) == (b"554748717", SESSION.encode())
    assert cut.value == b"2019-10-01 00:00:05 UTC,view,44600062,21038074595953877"


def test_should_leave_what_is_wrong_to_the_contract(tmp_path: Path):
    codes = Counter[str]()
    for event in rees46(tmp_path).events():
        try:
            decode_event(event.key, event.value, received_ms=1_700_000_000_000)
        except InvalidRecord as refused:
            codes[refused.code] += 1
    assert codes == {"type_unknown": 1, "json_invalid": 1}


def test_should_notice_a_cut_in_the_last_column(tmp_path: Path):
    whole = LOG.splitlines()[1]
    (event,) = rees46(tmp_path, "\n".join([LOG.splitlines()[0], whole[:-3]])).events()
    assert (event.kind, event.value) == ("malformed", whole[:-3].encode())


def test_should_describe_a_product_by_its_newest_row(tmp_path: Path):
    catalogue = rees46(tmp_path, "\n".join(LOG.splitlines()[:4])).catalogue()
    products = {product.sku: product for product in catalogue.products}
    heater = products["3900821"]
    assert (heater.title, heater.brand, heater.price) == ("aqua water heater", "aqua", Decimal("33.20"))
    assert heater.category_path == ("appliances", "environment", "water_heater")
    assert rees46(tmp_path).catalogue().products[1].price is None  # its newest row says 0.00


@pytest.mark.dataset
def test_should_read_the_sample_whole_with_one_malformed_line(datasets: DataSets):
    dataset = open_dataset("rees46", datasets.rees46)
    kinds, codes = Counter[str](), Counter[str]()
    for event in dataset.events():
        kinds[event.kind] += 1
        try:
            decode_event(event.key, event.value, received_ms=1_700_000_000_000)
        except InvalidRecord as refused:
            codes[refused.code] += 1
    # README of the data counts 17,056 views: the cut-off last line begins like one.
    assert kinds == {"browse": 17_055, "add_to_cart": 165, "purchase": 214, "malformed": 1}
    assert codes == {"json_invalid": 1}
    assert dataset.catalogue().events == 17_435
