"""CSV and JSON Lines with a mapping of columns."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.decoding import InvalidRecord, decode_event
from streams.cli import main
from streams.replay import Mapping, ReplayError, open_dataset
from streams.replay.mapping import time_ms

CSV = """\
ts,who,action,item,name,cost,n
2024-01-02T10:00:00+02:00,ann,view,A,Red shoes,10.50,
1704182400,bob,sale,B,"Hat, blue",5.00,2
1704182400500,bob,sale,B,"Hat, blue",5.00,two
never,bob,sale,B,Hat,5.00,2
short,row
"""
MAPPING = Mapping(
    columns={
        "occurred_at": "ts",
        "user_id": "who",
        "type": "action",
        "sku": "item",
        "unit_price": "cost",
        "quantity": "n",
        "order_id": "who",
    },
    constants={"channel": "shop", "currency": "EUR"},
    types={"view": "browse", "sale": "purchase"},
    product={"title": "name", "price": "cost"},
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(CSV)
    return tmp_path / "log.csv"


def test_should_map_columns_constants_and_types(log: Path):
    first, second, third, *malformed = open_dataset("csv", log, mapping=MAPPING).events()
    browse = json.loads(first.value)
    assert (browse["event_id"], browse["type"], browse["occurred_at"], browse["channel"]) == (
        "log-1",
        "browse",
        "2024-01-02T08:00:00Z",
        "shop",
    )
    sale = decode_event(second.key, second.value, received_ms=1_710_000_000_000)
    assert (sale.quantity, sale.unit_price, sale.currency, sale.user_id) == (2, Decimal("5.00"), "EUR", "bob")
    assert (second.amount, second.kind) == (Decimal("10.00"), "purchase")
    assert (third.kind, third.amount) == ("refused", None)
    with pytest.raises(InvalidRecord, match="field_invalid at quantity"):
        decode_event(third.key, third.value, received_ms=1_710_000_000_000)
    assert [event.value for event in malformed] == [b"never,bob,sale,B,Hat,5.00,2", b"short,row"]


def test_should_make_the_catalogue_from_the_rows(log: Path):
    catalogue = open_dataset("csv", log, mapping=MAPPING).catalogue()
    assert [(p.sku, p.title, p.price, p.currency) for p in catalogue.products] == [
        ("A", "Red shoes", Decimal("10.50"), "EUR"), ("B", "Hat", Decimal("5.00"), "EUR"),
    ]  # fmt: skip
    assert catalogue.events == 5


def test_should_read_the_same_mapping_from_toml_and_flags(tmp_path: Path):
    (tmp_path / "m.toml").write_text(
        '[columns]\noccurred_at = "ts"\nuser_id = "who"\ntype = "action"\nsku = "item"\nunit_price = "cost"\nquantity = "n"\n'
        '[constants]\nchannel = "shop"\n[types]\nview = "browse"\nsale = "purchase"\n[product]\ntitle = "name"\n'
    )
    flags = {"columns": ["order_id=who"], "constants": ["currency=EUR"], "product": ["price=cost"]}
    assert Mapping.read(tmp_path / "m.toml").merged(**flags) == MAPPING


@pytest.mark.parametrize("text", ["[colums]\na = 'b'", "[columns]\na = 1", "columns = ", "columns = 5"])
def test_should_refuse_a_mapping_that_is_none(tmp_path: Path, text: str):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ReplayError, match=r"m\.toml"):
        Mapping.read(tmp_path / "m.toml")


def test_should_refuse_a_flag_without_a_value():
    with pytest.raises(ReplayError, match="NAME=VALUE"):
        Mapping().merged(columns=["sku"])


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2024-01-02T08:00:00Z", 1_704_182_400_000),
        ("2024-01-02 08:00:00", 1_704_182_400_000),
        ("2024-01-02 08:00:00 UTC", 1_704_182_400_000),
        ("2024-01-02T10:00:00.250+02:00", 1_704_182_400_250),
        ("1704182400", 1_704_182_400_000),
        ("1704182400.5", 1_704_182_400_500),
        ("1704182400500", 1_704_182_400_500),
    ],
)
def test_should_read_times_as_logs_write_them(text: str, at_ms: int):
    assert time_ms(text) == at_ms


EVENT = {"event_id": "e", "type": "click", "session_id": "s", "occurred_at": "2024-01-02T08:00:00Z", "channel": "web", "sku": "A"}


def test_should_send_json_lines_of_the_contract_byte_for_byte(tmp_path: Path):
    line = json.dumps(EVENT | {"extra": 1}, indent=None)
    (tmp_path / "log.jsonl").write_text(line + "\n\n" + '{"cut": \n' + '["array"]\n')
    events = list(open_dataset("json-lines", tmp_path / "log.jsonl").events())
    assert [event.value for event in events] == [line.encode(), b'{"cut": ', b'["array"]']
    assert [event.kind for event in events] == ["click", "malformed", "malformed"]
    assert events[0].key == b"s"


def test_should_shift_json_lines_by_rewriting_their_time(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(json.dumps(EVENT))
    (event,) = open_dataset("json-lines", tmp_path / "log.jsonl").events(3_600_000)
    assert json.loads(event.value) == EVENT | {"occurred_at": "2024-01-02T09:00:00Z"}


def test_should_key_a_login_by_its_session(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(json.dumps(EVENT | {"type": "login", "user_id": "ann"}))
    (event,) = open_dataset("json-lines", tmp_path / "log.jsonl").events()
    assert decode_event(event.key, event.value, received_ms=1_710_000_000_000).key == "s"


def test_should_take_products_from_a_file_and_name_the_line_that_is_none(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(json.dumps(EVENT))
    (tmp_path / "products.jsonl").write_text('{"sku": "A", "title": "Red shoes"}\n{"sku": ""}\n')
    dataset = open_dataset("json-lines", tmp_path / "log.jsonl", catalog=tmp_path / "products.jsonl")
    with pytest.raises(ReplayError, match="line 2: not a product: sku"):
        dataset.catalogue()
    (tmp_path / "products.jsonl").write_text('{"sku": "A", "title": "Red shoes"}\n')
    assert [product.title for product in dataset.catalogue().products] == ["Red shoes"]


def test_should_read_tab_separated_files(tmp_path: Path):
    (tmp_path / "log.tsv").write_text("event_id\ttype\tsession_id\toccurred_at\tchannel\tsku\ne\tclick\ts\t2024-01-02T08:00:00Z\tweb\tA\n")
    (event,) = open_dataset("csv", tmp_path / "log.tsv").events()
    assert json.loads(event.value) == EVENT


def test_should_refuse_a_mapping_for_a_set_that_has_columns_of_its_own(log: Path):
    with pytest.raises(ReplayError, match="columns of its own"):
        open_dataset("rees46", log, mapping=MAPPING)


def test_should_list_the_sets_that_there_are(log: Path):
    with pytest.raises(ReplayError, match="online-retail, rees46, retailrocket, yoochoose, diginetica"):
        open_dataset("movielens", log)


@pytest.mark.parametrize(
    ("name", "text", "mapping", "said"),
    [
        ("csv", CSV, None, ["occurred_at", "type", "channel", "user_id or session_id", "ts, who, action", "--column", "--mapping"]),
        ("csv", CSV, Mapping(columns=MAPPING.columns | {"sku": "itme"}, constants=MAPPING.constants), ["no column 'itme' (for sku)"]),
        ("csv", CSV, Mapping(columns=MAPPING.columns), ["channel"]),
        ("json-lines", '{"ts": 1, "who": "ann"}\n', None, ["occurred_at", "ts, who", "--column"]),
        ("json-lines", "not json\n", None, ["(none)"]),
    ],
)
def test_should_refuse_a_log_whose_columns_are_not_said_to_be_fields(
    tmp_path: Path, name: str, text: str, mapping: Mapping, said: list[str]
):
    (tmp_path / "log").write_text(text)
    with pytest.raises(ReplayError) as refused:
        open_dataset(name, tmp_path / "log", mapping=mapping).catalogue()
    assert [word for word in said if word not in str(refused.value)] == []


def test_should_send_what_is_broken_in_a_log_that_is_events_otherwise(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text('{"cut": \n{"type": "click"}\n' + json.dumps(EVENT))
    assert open_dataset("json-lines", tmp_path / "log.jsonl").catalogue().events == 3


def test_the_command_refuses_an_unmapped_log_with_exit_code_2(log: Path):
    result = CliRunner().invoke(main, ["replay", "csv", "--path", str(log)])
    assert result.exit_code == 2
    assert "--column occurred_at=COLUMN" in result.stderr
