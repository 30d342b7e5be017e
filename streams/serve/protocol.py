"""The HTTP protocol of the server, with a bound on what one request may bring.

Neither uvicorn nor its parser has one, so that an address or a header without end would take all memory.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.serving import ApiError, ErrorReply
from streams.serve.metrics import REQUESTS

#: Bytes of a request, its head and its body, that may come in several pieces: all that is asked here fits in a hundredth.
REQUEST_BYTES: Final = 65_536
_BODY: Final = ErrorReply(
    error=ApiError(code="request_too_large", message=f"a request may have {REQUEST_BYTES:,} bytes, its headers included")
).to_json()


class BoundedRequests(HttpToolsProtocol):
    """Refuses a request of more than ``REQUEST_BYTES`` with 431 (its head; RFC 6585) or 413 (its body), and closes the connection."""

    _unfinished = _in_body = False
    _received = 0

    def on_message_begin(self) -> None:
        """A request begins."""
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
