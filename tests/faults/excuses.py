"""For what a worker may end by itself: its stated reason must fit the trouble that it is in, or has just been in."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
#: How often one trouble excuses the same worker: so often, and once more for every so many seconds that it lasts. 90 s without a broker
#: have ended two workers up to 15 times: one that ends twice as often is no longer waiting for it.
RESTARTS: Final = 4
RESTART_EVERY_S: Final = 10.0

#: The broker is everybody's.
_ALL: Final = ""


@dataclass(slots=True)
class _Spell:
    """Of one trouble: from when to when, and how often it excused which worker."""

    began: float
    over: float = math.inf
    excused: Counter[str] = field(default_factory=Counter)


class Excuses:
    """Follows who is in which trouble. A worker's sleep excuses that worker alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spells: dict[tuple[Trouble, str], _Spell] = {}

    def broker_goes(self) -> None:
        """From now on it answers nobody, or may not; or one of several does not, which others need not notice."""
        self._begin("broker", _ALL)

    def broker_returns(self) -> None:
        """It answers again."""
        self._end("broker", _ALL)

    def falls_asleep(self, worker: Worker) -> None:
        """From now on it is frozen."""
        self._begin("sleep", worker.name)

    def starts(self, worker: Worker) -> None:
        """It is a new process, which has never slept."""
        self._spells.pop(("sleep", worker.name), None)

    def wakes(self, worker: Worker) -> None:
        """It is no longer frozen."""
        self._end("sleep", worker.name)

    def _begin(self, trouble: Trouble, who: str) -> None:
        known = self._spells.get((trouble, who))
        if known is None or known.over < math.inf:
            self._spells[trouble, who] = _Spell(self._clock())

    def _end(self, trouble: Trouble, who: str) -> None:
        if (trouble, who) in self._spells:
            self._spells[trouble, who].over = self._clock()

    def cover(self, worker: Worker) -> Trouble | None:
        """The trouble for which ``worker``, which has ended, may have: no Python error, no lost record and no signal has an excuse, nor has
        one that ends again and again.
        """
        now, reason = self._clock(), worker.reason
        if worker.process.returncode <= 0:
            return None
        for (trouble, who), spell in self._spells.items():
            if who in (_ALL, worker.name) and reason in REASONS[trouble] and now < spell.over + AFTERMATH_S:
                lasted = min(now, spell.over) - spell.began
                if spell.excused[worker.name] < RESTARTS + lasted // RESTART_EVERY_S:
                    spell.excused[worker.name] += 1
                    return trouble
        return None
