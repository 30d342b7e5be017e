"""Clients that fall silent: each is given some seconds, and all together never so many files that others find no room."""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from streams.serve import RunningServer, connections
from streams.serve.connections import ConnectionLimits
from streams.worker import _prepare
from tests.serve.conftest import Store, eventually, serving

#: Each a client's last words, and how often a request among them is whole.
SILENCES = [
    pytest.param(b"", 0, id="nothing"),
    pytest.param(b"GET /v1/tr", 0, id="half a line"),
    pytest.param(b"GET /v1/trending HTTP/1.1\r\nhost: a\r\n", 0, id="half a head"),
    pytest.param(b"POST /v1/trending HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf", 1, id="half a body"),
    pytest.param(b"GET /v1/trending HTTP/1.1\r\nhost: a\r\n\r\n\r\n", 1, id="an empty line after a request"),
    pytest.param(b"GET /v1/trending HTTP/1.1\r\nhost: a\r\n\r\nGET /v1/tr", 1, id="half a line after a request"),
]
LONG_S = 30.0
ROOM = 12
#: Bytes a second.
SLOW = 200_000


@pytest.fixture
def server(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], RunningServer]]:
    """A server that gives its clients so many seconds, with room for a dozen."""
    monkeypatch.setattr(ConnectionLimits, "of_process", lambda _stores: ConnectionLimits(ROOM, 64))
    with ExitStack() as stack:

        def start(patience_s: float) -> RunningServer:
            monkeypatch.setattr(connections, "PATIENCE_S", patience_s)
            return stack.enter_context(serving(store.settings))[0]

        yield start


def call(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=LONG_S)


def hung_up(caller: socket.socket) -> bytes:
    """What was answered until the server hung up; ``TimeoutError`` where it does not."""
    said = b""
    try:
        while piece := caller.recv(65_536):
            said += piece
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize(("words", "answers"), SILENCES)
def test_a_client_that_falls_silent_is_hung_up_on(server: Callable[[float], RunningServer], words: bytes, answers: int) -> None:
    with call(server(0.5)) as caller:
        caller.sendall(words)
        assert hung_up(caller).count(b"HTTP/1.1 ") == answers


def ask_without_end(caller: socket.socket, asked: bytes) -> None:
    while True:
        caller.sendall(asked)


def test_a_client_that_reads_no_answer_is_hung_up_on(server: Callable[[float], RunningServer], store: Store) -> None:
    running = server(0.5)
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        caller.settimeout(LONG_S)
        caller.connect(("127.0.0.1", running.port))
        with pytest.raises(ConnectionError):
            ask_without_end(caller, asked)


def test_a_client_that_takes_a_long_answer_slowly_gets_it_whole(
    server: Callable[[float], RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    patience_s = 2.0
    running = server(patience_s)
    # More than the kernel would hold of it.
    record = b"0" * 8_000_000
    monkeypatch.setattr(running._replica, "valuation", lambda _dimension: [("", record)])
    got, slowly = 0, threading.Event()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        caller.settimeout(LONG_S)
        caller.connect(("127.0.0.1", running.port))
        caller.sendall(b"GET /v1/valuation HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        until = time.monotonic() + 2.5 * patience_s
        while piece := caller.recv(16_384):
            got += len(piece)
            slowly.wait(len(piece) / SLOW if time.monotonic() < until else 0)
    assert got > len(record)


def test_beyond_its_room_a_server_hangs_up_on_those_that_were_silent_longest(server: Callable[[float], RunningServer]) -> None:
    running = server(LONG_S * 10)
    with ExitStack() as stack:
        first = [stack.enter_context(call(running)) for _ in range(ROOM)]
        eventually(lambda: len(running._server.server_state.connections) == ROOM)
        # One that speaks is not the longest silent any more.
        first[0].sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert first[0].recv(65_536).startswith(b"HTTP/1.1 200")
        for _ in range(ROOM - 1):
            stack.enter_context(call(running)).sendall(b"GET /v1/tr")
        assert [hung_up(caller) for caller in first[1:]] == [b""] * (ROOM - 1)
        assert httpx.get(f"http://127.0.0.1:{running.port}/readyz").status_code == 200


def test_a_flood_of_half_requests_takes_no_more_files_than_there_is_room_for(server: Callable[[float], RunningServer]) -> None:
    running = server(LONG_S * 10)
    with ExitStack() as stack:
        for _ in range(20 * ROOM):
            stack.enter_context(call(running)).sendall(b"GET /v1/tr")
        assert httpx.get(f"http://127.0.0.1:{running.port}/readyz").status_code == 200
        eventually(lambda: len(running._server.server_state.connections) <= ROOM)


@pytest.mark.parametrize(
    ("files", "connections_", "pending"), [(1_024, 512, 128), (256, 128, 32), (1 << 20, 2_048, 1_024), (-1, 2_048, 1_024)]
)
def test_half_of_the_files_that_a_process_may_open_are_connections(
    monkeypatch: pytest.MonkeyPatch, files: int, connections_: int, pending: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert ConnectionLimits.of_process() == ConnectionLimits(connections_, pending)


@pytest.mark.parametrize(
    ("files", "connections_", "pending", "raise_to"),
    [(4_096, 1_024, 256, None), (2_560, 256, 64, 3_072), (1_024, 64, 16, 3_072), (100, 50, 12, 3_072), (-1, 2_048, 1_024, None)],
)
def test_stores_of_tasks_in_the_same_process_come_before_connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: int, connections_: int, pending: int, raise_to: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    with caplog.at_level(logging.WARNING):
        assert ConnectionLimits.of_process(stores=8) == ConnectionLimits(connections_, pending)
    assert (f"`ulimit -n {raise_to}`" in caplog.text) == (raise_to is not None)
    assert bool(caplog.records) == (raise_to is not None)


def test_a_worker_that_also_serves_counts_the_stores_of_all_its_tasks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def limits(stores: int) -> ConnectionLimits:
        counted.append(stores)
        return ConnectionLimits(ROOM, 64)

    monkeypatch.setattr(ConnectionLimits, "of_process", limits)
    _prepare(store.settings, ["value", "serve"])._cleanup()
    # The value role has two tasks.
    assert counted == [2 * store.settings.partitions]
