"""Search requests: admitted up to a bound, encoded beside the event loop, answered by the thread that owns the indexes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from models.encoder.encoder import Encoder, TextEncoder
from models.search.query import normalised, words
from models.search.taste import Taste, taste_of
from schemas.recommendation import Recommendations
from schemas.serving import SearchResults
from streams.serve.assortment import Assortment, UnknownCategoryError
from streams.serve.metrics import SEARCHING
from streams.serve.queries import QueryEncoder
from streams.serve.replies import RETRY_AFTER_S, RefusedError, category_unknown, not_ready, whole_number
from streams.settings import Settings

logger = logging.getLogger(__name__)

MAX_QUERY: Final = 256
MAX_USER: Final = 256
#: Requests under way at once: the last of them waits for the others, each some 10 ms where its query must be encoded.
RUNNING: Final = 32


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Checked parameters: ``query`` is normalised (``models.search.query``); ``user`` is a key of the topic ``recommendations``."""

    query: str
    user: str | None
    category: str | None
    limit: int


class Searches:
    """Answers searches. ``lists``: the newest list under a key, as it was written; None without one.

    ``answer`` is for the event loop, which it keeps free: encoding and searching happen in two other threads.
    """

    def __init__(self, encoder: Encoder, assortment: Assortment, lists: Callable[[str], bytes | None]) -> None:
        self._queries = QueryEncoder(encoder)
        self._assortment = assortment
        self._lists = lists
        self._running = 0

    async def answer(self, parameters: QueryParams) -> SearchResults:
        """The products that fit. Raises ``RefusedError``: 400 for a parameter, 404 for a category, 503 while not ready or overloaded."""
        request = read_request(parameters)
        if not self._assortment.ready:
            raise not_ready("the catalogue")
        if self._running >= RUNNING:
            raise RefusedError(
                503, "overloaded", f"{RUNNING} searches are under way; try again in {RETRY_AFTER_S} s, or start more servers",
                {"retry-after": str(RETRY_AFTER_S)},
            )  # fmt: skip
        self._running += 1
        SEARCHING.inc()
        try:
            return await self._answer(request)
        finally:
            self._running -= 1
            SEARCHING.dec()

    def stop(self) -> None:
        """End the encoder's thread."""
        self._queries.stop()

    async def _answer(self, request: SearchRequest) -> SearchResults:
        degraded: list[str] = []
        taste = None if request.user is None else self._taste(request.user, degraded)
        vector = None
        if words(request.query):
            try:
                vector = await asyncio.wrap_future(self._queries.vector(request.query))
            except (RuntimeError, ValueError, MemoryError):  # EncoderError and torch's errors are RuntimeErrors; logged where it failed
                degraded.append("semantic")
        try:
            return await asyncio.wrap_future(self._assortment.ask(lambda: self._assortment.search(
                request.query, vector, self._queries.version, taste, request.category, request.limit, tuple(degraded)
            )))  # fmt: skip
        except UnknownCategoryError:
            raise category_unknown(request.category) from None

    def _taste(self, user: str, degraded: list[str]) -> Taste | None:
        """What the newest list says; None without a personal one: nobody known, erased, or nothing to go by."""
        value = self._lists(user)
        if value is None:
            return None
        try:
            return taste_of(Recommendations.model_validate_json(value))
        except ValidationError as error:
            logger.error("the record of %r on recommendations is no list and lifts nothing: %s", user, str(error).splitlines()[0])
            degraded.append("personal")
            return None


def load(settings: Settings, assortment: Assortment, lists: Callable[[str], bytes | None]) -> Searches:
    """Load the encoder (a second or more). Raises ``EncoderUnavailableError``."""
    # On the CPU, as the index beside it: single queries, and the GPU belongs to the workers.
    return Searches(TextEncoder(settings.encoder, "cpu", threads=settings.threads), assortment, lists)


def read_request(parameters: QueryParams) -> SearchRequest:
    """Check the parameters of a search. Raises ``RefusedError`` with status 400."""
    typed = parameters.get("q", "").strip()
    if not 1 <= len(typed) <= MAX_QUERY:
        raise RefusedError(
            400,
            "parameter_invalid",
            f"q is what the shopper typed, 1 to {MAX_QUERY} characters without white space around it; got {len(typed)}",
        )
    user = parameters.get("user") or None
    if user is not None and len(user) > MAX_USER:
        raise RefusedError(400, "parameter_invalid", f"user has at most {MAX_USER} characters, got {len(user)}")
    return SearchRequest(normalised(typed), user, parameters.get("category") or None, whole_number(parameters, "limit", 400))
