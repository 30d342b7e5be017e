from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from schemas.base import Amount, Price

ALMOST_AMOUNTS = st.from_regex(r"\A[-+ ]?[0-9]{0,17}[._,]?[0-9]{0,8}([eE]2)?\Z") | st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e400", "١٢", " 1", "1 ", "", "-", ".", "-.5", "5."]
)


@pytest.mark.parametrize("kind", [Amount, Price], ids=["amount", "price"])
def test_should_be_judged_alike_by_model_and_schema(kind: object):
    adapter: TypeAdapter[Decimal] = TypeAdapter(kind)
    schema = Draft202012Validator(adapter.json_schema())

    @given(ALMOST_AMOUNTS)
    @example("100000000")
    @example("100000000.000000")
    @example("100000000.000001")
    @example("100000001")
    @example("0000000000000000000001.5")
    @example("999999999999999.999999")
    @example("1000000000000000")
    @example("-1")
    @example("-0.00")
    def alike(text: str):
        try:
            value = adapter.validate_python(text)
        except ValidationError:
            assert not schema.is_valid(text)
        else:
            assert schema.is_valid(text)
            assert value == Decimal(text)

    alike()


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], float("nan")])
def test_should_not_take_a_number_for_an_amount(value: object):
    with pytest.raises(ValidationError, match="decimal string"):
        TypeAdapter(Price).validate_python(value)


@pytest.mark.parametrize(("amount", "text"), [("1E2", '"100"'), ("0.10", '"0.10"'), ("-0.000001", '"-0.000001"'), ("2.550", '"2.550"')])
def test_should_write_plain_digits_and_keep_them_all(amount: str, text: str):
    assert TypeAdapter(Amount).dump_json(Decimal(amount)).decode() == text
