"""Records that a real broker removes while a worker is busy with those before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.runtime import metrics
from streams.runtime.names import changelog_topic
from streams.runtime.processor import Batch
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import RunningWorker, build_host
from tests.runtime.processors import Counter

RECORDS = 40
PATIENCE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


@pytest.mark.kafka
def test_what_retention_removes_before_a_busy_worker_reads_it_is_said_and_counted(
    kafka: str, topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        bootstrap_servers=kafka, app_id=topic_prefix.rstrip("."), data_dir=tmp_path / "w", max_poll_records=1, watchdog_s=20.0
    )
    table = {name: topic_prefix + name for name in ("in", "out", "events.dead-letter")}
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in (*table.values(), changelog_topic(settings, "task"))]).values():
        future.result(30)
    # Large ones, so that the consumer does not hold them all before they are removed.
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(RECORDS):
        producer.produce(table["in"], b"v" * 500_000, b"k", 0)
        assert producer.flush(30) == 0
    busy, go_on = threading.Event(), threading.Event()

    def work(_batch: Batch) -> None:
        busy.set()
        go_on.wait(PATIENCE_S)

    worker = RunningWorker(settings, build=lambda: build_host(settings, [Task("task", ("in",), Counter(work))], table))
    with caplog.at_level(logging.ERROR), worker:
        assert busy.wait(PATIENCE_S)
        begins = RECORDS - 2
        admin.delete_records([TopicPartition(table["in"], 0, begins)])[TopicPartition(table["in"], 0)].result(30)
        go_on.set()
        until(lambda: worker.positions().get("task", {}).get((table["in"], 0)) == RECORDS - 1)
        label = {"task": "task", "topic": table["in"], "partition": "0"}
        until(lambda: bool(metrics.REGISTRY.get_sample_value("assay_removed_records_total", label)))
        removed = metrics.REGISTRY.get_sample_value("assay_removed_records_total", label)
    assert removed is not None
    assert 0 < removed < begins
    assert f"records {begins - round(removed)}..{begins - 1} were removed by retention before they were read" in caplog.text
