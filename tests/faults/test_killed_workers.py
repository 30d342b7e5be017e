"""Two workers on a real Kafka, killed at every seam of a transaction: nothing missing, nothing twice, state as of one clean pass."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.committed import read_settled
from tests.faults import held_worker
from tests.faults.execution import run_state_job
from tests.faults.fleet import PARTITIONS, Fleet, Worker, given_up
from tests.faults.schedule import SEAMS, Schedule, Step, feed, kill, start, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def fleet(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(kafka, topic_prefix.rstrip("."), tmp_path, workers=2)
    yield fleet
    fleet.end()


def transaction_held_open(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first worker runs alone, with far more to do, and commits nothing for as long as the file returned is there."""
    hold = tmp_path / "hold"
    monkeypatch.setenv(held_worker.VARIABLE, str(hold))
    fleet.workers = [Worker("held", tmp_path, fleet.arguments, held_worker.__name__), fleet.workers[1]]
    fleet.workers[0].start()
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "the worker reads")
    hold.touch()
    fleet.feed(20_000)
    fleet.until(lambda: bool(fleet.open_outputs()), "the worker has a transaction open, and far more to do")
    return hold


def judged(fleet: Fleet, name: str) -> None:
    verdict = fleet.verdict(name)
    print(verdict)
    assert verdict.clean


def test_kills_at_every_seam_and_one_wiped_disk_lose_and_double_nothing(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    steps = [start(1), feed(500), until("complete")]
    for seam in SEAMS:
        steps += [start(0, f"{seam}:15"), until("dead", worker=0, load=250)]
    steps += [start(0), until("progress", 5_000, load=250), kill(0), Step("wipe", 0), start(0), feed(2_000), until("complete")]
    # The survivor takes over what the other leaves.
    steps += [kill(1), feed(2_000), until("complete")]
    verdict = run_state_job(Schedule(21, 2, tuple(steps), name="every seam"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean


def test_a_zombie_that_wakes_up_after_its_partitions_moved_changes_nothing(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    # Frozen in the midst of a backlog, all of which it owns; the other takes all, and loses all to the former zombie in the end.
    steps = (
        feed(40_000), start(0), until("progress", 5_000), Step("freeze", 0), start(1), until("taken", worker=0), until("complete"),
        Step("thaw", 0), feed(2_000), until("complete"), kill(1), feed(2_000), until("complete"),
    )  # fmt: skip
    verdict = run_state_job(Schedule(22, 2, steps, name="a zombie that owned all"), kafka, topic_prefix.rstrip("."), tmp_path)
    print(verdict)
    assert verdict.clean
    assert verdict.notes["taken-over"] == 1


def test_a_zombie_with_a_transaction_open_is_refused_its_commit(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = transaction_held_open(fleet, tmp_path, monkeypatch)
    first, second = fleet.workers
    first.signal(signal.SIGSTOP)
    # It will try to commit the moment that it wakes up, whatever it hears of its partitions.
    hold.unlink()
    second.start()
    fleet.until(lambda: fleet.complete, "the other worker does all of it")
    first.signal(signal.SIGCONT)
    fleet.until(lambda: given_up(first.log) > 0 or not first.alive, "the first is refused")
    assert first.alive
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "both go on")
    judged(fleet, "a zombie with a transaction open")


def test_sigterm_drains_within_ten_seconds_and_exits_with_zero(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = transaction_held_open(fleet, tmp_path, monkeypatch)
    first, second = fleet.workers
    in_flight = fleet.open_outputs()
    started = time.monotonic()
    first.signal(signal.SIGTERM)
    fleet.until(lambda: "stopping: " in first.said, "it stops")
    # Not before it could be committed: so whoever does not wait for it leaves it open.
    hold.unlink()
    assert first.process.wait(20) == 0
    assert time.monotonic() - started < 10
    # What was in flight is committed, and nobody else has been there to do it again. What waited has been left to the next one.
    committed = {(message.partition(), message.offset()) for message in read_settled(fleet.bootstrap, fleet.sink, PARTITIONS)}
    assert in_flight.items() <= committed
    assert len(committed) < fleet.sent
    second.start()
    fleet.until(lambda: fleet.complete, "the next worker goes on")
    judged(fleet, "SIGTERM")


def test_a_second_worker_in_the_same_data_dir_is_refused_with_exit_code_four(fleet: Fleet) -> None:
    first, second = fleet.workers
    first.start()
    fleet.feed(100)
    fleet.until(lambda: fleet.complete, "the worker reads")
    second.data_dir = first.data_dir
    second.start()
    assert second.process.wait(30) == 4
    assert "in use by another worker" in second.log.read_text()
    assert first.alive


@pytest.mark.parametrize(("torn", "size"), [("MANIFEST-*", 20), ("*.sst", None)])
def test_a_truncated_store_is_rebuilt_from_the_changelog(fleet: Fleet, torn: str, size: int | None) -> None:
    first, _ = fleet.workers
    first.start()
    fleet.feed(3_000)
    fleet.until(lambda: fleet.complete, "the worker reads")
    first.signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    files = list(first.data_dir.glob(f"state/[0-9]/{torn}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if size is None else size])
    first.start()
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "the worker goes on")
    assert "set aside" in first.log.read_text()
    judged(fleet, f"torn {torn}")


def test_what_a_torn_write_ahead_log_lacks_is_read_again_from_the_changelog(fleet: Fleet) -> None:
    first, _ = fleet.workers
    first.start()
    for _ in range(8):
        # Each is a transaction of its own at least, and so a record of the log, which breaks off between them.
        fleet.feed(500)
        fleet.until(lambda: fleet.complete, "the worker reads")
    # A stop would leave the log empty: closing writes out what is in it.
    first.kill()
    logs = sorted(first.data_dir.glob("state/[0-9]/*.log"))
    assert [log.parent.name for log in logs] == [str(partition) for partition in range(PARTITIONS)]
    for log in logs:
        held = log.read_bytes()
        assert held
        log.write_bytes(held[: len(held) // 2])
    logged = Counter(message.partition() for message in fleet.changelog_records())
    before = len(first.openings)
    first.start()
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "the worker goes on")
    # State and position of before the tear are good, and nothing is set aside; the rest, and no more, comes from the changelog.
    restored = {opening.partition: opening.restored for opening in reversed(first.openings[before:])}
    assert {partition: 0 < count < logged[partition] for partition, count in restored.items()} == dict.fromkeys(range(PARTITIONS), True)
    assert "set aside" not in first.log.read_text()
    judged(fleet, "torn write-ahead log")


def test_a_recreated_source_topic_is_refused_with_the_command_that_mends_it(fleet: Fleet) -> None:
    first, _ = fleet.workers
    first.start()
    fleet.feed(1_000)
    fleet.until(lambda: fleet.complete, "the worker reads")
    first.signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    fleet.recreate_source()
    fleet.feed(5_000)
    first.start()
    assert first.process.wait(60) == 6
    assert "assay reset" in first.log.read_text()
