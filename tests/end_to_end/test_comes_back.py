"""A worker that comes back takes its own place in its group; one that was stopped has left it."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from schemas.topics import EVENTS
from tests.end_to_end.deployment import Deployment, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

#: No restart of a worker takes so long.
SESSION_TIMEOUT_S = 60


def events(life: int) -> list[tuple[bytes, bytes]]:
    made = []
    for number in range(40):
        user = f"u{number}"
        event = {
            "event_id": f"e{life}-{number}", "type": "browse", "user_id": user, "channel": "web", "sku": f"sku-{number % 7}",
            "occurred_at": f"2025-03-01T10:{life:02}:{number:02}Z",
        }  # fmt: skip
        made.append((user.encode(), orjson.dumps(event)))
    return made


def answered(deployment: Deployment, life: int, worker: WorkerProcess) -> None:
    deployment.produce(EVENTS.name, events(life))
    deployment.await_outcomes(40 * (life + 1), [worker])


def test_a_killed_worker_that_comes_back_does_not_wait_for_its_own_session_to_time_out(kafka: str, topic_prefix: str, tmp_path: Path):
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    worker = deployment.worker("recommend", "worker", SESSION_TIMEOUT_S)
    worker.start()
    answered(deployment, 0, worker)
    for life in (1, 2):
        worker.kill()
        killed = time.monotonic()
        worker.start()
        answered(deployment, life, worker)
        assert time.monotonic() - killed < SESSION_TIMEOUT_S / 2
    assert worker.stop() == 0


def test_a_worker_that_is_stopped_leaves_its_partitions_to_others_at_once(kafka: str, topic_prefix: str, tmp_path: Path):
    deployment = Deployment(kafka, topic_prefix, tmp_path)
    first, second = (deployment.worker("recommend", name, SESSION_TIMEOUT_S) for name in ("first", "second"))
    first.start()
    answered(deployment, 0, first)
    second.start()
    answered(deployment, 1, second)
    assert first.stop() == 0
    stopped = time.monotonic()
    answered(deployment, 2, second)
    assert time.monotonic() - stopped < SESSION_TIMEOUT_S / 2
    assert second.stop() == 0
