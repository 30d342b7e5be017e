"""The broker dies or stalls under two workers: a supervisor starts again what crashed, and nothing is missing or there twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import RealKafka
from streams.runtime.errors import EXIT_CRASHED
from tests.conftest import make_kafka
from tests.faults.excuses import REASONS
from tests.faults.execution import run_state_job
from tests.faults.fleet import Fleet
from tests.faults.habits import EVERYTHING
from tests.faults.schedule import Schedule, Step, broker, feed, start, until
from tests.faults.storefront import Storefront, run_storefront
from tests.faults.supervision import Supervision
from tests.faults.verdict import Verdict

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealKafka]:
    with make_kafka(tmp_path / "kafka") as cluster:
        yield cluster


@pytest.fixture
def fleet(cluster: RealKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(cluster.bootstrap_servers, topic_prefix.rstrip("."), tmp_path, workers=2)
    yield fleet
    fleet.end()


@pytest.fixture
def supervision(fleet: Fleet) -> Supervision:
    """With all workers started."""
    supervision = Supervision()
    for worker in fleet.workers:
        supervision.start(worker)
    return supervision


def all_done(fleet: Fleet, supervision: Supervision) -> bool:
    """Start again what has ended for want of the broker; a worker may end for no other reason."""
    for worker in fleet.workers:
        assert not supervision.tend(worker) or worker.reason in REASONS["broker"], worker.said[-3000:]
    return fleet.complete


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_broker_that_dies_or_stalls_in_mid_transaction_loses_and_doubles_nothing(
    fleet: Fleet, cluster: RealKafka, supervision: Supervision, fault: str
) -> None:
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "both workers read")
    for _ in range(2):
        fleet.feed(5_000)
        before = len(fleet.seen)
        fleet.until(lambda seen=before: len(fleet.seen) > seen, "work is under way")  # type: ignore[misc]
        if fault == "kill":
            cluster.kill()
            cluster.start()
        else:
            cluster.pause()
            # Longer than session and transaction timeouts (6 s): measured by the reader's own clock, which gets nothing meanwhile.
            for _ in range(80):
                fleet.read(0.1)
            cluster.resume()
        fleet.feed(2_000)
        fleet.until(lambda: all_done(fleet, supervision), "every event has its output", timeout_s=150)
    # Its last call to the broker that was away may fail when it is asked to stop.
    verdict = fleet.verdict(f"broker {fault} in mid-transaction", lambda: fleet.stop(REASONS["broker"]))
    print(verdict)
    assert verdict.clean


def test_a_stop_while_the_broker_hangs_ends_within_ten_seconds_and_loses_nothing(
    fleet: Fleet, cluster: RealKafka, supervision: Supervision
) -> None:
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "both workers read")
    fleet.feed(5_000)
    before = len(fleet.seen)
    fleet.until(lambda: len(fleet.seen) > before, "work is under way")
    cluster.pause()
    asked = time.monotonic()
    for worker in fleet.workers:
        worker.signal(signal.SIGTERM)
    codes = [worker.process.wait(60) for worker in fleet.workers]
    took = time.monotonic() - asked
    cluster.resume()
    # One second for a busy machine to notice.
    assert took < 11
    for code, worker in zip(codes, fleet.workers, strict=True):
        assert code == 0 or (code == EXIT_CRASHED and worker.reason in REASONS["broker"]), worker.said[-3000:]
        supervision.start(worker)
    fleet.until(lambda: all_done(fleet, supervision), "every event has its output", timeout_s=150)
    verdict = fleet.verdict("a stop while the broker hangs", lambda: fleet.stop(REASONS["broker"]))
    print(verdict, f"stopped in {took:.1f} s with {codes}")
    assert verdict.clean


END = (feed(500), until("complete"))


def under_load(*faults: Step, workers: int = 2) -> tuple[Step, ...]:
    """Workers at work, ``faults`` in the midst of it, and work again."""
    begin = [start(number) for number in range(workers)] + [until("ready", worker=number) for number in range(workers)]
    return (*begin, feed(500), until("complete"), until("progress", 1_000, load=250), *faults, until("progress", 2_000, load=250), *END)


def run(schedule: Schedule, topic_prefix: str, folder: Path) -> Verdict:
    with make_kafka(folder / "kafka", brokers=schedule.brokers) as cluster:
        verdict = run_state_job(schedule, cluster.bootstrap_servers, topic_prefix.rstrip("."), folder, cluster=cluster)
    print(verdict)
    return verdict


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("clean restart", (broker("stop"), broker("start"))),
        ("stopped for 15 s", (broker("pause"), until("seconds", 15), broker("resume"))),
        ("dead for 5 s", (broker("kill"), until("seconds", 5), broker("start"))),
        ("dead for 30 s", (broker("kill"), until("seconds", 30), broker("start"))),
        ("dead for 90 s", (broker("kill"), until("seconds", 90), broker("start"))),
    ],
)
def test_the_broker_goes_and_comes_back(topic_prefix: str, tmp_path: Path, name: str, faults: tuple[Step, ...]) -> None:
    assert run(Schedule(31, 2, under_load(*faults), name=f"broker {name}"), topic_prefix, tmp_path).clean


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_three_brokers_one_dies_and_then_another_and_work_goes_on(topic_prefix: str, tmp_path: Path) -> None:
    # Each partition has three replicas of which two must be in step, so one may be missing at a time.
    # The work goes on in all partitions before it is back: only then it is started, whatever three of the four have done meanwhile.
    faults: list[Step] = []
    for node in (0, 1):
        faults += [broker("kill", node), until("answered", load=250), broker("start"), until("progress", 2_000, load=250)]
    verdict = run(Schedule(32, 2, under_load(*faults), brokers=3, name="one of three brokers"), topic_prefix, tmp_path)
    assert verdict.clean
    assert len(verdict.failover_ms) == 2
    assert verdict.notes["after-return-ms"] == "-"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_roles_outlive_a_broker_that_dies_stalls_and_restarts(topic_prefix: str, tmp_path: Path) -> None:
    faults = (
        broker("kill"), until("seconds", 5), broker("start"), until("progress", 300, load=50),
        broker("pause"), until("seconds", 15), broker("resume"), until("progress", 300, load=50),
        broker("stop"), broker("start"), until("progress", 300, load=50),
    )  # fmt: skip
    steps = (start(0), start(1), until("ready", worker=0), until("ready", worker=1), feed(500), until("complete"), *faults, *END)
    with make_kafka(tmp_path / "kafka") as cluster:
        storefront = Storefront(cluster.bootstrap_servers, topic_prefix, tmp_path, workers=2, habits=EVERYTHING)
        verdict = run_storefront(
            Schedule(33, 2, steps, job="storefront", name="broker under the real roles"), storefront, tmp_path, cluster
        )
    print(verdict)
    assert verdict.clean
    assert verdict.dead_lettered > 0
