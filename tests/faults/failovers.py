"""How long after each fault every partition put out again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

#: What those that are still open when a run's steps are over get: a session timeout, a restart or two, and the patience of a busy machine.
BOUND_S: Final = 60.0


class Watched(Protocol):
    """A job that counts what it was sent, and knows by partition the number of the newest event that was answered."""

    newest: dict[int, int]
    sent: int


class Failovers:
    """Measures every fault on its own: one that strikes before the last is over does not take its place.

    One is over when every partition has answered an event that was sent after the fault. A run that ends before that is no reason to
    leave it out: ask ``finished`` until it says yes, while a little is fed, and what is in ``open_ms`` then has gone wrong.
    """

    def __init__(self, job: Watched, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._clock = clock
        self._open: list[tuple[float, int]] = []
        self._taken_ms: list[int] = []
        self._after_return_ms: list[int] = []
        self._returned: float | None = None
        self._given_until: float | None = None

    def begin(self) -> None:
        """A fault strikes now."""
        self._open.append((self._clock(), self._job.sent))

    def broker_returns(self) -> None:
        """A broker answers again, now."""
        self._returned = self._clock()

    def look(self) -> None:
        """Close those since which every partition has answered an event that was sent after the fault."""
        oldest = min(self._job.newest.values())
        now = self._clock()
        # In the order in which they began: a later one has more to wait for.
        while self._open and oldest >= self._open[0][1]:
            began, _ = self._open.pop(0)
            self._taken_ms.append(round(1000 * (now - began)))
            if self._returned is not None and self._returned >= began:
                self._after_return_ms.append(round(1000 * (now - self._returned)))

    def finished(self) -> bool:
        """Whether all are over, or have been given ``BOUND_S`` since this was first asked."""
        self.look()
        if self._given_until is None:
            self._given_until = self._clock() + BOUND_S
        return not self._open or self._clock() >= self._given_until

    @property
    def taken_ms(self) -> tuple[int, ...]:
        """Milliseconds, fault by fault."""
        return tuple(self._taken_ms)

    @property
    def after_return_ms(self) -> tuple[int, ...]:
        """Milliseconds since a broker last came back, of each fault in whose midst one did."""
        return tuple(self._after_return_ms)

    @property
    def open_ms(self) -> tuple[int, ...]:
        """Milliseconds since each fault that is not over."""
        return tuple(round(1000 * (self._clock() - began)) for began, _ in self._open)
