"""The HTTP protocol of the server, with a bound on what one request may bring, and on the time in which a client must bring it.

Neither uvicorn nor its parser has one, so that an address or a header without end would take all memory, and clients that fall silent
all files.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.serving import ApiError, ErrorReply
from streams.serve.connections import Connections
from streams.serve.metrics import REQUESTS

#: Bytes of a request, its head and its body, that may come in several pieces: all that is asked here fits in a hundredth.
REQUEST_BYTES: Final = 65_536
_BODY: Final = ErrorReply(
    error=ApiError(code="request_too_large", message=f"a request may have {REQUEST_BYTES:,} bytes, its headers included")
).to_json()


class BoundedRequests(HttpToolsProtocol):
    """Refuses a request of more than ``REQUEST_BYTES`` with 431 (its head; RFC 6585) or 413 (its body), and closes the connection.

    ``open_``: itself among the others, which closes it when its client is silent for too long.
    """

    _unfinished = _in_body = False
    _received = 0

    def __init__(self, *arguments: Any, open_: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._open = open_
        self._unread = 0
        self.silent_since = monotonic()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send a request or the rest of one, or to read an answer."""
        cycle = self.cycle
        in_body = self._unfinished and self._in_body and not self.pipeline
        return cycle is None or cycle.response_complete or in_body or self.flow.write_paused or self.transport.is_closing()

    def reads_on(self) -> bool:
        """Whether the client has taken some of what waits to be written, since this was last asked."""
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        return self._unread < before

    def abort(self) -> None:
        """Close it at once: a client that reads nothing would keep open what waits to be written."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._open.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """It does not read what it is answered."""
        super().pause_writing()
        self.silent_since = monotonic()

    def on_message_begin(self) -> None:
        """A request begins."""
        self.silent_since = monotonic()
        self._unfinished, self._in_body, self._received = True, False, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is there whole."""
        self._unfinished = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """A piece of one request, or of several: what is there whole was no larger than the piece and those before it."""
        super().data_received(data)
        if self._unfinished:
            self._received += len(data)
            if self._received > REQUEST_BYTES:
                self._refuse()

    def _refuse(self) -> None:
        cycle, silent = self.cycle, self._in_body
        if cycle is not None and not cycle.response_complete:
            # Of this request, or of the one before: what it answers from here on nobody reads.
            cycle.disconnected = True
            cycle.message_event.set()
            silent = not self._in_body or cycle.response_started
        if not silent:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if self._in_body else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + _BODY)
            REQUESTS.labels("other", str(status.value)).inc()
        self._unfinished = False
        self.transport.close()
