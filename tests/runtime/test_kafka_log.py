"""Open, step, lose, fence and restore over Kafka's own transactions.

On the embedded broker, but for fencing: librdkafka's mock cluster gives every producer its way.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import streams.runtime.producer
from streams.runtime.changelog import ChangelogReader
from streams.runtime.errors import Fenced, ProducerFailed
from streams.runtime.log import KafkaLog
from streams.runtime.marker import MARKER_KEY, SourceExtent
from streams.runtime.partition import Fetched, PartitionState
from streams.runtime.partitioner import Partitioner, crc32_partition, murmur2_partition
from streams.runtime.processor import Output
from streams.runtime.producer import TransactionalProducer
from streams.runtime.store import Store
from tests.runtime.processors import SOURCE, Counter, record


class Broker:
    def __init__(self, bootstrap: str, prefix: str = "p.") -> None:
        self.config = {"bootstrap.servers": bootstrap}
        self.out, self.changelog = f"{prefix}out", f"{prefix}task-changelog"
        self.logs: list[KafkaLog] = []

    def producer(self, partitioner: str = "murmur2") -> TransactionalProducer:
        return TransactionalProducer(
            self.config,
            f"{self.changelog}-0",
            timeout_s=10,
            partitioner=partitioner,
            topic_names={"out": self.out},
        )

    def log(self) -> KafkaLog:
        log = KafkaLog(
            self.config,
            group="task",
            changelog=self.changelog,
            partition=0,
            new_producer=self.producer,
            source_extent=lambda _topic, _partition: SourceExtent(0, 1 << 40),
        )
        self.logs.append(log)
        return log

    def committed(self, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
        """(partition, key, value) of everything that a reader sees that reads committed."""
        reader = Consumer({**self.config, "group.id": "judge", "isolation.level": "read_committed", "enable.partition.eof": True})
        reader.assign([TopicPartition(topic, p, 0) for p in range(4)])
        found, ended = [], set()
        while len(ended) < 4:
            message = reader.poll(10)
            assert message is not None
            error = message.error()
            if error is None:
                found.append((message.partition(), message.key(), message.value()))
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                ended.add(message.partition())
        reader.close()
        return found


@pytest.fixture
def broker(embedded: str) -> Iterator[Broker]:
    broker = Broker(embedded)
    toucher = Producer(broker.config)
    for topic in (broker.changelog, broker.out):
        toucher.list_topics(topic, timeout=10)
    yield broker
    for log in broker.logs:
        log.close()


@pytest.fixture
def real_broker(kafka: str, topic_prefix: str) -> Iterator[Broker]:
    broker = Broker(kafka, topic_prefix)
    admin = AdminClient(broker.config)
    for future in admin.create_topics([NewTopic(broker.changelog, 4, 1), NewTopic(broker.out, 4, 1)]).values():
        future.result(30)
    yield broker
    for log in broker.logs:
        log.close()


def opened(broker: Broker, path: Path, processor: Counter | None = None) -> PartitionState:
    state = PartitionState(0, Store.open_or_rebuild(path), broker.log(), processor or Counter(), {SOURCE: "events"}, clock=lambda: 1)
    state.open()
    state.opened()
    state.start_reading(SOURCE, state.resume_offset(SOURCE) or 0)
    return state


def run(state: PartitionState, *offsets: int) -> None:
    state.accept(Fetched(SOURCE, [record(offset, "a") for offset in offsets], offsets[0] - 1))
    state.step()
    pending = state.take()
    assert pending is not None
    state.commit(pending)


def test_a_wiped_store_is_rebuilt_from_the_changelog_to_the_last_commit(broker: Broker, tmp_path: Path) -> None:
    first = opened(broker, tmp_path / "0")
    run(first, 0, 1)
    run(first, 2)
    first.close()
    processor = Counter()
    second = opened(broker, tmp_path / "other", processor)
    assert processor.opened_with == [{b"a": b"3"}]
    assert second.resume_offset(SOURCE) == 3
    run(second, 3)
    second.close()
    assert [value for _, _, value in broker.committed(broker.out)] == [b"%d@t.events:%d" % (i + 1, i) for i in range(4)]


def test_a_kept_store_is_caught_up_only_with_what_it_missed(broker: Broker, tmp_path: Path) -> None:
    first = opened(broker, tmp_path / "0")
    run(first, 0)
    first.close()
    elsewhere = opened(broker, tmp_path / "other")
    run(elsewhere, 1)
    elsewhere.close()
    state = PartitionState(0, Store(tmp_path / "0"), broker.log(), Counter(), {SOURCE: "events"}, clock=lambda: 1)
    assert state.open().records == 2  # the key and the marker of one transaction
    assert state.overlay.get_many([b"a"]) == [b"2"]
    assert state.open().records == 0
    state.close()


@pytest.mark.kafka
def test_a_new_owner_fences_the_old_one_whose_step_then_never_happened(real_broker: Broker, tmp_path: Path) -> None:
    zombie = opened(real_broker, tmp_path / "zombie")
    run(zombie, 0)
    owner = opened(real_broker, tmp_path / "owner")
    run(owner, 1)
    with pytest.raises(Fenced):
        run(zombie, 1)
    assert zombie.overlay.store.marker().offsets == {SOURCE: 0}
    assert [value for _, _, value in real_broker.committed(real_broker.out)] == [b"1@t.events:0", b"2@t.events:1"]
    zombie.close()
    owner.close()


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_a_fenced_producer_that_still_holds_records_can_be_closed(real_broker: Broker) -> None:
    zombie, owner = real_broker.producer(), real_broker.producer()
    zombie.fence()
    owner.fence()
    zombie.begin()
    unsent = itertools.repeat([(b"a", b"1")])
    with pytest.raises(Fenced):
        deque((zombie.send_changes(real_broker.changelog, 0, pairs) for pairs in unsent), maxlen=0)
    zombie.close()
    owner.close()


@pytest.mark.kafka
def test_what_a_dead_owner_left_open_is_aborted_and_seen_by_nobody(real_broker: Broker, tmp_path: Path) -> None:
    dead = real_broker.producer()
    dead.fence()
    dead.begin()
    dead.send([Output("out", b"a", b"half a step", partition=0)])
    dead.send_changes(real_broker.changelog, 0, [(b"a", b"99"), (MARKER_KEY, b"{}")])
    dead._producer.flush(10)
    owner = opened(real_broker, tmp_path / "owner")
    run(owner, 0)
    assert [value for _, _, value in real_broker.committed(real_broker.out)] == [b"1@t.events:0"]
    owner.close()


@pytest.mark.parametrize(("name", "place"), [("murmur2", murmur2_partition), ("crc32", crc32_partition)])
def test_outputs_go_to_the_partition_of_their_key_or_to_the_one_they_name(broker: Broker, name: str, place: Partitioner) -> None:
    producer = broker.producer(name)
    producer.fence()
    producer.begin()
    producer.send([Output("out", b"key-%d" % i, b"v") for i in range(20)] + [Output("out", b"named", b"v", partition=3)])
    producer.commit()
    producer.close()
    places = {key: partition for partition, key, _ in broker.committed(broker.out)}
    assert places.pop(b"named") == 3
    assert places == {b"key-%d" % i: place(b"key-%d" % i, 4) for i in range(20)}


def test_a_transaction_larger_than_the_clients_queue_waits_for_the_broker(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.runtime.producer, "_QUEUE_MESSAGES", 50)
    log = broker.log()
    log.fence()
    log.commit([Output("out", b"k%d" % i, b"v") for i in range(500)], [(b"s%d" % i, b"v") for i in range(500)] + [(MARKER_KEY, b"{}")])
    assert {key for _, key, _ in broker.committed(broker.out)} == {b"k%d" % i for i in range(500)}
    assert len(broker.committed(broker.changelog)) == 501


def test_tombstones_delete_on_restore(broker: Broker, tmp_path: Path) -> None:
    log = broker.log()
    log.fence()
    log.commit([], [(b"a", b"1"), (b"b", b"1"), (MARKER_KEY, b'{"offsets": {}}')])
    end = log.commit([], [(b"a", None), (MARKER_KEY, b'{"offsets": {}}')])
    state = opened(broker, tmp_path / "0")
    assert dict(state.overlay.scan(b"")) == {b"b": b"1"}
    assert state.overlay.store.checkpoint(1) >= end
    state.close()


def test_the_checkpoint_that_a_commit_returns_is_where_the_next_records_begin(broker: Broker) -> None:
    log = broker.log()
    log.fence()
    end = log.commit([], [(b"a", b"1"), (MARKER_KEY, b"{}")])
    log.commit([], [(b"b", b"1"), (MARKER_KEY, b"{}")])
    reader = ChangelogReader(broker.config, "task", broker.changelog, 0)
    pairs = [pair for batch, _ in reader.read(end) for pair in batch]
    reader.close()
    assert pairs == [(b"b", b"1"), (MARKER_KEY, b"{}")]


def test_reading_stops_when_it_is_cancelled(broker: Broker) -> None:
    reader = ChangelogReader(broker.config, "task", broker.changelog, 0)
    assert list(reader.read(0, cancelled=lambda: True)) == []
    reader.close()


def test_a_transaction_that_was_never_opened_cannot_be_committed(broker: Broker) -> None:
    with pytest.raises(ProducerFailed, match="before the partition was opened"):
        broker.log().commit([], [(MARKER_KEY, json.dumps({}).encode())])
