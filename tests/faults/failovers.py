"""How long after each fault every partition put out again, and how long that may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from tests.faults.schedule import SESSION_TIMEOUT_S, Job

#: What those that are still open when a run's steps are over get: a session timeout, a restart or two, and the patience of a busy machine.
BOUND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that failovers may take, by what was done: a worker killed or put to sleep, a worker stopped, a minority of the brokers
    gone; and after the return of the broker. Longer by what had waited when the fault struck, at ``backlog_per_s`` events a second.
    """

    kill_s: float
    stop_s: float
    node_s: float
    return_s: float
    backlog_per_s: float


#: From one and a half times to three times the longest that an honest run has taken: CI machines have two cores, on which two test
#: processes, their brokers and their workers run, and a test that fails for that is no use. What these are to find are failovers that take
#: several times as long as they did. Longest of the state job: 13 s, 3 s, 44 s and 22 s; of the real roles, which take longer to start and
#: to restore: 31 s, 13 s, never tried, and 34 s.
BOUNDS: Final[Mapping[Job, Bounds]] = {
    "state": Bounds(kill_s=SESSION_TIMEOUT_S + 15, stop_s=15, node_s=90, return_s=45, backlog_per_s=5_000),
    "storefront": Bounds(kill_s=SESSION_TIMEOUT_S + 40, stop_s=30, node_s=90, return_s=60, backlog_per_s=250),
}


class Watched(Protocol):
    """A job that counts what it was sent, and knows by partition the number of the newest event that was answered."""

    newest: dict[int, int]
    sent: int


class Failovers:
    """Measures every fault on its own: one that strikes before the last is over does not take its place.

    One is over when every partition has answered an event that was sent after the fault. A run that ends before that is no reason to
    leave it out: ask ``finished`` until it says yes, while a little is fed, and what is in ``open_ms`` then has gone wrong.

    All that are open are due together, by the latest bound that any fault was given: the earlier one waits for what the later one did.
    """

    def __init__(self, job: Watched, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._clock = clock
        self._open: list[tuple[float, int]] = []
        self._taken_ms: list[int] = []
        self._late_ms: list[int] = []
        self._after_return_ms: list[int] = []
        self._away = False
        self._due = -math.inf
        self._returned: float | None = None
        self._given_until: float | None = None

    def begin(self, within_s: float = math.inf) -> None:
        """A fault strikes now, which may last for ``within_s``."""
        self._open.append((self._clock(), self._job.sent))
        self.allow(within_s)

    def allow(self, within_s: float) -> None:
        """Something happens that may make failovers last for ``within_s`` from now."""
        self._due = max(self._due, self._clock() + within_s)

    def broker_goes(self) -> None:
        """From now on no broker answers: nothing can be over before one does, nor is it late."""
        self._away = True

    def broker_returns(self, within_s: float = math.inf) -> None:
        """A broker answers again, now, and within ``within_s`` every partition must."""
        self._away = False
        self._returned = self._clock()
        self.allow(within_s)

    def look(self) -> None:
        """Close those since which every partition has answered an event that was sent after the fault."""
        oldest = min(self._job.newest.values())
        now = self._clock()
        # In the order in which they began: a later one has more to wait for.
        while self._open and oldest >= self._open[0][1]:
            began, _ = self._open.pop(0)
            self._taken_ms.append(round(1000 * (now - began)))
            if now > self._due and not self._away:
                self._late_ms.append(self._taken_ms[-1])
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
    def late_ms(self) -> tuple[int, ...]:
        """Those of ``taken_ms`` that went beyond their bounds."""
        return tuple(self._late_ms)

    @property
    def after_return_ms(self) -> tuple[int, ...]:
        """Milliseconds since a broker last came back, of each fault in whose midst one did."""
        return tuple(self._after_return_ms)

    @property
    def open_ms(self) -> tuple[int, ...]:
        """Milliseconds since each fault that is not over."""
        return tuple(round(1000 * (self._clock() - began)) for began, _ in self._open)
