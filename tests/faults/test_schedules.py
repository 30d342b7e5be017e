"""Schedules drawn from a seed: the same seed gives the same faults, and whatever they are, nothing is lost, doubled or altered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_kafka
from tests.faults.execution import keep, run_state_job
from tests.faults.habits import EVERYTHING
from tests.faults.schedule import (
    BROKER_FAULTS,
    TAKEOVERS,
    WORKER_FAULTS,
    Schedule,
    Shop,
    Step,
    broker,
    feed,
    generated,
    kill,
    start,
    stop,
    until,
)
from tests.faults.verdict import Verdict


def test_equal_seeds_give_equal_schedules_and_others_give_others() -> None:
    assert generated(1, faults=10) == generated(1, faults=10)
    assert len({generated(seed).steps for seed in range(20)}) == 20


def test_a_schedule_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    schedule = generated(3, workers=3, faults=20, kinds=WORKER_FAULTS + TAKEOVERS + BROKER_FAULTS, standby=True)
    file = tmp_path / "schedule.json"
    file.write_text(schedule.to_json())
    assert Schedule.load(file) == schedule
    shopped = replace(schedule, job="storefront", shop=Shop(21, "recommend", 90, 2.0, EVERYTHING))
    assert Schedule.from_json(shopped.to_json()) == shopped
    assert schedule.own_broker
    assert not generated(3).own_broker


def test_every_kind_of_fault_is_drawn_sooner_or_later() -> None:
    actions = {step.do for seed in range(20) for step in generated(seed, kinds=WORKER_FAULTS + BROKER_FAULTS).steps}
    assert actions == {"feed", "start", "kill", "stop", "freeze", "thaw", "wipe", "broker", "await"}


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_killed_restarted_finished_then_wiped_and_rebuilt_from_the_changelog_alone(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    steps = (
        start(0),
        feed(500),
        until("complete"),
        until("progress", 2_000, load=250),
        kill(0),
        start(0),
        until("progress", 2_000, load=250),
        feed(500),
        until("complete"),
    )
    verdict = run_state_job(Schedule(11, 1, steps, name="kill, finish, wipe, rebuild"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    assert len(verdict.failover_ms) == 1


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_six_random_faults_of_two_workers(kafka: str, topic_prefix: str, tmp_path: Path, seed: int) -> None:
    verdict = run_state_job(generated(seed), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [4, 5])
def test_eight_random_faults_of_three_workers_and_their_broker(topic_prefix: str, tmp_path: Path, seed: int) -> None:
    schedule = generated(seed, workers=3, faults=8, kinds=WORKER_FAULTS + BROKER_FAULTS)
    with make_kafka(tmp_path / "kafka") as cluster:
        verdict = run_state_job(schedule, cluster.bootstrap_servers, topic_prefix.rstrip("."), tmp_path, cluster=cluster)
    print(verdict)
    assert verdict.clean


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_a_standby_takes_over_from_kills_a_lost_disk_and_a_stop_and_has_next_to_nothing_to_read(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    # Worker 1 stays and takes over each time; what worker 0 finds changed when it is back is not counted here.
    steps: list[Step] = [start(0), start(1), until("ready", worker=0), until("ready", worker=1), feed(500), until("complete")]
    taken = until("taken", worker=0, load=50)
    for leaves in ((kill(0),), (kill(0), Step("wipe", 0)), (stop(0),)):
        steps += [until("progress", 3_000, load=250), *leaves, taken, start(0), until("owns", worker=0, load=50)]
    steps += [until("progress", 2_000, load=250), feed(500), until("complete")]
    schedule = Schedule(17, 2, tuple(steps), standby=True, name="takeovers by a standby")
    verdict = run_state_job(schedule, kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    assert len(verdict.failover_ms) == 3
    assert verdict.notes["taken-over"] == 3
    # It had followed: cold, it would have read all that the changelog holds of the partitions that it took over.
    read, held = map(int, str(verdict.notes["read-for-it"]).split("/"))
    assert held > 3_000
    assert read < held / 10


def taken_over(verdict: Verdict, schedule: Schedule) -> None:
    """Some of those that were to be replaced were: one that went before it had opened anything has nothing to be taken over."""
    wanted = sum(step.detail == "taken" for step in schedule.steps)
    assert wanted
    assert int(str(verdict.notes["taken-over"])) >= wanted / 2


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [6, 7])
def test_eight_random_faults_of_two_workers_with_standbys(kafka: str, topic_prefix: str, tmp_path: Path, seed: int) -> None:
    schedule = generated(seed, faults=8, kinds=WORKER_FAULTS + TAKEOVERS, standby=True)
    verdict = run_state_job(schedule, kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    taken_over(verdict, schedule)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_eight_random_faults_of_three_workers_with_standbys_and_their_broker(topic_prefix: str, tmp_path: Path) -> None:
    schedule = generated(8, workers=3, faults=8, kinds=TAKEOVERS + BROKER_FAULTS, standby=True)
    with make_kafka(tmp_path / "kafka") as cluster:
        verdict = run_state_job(schedule, cluster.bootstrap_servers, topic_prefix.rstrip("."), tmp_path, cluster=cluster)
    print(verdict)
    assert verdict.clean
    taken_over(verdict, schedule)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_one_worker_then_two_then_three_then_one_again_under_load(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    steps: list[Step] = [start(0), until("ready", worker=0), until("progress", 3_000, load=250)]
    for joins in (1, 2):
        steps += [start(joins), until("ready", worker=joins, load=250), until("progress", 3_000, load=250)]
    # Of four partitions the third may be given none: it gets those of the second, which goes first.
    for leaves in (1, 2):
        steps += [stop(leaves), until("taken", worker=leaves, load=250), until("progress", 3_000, load=250), feed(500), until("complete")]
    verdict = run_state_job(Schedule(12, 3, tuple(steps), name="workers 1-2-3-1"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    # Both opened partitions, and began with what those before them had done; what was fed to these was answered before they went.
    _, second, third = map(int, str(verdict.notes["restored"]).split(","))
    assert min(second, third) > 0


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_two_hundred_thousand_events_of_backlog(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    # One worker dies half way through it and leaves the rest to the other.
    steps = (feed(200_000), start(0), start(1), until("progress", 60_000), kill(0), until("complete"), start(0))
    verdict = run_state_job(Schedule(13, 2, steps, name="backlog"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    assert verdict.max_lag >= 200_000


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_half_of_all_events_are_of_one_user(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    # The kill comes late: what it interrupts waits for the failover, while the hot partition may be the other worker's and goes on.
    steps = (
        start(0), start(1), until("ready", worker=0), until("ready", worker=1),
        feed(60_000), until("progress", 5_000), feed(2_000), until("progress", 50_000), kill(1), start(1), feed(8_000), until("complete"),
    )  # fmt: skip
    schedule = Schedule(14, 2, steps, hot_share=0.5, name="hot user")
    verdict = run_state_job(schedule, kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    # What others sent after the 60,000 was answered in each of the other partitions while thousands of the hot one's still waited.
    assert min(map(int, str(verdict.notes["hot-behind"]).split(","))) > 2_000


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_worker_that_sleeps_past_its_session_finds_its_partitions_with_the_other(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    # It falls asleep in the midst of a backlog, and wakes up when the other has long done it.
    steps = (
        start(0), start(1), until("ready", worker=0), until("ready", worker=1), until("progress", 2_000, load=250),
        feed(60_000), until("progress", 3_000), Step("freeze", 0), until("taken", worker=0, load=250), until("seconds", 20, load=250),
        Step("thaw", 0), feed(500), until("complete"),
    )  # fmt: skip
    verdict = run_state_job(Schedule(16, 2, steps, name="a zombie"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    assert verdict.notes["taken-over"] == 1


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ('{"do": "kil", "worker": 0}', "do is one of feed"),
        ('{"do": "kill"}', "worker is one of 0..1"),
        ('{"do": "kill", "worker": 2}', "worker is one of 0..1"),
        ('{"do": "await", "detail": "bored"}', "detail is one of complete"),
        ('{"do": "broker", "detail": "explode"}', "detail is one of stop"),
        ('{"do": "start", "worker": 0, "detail": "nowhere:1"}', "detail is a seam"),
        ('{"do": "start", "worker": 0, "detail": "acked:0"}', "detail is a seam"),
        ('{"do": "start", "worker": 0, "detail": "acked:soon"}', "detail is a seam"),
        ('{"do": "broker", "detail": "kill", "count": 7}', "the broker's number"),
        ('{"do": "thaw", "worker": 0}', "never frozen"),
        ('{"do": "feed", "count": "7"}', "whole numbers"),
        ('{"do": "feed", "count": 7, "load": -3}', "whole numbers"),
        ('{"do": "feed", "count": -5, "detail": "quickly"}', "count says how many"),
        ('{"do": "feed"}', "count says how many"),
        ('{"do": "feed", "count": 1, "speed": 2}', "step 0"),
    ],
)
def test_a_step_that_could_not_be_carried_out_is_refused(steps: str, complaint: str) -> None:
    """It would be passed over, and the run be clean."""
    with pytest.raises(ValueError, match=complaint):
        Schedule.from_json(f'{{"seed": 1, "workers": 2, "steps": [{steps}]}}')


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"steps": 3}', '{"seed": 1, "workers": 1, "colour": 2, "steps": []}'])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|Expecting"):
        Schedule.from_json(text)


def test_every_drawn_schedule_can_be_carried_out() -> None:
    for seed in range(30):
        generated(seed, workers=3, faults=8, kinds=WORKER_FAULTS + TAKEOVERS + BROKER_FAULTS).check()


def test_the_command_that_runs_a_schedule_again_is_told_where_the_file_is_all_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(generated(3), tmp_path)
    assert f"python -m tests.faults --schedule {tmp_path / 'schedule.json'}" in capsys.readouterr().out
    keep(Schedule(1, 1, (Step("await", detail="what only its test knows"),)), tmp_path)
    assert "--schedule" not in capsys.readouterr().out


def test_a_schedule_tells_what_it_does_to_workers_and_broker() -> None:
    steps = (start(0, "acked:3"), kill(0), start(0), kill(0), stop(0), broker("kill"), broker("start"), feed(1), until("complete"))
    assert Schedule(1, 1, steps).faults == {"seam": 1, "kill": 2, "stop": 1, "broker-kill": 1}


def test_a_worker_that_ends_for_no_reason_spoils_the_verdict() -> None:
    clean = Verdict("v", 10, 0, 0, 0, 0, 0, 0, 5)
    assert clean.clean
    assert not replace(clean, unexplained_restarts=1).clean
