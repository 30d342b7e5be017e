"""The server: one socket, one event loop in a thread of its own, stopped from outside."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self, cast

import uvicorn
from starlette.types import ASGIApp

from schemas.topics import CATALOG, EMBEDDINGS, RECOMMENDATIONS, SESSIONS, VALUATION
from streams.runtime.datadir import DataDir
from streams.runtime.errors import AddressTaken, RuntimeFault
from streams.runtime.store import Store, StoreOptions
from streams.serve.access import BearerKey, Counted, ListLane
from streams.serve.assortment import Assortment
from streams.serve.connections import ConnectionLimits, Connections
from streams.serve.metrics import READY
from streams.serve.protocol import BoundedRequests
from streams.serve.replica import Replica
from streams.serve.routes import Routes, Search
from streams.settings import Settings
from streams.worker import describe_topics

logger = logging.getLogger(__name__)

_READ: Final = (RECOMMENDATIONS, VALUATION, CATALOG, EMBEDDINGS, SESSIONS)
_STARTUP_S: Final = 10.0
_DRAIN_S: Final = 5
_EXPIRE_S: Final = 1
_POLL_S: Final = 0.2
#: So much of an answer may wait in the kernel, whose own limit is megabytes. The rest waits here, where it shows whether a client reads:
#: the kernel asks for more as soon as it has sent half of this.
_UNSENT_BYTES: Final = 65_536


class RunningServer:
    """A read API that runs in threads of this process until ``stop``. ``host`` and ``port`` are where it listens.

    ``stores``: those that tasks in the same process may open.
    """

    def __init__(self, settings: Settings, stores: int = 0) -> None:
        counts, ids = describe_topics(settings, [settings.topic(topic.name) for topic in _READ])
        with ExitStack() as undo:
            files = ConnectionLimits.of_process(stores)
            self._socket = undo.enter_context(_listen(settings.host, settings.port, files.pending))
            self.host, self.port = self._socket.getsockname()[:2]
            data_dir = undo.enter_context(DataDir(settings.data_dir / "serve"))
            limits = StoreOptions(settings.serve_cache_mb, settings.rocksdb_memtable_mb)
            store = Store.open_or_rebuild(data_dir.path / "replica", limits)
            undo.callback(store.close)
            self._replica = Replica(settings, store, counts, ids)
            undo.callback(self._replica.stop)
            self._assortment = Assortment(settings)
            undo.callback(self._assortment.stop)
            search: Search | None = None
            if settings.search:
                from streams.serve.search import load  # and with it torch, which takes seconds and memory

                searches = load(settings, self._assortment, self._replica.recommendations)
                undo.callback(searches.stop)
                search = searches.answer
            self._undo = undo.pop_all()
        key = settings.api_key.get_secret_value() if settings.api_key else None
        if key is None and not _is_loopback(settings.host):
            logger.warning(
                "listening on %s without an api_key: everybody who reaches this port can read every shopper's list; "
                "set ASSAY_API_KEY, or listen on 127.0.0.1", settings.host,
            )  # fmt: skip
        open_ = Connections(files.connections)
        self._server = uvicorn.Server(uvicorn.Config(
            _layers(self._replica, self._assortment, search, key), loop="uvloop", lifespan="off", ws="none",
            http=cast("type[BoundedRequests]", partial(BoundedRequests, open_=open_)), backlog=files.pending,
            callback_notify=open_.expire, timeout_notify=_EXPIRE_S, log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=_DRAIN_S,
        ))  # fmt: skip
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="serve-http", daemon=True)

    def start(self) -> Self:
        """Begin to read and to answer; returns once connections are accepted. Raises ``RuntimeFault``."""
        try:
            self._replica.start()
            self._assortment.start()
            self._thread.start()
            deadline = time.monotonic() + _STARTUP_S
            while not self._server.started:
                if not self._thread.is_alive() or time.monotonic() > deadline:
                    raise AddressTaken(f"the HTTP server did not start on {self.host}:{self.port}; the log says why")
                self._thread.join(0.01)
        except BaseException:
            self.stop()
            raise
        READY.set_function(lambda: float(self.ready))
        logger.info("read API on http://%s:%d", self.host, self.port)
        return self

    @property
    def ready(self) -> bool:
        """Whether everything that the topics held at the start has been read."""
        return self._replica.ready and self._assortment.ready

    @property
    def error(self) -> BaseException | None:
        """What ended a reader, if something did; answers go stale from then on."""
        return self._replica.error or self._assortment.error

    def wait_ready(self, timeout: float) -> None:
        """Wait until ``ready``. Raises what ended a reader, or ``TimeoutError``."""
        deadline = time.monotonic() + timeout
        while not self.ready:
            if self.error is not None:
                raise self.error
            if time.monotonic() > deadline:
                raise TimeoutError(f"the read API was not ready within {timeout:.0f} s; still to read: {self._replica.behind()}")
            self._thread.join(0.02)

    def run_until(self, stop: threading.Event) -> None:
        """Wait for ``stop``. Raises what ``check`` raises."""
        while not stop.wait(_POLL_S):
            self.check()

    def check(self) -> None:
        """Raise ``RuntimeFault`` if a reader or the HTTP server has ended by itself: answers would be stale from then on, or none."""
        if isinstance(self.error, RuntimeFault):
            raise self.error
        if self.error is not None:
            raise RuntimeFault(f"a reader of the read API failed: {type(self.error).__name__}: {self.error}") from self.error
        if not self._thread.is_alive():
            raise RuntimeFault("the HTTP server ended by itself; the log says why")

    def stop(self) -> None:
        """Finish the requests in flight (up to 5 s), stop reading, release the data dir. May be called twice."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * _DRAIN_S)
        READY.set_function(lambda: 0.0)
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start(settings: Settings, stores: int = 0) -> RunningServer:
    """Start the read API in this process; returns as soon as it answers (``/readyz`` tells when it has caught up).

    Raises ``RuntimeFault`` (broker unreachable, topic missing, address or data dir taken), and where it is to search
    ``EncoderUnavailableError`` and ``LexicalUnavailableError`` (both are ``ValueError``). ``stores``: see ``RunningServer``.
    """
    return RunningServer(settings, stores).start()


def _layers(replica: Replica, assortment: Assortment, search: Search | None, key: str | None) -> ASGIApp:
    routes = Routes(replica, assortment, search)
    app: ASGIApp = ListLane(routes.application(), routes.current)
    return Counted(app if key is None else BearerKey(app, key))


def _listen(host: str, port: int, pending: int) -> socket.socket:
    """A listening socket. Raises ``AddressTaken``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # not every system has it
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            listening.bind(address)
            listening.listen(pending)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise AddressTaken(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --host and --port") from error
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
