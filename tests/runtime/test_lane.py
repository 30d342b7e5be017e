"""What runs when in one partition."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.runtime import lane
from streams.runtime.lane import Lane
from streams.runtime.overlay import Pending

PATIENCE_S = 20


class NeverIdle:
    """A partition that always has records queued, and transactions that never fill."""

    number = 0
    waits_for = None
    full = False
    has_work = True
    queued = queued_bytes = 1

    def __init__(self) -> None:
        self.steps = self.ticks = 0
        self.ticked = threading.Event()

    def step(self) -> int:
        self.steps += 1
        time.sleep(0.002)
        return 1

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == 3:
            self.ticked.set()

    def take(self) -> Pending | None:
        return None

    def drop(self) -> None:
        """Nothing is held."""


def test_a_partition_that_is_never_idle_and_never_full_is_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "TICK_S", 0.05)
    state = NeverIdle()

    async def never_read(*_: object) -> bool:
        raise AssertionError("nothing waits for a broadcast topic")

    def crashed(error: BaseException) -> None:
        raise error

    async def run() -> None:
        with ThreadPoolExecutor(1) as compute, ThreadPoolExecutor(1) as commits:
            driven = Lane(
                "task", state, compute=compute, commits=commits, max_records=10, before_step=lambda: None, read_to_end=never_read,  # type: ignore[arg-type]
                applied=lambda *_: None, wake=lambda: None, crashed=crashed, fenced=lambda _: None,
            )  # fmt: skip
            driven.start()
            assert await asyncio.to_thread(state.ticked.wait, PATIENCE_S)
            await driven.suspend(1)

    asyncio.run(run())
    assert state.steps > state.ticks
