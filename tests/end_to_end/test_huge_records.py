"""Records a hundred times larger than on the wire: refused one and all, while the worker's memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from schemas.topics import DEAD_LETTERS, EVENTS, OUTCOMES
from tests.end_to_end.deployment import Deployment, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

HUGE = 400
SIZE = 2_000_000


@pytest.fixture
def worker(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[tuple[Deployment, WorkerProcess]]:
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    worker = deployment.worker("recommend", "w")
    yield deployment, worker
    worker.stop()


def test_a_burst_of_huge_records_is_refused_within_bounded_memory(worker: tuple[Deployment, WorkerProcess]) -> None:
    deployment, process = worker
    huge = b'{"event_id":"' + b"a" * SIZE + b'"}'
    deployment.produce(EVENTS.name, ((b"u", huge) for _ in range(HUGE)), compression="lz4")
    good = {"event_id": "1", "type": "click", "user_id": "u", "occurred_at": "2026-01-01T00:00:00Z", "channel": "web", "sku": "s"}
    deployment.produce(EVENTS.name, [(b"u", orjson.dumps(good))])
    process.start()
    deployment.await_outcomes(1, [process])
    # 800 MB of values, a third more as dead letters: queue, step and transaction hold a few dozen of them at a time.
    peak = peak_bytes(process.pid)
    print(f"peak {peak / 1e6:.0f} MB")
    assert peak < 1_500_000_000
    letters = [orjson.loads(message.value()) for message in deployment.read(DEAD_LETTERS.name)]
    assert [letter["code"] for letter in letters] == ["value_too_large"] * HUGE
    assert sorted(letter["offset"] for letter in letters) == list(range(HUGE))
    assert len(deployment.read(OUTCOMES.name)) >= 1


def peak_bytes(pid: int) -> int:
    """The most that the process had resident so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
