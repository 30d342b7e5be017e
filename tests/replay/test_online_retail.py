from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.decoding import InvalidRecord, decode_event
from streams.replay import ReplayError, open_dataset
from streams.replay.online_retail import category, is_product, median
from tests.conftest import DataSets

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
ROWS = """\
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,71053,WHITE METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
C536379,D,Discount,-1,2010-12-01 09:41:00,27.50,14527.0,United Kingdom
536414,22139,,56,2010-12-01 11:52:00,0.0,,United Kingdom
536589,21777,,-10,2010-12-01 16:50:00,0.0,,United Kingdom
536600,85123A,"CREAM HEART, HANGING",1,2010-12-01 16:55:00,2.95,,
536601,85123A,WHITE HANGING HEART T-LIGHT HOLDER,1,2010-12-01 16:56:00,2.95,13047.0,Eire
A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom
"""


def retail(folder: Path, rows: str = ROWS, *, limit: int | None = None, encoding: str = "utf-8"):
    file = folder / "retail.csv"
    file.write_text(HEADER + rows, encoding=encoding)
    return open_dataset("online-retail", file, limit=limit, encoding=encoding)


def test_should_turn_a_row_into_a_purchase_with_the_files_own_numbers(tmp_path: Path):
    first = next(retail(tmp_path).events())
    assert first.key == b"17850"
    assert json.loads(first.value) == {
        "event_id": "online-retail-1",
        "type": "purchase",
        "user_id": "17850",
        "occurred_at": "2010-12-01T08:26:00Z",
        "channel": "web",
        "country": "United Kingdom",
        "sku": "85123A",
        "quantity": 6,
        "unit_price": "2.55",
        "currency": "GBP",
        "order_id": "536365",
    }
    assert (first.at_ms, first.kind, first.amount, first.currency) == (1_291_191_960_000, "purchase", Decimal("15.30"), "GBP")


def test_should_turn_a_cancelled_invoice_into_a_refund_of_the_absolute_quantity(tmp_path: Path):
    refund = list(retail(tmp_path).events())[2]
    assert json.loads(refund.value)["quantity"] == 1
    assert (refund.kind, refund.amount) == ("refund", Decimal("27.50"))


def test_should_give_a_row_without_a_customer_its_invoice_as_session(tmp_path: Path):
    event = list(retail(tmp_path).events())[3]
    fields = json.loads(event.value)
    assert event.key == b"536414"
    assert fields["session_id"] == "536414"
    assert "user_id" not in fields


def test_should_send_what_the_contract_refuses_as_it_stands(tmp_path: Path):
    codes = {}
    for number, event in enumerate(retail(tmp_path).events(), 1):
        try:
            decode_event(event.key, event.value, received_ms=1_700_000_000_000)
        except InvalidRecord as refused:
            codes[number] = refused.code
            assert event.kind == "refused"
    assert codes == {5: "quantity_invalid", 8: "price_invalid"}


def test_should_make_one_product_a_code_with_its_usual_title_and_its_median_price(tmp_path: Path):
    catalogue = retail(tmp_path).catalogue()
    products = {product.sku: product for product in catalogue.products}
    assert list(products) == ["85123A", "71053", "D", "22139", "21777", "B"]
    heart = products["85123A"]
    assert (heart.title, heart.price, heart.currency) == ("WHITE HANGING HEART T-LIGHT HOLDER", Decimal("2.95"), "GBP")
    assert heart.category_path == ("Candles and lights",)
    assert [product.sku for product in catalogue.products if product.recommendable] == ["85123A", "71053"]
    assert (catalogue.events, catalogue.first_ms, catalogue.last_ms) == (8, 1_291_191_960_000, 1_313_160_660_000)


@pytest.mark.parametrize(
    "code", ["POST", "D", "M", "m", "DOT", "AMAZONFEE", "BANK CHARGES", "C2", "CRUK", "PADS", "S", "B", "gift_0001_40"]
)
def test_should_not_take_a_fee_for_a_product(code: str):
    assert not is_product(code)


@pytest.mark.parametrize("code", ["85123A", "22139", "DCGS0076", "15056bl"])
def test_should_take_the_rest_for_products(code: str):
    assert is_product(code)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("JUMBO BAG RED RETROSPOT", "Bags"),
        ("SET OF 3 CAKE TINS PANTRY DESIGN", "Cake and baking"),
        ("PAPER CHAIN KIT 50'S CHRISTMAS", "Christmas"),
        ("SOMETHING ELSE", "Other"),
    ],
)
def test_should_read_a_category_off_the_words_of_the_title(title: str, name: str):
    assert category(title) == name


def test_should_take_as_median_a_price_that_was_asked():
    assert median(Counter({Decimal("1.0"): 2, Decimal("9.99"): 1, Decimal("3.5"): 3})) == Decimal("3.5")


def test_should_send_a_row_that_is_none_byte_for_byte(tmp_path: Path):
    rows = ROWS + "536602,85123A,cut o"
    *_, last = retail(tmp_path, rows).events()
    assert (last.value, last.kind) == (b"536602,85123A,cut o", "malformed")
    with pytest.raises(InvalidRecord, match="json_invalid"):
        decode_event(last.key, last.value, received_ms=0)
    assert retail(tmp_path, rows).catalogue().events == 9


@pytest.mark.parametrize(("column", "text"), [(3, "six"), (3, "6.5"), (4, "yesterday"), (5, "free")])
def test_should_send_a_row_whose_numbers_cannot_be_read_as_it_is(tmp_path: Path, column: int, text: str):
    cells = ROWS.splitlines()[0].split(",")
    cells[column] = text
    (event,) = retail(tmp_path, ",".join(cells) + "\n").events()
    assert event.value == ",".join(cells).encode()


def test_should_let_the_contract_judge_a_price_that_is_not_a_number(tmp_path: Path):
    (event,) = retail(tmp_path, ROWS.splitlines()[0].replace("2.55", "NaN") + "\n").events()
    assert (event.kind, event.amount) == ("refused", None)
    with pytest.raises(InvalidRecord, match="amount_invalid"):
        decode_event(event.key, event.value, received_ms=1_700_000_000_000)
    assert retail(tmp_path, ROWS.splitlines()[0].replace("2.55", "NaN") + "\n").catalogue().products[0].price is None


def test_should_read_kaggles_copy_with_its_dates_and_encoding(tmp_path: Path):
    row = "536365,85123A,CAFÉ £ SIGN,6,12/1/2010 8:26,2.55,17850,France\n"
    (event,) = retail(tmp_path, row, encoding="latin-1").events()
    assert event.at_ms == 1_291_191_960_000
    assert retail(tmp_path, row, encoding="latin-1").catalogue().products[0].title == "CAFÉ £ SIGN"


def test_should_send_bytes_of_another_encoding_unchanged(tmp_path: Path):
    file = tmp_path / "retail.csv"
    row = "536365,85123A,X,6,2010-12-01 08:26:00,2.55,17850.0,Réunion".encode("latin-1")
    file.write_bytes(HEADER.encode() + row + b"\n")
    (event,) = open_dataset("online-retail", file).events()
    assert event.value == row
    with pytest.raises(InvalidRecord, match="encoding_invalid"):
        decode_event(event.key, event.value, received_ms=0)


def test_should_stop_after_the_limit_in_both_passes(tmp_path: Path):
    dataset = retail(tmp_path, limit=2)
    assert dataset.catalogue().events == len(list(dataset.events())) == 2


def test_should_shift_times_and_nothing_else(tmp_path: Path):
    dataset = retail(tmp_path)
    for here, there in zip(dataset.events(), dataset.events(86_400_000 * 31), strict=True):
        assert here.at_ms == there.at_ms
        moved = json.loads(there.value)
        assert moved["occurred_at"] != json.loads(here.value)["occurred_at"]
        assert moved | {"occurred_at": json.loads(here.value)["occurred_at"]} == json.loads(here.value)


def test_should_refuse_a_file_with_other_columns(tmp_path: Path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ReplayError, match=r"header is 'a,b'"):
        open_dataset("online-retail", tmp_path / "other.csv").catalogue()


def test_should_say_where_a_download_broke_off(tmp_path: Path):
    whole = gzip.compress((HEADER + ROWS * 5000).encode())
    (tmp_path / "half.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReplayError, match=r"damaged after line \d+.*download it again"):
        list(open_dataset("online-retail", tmp_path / "half.csv.gz").events())


@pytest.mark.dataset
def test_should_account_for_every_penny_of_the_whole_file(datasets: DataSets):
    dataset = open_dataset("online-retail", datasets.online_retail)
    accepted, refused = Counter[str](), Counter[str]()
    amounts = {"purchase": Decimal(0), "refund": Decimal(0), "refused": Decimal(0)}
    for event in dataset.events():
        try:
            read = decode_event(event.key, event.value, received_ms=1_700_000_000_000)
        except InvalidRecord as fault:
            refused[fault.code] += 1
            assert event.kind == "refused"
        else:
            accepted[read.type] += 1
            assert event.amount == read.unit_price * read.quantity
        assert event.amount is not None
        amounts[event.kind] += event.amount
    assert accepted == {"purchase": 531_283, "refund": 9_288}
    assert refused == {"quantity_invalid": 1_336, "price_invalid": 2}
    assert amounts["purchase"] - amounts["refund"] + amounts["refused"] == Decimal("9747747.934")
    catalogue = dataset.catalogue()
    assert (len(catalogue.products), catalogue.events) == (4_070, 541_909)
    assert len({product.sku for product in catalogue.products}) == 4_070
