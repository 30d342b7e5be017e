"""Hypothesis strategies for every message, read off the models themselves, so that a new field is covered the day it is added."""

from __future__ import annotations

import re
import types
import typing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from schemas import base
from schemas.currency import CURRENCIES
from schemas.events import AddToCart, Browse

#: Neither lone surrogates, which are not UTF-8, nor NUL, which Kafka tools print badly; everything else a shopper may type.
TEXT = st.characters(codec="utf-8", exclude_characters="\x00")
#: JSON as ``dict[str, Any]`` carries it.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(TEXT, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(TEXT, max_size=5), inner, max_size=3),
    max_leaves=5,
)
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_TIMES = st.datetimes(
    (base.EARLIEST + timedelta(days=1)).replace(tzinfo=None), (base.LATEST - timedelta(days=1)).replace(tzinfo=None), timezones=_ZONES
)
_SCALES = st.integers(0, base.AMOUNT_DECIMALS)


def _decimals(low: int, high: int) -> st.SearchStrategy[Decimal]:
    """Decimals in ``low..high`` with 0 to 6 digits after the point, trailing zeros and all."""

    def scaled(places: int) -> st.SearchStrategy[Decimal]:
        return st.integers(low * 10**places, high * 10**places).map(lambda units: Decimal(units).scaleb(-places))

    return _SCALES.flatmap(scaled)


def messages_of(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    """Valid instances of ``model``, every optional field now present and now absent."""
    fields = {name: _field(field) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda values: model.model_validate(_consistent(model, values)))


def _consistent(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Satisfy the rules that span fields."""
    if {"user_id", "session_id", "event_id"} <= values.keys() and values["user_id"] is None and values["session_id"] is None:
        values["session_id"] = "s"
    if model is Browse and values["sku"] is None and values["category"] is None:
        values["category"] = "shoes"
    if model is AddToCart:
        priced = values["unit_price"] is not None and values["currency"] is not None
        values |= {} if priced else {"unit_price": None, "currency": None}
    return values


def _field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _strategy(field.annotation, tuple(field.metadata))


def _strategy(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _strategy(arguments[0], (*arguments[1:], *metadata))
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(_strategy(kind) for kind in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_strategy(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(_strategy(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_strategy(arguments[0]), _strategy(arguments[1]), max_size=3)
    if annotation is type(None):
        return st.none()
    if annotation is Any:
        return JSON
    if annotation is Decimal:
        return _decimals(0, int(base.MAX_UNIT_PRICE)) if base._check_price in _checks(metadata) else _decimals(-(10**15) + 1, 10**15 - 1)
    if annotation in (datetime, AwareDatetime):
        return _TIMES | _TIMES.map(lambda at: at.astimezone(UTC))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return messages_of(annotation)
    return _scalar(annotation, metadata)


def _scalar(annotation: Any, metadata: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    marks = [inner for mark in metadata for inner in (getattr(mark, "metadata", None) or [mark])]
    checks = _checks(metadata)
    limits = {type(mark): mark for mark in marks}
    if annotation is bool:
        return st.booleans()
    if annotation is float:
        bounds = limits[Ge].ge if Ge in limits else None, limits[Le].le if Le in limits else None
        return st.floats(*bounds, allow_nan=False, allow_infinity=False)
    if annotation is int:
        if base._check_quantity in checks:
            return st.integers(1, base.MAX_QUANTITY)
        low = limits[Ge].ge if Ge in limits else limits[Gt].gt + 1 if Gt in limits else -(2**53)
        return st.integers(low, limits[Le].le if Le in limits else 2**53)
    if annotation is str:
        if base._check_version in checks:
            return st.integers(0, 99).map(lambda minor: f"1.{minor}")
        if base._check_currency in checks:
            return st.sampled_from(sorted(CURRENCIES))
        patterns = [mark.pattern for mark in marks if getattr(mark, "pattern", None)]
        if patterns:
            return st.from_regex(re.compile(patterns[0], re.ASCII), fullmatch=True)
        longest = min(limits[MaxLen].max_length, 20) if MaxLen in limits else 20
        text = st.text(TEXT, min_size=limits[MinLen].min_length if MinLen in limits else 0, max_size=longest)
        return text.filter(lambda value: not value.startswith(base.SESSION_PREFIX)) if base._check_user in checks else text
    raise NotImplementedError(f"no strategy for {annotation!r}; add one, so that the model is tested")


def _checks(metadata: tuple[Any, ...]) -> set[Any]:
    return {getattr(mark, "func", None) for mark in metadata}
