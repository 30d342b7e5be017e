"""What the exported JSON Schema says of a document, by the letter of the standards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from pydantic import BaseModel

from schemas.export import json_schema


class NotJsonError(ValueError):
    """Bytes that are no JSON by RFC 8259."""


def strict_json(value: bytes) -> Any:
    """The document in ``value``. Raises ``NotJsonError``, also for NaN and for what nests or counts too far for Python."""
    try:
        return json.loads(value.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as bad:
        raise NotJsonError(str(bad)) from None


def _no_number(text: str) -> Any:
    raise NotJsonError(f"{text} is no JSON")


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """JSON Schema's patterns are ECMA 262's: a dollar sign is the very end, digits are ASCII. Python's ``re`` means more by both."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance, re.ASCII):
        yield ValidationError(f"{instance[:80]!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})


@cache
def validator(model: type[BaseModel]) -> Any:
    """A validator of what ``assay schemas export`` writes for ``model``; formats are held to, not merely noted."""
    return _Validator(json_schema(model), format_checker=Draft202012Validator.FORMAT_CHECKER)
