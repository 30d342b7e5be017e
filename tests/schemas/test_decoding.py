from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.decoding import CODES, InvalidRecord, decode_event, decode_product
from schemas.events import EVENT_TYPES, Purchase

RECEIVED_MS = 1_700_000_000_000  # 2023-11-14
PURCHASE: dict[str, Any] = {
    "event_id": "e1", "type": "purchase", "user_id": "ann", "occurred_at": "2023-11-14T10:00:00Z", "channel": "web", "sku": "A",
    "quantity": 2, "unit_price": "12.50", "currency": "GBP", "order_id": "o1",
}  # fmt: skip


def code_of(value: bytes | None, key: bytes | None = b"ann") -> tuple[str, str]:
    with pytest.raises(InvalidRecord) as refused:
        decode_event(key, value, received_ms=RECEIVED_MS)
    assert refused.value.code in CODES
    return refused.value.code, refused.value.path


def purchase(**changes: Any) -> bytes:
    fields = PURCHASE | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


#: (value, code, path). ``...`` leaves the field out.
REFUSED = {
    "null value": (None, "value_missing", ""),
    "2 MB": (b'{"event_id": "' + b"x" * 2_000_000 + b'"}', "value_too_large", ""),
    "not UTF-8": (b'{"type": "click", "channel": "caf\xe9"}', "encoding_invalid", ""),
    "byte order mark": (b"\xef\xbb\xbf" + purchase(), "json_invalid", ""),
    "UTF-16": ('{"type": "click"}'.encode("utf-16"), "encoding_invalid", ""),
    "empty": (b"", "json_invalid", ""),
    "cut off": (purchase()[:-10], "json_invalid", ""),
    "CSV": (b"2019-10-01,view,1", "json_invalid", ""),
    "lone surrogate": (b'{"type": "click", "sku": "\\ud800"}', "json_invalid", ""),
    "array": (b"[1]", "object_expected", ""),
    "null": (b"null", "object_expected", ""),
    "number": (b"5", "object_expected", ""),
    "no type": (purchase(type=...), "type_unknown", ""),
    "unknown type": (purchase(type="return"), "type_unknown", ""),
    "type is a number": (purchase(type=5), "type_unknown", ""),
    "newer major": (purchase(schema_version="2.0"), "version_unsupported", "schema_version"),
    "newer major with a new type": (purchase(schema_version="2.0", type="swipe"), "version_unsupported", "schema_version"),
    "newer major with new rules": (purchase(schema_version="2.0", quantity="two", sku=...), "version_unsupported", "schema_version"),
    "version is no version": (purchase(schema_version="new"), "field_invalid", "schema_version"),
    "no shopper": (purchase(user_id=...), "shopper_missing", ""),
    "null shopper": (purchase(user_id=None), "shopper_missing", ""),
    "no sku": (purchase(sku=...), "field_missing", "sku"),
    "no time": (purchase(occurred_at=...), "field_missing", "occurred_at"),
    "no currency": (purchase(currency=...), "field_missing", "currency"),
    "empty event id": (purchase(event_id=""), "field_invalid", "event_id"),
    "user is a number": (purchase(user_id=7), "field_invalid", "user_id"),
    "long sku": (purchase(sku="x" * 129), "field_invalid", "sku"),
    "quantity is text": (purchase(quantity="2"), "field_invalid", "quantity"),
    "quantity is a float": (purchase(quantity=2.5), "field_invalid", "quantity"),
    "no zone": (purchase(occurred_at="2023-11-14T10:00:00"), "field_invalid", "occurred_at"),
    "seconds since 1970 as text": (purchase(occurred_at="1699956000"), "field_invalid", "occurred_at"),
    "time without seconds": (purchase(occurred_at="2023-11-14T10:00Z"), "field_invalid", "occurred_at"),
    "time with a typographic minus": (purchase(occurred_at="2023-11-14T10:00:00\u221201:00"), "field_invalid", "occurred_at"),
    "time with a space": (purchase(occurred_at="2023-11-14 10:00:00Z"), "field_invalid", "occurred_at"),
    "30 February": (purchase(occurred_at="2023-02-30T10:00:00Z"), "field_invalid", "occurred_at"),
    "version in Arabic digits": (purchase(schema_version="1.\u0662"), "field_invalid", "schema_version"),
    "NaN in a field that nobody reads": (purchase(gift=float("nan")), "json_invalid", ""),
    "infinity in a field that nobody reads": (purchase(gift=[float("-inf")]), "json_invalid", ""),
    "nested too deep": (purchase()[:-1] + b', "gift": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "json_invalid", ""),
    "a number without end": (purchase()[:-1] + b', "gift": ' + b"1" * 1_000_000 + b"}", "json_invalid", ""),
    "time is a number": (purchase(occurred_at=1_699_956_000), "field_invalid", "occurred_at"),
    "currency is a word": (purchase(currency="pounds"), "field_invalid", "currency"),
    "currency that ISO 4217 does not know": (purchase(currency="XQZ"), "field_invalid", "currency"),
    "user named like a session": (purchase(user_id="session:u1"), "field_invalid", "user_id"),
    "quantity 0": (purchase(quantity=0), "quantity_invalid", "quantity"),
    "quantity negative": (purchase(quantity=-3), "quantity_invalid", "quantity"),
    "quantity absurd": (purchase(quantity=1_000_001), "quantity_invalid", "quantity"),
    "price is a number": (purchase(unit_price=12.5), "amount_invalid", "unit_price"),
    "price is the number NaN": (purchase(unit_price=float("nan")), "amount_invalid", "unit_price"),
    "price is the word NaN": (purchase(unit_price="NaN"), "amount_invalid", "unit_price"),
    "price is infinite": (purchase(unit_price="Infinity"), "amount_invalid", "unit_price"),
    "price is words": (purchase(unit_price="12,50"), "amount_invalid", "unit_price"),
    "price negative": (purchase(unit_price="-11062.06"), "price_invalid", "unit_price"),
    "price absurd": (purchase(unit_price="100000000.01"), "price_invalid", "unit_price"),
    "price too fine": (purchase(unit_price="1.0000001"), "price_invalid", "unit_price"),
    "basket price alone": (purchase(type="add_to_cart", currency=...), "currency_missing", ""),
    "1970": (purchase(occurred_at="1970-01-01T00:00:00Z"), "time_out_of_range", "occurred_at"),
    "2100": (purchase(occurred_at="2100-01-01T00:00:00Z"), "time_out_of_range", "occurred_at"),
    "year 10000": (purchase(occurred_at="10000-01-01T00:00:00Z"), "field_invalid", "occurred_at"),
    "the day after tomorrow": (purchase(occurred_at="2023-11-16T10:00:00Z"), "time_in_future", "occurred_at"),
    "page without a page": (purchase(type="browse", sku=...), "field_missing", ""),
}
REFUSED_KEYS = {"key_missing": [None, b""], "key_mismatch": [b"bob", b"\xff", b"ann "]}


@pytest.mark.parametrize("case", REFUSED)
def test_should_refuse_with_a_stable_code_and_the_path_of_the_field(case: str):
    value, code, path = REFUSED[case]
    assert code_of(value) == (code, path)


@pytest.mark.parametrize(("code", "key"), [(code, key) for code, keys in REFUSED_KEYS.items() for key in keys])
def test_should_refuse_a_key_that_is_not_the_shopper(code: str, key: bytes | None):
    assert code_of(purchase(), key) == (code, "")


def test_should_have_an_example_of_every_code_that_a_record_alone_can_earn():
    by_workers = {"sku_unknown", "embedding_failed", "processing_failed", "memory_exhausted"}
    assert {code for _, code, _ in REFUSED.values()} | REFUSED_KEYS.keys() == CODES.keys() - by_workers


@pytest.mark.parametrize("case", [case for case, (value, _, _) in REFUSED.items() if value and len(value) < 10_000])
def test_should_say_what_is_wrong_in_words(case: str):
    with pytest.raises(InvalidRecord) as refused:
        decode_event(b"ann", REFUSED[case][0], received_ms=RECEIVED_MS)
    assert refused.value.message
    assert refused.value.code in str(refused.value)


def test_should_read_a_newer_minor_version_and_drop_what_it_added():
    event = decode_event(b"ann", purchase(schema_version="1.9", gift_note="for you"), received_ms=RECEIVED_MS)
    assert isinstance(event, Purchase)
    assert event.schema_version == "1.9"
    assert not hasattr(event, "gift_note")
    assert b"gift_note" not in event.to_json()


def test_should_take_the_words_nan_and_infinity_in_a_text_for_what_they_are():
    assert decode_event(b"ann", purchase(gift="NaN or Infinity"), received_ms=RECEIVED_MS)


@pytest.mark.parametrize("received_ms", [0, -1, -(2**62)])
def test_should_believe_a_record_that_has_no_time_of_receipt(received_ms: int):
    assert decode_event(b"ann", purchase(), received_ms=received_ms)


@pytest.mark.parametrize("time", ["2023-11-14T10:00:00.123456789+23:59", "2023-11-14t10:00:00z", "2023-11-14T10:00:00-00:00"])
def test_should_read_every_form_that_rfc_3339_has(time: str):
    assert decode_event(b"ann", purchase(occurred_at=time), received_ms=RECEIVED_MS)


def test_should_accept_a_clock_that_is_less_than_a_day_ahead():
    assert decode_event(b"ann", purchase(occurred_at="2023-11-15T22:00:00Z"), received_ms=RECEIVED_MS)


def test_should_accept_a_value_of_exactly_the_limit():
    value = purchase()
    assert decode_event(b"ann", value, received_ms=RECEIVED_MS, max_bytes=len(value))
    with pytest.raises(InvalidRecord, match="value_too_large"):
        decode_event(b"ann", value, received_ms=RECEIVED_MS, max_bytes=len(value) - 1)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_should_be_keyed_by_the_user_else_the_session_and_a_login_by_its_session(kind: str):
    fields: dict[str, Any] = {**PURCHASE, "type": kind, "session_id": "s1", "query": "red shoes"}
    by_user, by_session = (b"s1", b"s1") if kind == "login" else (b"ann", b"s1")
    assert decode_event(by_user, json.dumps(fields).encode(), received_ms=RECEIVED_MS).type == kind
    if kind != "login":
        del fields["user_id"]
        assert decode_event(by_session, json.dumps(fields).encode(), received_ms=RECEIVED_MS).key == "s1"


def test_should_need_both_names_for_a_login():
    assert code_of(purchase(type="login")) == ("field_missing", "session_id")


def test_should_judge_products_by_the_same_codes():
    assert decode_product(b"A", b'{"sku": "A", "price": "2.55", "currency": "GBP"}') is not None
    assert decode_product(b"A", None) is None
    for key, value, code, path in [
        (None, b'{"sku": "A"}', "key_missing", ""),
        (b"B", b'{"sku": "A"}', "key_mismatch", ""),
        (b"A", b'{"sku": "A", "price": "-1"}', "price_invalid", "price"),
        (b"A", b'{"title": "A"}', "field_missing", "sku"),
        (b"A", b"nonsense", "json_invalid", ""),
        (b"A", b'{"sku": "A", "schema_version": "3.0"}', "version_unsupported", "schema_version"),
        (b"\xff", None, "encoding_invalid", ""),
    ]:
        with pytest.raises(InvalidRecord) as refused:
            decode_product(key, value)
        assert (refused.value.code, refused.value.path) == (code, path)
