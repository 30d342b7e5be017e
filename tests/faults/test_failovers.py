"""What is counted as the end of a failover, and what becomes of one that has none."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from streams.runtime.errors import EXIT_BROKER, EXIT_CRASHED, RankingWrong, RuntimeFault, SourceRecreated, StoreDamaged, TopicsWrong
from tests.faults.execution import Execution, told
from tests.faults.failovers import BOUND_S, Failovers
from tests.faults.fleet import Worker
from tests.faults.schedule import Schedule, Step
from tests.faults.verdict import Verdict

CLEAN = Verdict("v", 10, 0, 0, 0, 0, 0, 0, 5)


class Job:
    """Two partitions that answer at once, but for those that are ``dead``; each look at it takes a second."""

    def __init__(self, *dead: int) -> None:
        self.dead = dead
        self.workers: list[Worker] = []
        self.newest = {0: -1, 1: -1}
        self.sent = 0
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    @property
    def lag(self) -> int:
        return sum(self.sent - 1 - self.newest[partition] for partition in self.dead)

    @property
    def complete(self) -> bool:
        return self.lag == 0

    def feed(self, count: int, *, flush: bool = True) -> None:
        self.sent += count
        self.newest |= {partition: self.sent - 1 for partition in self.newest if partition not in self.dead}

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0, *, feed: int = 0) -> None:
        while not condition():
            assert self.now < 1_000, what
            self.now += 1
            if feed:
                self.feed(feed)


def test_each_fault_is_over_when_every_partition_has_answered_what_was_sent_after_it() -> None:
    job = Job()
    failovers = Failovers(job, job.clock)
    job.feed(5)
    failovers.begin()
    job.now += 2
    job.dead = (1,)
    job.feed(1)
    failovers.look()
    assert (failovers.taken_ms, failovers.open_ms) == ((), (2_000,))
    failovers.begin()
    job.dead = ()
    job.newest[1] = 5  # answers the event that was sent after the first fault, and none since the second
    failovers.look()
    assert (failovers.taken_ms, failovers.open_ms) == ((2_000,), (0,))


def ended(job: Job) -> Failovers:
    """After a schedule whose last step is a fault."""
    execution = Execution(job, Schedule(1, 1, ()))
    execution.failovers = Failovers(job, job.clock)
    job.feed(10)
    execution.failovers.begin()
    job.now += 3
    execution.run()
    return execution.failovers


def test_a_run_that_ends_with_a_fault_is_fed_until_every_partition_has_answered() -> None:
    job = Job()
    failovers = ended(job)
    assert failovers.open_ms == ()
    assert failovers.taken_ms == (4_000,)
    assert job.complete


def test_a_failover_without_an_end_is_told_of_after_a_bound_and_spoils_the_verdict() -> None:
    failovers = ended(Job(1))
    assert failovers.taken_ms == ()
    (since,) = failovers.open_ms
    assert since == pytest.approx(1000 * (3 + BOUND_S), abs=1_000)
    verdict = replace(CLEAN, open_failovers_ms=failovers.open_ms)
    assert CLEAN.clean
    assert not verdict.clean
    assert f"still-open-ms={since}" in str(verdict)
    assert "still-open" not in str(CLEAN)


class Falling(Worker):
    """A worker without a process, which has ended with ``code`` whenever somebody looks."""

    alive = False
    openings = ()  # type: ignore[assignment]

    def __init__(self, code: int, said: str = "") -> None:
        self.name = "falling"
        self.code = code
        self.words = said

    @property
    def said(self) -> str:
        return self.words

    @property
    def process(self) -> SimpleNamespace:
        return SimpleNamespace(returncode=self.code)

    def start(self, seam: str = "") -> None:
        """In vain."""

    def kill(self) -> None:
        """It is dead."""

    def signal(self, number: int) -> None:
        """There is nobody to hear it."""


@pytest.mark.parametrize(
    ("code", "said", "reason", "excused"),
    [
        (EXIT_BROKER, "assay: BrokerUnreachable: no broker answers", "BrokerUnreachable", True),
        (EXIT_CRASHED, "assay: ProducerFailed: t-0: the transaction failed", "ProducerFailed", True),
        (EXIT_CRASHED, "assay: BroadcastFailed: broadcast topics can no longer be read: _TRANSPORT", "BroadcastFailed", True),
        (EXIT_CRASHED, "assay: BroadcastFailed: a broadcast record could not be applied: KeyError", "RecordNotApplied", False),
        (EXIT_CRASHED, "assay: RecordsLost: in/0: records after 7 arrived", "RecordsLost", False),
        (EXIT_CRASHED, "assay: ProducerFailed: no\nassay: KeyError: 'sku'", "KeyError", False),
        (EXIT_CRASHED, "", "exit 5", False),
        (-signal.SIGSEGV, "assay: ProducerFailed: before", "SIGSEGV", False),
        (1, "Traceback", "exit 1", False),
    ],
)
def test_trouble_excuses_that_a_worker_gives_up_for_want_of_a_broker_and_nothing_else(
    code: int, said: str, reason: str, excused: bool
) -> None:
    job = Job()
    job.workers = [Falling(code, said)]
    steps = (Step("start", 0), Step("freeze", 0), Step("thaw", 0), Step("await", count=0, detail="progress"))
    execution = Execution(job, Schedule(1, 1, steps))
    execution.failovers = Failovers(job, job.clock)
    execution.run()
    assert set(execution.restarts) == {reason}
    assert (execution.unexplained_restarts == 0) is excused


@pytest.mark.parametrize("fault", [TopicsWrong, SourceRecreated, RankingWrong, StoreDamaged])
def test_a_worker_that_the_products_supervisor_leaves_down_fails_the_run(fault: type[RuntimeFault]) -> None:
    job = Job()
    job.workers = [Falling(fault.exit_code, f"assay: {fault.__name__}: do this")]
    steps = (Step("start", 0), Step("freeze", 0), Step("await", count=0, detail="progress"))
    with pytest.raises(AssertionError, match=f"stays down with {fault.exit_code}"):
        Execution(job, Schedule(1, 1, steps)).run()


def test_the_verdict_tells_the_reasons_of_restarts() -> None:
    assert told(Counter()) == "0"
    assert told(Counter({"Stuck": 1, "BrokerUnreachable": 2})) == "3(BrokerUnreachable*2,Stuck)"


def test_a_worker_that_was_to_die_at_a_seam_is_looked_after_again_once_it_is_started_without_one() -> None:
    job = Job()
    job.workers = [Falling(-signal.SIGSEGV)]
    steps = (Step("start", 0, detail="acked:9"), Step("kill", 0), Step("start", 0), Step("await", count=0, detail="progress"))
    execution = Execution(job, Schedule(1, 1, steps))
    execution.failovers = Failovers(job, job.clock)
    execution.run()
    assert execution.unexplained_restarts >= 1
