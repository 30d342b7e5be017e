from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer

from streams.runtime import changelog, standby
from streams.runtime.datadir import DataDir
from streams.runtime.standby import Standby
from streams.runtime.store import Store
from streams.settings import Settings

PATIENCE_S = 30.0


class Follower:
    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap, app_id="app", data_dir=folder)
        self.data = DataDir(folder)
        self.producer = Producer({"bootstrap.servers": bootstrap})
        self.producer.list_topics("changelog", timeout=10)
        self.failures: list[BaseException] = []
        self.standby = Standby(self.settings, "task", self.data, "changelog", self.failures.append)

    def write(self, partition: int, key: bytes, value: bytes | None) -> None:
        self.producer.produce("changelog", value, key, partition)
        assert self.producer.flush(10) == 0

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.standby.positions(), self.failures)
            self.producer.poll(0.05)

    def released(self, partition: int) -> Store:
        self.standby.release([partition])
        return Store(self.data.partition("task", partition))


@pytest.fixture
def follower(embedded: str, tmp_path: Path) -> Iterator[Follower]:
    follower = Follower(embedded, tmp_path / "data")
    yield follower
    follower.standby.stop()
    follower.data.close()
    assert not follower.failures


def test_a_standby_follows_what_it_is_told_and_its_copy_opens_where_it_got_to(follower: Follower) -> None:
    follower.standby.follow([0, 2])
    follower.write(0, b"a", b"1")
    follower.write(0, b"b", b"1")
    follower.write(0, b"a", None)
    follower.write(1, b"not followed", b"1")
    follower.until(lambda: follower.standby.positions().get(0) == 3)
    store = follower.released(0)
    assert store.checkpoint(time.time_ns() // 1_000_000) == 3
    assert list(store.scan(b"")) == [(b"b", b"1")]
    store.close()
    assert 0 not in follower.standby.positions()


def test_a_copy_that_was_given_back_is_followed_from_where_it_was(follower: Follower) -> None:
    follower.standby.follow([0])
    follower.write(0, b"a", b"1")
    follower.until(lambda: follower.standby.positions().get(0) == 1)
    store = follower.released(0)
    store.write([(b"b", b"2")], 2, time.time_ns() // 1_000_000)
    store.close()
    follower.write(0, b"b", b"2")
    follower.standby.follow([0])
    follower.write(0, b"c", b"3")
    follower.until(lambda: follower.standby.positions().get(0) == 3)
    store = follower.released(0)
    assert dict(store.scan(b"")) == {b"a": b"1", b"b": b"2", b"c": b"3"}
    store.close()


def test_a_partition_is_given_back_in_the_midst_of_a_poll_and_what_that_brings_is_read_again(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled, go_on = threading.Event(), threading.Event()

    def fetch(consumer: Consumer, most: int, timeout_s: float) -> list[Message]:
        messages = changelog.fetch(consumer, most, timeout_s)
        if any(message.error() is None for message in messages):
            polled.set()
            assert go_on.wait(PATIENCE_S)
        return messages

    monkeypatch.setattr(standby, "fetch", fetch)
    follower.standby.follow([0, 1])
    follower.until(lambda: follower.standby.positions().keys() == {0, 1})
    follower.write(0, b"a", b"1")
    follower.write(1, b"b", b"1")
    assert polled.wait(PATIENCE_S)
    releasing = threading.Thread(target=follower.standby.release, args=[[1]])
    releasing.start()
    releasing.join(5)
    in_time = not releasing.is_alive()
    go_on.set()
    assert in_time
    store = Store(follower.data.partition("task", 1))
    assert store.empty()
    store.close()
    follower.until(lambda: follower.standby.positions() == {0: 1})
    follower.standby.follow([0, 1])
    follower.until(lambda: follower.standby.positions() == {0: 1, 1: 1})
