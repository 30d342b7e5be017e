"""How long after each fault every partition put out again."""

from __future__ import annotations

import time
from typing import Protocol


class Watched(Protocol):
    """A job that counts what it was sent, and knows by partition the number of the newest event that was answered."""

    newest: dict[int, int]
    sent: int


class Failovers:
    """Measures every fault on its own: one that strikes before the last is over does not take its place."""

    def __init__(self, job: Watched) -> None:
        self._job = job
        self._open: list[tuple[float, int]] = []
        self._taken_ms: list[int] = []

    def begin(self) -> None:
        """A fault strikes now."""
        self._open.append((time.monotonic(), self._job.sent))

    def look(self) -> None:
        """Close those since which every partition has answered an event that was sent after the fault."""
        oldest = min(self._job.newest.values())
        now = time.monotonic()
        # In the order in which they began: a later one has more to wait for.
        while self._open and oldest >= self._open[0][1]:
            began, _ = self._open.pop(0)
            self._taken_ms.append(round(1000 * (now - began)))

    @property
    def taken_ms(self) -> tuple[int, ...]:
        """Milliseconds, fault by fault."""
        return tuple(self._taken_ms)
