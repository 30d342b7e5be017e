"""When a worker that ended by itself is started again: by the product's own rule."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.runtime.supervisor import FIRST_PAUSE_S, final, next_pause
from tests.faults.fleet import Worker


@dataclass(slots=True)
class _Run:
    """One run of a worker, the pause before it, and when the next one is due once this has ended."""

    began: float
    pause_s: float = FIRST_PAUSE_S / 2
    due: float | None = None


class Supervision:
    """``assay worker --supervise`` of several workers at once, whom somebody looks at again and again: a pause holds up nobody else.

    Pauses do not vary by chance here.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def start(self, worker: Worker, seam: str = "") -> None:
        """Start it at once, and begin to supervise it anew."""
        worker.start(seam)
        self._runs[worker.name] = _Run(self._clock())

    def ended(self, worker: Worker) -> bool:
        """Whether it has ended since the last look. Raises ``AssertionError`` for one that stays down."""
        run = self._runs[worker.name]
        if worker.alive or run.due is not None:
            return False
        code, now = worker.process.returncode, self._clock()
        if final(code):
            raise AssertionError(f"{worker.name} stays down with {code}: {worker.said[-2000:]}")
        run.pause_s = next_pause(run.pause_s, now - run.began, code)
        run.due = now + run.pause_s
        return True

    def tend(self, worker: Worker) -> bool:
        """Start it again if it has ended and its pause is over. Whether it has ended since the last look; raises as that does."""
        if self.ended(worker):
            return True
        run, now = self._runs[worker.name], self._clock()
        if run.due is not None and now >= run.due:
            worker.start()
            self._runs[worker.name] = _Run(now, run.pause_s)
        return False


def ending(worker: Worker) -> str:
    """How ``worker``, which has ended by itself, did: its reason, or the signal, or the exit code."""
    code: int = worker.process.returncode
    return (worker.reason if code > 0 else signal.Signals(-code).name) or f"exit {code}"
