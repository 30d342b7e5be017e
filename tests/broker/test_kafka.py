"""Apache Kafka as a process: start, stop, kill, pause, and what is said when it cannot run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import BrokerStartError, JavaMissing, MavenMissing, RealKafka
from tests.conftest import make_kafka

pytestmark = pytest.mark.kafka


_OWNER = """
import sys
from pathlib import Path
from streams.broker import RealKafka
print(*RealKafka(Path(sys.argv[1])).start().pids, flush=True)
input()
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealKafka]:
    with make_kafka(tmp_path / "kafka") as cluster:
        yield cluster


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
    return condition()


def write(servers: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    producer.produce("words", value=value, partition=0)
    assert producer.flush(20) == 0


def read(servers: str) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition("words", 0, 0)])
    found: list[bytes | None] = []
    while (message := consumer.poll(20)) is not None and message.error() is None:
        found.append(message.value())
    consumer.close()
    return found


def create(servers: str, replicas: int) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    for future in client.create_topics([NewTopic("words", 1, replicas)]).values():
        future.result(20)


def test_should_keep_data_and_port_through_stop_and_kill(broker: RealKafka):
    servers = broker.bootstrap_servers
    create(servers, 1)
    write(servers, "before")
    broker.stop()
    assert broker.pids == [None]
    broker.start()
    write(servers, "between")
    broker.kill()
    broker.start()
    write(servers, "after")
    assert broker.bootstrap_servers == servers
    assert read(servers) == [b"before", b"between", b"after"]


def test_should_answer_nobody_while_paused(broker: RealKafka):
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    broker.pause()
    with pytest.raises(KafkaException):
        client.list_topics(timeout=1)
    broker.resume()
    assert client.list_topics(timeout=20).brokers


def test_should_stop_even_when_paused(broker: RealKafka):
    (pid,) = broker.pids
    broker.pause()
    broker.stop()
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_should_hold_three_copies_and_outlive_one_of_them(tmp_path: Path, real_kafka: RealKafka):
    with RealKafka(tmp_path / "three", brokers=3, heap_mb=256) as cluster:
        create(cluster.bootstrap_servers, 3)
        write(cluster.bootstrap_servers, "before")
        cluster.kill(0)
        assert [pid is None for pid in cluster.pids] == [True, False, False]
        write(cluster.bootstrap_servers, "after")
        assert read(cluster.bootstrap_servers) == [b"before", b"after"]


def test_should_go_down_with_a_process_that_is_killed(tmp_path: Path, real_kafka: RealKafka):
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid = int(owner.stdout.readline())
    assert psutil.pid_exists(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    owner.stdin.close()
    assert within(10, lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_should_show_the_end_of_the_log_when_it_does_not_come_up(tmp_path: Path, real_kafka: RealKafka):
    with pytest.raises(BrokerStartError, match=r"could not format|exit code"):
        RealKafka(tmp_path, config={"log.segment.bytes": "many"}).start()


def test_should_say_which_program_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(JavaMissing, match="Java 17"):
        RealKafka(tmp_path / "data")
    (tmp_path / "java").write_text("#!/bin/sh\n")
    (tmp_path / "java").chmod(0o755)
    with pytest.raises(MavenMissing, match="apt-get install maven"):
        RealKafka(tmp_path / "data")
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(MavenMissing, match="KAFKA_HOME"):
        RealKafka(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_should_only_form_a_quorum(tmp_path: Path):
    with pytest.raises(ValueError, match="1 or 3"):
        RealKafka(tmp_path, brokers=2)


def test_a_port_on_which_another_kafka_answers_is_not_taken_for_ones_own(broker: RealKafka, tmp_path: Path) -> None:
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    second = RealKafka(tmp_path / "second", port=port)
    with pytest.raises(BrokerStartError, match="another Kafka listens"):
        second.start()
    assert second.pids == [None]
