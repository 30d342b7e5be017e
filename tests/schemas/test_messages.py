from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from schemas.export import json_schema, messages
from schemas.valuation import RollingValuation
from tests.schemas.strategies import JSON, messages_of

MODELS = list(messages())
VALIDATORS = {model: Draft202012Validator(json_schema(model)) for model in MODELS}
_QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@each_model
def test_should_be_a_valid_2020_12_schema_with_an_id_of_its_own(model: type[BaseModel]):
    schema = json_schema(model)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [schema["$id"] == json_schema(other)["$id"] for other in MODELS].count(True) == 1


@each_model
def test_should_come_back_from_json_as_it_was(model: type[BaseModel]):
    @_QUICK
    @given(messages_of(model))
    def round_trip(message):
        assert model.model_validate_json(message.to_json()) == message

    round_trip()


@each_model
def test_should_write_what_its_schema_allows(model: type[BaseModel]):
    @_QUICK
    @given(messages_of(model))
    def conforms(message):
        VALIDATORS[model].validate(json.loads(message.to_json()))

    conforms()


@each_model
def test_should_drop_fields_it_does_not_know(model: type[BaseModel]):
    @settings(_QUICK, max_examples=10)
    @given(messages_of(model), JSON)
    def drops(message, extra):
        widened = json.loads(message.to_json()) | {"added_by_1_7": extra}
        VALIDATORS[model].validate(widened)
        assert model.model_validate_json(json.dumps(widened)) == message

    drops()


@each_model
def test_should_agree_with_its_schema_on_what_to_refuse(model: type[BaseModel]):
    """Take a field away or give it a value of another type: schema and model both refuse, or both accept."""
    schema = json_schema(model)

    @_QUICK
    @given(messages_of(model), st.sampled_from(sorted(schema["properties"])), st.sampled_from([..., None, -1, "", "?", [], {}, True]))
    def agree(message, name, value):
        damaged = json.loads(message.to_json())
        damaged.pop(name, None)
        if value is not ...:
            damaged[name] = value
        if isinstance(value, str) and "date-time" in json.dumps(schema["properties"][name]):
            return  # a format is an annotation in JSON Schema: only the model judges it
        try:
            model.model_validate_json(json.dumps(damaged))
        except ValidationError:
            accepted = False
        else:
            accepted = True
        assert VALIDATORS[model].is_valid(damaged) == accepted, damaged

    agree()


def test_should_read_a_rolling_record_from_before_there_was_a_status():
    old = {
        "dimension": "overall", "asset": "all", "watermark": "2025-03-01T12:00:30Z", "versions": {}, "tests": 1, "late": 0,
        "window": {"kind": "pane", "start": "2025-03-01T12:00:00Z", "end": "2025-03-01T12:01:00Z", "length": 60},
        "lift": {
            "metric": "hit_rate@20", "utility": 1.0, "baseline": 0.0, "hit_rate": {}, "mrr": {}, "ndcg": {},
            "popularity": {"hit_rate": {}, "mrr": {}, "ndcg": {}},
        },
        "funnel": {"events": 1, "clicks": 0, "conversions": 0, "by_type": {}}, "lineage": [], "schema_version": "1.0",
    }  # fmt: skip
    record = RollingValuation.model_validate_json(json.dumps(old))
    assert (record.status, record.utility, record.tests) == ("open", None, 1)


def test_should_refuse_numbers_that_are_not_finite():
    from schemas.recommendation import Reason

    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValidationError):
            Reason.model_validate_json(f'{{"source": "similar", "score": {text}}}')
