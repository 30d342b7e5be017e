"""Two workers on a real Kafka, killed at every seam of a transaction: nothing missing, nothing twice, state as of one clean pass."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import CLEAN, Fleet

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def fleet(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(kafka, topic_prefix.rstrip("."), tmp_path, workers=2)
    yield fleet
    fleet.end()


def verdict(fleet: Fleet) -> dict[str, int]:
    result = fleet.judge()
    print(result)
    return {name: result[name] for name in CLEAN}


def test_kills_at_every_seam_and_one_wiped_disk_lose_and_double_nothing(fleet: Fleet) -> None:
    first, second = fleet.workers
    second.start()
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "the first worker reads")
    for seam in ("decoded:15", "produced:15", "committing:15", "committed:15", "stored:15", "acked:15"):
        first.start(seam)
        fleet.until(lambda: not first.alive, f"the worker dies at {seam}", feed=250)
        assert first.process.returncode == -signal.SIGKILL
    first.start()
    reached = fleet.sent + 5_000
    fleet.until(lambda: fleet.sent > reached, "both work", feed=250)
    first.signal(signal.SIGKILL)
    first.process.wait()
    first.wipe()
    first.start()
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "every event has its output")
    second.signal(signal.SIGKILL)
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "the survivor takes over what the other left")
    assert verdict(fleet) == CLEAN


def test_a_zombie_that_wakes_up_after_its_partitions_moved_changes_nothing(fleet: Fleet) -> None:
    first, second = fleet.workers
    first.start()
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "the first worker reads")
    # Stopped while it owns everything and works; the session timeout is 6 s.
    fleet.feed(3_000)
    first.signal(signal.SIGSTOP)
    second.start()
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "the second worker takes over")
    first.signal(signal.SIGCONT)
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "work goes on")
    second.signal(signal.SIGKILL)
    fleet.feed(2_000)

    def revived() -> bool:
        # A zombie may prefer to start afresh: a supervisor would start it again.
        if not first.alive:
            first.start()
        return fleet.complete

    fleet.until(revived, "the former zombie takes everything back")
    assert verdict(fleet) == CLEAN


def test_sigterm_drains_within_ten_seconds_and_exits_with_zero(fleet: Fleet) -> None:
    first, second = fleet.workers
    first.start()
    fleet.feed(500)
    fleet.until(lambda: fleet.complete, "the worker reads")
    fleet.feed(20_000)
    first.signal(signal.SIGTERM)
    started = time.monotonic()
    assert first.process.wait(20) == 0
    assert time.monotonic() - started < 10
    second.start()
    fleet.until(lambda: fleet.complete, "the next worker goes on")
    assert verdict(fleet) == CLEAN


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


def test_a_truncated_store_is_set_aside_and_rebuilt_from_the_changelog(fleet: Fleet) -> None:
    first, _ = fleet.workers
    first.start()
    fleet.feed(3_000)
    fleet.until(lambda: fleet.complete, "the worker reads")
    first.signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    for partition in first.data_dir.glob("state/[0-9]"):
        for file in partition.glob("MANIFEST-*"):
            file.write_bytes(file.read_bytes()[:20])
    first.start()
    fleet.feed(2_000)
    fleet.until(lambda: fleet.complete, "the worker goes on")
    assert "set aside" in first.log.read_text()
    assert verdict(fleet) == CLEAN


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
    assert first.process.wait(60) == 3
    assert "assay reset" in first.log.read_text()
