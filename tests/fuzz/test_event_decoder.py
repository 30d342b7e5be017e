"""Whatever bytes come in on the storefront's topics: a message that the exported schema allows, or a refusal with a stable code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.catalog import Product
from schemas.decoding import CODES, InvalidRecord, decode_event, decode_product
from schemas.events import EVENT_ADAPTER, EVENT_TYPES
from schemas.topics import EVENTS
from tests.fuzz.contract import NotJsonError, strict_json, validator
from tests.fuzz.documents import mutated
from tests.fuzz.effort import PATIENCE, effort
from tests.schemas.strategies import messages_of

_Decoded = TypeVar("_Decoded")

RECEIVED_MS = 4_102_444_800_000  # 2100: nothing in the contract's years lies in the future
MODELS: dict[str, type[BaseModel]] = dict(zip(EVENT_TYPES, EVENTS.models, strict=True))
#: What a schema does not say, and the decoder refuses all the same; each is documented in ``schemas.decoding``. So are values that nest
#: too deep; ``written_whole`` and ``told_apart`` say what else there is.
BEYOND_SCHEMA = {"time_out_of_range", "key_missing", "key_mismatch"}

_EVENTS = st.sampled_from(EVENTS.models).flatmap(messages_of).map(lambda event: event.to_json())
_PRODUCTS = messages_of(Product).map(lambda product: product.to_json())

#: Found by the tests below, or by trying what they taught to try: once taken (or fatal), now refused with this code.
FOUND: dict[str, tuple[dict[str, Any], str]] = {
    "seconds since 1970 in a text": ({"occurred_at": "1699956000"}, "field_invalid"),
    "seconds as a power of ten": ({"occurred_at": "1.6e9"}, "field_invalid"),
    "an underscore between date and time": ({"occurred_at": "2023-11-14_10:00:00Z"}, "field_invalid"),
    "a comma before the fraction": ({"occurred_at": "2023-11-14T10:00:00,5Z"}, "field_invalid"),
    "a typographic minus": ({"occurred_at": "2023-11-14T10:00:00\u221201:00"}, "field_invalid"),
    "no seconds": ({"occurred_at": "2023-11-14T10:00Z"}, "field_invalid"),
    "Arabic digits in the version": ({"schema_version": "1.\u0662"}, "field_invalid"),
    "NaN where nobody reads": ({"more": float("nan")}, "json_invalid"),
    "infinity where nobody reads": ({"more": {"a": [float("-inf")]}}, "json_invalid"),
    "a price of minus zero": ({"type": "purchase", "unit_price": "-0.00", "currency": "GBP", "order_id": "o"}, "price_invalid"),
}  # fmt: skip
_VALID = {"event_id": "e", "type": "click", "user_id": "u", "sku": "a", "channel": "web", "occurred_at": "2023-11-14T10:00:00Z"}


def key_of(value: bytes) -> bytes:
    """The key that a correct producer would give to ``value``, if it can be told."""
    try:
        document = strict_json(value)
        named = document["session_id"] if document["type"] == "login" else document.get("user_id") or document["session_id"]
        return str(named).encode()
    except (NotJsonError, KeyError, TypeError, AttributeError, UnicodeEncodeError):
        return b"u"


def written_whole(value: bytes) -> bool:
    """Whether ``value`` has no number with a fraction or exponent that is whole all the same (2.0, 1e2): JSON Schema knows one kind of
    number, our counts are written as integers.
    """
    whole: list[float] = []
    json.loads(value, parse_float=lambda text: whole.append(float(text)) or 0)
    return not any(number.is_integer() for number in whole)


def told_apart(value: bytes) -> bool:
    """Whether ``value`` is text throughout: half a surrogate pair has no UTF-8, so no reader could write it again."""
    return b"\\ud" not in value.lower()


def judged(value: bytes, model: type[BaseModel] | None, refusal: InvalidRecord | None) -> None:
    """Hold one outcome of a decoder to the schema, in both directions."""
    document = json_or_none(value)
    if document is None:
        assert refusal is not None, "accepted what is no JSON"
        return
    allowed = model is not None and validator(model).is_valid(document)
    if refusal is None:
        assert allowed, f"accepted against the schema: {model and [e.message for e in validator(model).iter_errors(document)]}"
    elif allowed and refusal.code not in BEYOND_SCHEMA and told_apart(value) and written_whole(value):
        assert "recursion limit exceeded" in refusal.message, f"refused within the schema: {refusal}"


def json_or_none(value: bytes) -> Any:
    try:
        return strict_json(value)
    except NotJsonError:
        return None


def outcome(decode: Callable[[], _Decoded]) -> tuple[_Decoded | None, InvalidRecord | None]:
    """What ``decode`` returns, or its refusal. Any other exception is a crash, and the test's."""
    try:
        return decode(), None
    except InvalidRecord as refused:
        return None, refused


def of_type(value: bytes) -> type[BaseModel] | None:
    document = json_or_none(value)
    kind = document.get("type") if isinstance(document, dict) else None
    return MODELS.get(kind) if isinstance(kind, str) else None


@effort(500)
@given(mutated(_EVENTS))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"type":"browse","type":"click"}')
def test_an_event_is_valid_by_its_schema_or_refused_with_a_code(value: bytes):
    event, refusal = outcome(lambda: decode_event(key_of(value), value, received_ms=RECEIVED_MS))
    if event is None:
        assert refusal is not None
        assert refusal.code in CODES
    else:
        again = event.to_json()
        assert EVENT_ADAPTER.validate_json(again) == event
        assert validator(MODELS[event.type]).is_valid(strict_json(again))
    judged(value, of_type(value), refusal)


@effort(300)
@given(mutated(_PRODUCTS))
def test_a_product_is_valid_by_its_schema_or_refused_with_a_code(value: bytes):
    document = json_or_none(value)
    sku = document.get("sku") if isinstance(document, dict) else None
    key = sku.encode("utf-8", "replace") if isinstance(sku, str) and sku else b"a"
    product, refusal = outcome(lambda: decode_product(key, value))
    if product is None:
        assert refusal is not None
        assert refusal.code in CODES
    else:
        assert validator(Product).is_valid(strict_json(product.to_json()))
    judged(value, Product, refusal)


@effort(200)
@given(st.none() | st.binary(max_size=50), st.none() | st.binary(max_size=400), st.integers(-(2**63), 2**63 - 1))
def test_any_bytes_at_any_time_are_an_event_or_refused(key: bytes | None, value: bytes | None, received_ms: int):
    event, refusal = outcome(lambda: decode_event(key, value, received_ms=received_ms))
    assert (refusal.code in CODES) if refusal else event
    _, refusal = outcome(lambda: decode_product(key, value))
    assert refusal is None or refusal.code in CODES


@pytest.mark.parametrize("case", FOUND)
def test_what_fuzzing_found_is_refused(case: str):
    changes, code = FOUND[case]
    value = json.dumps(_VALID | changes).encode()
    with pytest.raises(InvalidRecord) as refused:
        decode_event(b"u", value, received_ms=RECEIVED_MS)
    assert refused.value.code == code
    judged(value, of_type(value), refused.value)


def test_a_megabyte_of_any_kind_is_judged_in_a_moment_and_in_little_memory():
    found = subprocess.run([sys.executable, "-m", "tests.fuzz.bombs"], capture_output=True, text=True, timeout=120, check=True)
    outcomes = json.loads(found.stdout)
    assert {name for name, o in outcomes.items() if o["code"] not in CODES} == {
        "fraction", "exponent", "unread text", "members", "the same member", "elements", "blanks", "zeros",
    }  # fmt: skip
    assert {name: o for name, o in outcomes.items() if o["seconds"] > PATIENCE.total_seconds()} == {}
    # A megabyte of one-digit numbers, parsed, takes 21 MB.
    assert {name: o for name, o in outcomes.items() if o["grown_mb"] > 60} == {}
