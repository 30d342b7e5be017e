import json

import pytest

from models.simulation import Storefront
from streams.cli.one_liners import describe

EVENT = json.dumps(
    {"event_id": "e1", "type": "click", "user_id": "ann", "sku": "MUG-1", "occurred_at": "2025-01-06T08:00:00Z", "channel": "email"}
).encode()


def test_tail_prints_committed_records_from_the_beginning_to_the_present_end(assay, broker, send):
    send(broker, "storefront.events", [(b"ann", EVENT)] * 3)
    result = assay("tail", "storefront.events", "--from", "beginning", "--until-end", "--bootstrap-servers", broker)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("ann  2025-01-06T08:00:00Z  click MUG-1  via email")


def test_tail_as_json_gives_place_key_and_value_and_raw_bytes_of_what_is_no_json(assay, broker, send):
    send(broker, "privacy.erasures", [(b"k", b"{not json"), (b"k", None)])
    result = assay("tail", "privacy.erasures", "--from", "beginning", "--until-end", "--json", "--bootstrap-servers", broker)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["key"], first["raw"]) == ("k", "e25vdCBqc29u")
    assert second["value"] is None
    assert second["offset"] == first["offset"] + 1


def test_tail_stops_at_its_limit_and_filters_by_key(assay, broker, send):
    send(broker, "storefront.catalog", [(b"a", b"{}"), (b"b", b"{}"), (b"b", b"{}"), (b"a", b"{}")])
    arguments = ("tail", "storefront.catalog", "--from", "beginning", "--bootstrap-servers", broker)
    assert len(assay(*arguments, "--limit", "3").stdout.splitlines()) == 3
    assert [line.split()[2] for line in assay(*arguments, "--until-end", "--key", "b").stdout.splitlines()] == ["b", "b"]


def test_a_broker_that_does_not_answer_is_exit_code_3_with_the_mending_command(assay):
    result = assay("tail", "recommendations", "--bootstrap-servers", "127.0.0.1:1")
    assert result.exit_code == 3
    assert "127.0.0.1:1" in result.stderr
    assert "assay broker" in result.stderr


def test_a_name_that_is_not_in_the_table_is_a_usage_error(assay):
    assert assay("tail", "no.such.topic").exit_code == 2


def test_a_product_is_told_by_title_shelf_price_and_stock():
    product = Storefront(1).catalogue.products[0]
    line = describe("storefront.catalog", product.sku.encode(), product.to_json())
    assert line == f"{product.sku}  {product.title}  [Kitchen > Mugs & Cups]  {product.price} GBP  stock {product.stock}"


def test_what_became_of_a_list_is_told_by_what_was_taken_up():
    items = [{"sku": "a", "place": 1, "result": "ignored"}, {"sku": "b", "place": 2, "result": "bought"}]
    told = {"kind": "resolution", "recommendation_id": "list-9", "shown_at": "2025-01-06T08:00:00Z", "reason": "window", "items": items}
    assert describe("outcomes", b"ann", json.dumps(told).encode()) == (
        "ann  list list-9 of 2 shown 2025-01-06T08:00:00Z: bought b at place 2"
    )
    late = {**told, "corrects": "shown-0-1", "reason": "late", "items": items[1:]}
    assert describe("outcomes", b"ann", json.dumps(late).encode()) == "ann  list list-9, late: bought b at place 2"
    assert describe("outcomes", b"ann", json.dumps({**told, "items": items[:1]}).encode()).endswith(": nothing was taken up")


@pytest.mark.parametrize("value", [b"\xff", b"[]", b"{}", b"3", b'{"items": 3}'])
def test_a_value_that_is_no_such_message_is_shown_raw_and_never_an_error(value):
    for topic in ("storefront.events", "recommendations", "valuation.rolling", "events.dead-letter", "sessions", "outcomes"):
        assert "not a" in describe(topic, None, value)


MINUTE = {
    "window": {"kind": "pane", "start": "2025-03-01T12:00:00Z", "end": "2025-03-01T12:01:00Z", "length": 60},
    "funnel": {"events": 3}, "tests": 2,
}  # fmt: skip


@pytest.mark.parametrize(("status", "words"), [("open", ""), ("final", "final "), ("correction", "correction "), ("addition", "addition ")])
def test_a_rolling_record_says_whether_its_minute_is_over(status, words):
    line = describe("valuation.rolling", b"overall|all|1m", json.dumps(MINUTE | {"status": status}).encode())
    assert line == f"overall|all|1m  {words}pane of 60 s to 2025-03-01T12:01:00Z: 3 events, 2 tests"
    assert describe("valuation.rolling", b"overall|all|1m", json.dumps(MINUTE).encode()).startswith("overall|all|1m  pane of 60 s")


def test_a_partial_tells_how_much_it_carries():
    value = {"dimension": "channel", "source_partition": 3, "assets": {"web": {"total": {}, "60:0": {}}, "app": {"total": {}}}}
    line = describe("valuation.partials", b"channel", json.dumps(value).encode())
    assert line == "channel  channel from partition 3: 3 pane(s) of 2 asset(s)"


def test_a_dead_letter_without_a_value_says_that_the_record_was_sent_again():
    assert describe("events.dead-letter", b"storefront.events-1-7", None) == "storefront.events-1-7  sent again"
