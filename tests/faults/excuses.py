"""For what a worker may end by itself: its stated reason must fit the trouble that it is in, or has just been in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

from streams.runtime.errors import BroadcastFailed, BrokerUnreachable, Fenced, ProducerFailed
from tests.faults.fleet import Worker

Trouble = Literal["broker", "sleep"]

#: What a worker may then give as its reason. That it was stuck is none: to hang until the watchdog ends it is a defect, in any trouble.
REASONS: Final[Mapping[Trouble, frozenset[str]]] = {
    # A broker that is away takes no transaction and answers nobody, nor one who wants to stop.
    "broker": frozenset({fault.__name__ for fault in (BrokerUnreachable, BroadcastFailed, ProducerFailed)} | {"NotStopped"}),
    # One that slept finds its partition with another, its transaction timed out, or, since clocks did not sleep, an answer overdue.
    # The broker is there, so a stop has nothing to wait for.
    "sleep": frozenset(fault.__name__ for fault in (Fenced, ProducerFailed, BrokerUnreachable, BroadcastFailed)),
}
#: How long after its broker came back, or it woke up, a worker may still end for that: no answer is waited for longer than a minute
#: (fencing, a changelog), and a busy machine has a start to get through.
AFTERMATH_S: Final = 75.0

#: The broker is everybody's.
_ALL: Final = ""


class Excuses:
    """Follows who is in which trouble. A worker's sleep excuses that worker alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[tuple[Trouble, str], float] = {}

    def broker_goes(self) -> None:
        """From now on it answers nobody, or may not."""
        self._until["broker", _ALL] = math.inf

    def broker_returns(self) -> None:
        """It answers again."""
        self._until["broker", _ALL] = self._clock() + AFTERMATH_S

    def falls_asleep(self, worker: Worker) -> None:
        """From now on it is frozen."""
        self._until["sleep", worker.name] = math.inf

    def starts(self, worker: Worker) -> None:
        """It is a new process, which has never slept."""
        self._until.pop(("sleep", worker.name), None)

    def wakes(self, worker: Worker) -> None:
        """It is no longer frozen."""
        self._until["sleep", worker.name] = self._clock() + AFTERMATH_S

    def cover(self, worker: Worker) -> bool:
        """Whether ``worker``, which has ended, may have: no Python error, no lost record and no signal has an excuse."""
        now, reason = self._clock(), worker.reason
        return worker.process.returncode > 0 and any(
            now < until and who in (_ALL, worker.name) and reason in REASONS[trouble] for (trouble, who), until in self._until.items()
        )
