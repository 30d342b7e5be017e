"""What is counted as the end of a failover, what becomes of one that has none, and of workers that end by themselves."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from streams.runtime.errors import EXIT_BROKER, EXIT_CRASHED, RankingWrong, RuntimeFault, SourceRecreated, StoreDamaged, TopicsWrong
from streams.runtime.supervisor import FIRST_PAUSE_S, HEALTHY_S
from tests.faults.excuses import AFTERMATH_S, RESTART_EVERY_S, RESTARTS, Excuses, Trouble
from tests.faults.execution import Execution, told
from tests.faults.failovers import BOUND_S, BOUNDS, Failovers
from tests.faults.fleet import Worker
from tests.faults.schedule import Job as JobKind
from tests.faults.schedule import Schedule, Step
from tests.faults.supervision import Supervision
from tests.faults.verdict import Verdict

CLEAN = Verdict("v", 10, 0, 0, 0, 0, 0, 0, 5)
#: Whatever is done to them.
BROKERS: Any = SimpleNamespace(**dict.fromkeys(("kill", "start", "pause", "resume"), lambda *_: None))


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


def test_what_followed_the_return_of_a_broker_is_told_of_each_failover_in_whose_midst_it_came_back() -> None:
    job = Job()
    failovers = Failovers(job, job.clock)
    for dead, away_s, after_s in ((0, 5, 3), (1, 20, 4)):
        failovers.begin()
        job.dead = (dead,)
        job.feed(1)
        job.now += away_s
        failovers.broker_returns()
        failovers.look()
        job.now += after_s
        job.dead = ()
        job.feed(1)
        failovers.look()
    assert (failovers.taken_ms, failovers.after_return_ms) == ((8_000, 24_000), (3_000, 4_000))
    # One that began when it was back has nothing to do with it.
    failovers.begin()
    job.now += 1
    job.feed(1)
    failovers.look()
    assert (failovers.taken_ms[2:], failovers.after_return_ms) == ((1_000,), (3_000, 4_000))


@pytest.mark.parametrize(("methods", "note"), [(("kill",), "-"), (("kill", "start"), "1000"), (("pause", "resume"), "1000")])
def test_the_notes_of_a_run_with_faults_of_the_broker_tell_what_followed_its_return(methods: tuple[str, ...], note: str) -> None:
    job = Job()
    job.workers = [Falling(0)]
    execution = Execution(job, Schedule(1, 1, tuple(Step("broker", detail=method) for method in methods)), BROKERS)
    execution.failovers = Failovers(job, job.clock)
    execution.run()
    assert execution.notes == {"restarts": "0", "faults": f"broker-{methods[0]}", "after-return-ms": note}
    assert Execution(job, Schedule(1, 1, ())).notes == {"restarts": "0"}


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


def over_after(seconds: float, *faults: Step, waiting: int = 0, job: JobKind = "state") -> Verdict:
    """After a run in which ``faults`` leave a partition dead for so long, while ``waiting`` events wait."""
    watched = Job()
    watched.workers = [Falling(0)]
    watched.feed(10)
    watched.dead = (0,)
    watched.feed(waiting)

    def over() -> bool:
        watched.now += seconds
        watched.dead = ()
        watched.feed(1)
        return True

    steps = (*faults, Step("feed", count=10), Step("await", detail="over"))
    execution = Execution(watched, Schedule(1, 1, steps, brokers=3, job=job), BROKERS, conditions={"over": over})
    execution.failovers = Failovers(watched, watched.clock)
    execution.run()
    return execution.annotated(CLEAN)


@pytest.mark.parametrize("job", BOUNDS)
@pytest.mark.parametrize(
    ("faults", "bound"),
    [
        ((Step("kill", 0),), "kill_s"),
        ((Step("freeze", 0),), "kill_s"),
        ((Step("stop", 0),), "stop_s"),
        ((Step("broker", count=1, detail="kill"),), "node_s"),
        # All of them: there is no hurry until one is back.
        ((Step("broker", detail="pause"), Step("broker", detail="resume")), "return_s"),
        # What is waited for is the later one, which is given more.
        ((Step("stop", 0), Step("kill", 0)), "kill_s"),
        ((Step("kill", 0), Step("stop", 0)), "kill_s"),
    ],
)
def test_a_failover_that_takes_longer_than_such_a_fault_may_spoils_the_verdict(job: JobKind, faults: tuple[Step, ...], bound: str) -> None:
    bound_s = getattr(BOUNDS[job], bound)
    assert over_after(bound_s - 1, *faults, job=job).clean
    late = over_after(bound_s + 1, *faults, job=job)
    assert not late.clean
    assert f"too-slow-ms={1000 * (bound_s + 1):.0f}" in str(late)


def test_a_broker_that_is_away_makes_no_failover_late() -> None:
    assert over_after(1_000, Step("broker", detail="kill")).clean


def test_what_waited_when_the_fault_struck_is_given_time_to_be_worked_off() -> None:
    bounds = BOUNDS["state"]
    assert over_after(bounds.kill_s + 9, Step("kill", 0), waiting=round(10 * bounds.backlog_per_s)).clean
    assert not over_after(bounds.kill_s + 11, Step("kill", 0), waiting=round(10 * bounds.backlog_per_s)).clean


class Falling(Worker):
    """A worker without a process, which has ended with ``code`` whenever somebody looks."""

    alive = False
    openings = ()  # type: ignore[assignment]

    def __init__(self, code: int, said: str = "", name: str = "falling") -> None:
        self.name = name
        self.code = code
        self.words = said
        self.starts = 0

    @property
    def said(self) -> str:
        return self.words

    @property
    def process(self) -> SimpleNamespace:
        return SimpleNamespace(returncode=self.code)

    def start(self, seam: str = "") -> None:
        """In vain."""
        self.starts += 1

    def kill(self) -> None:
        """It is dead."""

    def signal(self, number: int) -> None:
        """There is nobody to hear it."""

    def stop(self) -> int:
        """It ends with its code."""
        return self.code


#: Steps of a trouble that is over.
TROUBLES: dict[Trouble | None, tuple[Step, ...]] = {
    "broker": (Step("broker", detail="pause"), Step("broker", detail="resume")),
    "sleep": (Step("freeze", 0), Step("thaw", 0)),
    None: (),
}


@pytest.mark.parametrize(
    ("code", "said", "reason", "excuses"),
    [
        (EXIT_BROKER, "assay: BrokerUnreachable: no broker answers", "BrokerUnreachable", {"broker", "sleep"}),
        (EXIT_CRASHED, "assay: ProducerFailed: t-0: the transaction failed", "ProducerFailed", {"broker", "sleep"}),
        (EXIT_CRASHED, "assay: BroadcastFailed: topics can no longer be read: _TRANSPORT", "BroadcastFailed", {"broker", "sleep"}),
        (EXIT_CRASHED, "assay: NotStopped: not stopped in time", "NotStopped", {"broker"}),
        (EXIT_CRASHED, "assay: Fenced: t-0: a new owner came", "Fenced", {"sleep"}),
        (EXIT_CRASHED, "assay: Stuck: task t has not moved on in in/0 for 61 s", "Stuck", set()),
        (EXIT_CRASHED, "assay: BroadcastFailed: a broadcast record could not be applied: KeyError", "RecordNotApplied", set()),
        (EXIT_CRASHED, "assay: RecordsLost: in/0: records after 7 arrived", "RecordsLost", set()),
        (EXIT_CRASHED, "assay: ProducerFailed: no\nassay: KeyError: 'sku'", "KeyError", set()),
        (EXIT_CRASHED, "", "exit 5", set()),
        (-signal.SIGSEGV, "assay: ProducerFailed: before", "SIGSEGV", set()),
        (1, "Traceback", "exit 1", set()),
    ],
)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_worker_may_end_by_itself_for_what_fits_the_trouble_and_for_nothing_else(
    code: int, said: str, reason: str, excuses: set[Trouble], trouble: Trouble | None
) -> None:
    job = Job()
    job.workers = [Falling(code, said)]
    steps = (Step("start", 0), *TROUBLES[trouble], Step("await", count=0, detail="progress"))
    execution = Execution(job, Schedule(1, 1, steps), BROKERS)
    execution.failovers = Failovers(job, job.clock)
    execution.run()
    assert set(execution.restarts) == {reason}
    assert (execution.unexplained_restarts == 0) is (trouble in excuses)


def test_a_sleep_excuses_the_sleeper_alone_and_that_until_a_while_after_it() -> None:
    now = 0.0
    excuses = Excuses(lambda: now)
    sleeper, other = (Falling(EXIT_CRASHED, "assay: Fenced: t-0: a new owner came", name) for name in ("sleeper", "other"))
    excuses.falls_asleep(sleeper)
    now += 1_000
    assert (excuses.cover(sleeper), excuses.cover(other)) == ("sleep", None)
    excuses.wakes(sleeper)
    now += AFTERMATH_S - 1
    assert excuses.cover(sleeper)
    now += 2
    assert not excuses.cover(sleeper)
    excuses.falls_asleep(sleeper)
    excuses.starts(sleeper)
    assert not excuses.cover(sleeper)


def test_no_trouble_excuses_a_worker_that_ends_again_and_again() -> None:
    now = 0.0
    excuses = Excuses(lambda: now)
    one, other = (Falling(EXIT_BROKER, "assay: BrokerUnreachable: no broker answers", name) for name in ("one", "other"))
    excuses.broker_goes()
    now += 2 * RESTART_EVERY_S
    excuses.broker_returns()
    assert [excuses.cover(one) for _ in range(RESTARTS + 3)] == ["broker"] * (RESTARTS + 2) + [None]
    assert excuses.cover(other) == "broker"
    # It goes once more, which is another trouble.
    excuses.broker_goes()
    assert excuses.cover(one) == "broker"


def test_a_worker_that_ends_after_the_last_look_and_before_it_is_stopped_counts_as_any_other() -> None:
    job = Job()
    worker = Falling(EXIT_CRASHED, "assay: KeyError: 'sku'")
    worker.alive = True
    job.workers = [worker]
    execution = Execution(job, Schedule(1, 1, (Step("start", 0),)))
    execution.run()
    assert execution.annotated(CLEAN).clean
    worker.alive = False
    execution.stop()
    verdict = execution.annotated(CLEAN)
    assert not verdict.clean
    assert "unexplained-restarts=1 restarts=1(KeyError)" in str(verdict)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(("code", "said"), [(0, ""), (EXIT_CRASHED, "assay: NotStopped: not stopped in time")])
def test_a_worker_that_does_not_stop_in_order_fails_the_run_unless_its_broker_was_away(
    code: int, said: str, trouble: Trouble | None
) -> None:
    job = Job()
    worker = Falling(code, said)
    worker.alive = True
    job.workers = [worker]
    execution = Execution(job, Schedule(1, 1, (Step("start", 0), *TROUBLES[trouble])), BROKERS)
    execution.failovers = Failovers(job, job.clock)
    execution.run()
    if code == 0 or trouble == "broker":
        execution.stop()
    else:
        with pytest.raises(AssertionError, match=f"stopped with {code}"):
            execution.stop()


@pytest.mark.parametrize(
    ("code", "pauses"), [(EXIT_CRASHED, [0.5, 1, 2, 4, 8, 16, 30, 30]), (EXIT_BROKER, [0.5, 1, 2, 4, 5, 5]), (-signal.SIGSEGV, [0.5, 1, 2])]
)
def test_a_worker_that_ends_again_and_again_is_started_after_the_pauses_of_the_products_supervisor(code: int, pauses: list[float]) -> None:
    now = 0.0
    worker = Falling(code)
    supervision = Supervision(lambda: now)
    supervision.start(worker)
    for runs, pause in enumerate(pauses, 1):
        assert supervision.tend(worker)
        now += pause - 0.1
        assert not supervision.tend(worker)
        assert worker.starts == runs
        now += 0.2
        assert not supervision.tend(worker)
        assert worker.starts == runs + 1


def test_a_worker_that_was_well_for_a_while_or_is_started_by_hand_waits_for_a_moment_only() -> None:
    now = 0.0
    worker = Falling(EXIT_CRASHED)
    supervision = Supervision(lambda: now)

    def started_after(seconds: float) -> bool:
        nonlocal now
        runs = worker.starts
        assert supervision.tend(worker)
        now += seconds
        assert not supervision.tend(worker)
        return worker.starts == runs + 1

    supervision.start(worker)
    assert [started_after(30) for _ in range(6)] == [True] * 6
    worker.alive = True
    now += HEALTHY_S
    assert not supervision.tend(worker)
    worker.alive = False
    assert started_after(FIRST_PAUSE_S)
    assert not started_after(FIRST_PAUSE_S)
    supervision.start(worker)
    assert started_after(FIRST_PAUSE_S)


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
