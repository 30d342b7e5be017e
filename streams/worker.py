"""A worker: checks its topics, assembles the tasks of its roles, runs them in one event loop until told to stop."""

from __future__ import annotations

from collections.abc import Sequence

from streams.settings import Role, Settings


def run_worker(settings: Settings, roles: Sequence[Role]) -> int:
    """Run ``roles`` until SIGTERM or SIGINT; the exit code (0 stopped, 2 configuration, 3 broker or topics, 4 data dir, 5 crashed)."""
    raise NotImplementedError


def supervise(arguments: Sequence[str]) -> int:
    """Run ``arguments`` (a command line) again, with growing pauses, each time it crashes; its exit code when it ends otherwise."""
    raise NotImplementedError


class RunningWorker:
    """A worker inside this process (its event loop in a thread of its own), for the demo and for tests."""

    def __init__(self, settings: Settings, roles: Sequence[Role]) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start; returns at once."""

    def wait_ready(self, timeout: float) -> None:
        """Wait until every task owns partitions and reads. Raises what made the worker fail, or ``TimeoutError``."""

    def positions(self) -> dict[str, dict[tuple[str, int], int]]:
        """For each task: (topic with prefix, partition) -> offset of the last record applied and committed."""
        raise NotImplementedError

    def stop(self) -> None:
        """Drain and stop; raises what made the worker fail, if it did."""
