"""What librdkafka says of a fetch that failed: most of it is for information, and reading goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer

from streams.runtime import broadcast, changelog, standby
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.changelog import ChangelogReader, ends_reading
from streams.runtime.datadir import DataDir
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable
from streams.runtime.standby import Standby
from streams.runtime.task import Broadcast
from streams.settings import Settings

PASSING = (
    "_TRANSPORT",
    "_TIMED_OUT",
    "REQUEST_TIMED_OUT",
    "NOT_LEADER_FOR_PARTITION",
    "OFFSET_NOT_AVAILABLE",
    "KAFKA_STORAGE_ERROR",
    "UNKNOWN",
)
FINAL = ("TOPIC_AUTHORIZATION_FAILED", "_AUTHENTICATION", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART", "_BAD_MSG", "_AUTO_OFFSET_RESET")


class Refused:
    """A message that carries an error."""

    def __init__(self, code: str) -> None:
        self._code = code

    def error(self) -> KafkaError:
        return KafkaError(getattr(KafkaError, self._code))

    def topic(self) -> str:
        return "t"


def refuse_once(monkeypatch: pytest.MonkeyPatch, module: ModuleType, code: str) -> None:
    """What ``module`` fetches comes after one error."""
    refused: list[Message] = [Refused(code)]  # type: ignore[list-item]
    fetch_ = changelog.fetch

    def fetch(consumer: Consumer, most: int, timeout_s: float) -> list[Message]:
        return [refused.pop()] if refused else fetch_(consumer, most, timeout_s)

    monkeypatch.setattr(module, "fetch", fetch)


@pytest.fixture
def written(embedded: str) -> str:
    producer = Producer({"bootstrap.servers": embedded})
    producer.produce("t", b"v", b"k", 0)
    assert producer.flush(10) == 0
    return embedded


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_is_logged(code: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not ends_reading(KafkaError(getattr(KafkaError, code)))
    assert f"({code}); it is tried again" in caplog.text


@pytest.mark.parametrize("code", FINAL)
def test_what_does_not_pass_ends_reading(code: str) -> None:
    assert ends_reading(KafkaError(getattr(KafkaError, code)))
    assert ends_reading(KafkaError(KafkaError._TRANSPORT, "gone", fatal=True))


def test_a_changelog_is_read_to_its_end_past_an_error_that_passes(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ChangelogReader({"bootstrap.servers": written}, "task", "t", 0)
    refuse_once(monkeypatch, changelog, "REQUEST_TIMED_OUT")
    assert [pair for pairs, _ in reader.read(0) for pair in pairs] == [(b"k", b"v")]
    refuse_once(monkeypatch, changelog, "TOPIC_AUTHORIZATION_FAILED")
    with pytest.raises(BrokerUnreachable, match="cannot be read"):
        list(reader.read(0))
    reader.close()


def test_a_changelog_that_brings_nothing_but_errors_is_given_up(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ChangelogReader({"bootstrap.servers": written}, "task", "t", 0)
    monkeypatch.setattr(changelog, "fetch", lambda *_: [Refused("_TRANSPORT")])
    monkeypatch.setattr(changelog, "SILENCE_S", 0.1)
    with pytest.raises(BrokerUnreachable, match="neither a record nor the end"):
        list(reader.read(0))
    reader.close()


def test_broadcasts_are_read_past_an_error_that_passes(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, final in (("REQUEST_TIMED_OUT", False), ("TOPIC_AUTHORIZATION_FAILED", True)):
        failures: list[BaseException] = []
        read: list[object] = []
        with monkeypatch.context() as patch:
            refuse_once(patch, broadcast, code)
            reader = BroadcastReader({"bootstrap.servers": written}, "task", [Broadcast("t", read.extend)], {"t": "t"}, failures.append)
            reader.start()
            if final:
                with pytest.raises(BroadcastFailed, match="can no longer be read"):
                    reader.catch_up(10)
            else:
                reader.catch_up(10)
                assert len(read) == 1
            reader.stop()
        assert bool(failures) == final


def test_a_standby_follows_past_an_error_that_passes(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    refuse_once(monkeypatch, standby, "REQUEST_TIMED_OUT")
    data = DataDir(tmp_path / "data")
    settings = Settings(bootstrap_servers=written, app_id="app", data_dir=tmp_path / "data")
    follower = Standby(settings, "task", data, "t", lambda _error: failed.set())
    follower.follow([0])
    try:
        deadline = time.monotonic() + 30
        while follower.positions() != {0: 1}:
            assert not failed.wait(0.05)
            assert time.monotonic() < deadline
    finally:
        follower.stop()
        data.close()
