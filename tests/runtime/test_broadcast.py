from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import streams.runtime.broadcast
from streams.runtime import broadcast, catching_up, changelog
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.catching_up import read_to_end
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable
from streams.runtime.processor import Record
from streams.runtime.task import Broadcast


class Shop:
    """Writes to broadcast topics and keeps what readers applied."""

    def __init__(self, bootstrap: str) -> None:
        self.config = {"bootstrap.servers": bootstrap}
        self.applied: dict[str, list[tuple[int, int]]] = {"catalog": [], "sessions": []}
        self.threads: set[int] = set()
        self.failures: list[BaseException] = []
        self.readers: list[BroadcastReader] = []
        self._producer = Producer(self.config)
        for name in self.applied:
            self._producer.list_topics(f"p.{name}", timeout=10)

    def publish(self, topic: str, count: int) -> None:
        for i in range(count):
            self._producer.produce(topic, b"v", b"k%d" % i, i % 4)
        assert self._producer.flush(10) == 0

    def publish_in_a_transaction(self, topic: str) -> None:
        producer = Producer({**self.config, "transactional.id": "t"})
        producer.init_transactions(10)
        producer.begin_transaction()
        producer.produce(topic, b"v", b"k", 0)
        producer.flush(10)
        producer.commit_transaction(10)

    def collect(self, name: str) -> Callable[[Sequence[Record]], None]:
        def apply(records: Sequence[Record]) -> None:
            self.threads.add(threading.get_ident())
            self.applied[name] += [(record.partition, record.offset) for record in records]

        return apply

    def reader(self, **broadcasts: Callable[[Sequence[Record]], None]) -> BroadcastReader:
        chosen = broadcasts or {name: self.collect(name) for name in self.applied}
        reader = BroadcastReader(
            self.config,
            "task",
            [Broadcast(name, apply) for name, apply in chosen.items()],
            {name: f"p.{name}" for name in chosen},
            self.failures.append,
        )
        self.readers.append(reader)
        return reader


@pytest.fixture
def shop(embedded: str) -> Iterator[Shop]:
    shop = Shop(embedded)
    yield shop
    for reader in shop.readers:
        reader.stop()


def test_everything_is_applied_once_in_order_and_in_the_callers_thread(shop: Shop) -> None:
    shop.publish("p.catalog", 4_000)
    shop.publish("p.sessions", 10)
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    assert len(shop.applied["sessions"]) == 10
    for partition in range(4):
        assert [offset for p, offset in shop.applied["catalog"] if p == partition] == list(range(1_000))
    assert shop.threads == {threading.get_ident()}
    assert reader.positions()["p.catalog", 3] == 1_000


def test_catching_up_sees_what_was_published_just_before(shop: Shop) -> None:
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    for round_number in range(1, 6):
        shop.publish("p.catalog", 1)
        reader.catch_up(30)
        assert len(shop.applied["catalog"]) == round_number


def test_catching_up_applies_what_arrives_while_it_applies(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    drain, last = reader.drain, [True]

    def during() -> int:
        applied = drain()
        if applied and last:
            last.pop()
            shop.publish("p.catalog", 1)
            with reader._arrived:
                assert reader._arrived.wait_for(lambda: reader._waiting, 30)
        return applied

    shop.publish("p.catalog", 1)
    monkeypatch.setattr(broadcast, "ends", lambda *_: {("p.catalog", 0): 2})
    monkeypatch.setattr(reader, "drain", during)
    reader.catch_up(30)
    assert len(shop.applied["catalog"]) == 2


def test_what_waits_to_be_applied_is_bounded_in_bytes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.runtime.broadcast, "_MAX_WAITING_BYTES", 10)
    monkeypatch.setattr(streams.runtime.broadcast, "_FETCH", 50)
    shop.publish("p.catalog", 2_000)
    most = 0

    def apply(records: Sequence[Record]) -> None:
        nonlocal most
        most = max(most, reader._waiting_bytes)
        shop.applied["catalog"] += [(record.partition, record.offset) for record in records]

    reader = shop.reader(catalog=apply)
    reader.start()
    reader.catch_up(30)
    assert sorted(shop.applied["catalog"]) == sorted((i % 4, i // 4) for i in range(2_000))
    assert 0 < most <= 10 + 50
    assert reader._waiting_bytes == 0


def test_applying_ends_with_what_was_read_before_however_much_arrives_meanwhile(shop: Shop) -> None:
    def apply(records: Sequence[Record]) -> None:
        shop.applied["catalog"] += [(record.partition, record.offset) for record in records]
        if len(shop.applied["catalog"]) < 50:
            shop.publish("p.catalog", 1)
            with reader._arrived:
                assert reader._arrived.wait_for(lambda: reader._waiting, 30)

    reader = shop.reader(catalog=apply)
    reader.start()
    reader.catch_up(30)
    shop.publish("p.catalog", 1)
    with reader._arrived:
        assert reader._arrived.wait_for(lambda: reader._waiting, 30)
    assert [reader.drain() for _ in range(3)] == [1, 1, 1]


def test_no_more_is_read_in_a_turn_than_can_be_applied_in_a_moment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "_FETCH", 100)
    monkeypatch.setattr(broadcast, "_LEAST", 10)
    monkeypatch.setattr(broadcast, "_TURN_S", 0.0)
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    shop.publish("p.catalog", 200)
    for _ in range(3):
        with reader._arrived:
            assert reader._arrived.wait_for(lambda: reader._left <= 0, 30)
        assert reader.turn_due
        # Whoever has work of their own applies what was read, but only the turn of the broadcasts lets more be read.
        assert reader.drain(more=False) == 10
        assert not reader._has_room()
        assert (reader.drain(more=False), reader.drain()) == (0, 0)
        assert reader._has_room() or reader._waiting
    lag = reader.lag(30)
    assert sum(lag.values()) >= 200 - 30 - 10
    reader.catch_up(30)
    assert sum(reader.lag(30).values()) == 0
    assert len(shop.applied["catalog"]) == 200


def test_a_start_may_be_long_while_records_come_but_not_without(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "_FETCH", 10)
    monkeypatch.setattr(broadcast, "_MAX_WAITING", 20)
    work = threading.Event()

    def apply(records: Sequence[Record]) -> None:
        work.wait(len(records) * 0.02)
        shop.applied["catalog"] += [(record.partition, record.offset) for record in records]

    shop.publish("p.catalog", 100)
    reader = shop.reader(catalog=apply)
    reader.start()
    reader.catch_up(1.0, while_moving=True)
    assert len(shop.applied["catalog"]) == 100
    work.set()
    monkeypatch.setattr(broadcast, "ends", lambda *_: {("p.catalog", 0): 1_025})
    with pytest.raises(BroadcastFailed, match=r"0 records were read .* and 1,000 offsets not, nothing for the last 1 s"):
        reader.catch_up(1.0, while_moving=True)


def test_catching_up_ends_as_soon_as_the_reader_is_to_stop(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = shop.reader()
    reader.start()
    asked = threading.Event()

    def ends(*_: object) -> dict[tuple[str, int], int]:
        asked.set()
        return {("p.catalog", 0): 1_000}

    monkeypatch.setattr(broadcast, "ends", ends)
    stopping = threading.Thread(target=lambda: asked.wait(30) and reader.interrupt())
    stopping.start()
    with pytest.raises(BroadcastFailed, match="the reader stops"):
        reader.catch_up(30)
    stopping.join()


@pytest.mark.kafka
@pytest.mark.parametrize("enough", [100, 5_000])
def test_of_a_long_topic_the_newest_are_read_all_partitions_since_the_same_time(
    kafka: str, topic_prefix: str, shop: Shop, enough: int
) -> None:
    topic = f"{topic_prefix}sessions"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": kafka})
    for i in range(1_000):  # two a second; the third partition stays empty
        producer.produce(topic, b"v", b"k", i % 5 and 1, timestamp=1_700_000_000_000 + 500 * i)
    assert producer.flush(30) == 0
    read: list[Record] = []
    reader = BroadcastReader(
        {"bootstrap.servers": kafka}, "task", [Broadcast("sessions", read.extend, newest=enough)], {"sessions": topic}, shop.failures.append
    )
    shop.readers.append(reader)
    reader.start()
    reader.catch_up(30)
    times = sorted(record.timestamp for record in read)
    assert times == [1_700_000_000_000 + 500 * i for i in range(1_000 - len(times), 1_000)]
    assert min(enough, 1_000) <= len(times) <= enough + 4
    assert sum(reader.lag(30).values()) == 0


def test_a_waiting_partition_is_told_what_is_still_to_be_read_of_one_topic(shop: Shop) -> None:
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    shop.publish("p.catalog", 8)
    shop.publish("p.sessions", 1)
    ends = reader.ends_of("catalog", 30)
    assert ends == {("p.catalog", partition): 2 for partition in range(4)}
    with reader._arrived:
        assert reader._arrived.wait_for(lambda: not reader._behind(ends), 30)
    assert reader.to_go(ends) == 0
    assert reader.to_go({**ends, ("p.catalog", 1): 5}) == 3
    reader.drain()
    assert len(shop.applied["catalog"]) == 8


class Standstill:
    """A reader that gets nowhere: with what was asked for, while others move, or with the broker."""

    def __init__(self, *left: int, away: bool = False) -> None:
        self.left = list(left)
        self.away = away
        self.asked = 0

    def ends_of(self, topic: str, timeout_s: float) -> dict[tuple[str, int], int]:
        self.asked += 1
        if self.away:
            raise BrokerUnreachable(f"{topic}: no answer")
        return {(topic, 0): 9}

    def to_go(self, ends: dict[tuple[str, int], int]) -> int:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def wait_for(reader: Standstill, *, stopped: Callable[[], bool] = lambda: False) -> bool:
    with ThreadPoolExecutor(1) as threads:
        return asyncio.run(read_to_end(reader, "catalog", threads, stopped))  # type: ignore[arg-type]


def test_a_wait_ends_with_what_was_asked_for_or_with_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catching_up, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(catching_up, "_LOOK_S", 0.1)
    assert wait_for(Standstill(*range(9, -1, -1)))
    looks = iter([False, False, True])
    assert not wait_for(Standstill(5), stopped=lambda: next(looks))


def test_a_wait_in_which_nothing_comes_fails_and_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catching_up, "_PATIENCE_S", 0.2)
    with pytest.raises(BroadcastFailed, match=r"topic catalog was not read .* 5 offsets are still to be read"):
        wait_for(Standstill(5))
    away = Standstill(0, away=True)
    with pytest.raises(BroadcastFailed, match="catalog: no answer"):
        wait_for(away)
    assert away.asked > 1


def test_all_ends_come_in_one_answer(shop: Shop) -> None:
    shop.publish("p.catalog", 6)
    admin = AdminClient(shop.config)
    places = [(topic, partition) for topic in ("p.catalog", "p.sessions") for partition in range(4)]
    assert list(changelog.ends(admin, places, 30).values()) == [2, 2, 1, 1, 0, 0, 0, 0]
    assert changelog.ends(admin, [], 30) == {}


def test_ends_that_the_broker_does_not_tell_are_an_error() -> None:
    with pytest.raises(BrokerUnreachable):
        changelog.ends(AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}), [("p.catalog", 0)], 0.5)


@pytest.mark.kafka
def test_what_is_not_committed_keeps_nobody_waiting(kafka: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}catalog"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"v", b"k", 1)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"v", b"k", 1)
    assert producer.flush(30) == 0
    assert changelog.ends(admin, [(topic, 0), (topic, 1)], 30) == {(topic, 0): 0, (topic, 1): 2}
    producer.abort_transaction(30)


def test_catching_up_gets_past_the_marker_of_a_transaction(shop: Shop) -> None:
    shop.publish_in_a_transaction("p.catalog")
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    assert len(shop.applied["catalog"]) == 1


def test_empty_topics_are_caught_up_at_once(shop: Shop) -> None:
    reader = shop.reader()
    reader.start()
    reader.catch_up(30)
    assert shop.applied == {"catalog": [], "sessions": []}


def test_an_index_that_refuses_a_record_stops_the_worker_rather_than_going_stale(shop: Shop) -> None:
    def refuse(_records: Sequence[Record]) -> None:
        raise ValueError("bad vector")

    shop.publish("p.catalog", 1)
    reader = shop.reader(catalog=refuse)
    reader.start()
    with pytest.raises(ValueError, match="bad vector"):
        reader.catch_up(30)


def test_a_broker_that_is_gone_is_an_error_not_an_empty_index(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = BroadcastReader(
        {"bootstrap.servers": "127.0.0.1:1"},
        "task",
        [Broadcast("catalog", lambda _r: None)],
        {"catalog": "p.catalog"},
        shop.failures.append,
    )
    monkeypatch.setattr(broadcast, "_METADATA_S", 1.0)
    with pytest.raises(BroadcastFailed):
        reader.start()
