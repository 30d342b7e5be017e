"""Replies: ready-made bytes or models as JSON, and refusals with stable codes."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.responses import Response

from schemas.base import Message
from schemas.serving import ApiError, ErrorCode, ErrorReply

#: Lists belong to one person and are replaced at any moment: no cache in between may keep them.
PRIVATE: Final = {"cache-control": "private, no-store"}
RETRY_AFTER_S: Final = 1
#: Products in a reply: at most, and where nothing is asked for.
MAX_K: Final = 100
DEFAULT_K: Final = 20
#: Characters of a country, as in events.
MAX_COUNTRY: Final = 128


class RefusedError(Exception):
    """A request that is not answered. ``status`` is the HTTP status, ``headers`` go with it."""

    def __init__(self, status: int, code: ErrorCode, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def json_bytes(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A reply whose body is JSON already."""
    return Response(body, status, headers=headers, media_type="application/json")


def json_message(message: Message, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as JSON; absent fields are left out."""
    return json_bytes(message.to_json(), status, headers)


def refusal(error: RefusedError) -> Response:
    """The reply that says why not."""
    body = ErrorReply(error=ApiError(code=error.code, message=error.message))
    return json_bytes(body.to_json(), error.status, error.headers)


def not_ready(what: str) -> RefusedError:
    """503: the replica has not yet read what it needs for this."""
    message = f"{what} is still being read from Kafka; GET /readyz tells when it is there"
    return RefusedError(503, "not_ready", message, {"retry-after": str(RETRY_AFTER_S)})


def category_unknown(category: str | None) -> RefusedError:
    """404: no product was ever there."""
    return RefusedError(
        404, "category_unknown", f"no product is in {category!r}; give the path from the top, as in category=Kitchen > Mugs"
    )


def whole_number(parameters: QueryParams, name: str, status: int = 422) -> int:
    """The parameter ``name``, a number of products. Raises ``RefusedError`` with ``status``."""
    text = parameters.get(name, str(DEFAULT_K))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_K):
        raise RefusedError(status, "parameter_invalid", f"{name} is a whole number in 1..{MAX_K}, got {text[:40]!r}")
    return int(text)


def read_country(parameters: QueryParams) -> str:
    """The parameter ``country``, as events name it; empty where it is absent. Raises ``RefusedError`` with status 422."""
    country = parameters.get("country", "")
    if len(country) > MAX_COUNTRY:
        raise RefusedError(422, "parameter_invalid", f"country has at most {MAX_COUNTRY} characters, got {len(country)}")
    return country
