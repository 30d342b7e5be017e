"""Which connections have fallen silent, and which of them give way to others.

A file of the process is spent on each, and RocksDB needs some too. So there may be so many and no more, and one that says nothing is not
kept: neither uvicorn nor its parser gives a client a time by which a request, or the reading of an answer, has to be done. A long answer
takes a slow client as long as it takes, if only it reads.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

from streams.runtime.store import OPEN_FILES
from streams.serve.metrics import CLOSED

logger = logging.getLogger(__name__)

#: How long a client may take over a request, its silence before it included, or take nothing of an answer that waits for it.
PATIENCE_S: Final = 10.0
#: A client behind no proxy holds a connection open for some seconds: at 64 KB of unfinished request each, these are 128 MB.
MOST_CONNECTIONS: Final = 2_048
_MOST_PENDING: Final = 1_024
#: What is left beside the stores of tasks however many there are, because those seldom open all that they may; what should be.
_LEAST_FILES, _ENOUGH_FILES = 128, 1_024


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """``connections`` that may be open at once, and ``pending`` ones that the system keeps until they are accepted."""

    connections: int
    pending: int

    @classmethod
    def of_process(cls, stores: int = 0) -> ConnectionLimits:
        """What the process may open (``ulimit -n``), halved: of 1,024 files 384 are left for RocksDB's 256, the broker and the rest,
        even while all that are pending are accepted at once and not yet closed again.

        What ``stores`` of tasks in the same process may open comes first, as far as 64 connections are left.
        """
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = 1 << 30 if soft == resource.RLIM_INFINITY else soft
        left = max(files - stores * OPEN_FILES, min(files, _LEAST_FILES))
        if stores and left < _ENOUGH_FILES:
            logger.warning(
                "a limit of %d open files is too low for %d stores, each of which may open %d, beside the read API, which therefore keeps "
                "%d connections at most; raise it (`ulimit -n %d`)",
                soft, stores, OPEN_FILES, left // 2, stores * OPEN_FILES + _ENOUGH_FILES,
            )  # fmt: skip
        return cls(min(MOST_CONNECTIONS, left // 2), min(_MOST_PENDING, left // 8))


class Connection(Protocol):
    """What is asked of a connection: nothing of it is set down for each request but a time."""

    silent_since: float

    @property
    def waits_for_client(self) -> bool:
        """Whether the server can do nothing for it before its client has done something."""

    def reads_on(self) -> bool:
        """Whether its client has taken some of what waits to be written, since this was last asked."""

    def abort(self) -> None:
        """Close it at once."""


class Connections:
    """Those that are open. Called in the server's event loop alone; ``clock`` tells seconds, as ``silent_since`` does."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._open: set[Connection] = set()
        self._longest: deque[tuple[float, Connection]] = deque()

    def add(self, connection: Connection) -> None:
        """A client is there; if it is one too many, the one that was silent for longest is closed, or it, where all others are being
        answered.
        """
        self._open.add(connection)
        if len(self._open) > self._most:
            self._close(self._longest_silent() or connection, "too_many")

    def discard(self, connection: Connection) -> None:
        """It is gone."""
        self._open.discard(connection)

    async def expire(self) -> None:
        """Close those whose client has been silent for longer than ``PATIENCE_S``."""
        now = self._clock()
        for connection in list(self._open):
            reads_on = connection.reads_on()
            if reads_on or not connection.waits_for_client:
                connection.silent_since = now
            elif now - connection.silent_since >= PATIENCE_S:
                self._close(connection, "silent")

    def _longest_silent(self) -> Connection | None:
        # In order once for many that are to make room: a flood would otherwise pay for all that are open with each that comes.
        for _ in range(2):
            while self._longest:
                since, connection = self._longest.popleft()
                if connection in self._open and connection.waits_for_client and connection.silent_since == since:
                    return connection
            silent = [(connection.silent_since, connection) for connection in self._open if connection.waits_for_client]
            self._longest.extend(sorted(silent, key=itemgetter(0)))
        return None

    def _close(self, connection: Connection, reason: str) -> None:
        self._open.discard(connection)
        connection.abort()
        CLOSED.labels(reason).inc()
