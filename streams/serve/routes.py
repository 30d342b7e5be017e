"""The routes: what each reads, and what it says when there is nothing to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from schemas.base import Message
from schemas.serving import Liveness, Readiness, SearchResults
from streams.runtime.metrics import REGISTRY
from streams.serve.assortment import Assortment, UnknownCategoryError, UnknownProductError
from streams.serve.landing import PAGE
from streams.serve.openapi import document_bytes
from streams.serve.replica import Replica
from streams.serve.replies import (
    PRIVATE,
    RefusedError,
    category_unknown,
    json_bytes,
    json_message,
    not_ready,
    read_country,
    refusal,
    whole_number,
)
from streams.serve.withdrawn import without_withdrawn

MAX_IDENTIFIER: Final = 256
Answer = TypeVar("Answer", bound=Message)
Search = Callable[[QueryParams], Awaitable[SearchResults]]


class Routes:
    """The endpoints over one replica and one assortment; ``search`` answers searches, where the server was asked to (None: refused)."""

    def __init__(self, replica: Replica, assortment: Assortment, search: Search | None = None) -> None:
        self._replica = replica
        self._assortment = assortment
        self._search = search

    def application(self) -> Starlette:
        """All routes, and JSON for every refusal."""
        return Starlette(
            routes=[
                Route("/", self.landing, name="landing"),
                Route("/v1/users/{id:path}/recommendations", self.user_recommendations, name="user_recommendations"),
                Route("/v1/sessions/{id:path}/recommendations", self.session_recommendations, name="session_recommendations"),
                Route("/v1/items/{sku:path}/similar", self.similar, name="similar"),
                Route("/v1/trending", self.trending, name="trending"),
                Route("/v1/search", self.search, name="search"),
                Route("/v1/valuation", self.valuation, name="valuation"),
                Route("/healthz", self.health, name="health"),
                Route("/readyz", self.readiness, name="readiness"),
                Route("/metrics", self.metrics, name="metrics"),
                Route("/openapi.json", self.openapi, name="openapi"),
            ],
            exception_handlers={RefusedError: _refused, HTTPException: _http_error, Exception: _internal},
        )

    def current(self, key: str) -> bytes | None:
        """The list under a topic key as it was written, but for products withdrawn since; None if there is none."""
        value = self._replica.recommendations(key)
        return None if value is None else without_withdrawn(value, self._assortment.withdrawn)

    def recommendations(self, shopper: str, key: str) -> bytes:
        """The list under a topic key. Raises ``RefusedError``: 404 for a shopper without one, 503 while it may yet be read."""
        if not 1 <= len(shopper) <= MAX_IDENTIFIER:
            raise RefusedError(422, "parameter_invalid", f"an id has 1 to {MAX_IDENTIFIER} characters")
        value = self.current(key)
        if value is not None:
            return value
        if not self._replica.ready:
            raise not_ready("the list of this shopper")
        raise RefusedError(
            404, "shopper_unknown",
            f"nothing was recommended to {shopper!r} yet; show GET /v1/trending until their first event has been processed",
        )  # fmt: skip

    async def user_recommendations(self, request: Request) -> Response:
        """The newest list of a known user."""
        user = request.path_params["id"]
        return json_bytes(self.recommendations(user, user), headers=PRIVATE)

    async def session_recommendations(self, request: Request) -> Response:
        """The newest list of an anonymous session."""
        session = request.path_params["id"]
        return json_bytes(self.recommendations(session, f"session:{session}"), headers=PRIVATE)

    async def similar(self, request: Request) -> Response:
        """Products near a product."""
        sku, k, country = request.path_params["sku"], whole_number(request.query_params, "k"), read_country(request.query_params)
        try:
            return json_message(await self._ask(lambda: self._assortment.similar(sku, k, time.time_ns() // 1_000_000, country)))
        except UnknownProductError:
            raise RefusedError(404, "sku_unknown", f"the catalogue never held {sku!r}; publish the product to storefront.catalog") from None

    async def trending(self, request: Request) -> Response:
        """What is popular now."""
        category, k = request.query_params.get("category") or None, whole_number(request.query_params, "k")
        country = read_country(request.query_params)
        try:
            return json_message(await self._ask(lambda: self._assortment.trending(category, k, time.time_ns() // 1_000_000, country)))
        except UnknownCategoryError:
            raise category_unknown(category) from None

    async def search(self, request: Request) -> Response:
        """Products that fit what a shopper typed."""
        if self._search is None:
            raise RefusedError(404, "search_disabled", "this server was started without search; start it with `assay serve --search`")
        return json_message(await self._search(request.query_params), headers=PRIVATE)

    async def valuation(self, request: Request) -> Response:
        """The newest rolling records of a dimension, as they were written."""
        dimension = request.query_params.get("dimension", "overall")
        if not 1 <= len(dimension) <= MAX_IDENTIFIER or "|" in dimension:
            raise RefusedError(422, "parameter_invalid", "dimension is one of overall, channel, event_type, category, country, segment")
        records = [value for _, value in self._replica.valuation(dimension)]
        if not records and not self._replica.ready:
            raise not_ready("valuation")
        return json_bytes(b'{"dimension":' + orjson.dumps(dimension) + b',"records":[' + b",".join(records) + b"]}")

    async def health(self, request: Request) -> Response:
        """Whether this process can go on; 503 asks for a restart."""
        error = self._replica.error or self._assortment.error
        if error is not None:
            return json_message(Liveness(status="failed", error=str(error)), 503)
        return json_message(Liveness(status="ok"))

    async def readiness(self, request: Request) -> Response:
        """Whether to send traffic here."""
        if self._replica.ready and self._assortment.ready:
            return json_message(Readiness(status="ready"))
        return json_message(Readiness(status="catching_up", behind=self._replica.behind()), 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """The description of all this."""
        return json_bytes(document_bytes())

    async def landing(self, request: Request) -> Response:
        """What there is, for a human."""
        return HTMLResponse(PAGE)

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        if not self._assortment.ready:
            raise not_ready("the catalogue")
        return await asyncio.wrap_future(self._assortment.ask(question))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return refusal(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refused = RefusedError(405, "method_not_allowed", f"{request.method} is not answered here; use GET", dict(error.headers or {}))
    else:
        refused = RefusedError(error.status_code, "not_found", f"there is no {request.url.path}; GET / lists what there is")
    return refusal(refused)


async def _internal(request: Request, error: Exception) -> Response:
    return refusal(RefusedError(500, "internal", "the server failed on this request; its log says why"))
