"""Several tasks in one process: one event loop, one data dir, one watchdog, one way to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from streams.runtime.app import TaskRunner
from streams.runtime.datadir import DataDir
from streams.runtime.errors import RuntimeFault, Stuck
from streams.runtime.task import Task
from streams.runtime.watchdog import Probe, Watchdog
from streams.settings import Settings

logger = logging.getLogger(__name__)

_CHECK_S = 0.25
#: What stopping may take beyond finishing work in flight: leaving the group, closing stores.
_STOP_S = 5.0
#: What a worker that has crashed may take to finish what is in flight: its transactions are redone anyway.
_CRASH_DRAIN_S = 0.5
#: How long stopping takes at most once something has failed, if the event loop still turns.
CRASH_STOP_S: Final = _CRASH_DRAIN_S + _STOP_S


class Host:
    """Runs ``tasks`` until told to stop.

    ``table``: table name -> topic on the broker, for every topic that the tasks read or write;
    ``topic_ids``: the broker's ids of them, where it gives any. ``cleanup`` runs last; ``watch`` is called
    often and raises what must end the worker although it is no task's fault.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: Sequence[Task],
        *,
        table: Mapping[str, str],
        topic_ids: Mapping[str, str],
        cleanup: Callable[[], None] = lambda: None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self._tasks = tasks
        self._table = table
        self._topic_ids = topic_ids
        self._cleanup = cleanup
        self._watch = watch
        self._crash: BaseException | None = None
        self._wake = asyncio.Event()
        self._stop_asked = False
        self.runners: list[TaskRunner] = []
        self.ready = asyncio.Event()
        #: Told what is stuck in the watchdog's thread, for the case that what is stuck is the event loop, which then stops nothing.
        self.alarmed: Callable[[Stuck], None] = lambda _stuck: None

    async def run(self) -> None:
        """Start all, wait until ``stop`` or a crash, stop all. Raises what crashed a task, ``DataDirTaken``, ``RuntimeFault``."""
        with contextlib.ExitStack() as last:
            last.callback(self._cleanup)
            data = last.enter_context(DataDir(self.settings.data_dir))
            watchdog: Watchdog | None = None
            starting: list[asyncio.Task[None]] = []
            try:
                self.runners = [
                    TaskRunner(
                        task,
                        self.settings,
                        data,
                        table=self._table,
                        topic_ids=self._topic_ids,
                        crashed=self._crashed,
                    )
                    for task in self._tasks
                ]
                loop = asyncio.get_running_loop()
                starting = [asyncio.create_task(runner.start()) for runner in self.runners]

                def alarm(stuck: Stuck) -> None:
                    self.alarmed(stuck)
                    loop.call_soon_threadsafe(self._crashed, stuck)

                watchdog = Watchdog(self.runners, self._new_probe, self.settings.watchdog_s, alarm)
                watchdog.start()
                await self._wait(starting)
            finally:
                for start in starting:
                    start.cancel()
                if watchdog is not None:
                    watchdog.stop()
                started = time.monotonic()
                drain_s = self.settings.drain_s if self._crash is None else _CRASH_DRAIN_S
                await self._stop_all(drain_s)
                logger.info("stopped in %.1f s", time.monotonic() - started)
        if self._crash is not None:
            raise self._crash

    async def _stop_all(self, drain_s: float) -> None:
        stops = [asyncio.create_task(runner.stop(drain_s)) for runner in self.runners]
        if not stops:
            return
        done, late = await asyncio.wait(stops, timeout=drain_s + _STOP_S)
        for stop in late:
            # A thread that never returns: what is in flight aborts with the process, and nothing of it was acknowledged.
            stop.cancel()
        for stop in done:
            if stop.exception() is not None:
                logger.error("while stopping: %r", stop.exception(), exc_info=stop.exception())

    def _new_probe(self) -> Probe:
        return Probe(self.settings.client_config(), f"{self.settings.topic_prefix}{self.settings.app_id}-watchdog")

    async def _wait(self, starting: list[asyncio.Task[None]]) -> None:
        """Until a stop is asked for or something fails; ``ready`` once every task has started and reads what the group gave it.

        That may be no partition at all, where there are more workers than partitions: such a worker is ready to take over.
        """
        while not self._stop_asked and self._crash is None:
            for start in [start for start in starting if start.done()]:
                starting.remove(start)
                error = start.exception()
                if error is not None:
                    self._crashed(error)
            if not starting and not self.ready.is_set() and all(runner.owns.is_set() for runner in self.runners):
                logger.info("ready: %s", ", ".join(runner.task.name for runner in self.runners) or "no tasks")
                self.ready.set()
            self._wake.clear()
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                for runner in self.runners:
                    runner.check()
                try:
                    self._watch()
                except Exception as error:
                    self._crashed(error)

    def _crashed(self, error: BaseException) -> None:
        if self._crash is None:
            self._crash = error
            trace = None if isinstance(error, RuntimeFault) else error
            logger.error("a task failed, the worker stops: %s", error, exc_info=trace)
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Stop because of ``error``, which ``run`` then raises (in the event loop)."""
        self._crashed(error)

    def stop(self) -> None:
        """Ask for an orderly stop (in the event loop)."""
        self._stop_asked = True
        self._wake.set()

    def positions(self) -> dict[str, dict[tuple[str, int], int]]:
        """Task -> (topic, partition) -> offset of the last record applied and committed."""
        return {runner.task.name: runner.positions() for runner in self.runners}
