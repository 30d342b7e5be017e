"""Who may read, and what every request is counted as: the layers around the routes."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.serve.metrics import REQUESTS, SECONDS
from streams.serve.replies import PRIVATE, RefusedError, json_bytes, refusal

logger = logging.getLogger(__name__)

#: Open without a key: they say nothing about shoppers or trade, and probes carry no secrets.
_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
#: Those of a list, as the routes send them.
_HEADERS: Final = tuple(pair for pair in json_bytes(b"", headers=PRIVATE).raw_headers if pair[0] != b"content-length")
_UNAUTHORIZED: Final = RefusedError(
    401, "unauthorized", "send the header Authorization: Bearer <key>, the key being the server's api_key",
    {"www-authenticate": 'Bearer realm="assay"'},
)  # fmt: skip


class BearerKey:
    """Lets requests through whose bearer key is ``key``, and those for open paths. Compares in constant time."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse."""
        if scope["type"] != "http" or scope["path"] in _OPEN or self._allowed(scope):
            await self._app(scope, receive, send)
        else:
            await refusal(_UNAUTHORIZED)(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + key.strip(), self._expected)


class ListLane:
    """Answers a plain read of a user's or session's list without router and response object, which would take half of the time.

    Whatever is out of the ordinary (another method, no list, a bad id) goes on to the routes, so there is one place for refusals.
    """

    def __init__(self, app: ASGIApp, lookup: Callable[[str], bytes | None]) -> None:
        self._app = app
        self._lookup = lookup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        value = None
        if scope["type"] == "http" and scope["method"] == "GET":
            key = _list_key(scope["path"])
            value = self._lookup(key) if key else None
        if value is None:
            await self._app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, (b"content-length", b"%d" % len(value))]})
            await send({"type": "http.response.body", "body": value})


class Counted:
    """Counts every request by route and status, and how long it took; logs what failed inside.

    The routes have answered such a request with 500 by then. Were the exception let through, the HTTP server would log it
    without the path and cut the connection, and with it the client's next request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; take note of the status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        except Exception:
            logger.exception("failed on %s %s", scope["method"], scope["path"])
        finally:
            requests, seconds = _meters(_route(scope["path"]), status)
            requests.inc()
            seconds.observe(time.perf_counter() - started)


@cache
def _meters(route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(route, str(status)), SECONDS.labels(route)


def _list_key(path: str) -> str | None:
    """The topic key of the list that ``path`` asks for; None for any other path."""
    if not path.endswith("/recommendations"):
        return None
    if path.startswith("/v1/users/"):
        return path[10:-16]
    if path.startswith("/v1/sessions/"):
        return f"session:{path[13:-16]}"
    return None


def _route(path: str) -> str:
    """The route as a label: ids must not become labels, or each shopper would be a time series."""
    if path.startswith("/v1/"):
        kind = path.split("/", 3)[2]
        return f"/v1/{kind}" if kind in {"users", "sessions", "items", "trending", "search", "valuation"} else "other"
    return path if path in _OPEN or path == "/metrics" else "other"
