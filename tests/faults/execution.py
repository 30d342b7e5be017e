"""Carries a schedule out: a small supervisor over the workers, eyes on the outputs, and the verdict at the end."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from streams.broker import RealKafka
from tests.faults.excuses import Excuses, Trouble
from tests.faults.failovers import BOUNDS, Failovers
from tests.faults.fleet import Fleet, Worker
from tests.faults.schedule import BROKER_ENDS, Schedule, Step
from tests.faults.supervision import Supervision, ending
from tests.faults.takeovers import Takeovers
from tests.faults.verdict import Verdict

#: How long a condition may take: a machine that is shared with other tests is slow.
_PATIENCE_S = 240.0
#: Fed at the end of a run until every failover is over.
_PROBE = 25
#: How often it is looked whether what is done in a thread is done.
_GLANCE_S = 0.1

T = TypeVar("T")


class Feeding(Protocol):
    """A job under test: something to feed, to watch, and to wait on."""

    workers: list[Worker]
    newest: dict[int, int]
    sent: int

    @property
    def lag(self) -> int: ...

    @property
    def complete(self) -> bool: ...

    def feed(self, count: int, *, flush: bool = True) -> None: ...

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0, *, feed: int = 0) -> None: ...


class Execution:
    """Carries ``schedule`` out on ``job``. Workers that end although nothing was done to them are started again by the
    product's own rule, after its pauses; those that it would leave down fail the run. ``swap`` puts the other version of a file in
    place; ``changelogged`` tells how many records the changelogs of partitions hold; ``conditions`` are those of a test's own that
    steps await.
    """

    def __init__(
        self,
        job: Feeding,
        schedule: Schedule,
        cluster: RealKafka | None = None,
        swap: Callable[[str], None] | None = None,
        changelogged: Callable[[Iterable[int]], int] = lambda _: 0,
        conditions: Mapping[str, Callable[[], bool]] = MappingProxyType({}),
    ) -> None:
        self._job = job
        self._schedule = schedule
        self._cluster = cluster
        self._swap = swap
        self._conditions = conditions
        self._wanted: set[int] = set()
        self._armed: set[int] = set()
        self._bounds = BOUNDS[schedule.job]
        #: Nodes of the broker that do not answer.
        self._down: set[int] = set()
        #: By what workers gave as their reason when they ended.
        self.restarts: Counter[str] = Counter()
        #: By what excuses them, and those that no broker that was away, and no sleep, accounts for.
        self.excused: Counter[str] = Counter()
        self.unexplained_restarts = 0
        self._supervision = Supervision()
        self._excuses = Excuses()
        self.takeovers = Takeovers(job.workers, changelogged)
        self.failovers = Failovers(job)
        self.still_open_ms: tuple[int, ...] = ()

    def run(self) -> None:
        """All steps. Raises ``AssertionError`` where a condition does not come true."""
        for number, step in enumerate(self._schedule.steps):
            self._do(step, f"step {number} of {self._schedule.name}: {step}")
        self._finish()
        self.still_open_ms = self.failovers.open_ms

    def _finish(self) -> None:
        """Feed a little until the failovers that no step has waited for are over, or get too long; then everything is awaited again."""
        self.failovers.look()
        if not self.failovers.open_ms:
            return
        name = self._schedule.name
        self._job.until(lambda: self._watched(self.failovers.finished), f"the last failover of {name}", _PATIENCE_S, feed=_PROBE)
        if not self.failovers.open_ms:
            self._job.until(lambda: self._watched(lambda: self._job.complete), f"the end of {name}", _PATIENCE_S)

    def _do(self, step: Step, what: str) -> None:
        job = self._job
        worker = job.workers[max(step.worker, 0)]
        match step.do:
            case "feed":
                job.feed(step.count)
            case "start":
                self.takeovers.back(step.worker)
                self._supervision.start(worker, step.detail)
                self._excuses.starts(worker)
                self._wanted.add(step.worker)
                (self._armed.add if step.detail else self._armed.discard)(step.worker)
            case "kill":
                self._wanted.discard(step.worker)
                self._strikes(self._bounds.kill_s)
                worker.kill()
                self.takeovers.gone(step.worker)
            case "stop":
                self._wanted.discard(step.worker)
                self._strikes(self._bounds.stop_s)
                if worker.alive:
                    # Others may have its partitions before its process is gone.
                    self.takeovers.gone(step.worker)
                    code = self._meanwhile(worker.stop, what)
                    assert code == 0 or self._excuse(worker), f"{what}: ended with {code}: {worker.said[-2000:]}"
            case "freeze":
                self._strikes(self._bounds.kill_s)
                worker.signal(signal.SIGSTOP)
                self.takeovers.gone(step.worker)
                self._excuses.falls_asleep(worker)
            case "thaw":
                self.takeovers.back(step.worker)
                worker.signal(signal.SIGCONT)
                self._excuses.wakes(worker)
            case "wipe":
                worker.wipe()
            case "swap":
                assert self._swap is not None, f"{what}: this job has no files to be swapped"
                self._swap(step.detail)
            case "broker":
                assert self._cluster is not None, f"{what}: this run has no broker of its own"
                self._broker(self._cluster, step, what)
            case "await":
                self._await(step, worker, what)
            case other:
                raise ValueError(f"{what}: nobody knows how to {other!r}")

    def _await(self, step: Step, worker: Worker, what: str) -> None:
        job = self._job
        match step.detail:
            case "complete":
                condition: Callable[[], bool] = lambda: job.complete  # noqa: E731
            case "progress":
                target = job.sent - job.lag + step.count
                condition = lambda: job.sent - job.lag >= target  # noqa: E731
            case "ready":
                condition = lambda: worker.ready  # noqa: E731
            case "taken":
                condition = lambda: self.takeovers.taken(step.worker)  # noqa: E731
            case "owns":
                condition = lambda: bool(self.takeovers.owned(step.worker))  # noqa: E731
            case "dead":
                idle = job.sent - job.lag + step.count
                condition = lambda: not worker.alive or (step.count > 0 and job.sent - job.lag >= idle)  # noqa: E731
            case "answered":
                condition = lambda: not self.failovers.open_ms  # noqa: E731
            case "seconds":
                over = time.monotonic() + step.count
                condition = lambda: time.monotonic() >= over  # noqa: E731
            case other if other in self._conditions:
                condition = self._conditions[other]
            case other:
                raise ValueError(f"{what}: unknown condition {other!r}")
        job.until(lambda: self._watched(condition), what, _PATIENCE_S, feed=step.load)
        if step.detail == "dead":
            if worker.alive:
                worker.kill()
            assert worker.process.returncode == -signal.SIGKILL, f"{what}: it ended by itself: {worker.said[-2000:]}"
            self._armed.discard(step.worker)
            self._wanted.discard(step.worker)
            self._strikes(self._bounds.kill_s)

    def _watched(self, condition: Callable[[], bool]) -> bool:
        self.failovers.look()
        for number in self._wanted - self._armed:
            worker = self._job.workers[number]
            if self._supervision.tend(worker):
                self._ended(worker)
        return condition()

    def _meanwhile(self, act: Callable[[], T], what: str) -> T:
        """What ``act`` returns, which may take a while: outputs are read and workers looked after as at any other time."""
        with ThreadPoolExecutor(1) as pool:
            acting = pool.submit(act)
            self._job.until(lambda: self._watched(lambda: bool(wait((acting,), _GLANCE_S).done)), what, _PATIENCE_S)
            return acting.result()

    def _strikes(self, within_s: float) -> None:
        """A fault, after which every partition must answer within so long, and within what is needed for all that waits already."""
        self.failovers.begin(within_s + max(0, self._job.lag) / self._bounds.backlog_per_s)

    def _broker(self, cluster: RealKafka, step: Step, what: str) -> None:
        act = partial(getattr(cluster, step.detail), *(() if step.count < 0 else (step.count,)))
        nodes = {*range(self._schedule.brokers)} if step.count < 0 else {step.count}
        if step.detail in BROKER_ENDS:
            self._down |= nodes
            self._excuses.broker_goes()
            if away := 2 * len(self._down) >= self._schedule.brokers:
                self.failovers.broker_goes()
            self._strikes(0 if away else self._bounds.node_s)
        # Those two take until a Java machine has gone, or come up.
        if step.detail in ("stop", "start"):
            self._meanwhile(act, what)
        else:
            act()
        if step.detail not in BROKER_ENDS:
            self._down = self._down - nodes if step.detail == "resume" else set()
            self.failovers.broker_returns(self._bounds.return_s)
            self._excuses.broker_returns()

    def _ended(self, worker: Worker) -> None:
        """``worker`` has ended by itself: for what, and whether it may."""
        self.restarts[ending(worker)] += 1
        trouble = self._excuse(worker)
        self.unexplained_restarts += trouble is None
        if trouble == "sleep":
            # It is away as if it had been killed. What may follow the return of a broker has a bound of its own.
            self.failovers.allow(self._bounds.kill_s)

    def _excuse(self, worker: Worker) -> Trouble | None:
        trouble = self._excuses.cover(worker)
        if trouble is not None:
            self.excused[trouble] += 1
        return trouble

    def stop(self) -> None:
        """Stop all that live. Those that have ended by themselves since the last look count as any other."""
        for number in sorted(self._wanted - self._armed):
            worker = self._job.workers[number]
            if self._supervision.ended(worker):
                self._ended(worker)
        for number, worker in enumerate(self._job.workers):
            if worker.alive:
                code = worker.stop()
                assert code == 0 or number in self._armed or self._excuse(worker), (
                    f"{worker.name} stopped with {code}: {worker.said[-3000:]}"
                )

    def annotated(self, verdict: Verdict) -> Verdict:
        """``verdict`` with what was seen of the run beside its counts."""
        return replace(
            verdict,
            failover_ms=self.failovers.taken_ms,
            notes={**self.notes, **verdict.notes},
            unexplained_restarts=self.unexplained_restarts,
            open_failovers_ms=self.still_open_ms,
            late_failovers_ms=self.failovers.late_ms,
        )

    @property
    def notes(self) -> dict[str, object]:
        """What a verdict tells of the run beside its counts."""
        notes: dict[str, object] = {"restarts": told(self.restarts)}
        if self.excused:
            notes["excused"] = told(self.excused)
        if faults := self._schedule.faults:
            notes["faults"] = ",".join(fault if times == 1 else f"{fault}*{times}" for fault, times in faults.items())
        if any(step.do == "broker" for step in self._schedule.steps):
            notes["after-return-ms"] = ",".join(map(str, self.failovers.after_return_ms)) or "-"
        return notes


def told(restarts: Counter[str]) -> str:
    """How many, and for which reasons: ``3(BrokerUnreachable*2,Stuck)``."""
    reasons = ",".join(reason if times == 1 else f"{reason}*{times}" for reason, times in sorted(restarts.items()))
    return f"{restarts.total()}({reasons})" if restarts else "0"


def keep(schedule: Schedule, folder: Path) -> None:
    """Write the schedule, and say where, before anything can fail, and how to run it again where the file is all that this takes."""
    file = folder / "schedule.json"
    file.write_text(schedule.to_json())
    try:
        schedule.check()
    except ValueError as fault:
        print(f"the schedule is {file}, which only its test can run ({fault})")
    else:
        print(f"again: python -m tests.faults --schedule {file}")


def run_state_job(
    schedule: Schedule, bootstrap: str, app_id: str, folder: Path, *, cluster: RealKafka | None = None, disks: bool = True
) -> Verdict:
    """The state-only job under ``schedule``. The schedule is written to ``folder`` first. ``disks``: beside the changelog, each
    worker also opens all partitions alone with its disk as the faults left it, and one of them wiped; what they then hold is compared too.
    """
    keep(schedule, folder)
    fleet = Fleet(
        bootstrap, app_id, folder, schedule.workers,
        seed=schedule.seed, hot_share=schedule.hot_share, replicas=min(3, schedule.brokers), standby=schedule.standby,
    )  # fmt: skip
    try:
        execution = Execution(fleet, schedule, cluster, changelogged=fleet.changelogged)
        execution.run()
        takeovers, restored = execution.takeovers, [worker.restored for worker in fleet.workers]
        verdict = fleet.verdict(schedule.name, execution.stop)
        differences, before = verdict.state_differences, fleet.outputs()
        if disks:
            for worker in fleet.workers:
                differences += fleet.local_differences(worker)
            worker.wipe()
            differences += fleet.local_differences(worker)
        # What was put out while disks were opened and rebuilt was put out before.
        doubled = verdict.duplicated + fleet.outputs() - before
    finally:
        fleet.end()
    notes = {
        "taken-over": takeovers.count,
        "read-for-it": f"{takeovers.restored}/{takeovers.held}",
        "restored": ",".join(map(str, restored)),
    }
    if schedule.hot_share:
        backlog = next(step.count for step in schedule.steps if step.do == "feed")
        notes["hot-behind"] = ",".join(str(count) for _, count in sorted(fleet.waiting_behind(backlog).items()))
    return execution.annotated(replace(verdict, duplicated=doubled, state_differences=differences, notes=notes))
