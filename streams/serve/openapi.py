"""The API described as OpenAPI 3.1, from the same models that the replies are made of."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.recommendation import Recommendations
from schemas.serving import ErrorReply, Liveness, Readiness, SearchResults, SimilarItems, Trending, ValuationRecords
from streams.serve.replies import DEFAULT_K, MAX_COUNTRY, MAX_K, RETRY_AFTER_S

_REPLIES: Final[tuple[type[BaseModel], ...]] = (
    Recommendations, SimilarItems, Trending, SearchResults, ValuationRecords, Liveness, Readiness, ErrorReply,
)  # fmt: skip
_REFUSALS: Final = {
    "400": "A parameter is missing or out of its range.",
    "401": "No key, or a wrong one.",
    "404": "Not known (yet); the message says what to do instead.",
    "422": "A parameter is out of its range.",
    "503": f"Not read from Kafka yet, or too many searches under way; try again in {RETRY_AFTER_S} s.",
}


def _path_parameter(name: str, about: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": 256}
    return {"name": name, "in": "path", "required": True, "description": about, "schema": schema}


def _number_of_products(name: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": DEFAULT_K}
    return {"name": name, "in": "query", "description": "How many products at most.", "schema": schema}


_K: Final = _number_of_products("k")
_CATEGORY: Final[dict[str, Any]] = {
    "name": "category",
    "in": "query",
    "schema": {"type": "string"},
    "description": "A category and all below it: its path from the top with ' > ' between (Kitchen > Mugs); everywhere if absent or empty.",
}
_COUNTRY: Final[dict[str, Any]] = {
    "name": "country",
    "in": "query",
    "schema": {"type": "string", "maxLength": MAX_COUNTRY},
    "description": "Where the shopper is, as events name it, for business rules by region; unknown if absent or empty.",
}
_QUERY: Final[dict[str, Any]] = {
    "name": "q",
    "in": "query",
    "required": True,
    "description": "What the shopper typed: 1 to 256 characters, not counting white space around them. No character is an operator.",
    "schema": {"type": "string", "pattern": r"^\s*\S([\s\S]{0,254}\S)?\s*$", "examples": ["red enamel mug"]},
}
_USER: Final[dict[str, Any]] = {
    "name": "user",
    "in": "query",
    "description": "The user_id of the events, or session: and the session_id of who has not logged in: products of their newest list and "
    "those like them are lifted. Absent, empty, unknown, or without a personal list: plain relevance.",
    "schema": {"type": "string", "maxLength": 256},
}
_DIMENSION: Final[dict[str, Any]] = {
    "name": "dimension",
    "in": "query",
    "description": "Which kind of data asset.",
    "schema": {
        "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^|]+$", "default": "overall",
        "examples": ["overall", "channel", "event_type", "category", "country", "segment"],
    },
}  # fmt: skip


def _read(
    name: str,
    summary: str,
    reply: type[BaseModel],
    parameters: tuple[dict[str, Any], ...] = (),
    refusals: tuple[str, ...] = (),
    *,
    open_: bool = False,
) -> dict[str, Any]:
    """A GET operation. ``open_``: it needs no key."""
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _json("What was asked for.", reply)} | {status: _json(_REFUSALS[status], ErrorReply) for status in refusals},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if open_:
        operation["security"] = []
    else:
        operation["responses"]["401"] = _json(_REFUSALS["401"], ErrorReply)
    return {"get": operation}


def _json(about: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}


def _other(name: str, summary: str, media_type: str, *, open_: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {media_type: {"schema": {"type": "string"}}}}},
    }
    if open_:
        operation["security"] = []
    return {"get": operation}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    _, definitions = models_json_schema([(model, "serialization") for model in _REPLIES], ref_template="#/components/schemas/{model}")
    probe = _read("readiness", "Whether it has read what the topics held when it started.", Readiness, open_=True)
    probe["get"]["responses"]["503"] = _json("Not yet.", Readiness)
    health = _read("health", "Whether the process can go on.", Liveness, open_=True)
    health["get"]["responses"]["503"] = _json("No: restart it.", Liveness)
    lists = ("404", "422", "503")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Assay read API",
            "version": version("assay"),
            "summary": "Recommendations, and what each data asset did for them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {}],
        "paths": {
            "/": _other("landing", "What there is, for a human.", "text/html", open_=True),
            "/v1/users/{id}/recommendations": _read(
                "user_recommendations",
                "The newest list of a known user.",
                Recommendations,
                (_path_parameter("id", "The user_id of the events."),),
                lists,
            ),
            "/v1/sessions/{id}/recommendations": _read(
                "session_recommendations",
                "The newest list of a session that has not logged in.",
                Recommendations,
                (_path_parameter("id", "The session_id of the events."),),
                lists,
            ),
            "/v1/items/{sku}/similar": _read(
                "similar",
                "Products near a product, by text and by shared sessions.",
                SimilarItems,
                (_path_parameter("sku", "The product."), _K, _COUNTRY),
                lists,
            ),
            "/v1/trending": _read("trending", "What is popular now.", Trending, (_CATEGORY, _K, _COUNTRY), lists),
            "/v1/search": _read(
                "search",
                "Products that fit what a shopper typed, by word and by meaning, best first; 404 on servers started without --search.",
                SearchResults,
                (_QUERY, _USER, _CATEGORY, _number_of_products("limit")),
                ("400", "404", "503"),
            ),
            "/v1/valuation": _read(
                "valuation",
                "The newest rolling records of a dimension, minutes that are over left out.",
                ValuationRecords,
                (_DIMENSION,),
                ("422", "503"),
            ),
            "/healthz": health,
            "/readyz": probe,
            "/metrics": _other("metrics", "Prometheus.", "text/plain", open_=False),
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "security": [],
                    "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
                }
            },
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The server's api_key, where it has one."}},
        },
    }


@cache
def document_bytes() -> bytes:
    """``document`` as JSON."""
    return orjson.dumps(document())
