"""RetailRocket, Yoochoose and Diginetica: logs of anonymous sessions."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.decoding import decode_event
from streams.replay import Dataset, ReplayError, ReplayEvent, open_dataset
from tests.conftest import DataSets


def fields(dataset: Dataset) -> list[dict[str, object]]:
    return [json.loads(event.value) for event in dataset.events() if event.kind != "malformed"]


def valid(event: ReplayEvent) -> bool:
    return decode_event(event.key, event.value, received_ms=1_700_000_000_000) is not None


# RetailRocket


@pytest.fixture
def retailrocket(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433224214164,992329,transaction,248676,4000\n"
        "1433221999827,992329,addtocart,248676,\n"
        "1433221999827,992329,view,1,\n"
        "1433221999,99"
    )
    return tmp_path


def test_should_sort_retailrocket_by_time_and_keep_the_files_order_within_a_millisecond(retailrocket: Path):
    events = list(open_dataset("retailrocket", retailrocket).events())
    assert [event.at_ms for event in events[:-1]] == [1433221332117, 1433221999827, 1433221999827, 1433224214164]
    assert [json.loads(event.value)["type"] for event in events[:-1]] == ["browse", "add_to_cart", "browse", "purchase"]
    assert all(valid(event) for event in events[:-1])
    assert (events[-1].kind, events[-1].value) == ("malformed", b"1433221999,99")
    assert json.loads(events[0].value)["occurred_at"] == "2015-06-02T05:02:12.117Z"


def test_should_not_invent_a_price_for_retailrocket(retailrocket: Path):
    purchase = fields(open_dataset("retailrocket", retailrocket))[-1]
    assert (purchase["unit_price"], purchase["currency"], purchase["order_id"]) == ("0", "XXX", "4000")


def test_should_find_retailrockets_categories_from_the_root(retailrocket: Path):
    (retailrocket / "category_tree.csv").write_text("categoryid,parentid\n1016,213\n213,169\n169,\n")
    (retailrocket / "item_properties_part1.csv").write_text(
        "timestamp,itemid,property,value\n1435460400000,248676,categoryid,5\n1441508400000,248676,888,x\n"
    )
    (retailrocket / "item_properties_part2.csv").write_text("timestamp,itemid,property,value\n1441508400000,248676,categoryid,1016\n")
    products = {product.sku: product for product in open_dataset("retailrocket", retailrocket).catalogue().products}
    assert products["248676"].category_path == ("169", "213", "1016")
    assert products["355908"].category_path == ()


# Yoochoose


@pytest.fixture
def yoochoose(tmp_path: Path) -> Path:
    (tmp_path / "yoochoose-clicks.dat").write_text(
        "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:57:09.868Z,214536506,S\n1,broken\n2,2014-04-07T13:56:37.614Z,214662742,7\n"
    )
    (tmp_path / "yoochoose-buys.dat").write_text(
        "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n1,2014-04-07T10:54:00.000Z,214536506,4180,2\n"
    )
    return tmp_path


def test_should_merge_yoochooses_buys_into_their_sessions_by_time(yoochoose: Path):
    events = fields(open_dataset("yoochoose", yoochoose))
    assert [(event["session_id"], event["type"], event["sku"]) for event in events] == [
        ("1", "click", "214536502"),
        ("1", "purchase", "214536506"),
        ("1", "click", "214536506"),
        ("2", "click", "214662742"),
    ]
    assert (events[1]["unit_price"], events[1]["quantity"], events[1]["currency"], events[1]["order_id"]) == ("4180", 2, "XXX", "1")
    assert [event.value for event in open_dataset("yoochoose", yoochoose).events() if event.kind == "malformed"] == [b"1,broken"]


def test_should_know_yoochooses_items_from_clicks_and_buys(yoochoose: Path):
    catalogue = open_dataset("yoochoose", yoochoose).catalogue()
    found = {product.sku: (product.category_path, product.price) for product in catalogue.products}
    assert found == {"214536502": ((), None), "214536506": (("S",), 4180), "214662742": (("7",), None)}
    assert catalogue.events == 5


def test_should_do_without_yoochooses_buys(yoochoose: Path):
    (yoochoose / "yoochoose-buys.dat").unlink()
    assert {event["type"] for event in fields(open_dataset("yoochoose", yoochoose / "yoochoose-clicks.dat"))} == {"click"}


# Diginetica


def test_should_give_diginetica_one_session_a_line_and_rising_times(tmp_path: Path):
    (tmp_path / "train_sessions.txt").write_text("5 6 5\n7 eight\n9\n")
    events = list(open_dataset("diginetica", tmp_path).events())
    assert [event.key for event in events] == [b"diginetica-1"] * 3 + [b"line-2", b"diginetica-3"]
    assert [event.kind for event in events] == ["click"] * 3 + ["malformed", "click"]
    assert events[3].value == b"7 eight"
    assert [later.at_ms - sooner.at_ms for sooner, later in pairwise(events)] == [15_000] * 4
    assert [product.sku for product in open_dataset("diginetica", tmp_path).catalogue().products] == ["5", "6", "9"]


def test_should_limit_diginetica_by_clicks(tmp_path: Path):
    (tmp_path / "train_sessions.txt").write_text("5 6 5\n7 8\n")
    dataset = open_dataset("diginetica", tmp_path, limit=4)
    assert [event["sku"] for event in fields(dataset)] == ["5", "6", "5", "7"]
    assert dataset.catalogue().events == 4


def test_should_name_the_file_that_a_folder_lacks(tmp_path: Path):
    with pytest.raises(ReplayError, match=r"train_sessions\.txt"):
        open_dataset("diginetica", tmp_path)


@pytest.mark.dataset
def test_should_read_every_click_of_diginetica(datasets: DataSets):
    dataset = open_dataset("diginetica", datasets.diginetica)
    catalogue = dataset.catalogue()
    assert (len(catalogue.products), catalogue.events) == (43_097, 906_140)
    sessions = set()
    last = None
    for count, event in enumerate(dataset.events(), 1):
        sessions.add(event.key)
        last = (count, event.at_ms)
        if count % 1000 == 1:
            assert valid(event)
    assert len(sessions) == 186_670
    assert last == (906_140, catalogue.last_ms)
