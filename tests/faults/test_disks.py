"""The disk under a worker: full, and of a changelog that compaction has been through."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.conftest import make_kafka
from tests.faults.fleet import PARTITIONS, Fleet

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

_MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = (
        None
        if mount is None
        else subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False)
    )
    if done is None or done.returncode != 0:
        why = "there is no mount command" if done is None else done.stderr.decode().strip()
        pytest.skip(f"a full disk needs a small file system, and this user may not mount one: {why}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_worker_with_what_to_do_and_room_makes_it_go_on(
    kafka: str, topic_prefix: str, tmp_path: Path, small_disk: Path
) -> None:
    fleet = Fleet(kafka, topic_prefix.rstrip("."), tmp_path, workers=1)
    (worker,) = fleet.workers
    worker.data_dir = small_disk / "data"
    try:
        worker.start()
        fleet.feed(500)
        fleet.until(lambda: fleet.complete, "the worker reads")
        # The rest of the disk goes to somebody else, as it does in life.
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            try:
                while file.write(bytes(_MIB // 16)):
                    file.flush()
            except OSError:
                pass
        fleet.until(lambda: not worker.alive, "the worker finds the disk full", feed=500)
        assert worker.process.returncode == 4
        message = worker.said.rstrip().splitlines()[-1]
        assert "No space left on device" in message
        assert "free the disk" in message
        # A start without room says the same instead of taking the state for damaged.
        worker.start()
        assert worker.process.wait(60) == 4
        assert "free the disk" in worker.said
        ballast.unlink()
        worker.start()
        fleet.feed(2_000)
        fleet.until(lambda: fleet.complete, "with room again the worker goes on by itself")
        assert "set aside" not in worker.log.read_text()
        verdict = fleet.verdict("a full disk")
        print(verdict)
        assert verdict.clean
        assert fleet.local_differences(worker) == 0
    finally:
        fleet.end()


@pytest.mark.slow
def test_a_changelog_that_was_compacted_rebuilds_the_same_state(topic_prefix: str, tmp_path: Path) -> None:
    # The cleaner looks every half second, and everything but the newest small segment is due at once.
    eager = {"log.cleaner.backoff.ms": 500, "log.retention.check.interval.ms": 1_000, "log.initial.task.delay.ms": 500}
    settings = {
        "segment.bytes": str(_MIB), "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000", "delete.retention.ms": "1000",
    }  # fmt: skip
    with make_kafka(tmp_path / "kafka", config=eager) as cluster:
        fleet = Fleet(cluster.bootstrap_servers, topic_prefix.rstrip("."), tmp_path, workers=1, changelog=settings)
        (worker,) = fleet.workers
        try:
            worker.start()
            fleet.forget(2_000)
            fleet.until(lambda: fleet.sent - fleet.lag > 60_000, "several segments of changelog in each partition", feed=500)
            fleet.until(lambda: records(fleet) < 0.3 * ends(fleet), "compaction has removed most of it", feed=50)
            # Of those who were forgotten not even that they were deleted is said any more.
            gone = lambda: sum(message.key().startswith(b"gone") for message in fleet.changelog_records())  # noqa: E731
            fleet.until(lambda: gone() == 0, "compaction has removed the deleted keys", feed=50)
            worker.signal(signal.SIGKILL)
            worker.process.wait()
            worker.wipe()
            worker.start()
            fleet.feed(2_000)
            fleet.until(lambda: fleet.complete, "the rebuilt worker goes on")
            verdict = fleet.verdict("a compacted changelog")
            print(verdict, f"{records(fleet)} of {ends(fleet)} offsets left")
            assert verdict.clean
            worker.wipe()
            assert fleet.local_differences(worker) == 0
        finally:
            fleet.end()


def ends(fleet: Fleet) -> int:
    """Offsets that the changelog has given out."""
    reader = Consumer({"bootstrap.servers": fleet.bootstrap, "group.id": "ends"})
    places = [TopicPartition(fleet.changelog, partition) for partition in range(PARTITIONS)]
    total = sum(reader.get_watermark_offsets(place, timeout=10)[1] for place in places)
    reader.close()
    return total


def records(fleet: Fleet) -> int:
    """Records that are left in the changelog."""
    return sum(1 for _ in fleet.changelog_records())
