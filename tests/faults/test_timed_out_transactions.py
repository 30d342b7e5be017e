"""The broker ends a transaction that took too long, with no other worker anywhere: a paused machine, a slow disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.runtime.changelog import watermarks
from streams.runtime.producer import TransactionalProducer
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import RunningWorker, build_host
from tests.conftest import make_kafka
from tests.runtime.processors import Counter

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PATIENCE_S = 60.0
CHANGELOG = "app-task-changelog"
TOPICS = ("in", "out", "events.dead-letter")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with make_kafka(tmp_path / "kafka", config={"transaction.abort.timed.out.transaction.cleanup.interval.ms": 500}) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
        for future in admin.create_topics([NewTopic(topic, 4, 1) for topic in (*TOPICS, CHANGELOG)]).values():
            future.result(30)
        yield Settings(bootstrap_servers=cluster.bootstrap_servers, app_id="app", data_dir=tmp_path / "w", session_timeout_s=6)


def test_a_worker_goes_on_after_the_broker_ended_its_transaction_and_each_event_counts_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = {"bootstrap.servers": settings.bootstrap_servers, "group.id": "judge", "isolation.level": "read_committed"}
    commit = TransactionalProducer.commit
    late = [True]

    def commit_late(producer: TransactionalProducer) -> None:
        if late:
            late.clear()
            producer._producer.flush(10)
            observer = Consumer(client)
            deadline = time.monotonic() + PATIENCE_S
            # What reads committed sees the end of the changelog only when nothing in it is open any more.
            while watermarks(observer, CHANGELOG, 0)[1] == 0:
                assert time.monotonic() < deadline
            observer.close()
        commit(producer)

    monkeypatch.setattr(TransactionalProducer, "commit", commit_late)
    table = {topic: topic for topic in TOPICS}
    with RunningWorker(settings, build=lambda: build_host(settings, [Task("task", ("in",), Counter())], table)) as worker:
        worker.wait_ready(PATIENCE_S)
        producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "enable.idempotence": True})
        for _ in range(3):
            producer.produce("in", b"1", b"k", 0)
        producer.flush(10)
        reader = Consumer(client)
        reader.assign([TopicPartition("out", p, 0) for p in range(4)])
        seen: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) < 3:
            assert time.monotonic() < deadline, seen
            message = reader.poll(1.0)
            if message is not None and message.error() is None:
                seen.append((message.value() or b"").partition(b"@")[0])
        reader.close()
        worker.check()
    assert not late
    assert seen == [b"1", b"2", b"3"]
