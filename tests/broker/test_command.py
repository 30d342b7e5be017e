"""``assay broker`` as a process, and ``assay schemas``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from schemas.topics import TOPICS
from streams.broker import RealKafka
from streams.broker.node import free_port
from streams.cli import main


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    command = [sys.executable, "-c", "from streams.cli import main; main()", "broker", "--json", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def topics(servers: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=20).topics)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_should_hold_the_embedded_broker_with_its_topics_until_told_to_stop(number: signal.Signals):
    process, said = start("--embedded")
    assert said["kind"] == "embedded"
    assert topics(said["bootstrap_servers"]) == {topic.name for topic in TOPICS}
    assert end(process, number) == 0


@pytest.mark.kafka
def test_should_hold_a_real_kafka_on_the_port_asked_for_and_keep_its_data(tmp_path: Path, real_kafka: RealKafka):
    port = str(free_port())
    process, said = start("--kafka", "--port", port, "--data-dir", str(tmp_path))
    assert said["bootstrap_servers"] == f"127.0.0.1:{port}"
    created = CliRunner().invoke(main, ["topics", "create", "--bootstrap-servers", said["bootstrap_servers"]])
    assert created.exit_code == 0, created.output
    assert end(process, signal.SIGTERM) == 0
    process, said = start("--kafka", "--port", port, "--data-dir", str(tmp_path))
    assert {topic.name for topic in TOPICS} <= topics(said["bootstrap_servers"])
    assert end(process, signal.SIGINT) == 0


@pytest.mark.parametrize("flags", [["--port", "9092"], ["--data-dir", "here"], ["--brokers", "3"]])
def test_should_refuse_flags_that_the_embedded_broker_cannot_honour(flags: list[str]):
    refused = CliRunner().invoke(main, ["broker", "--embedded", *flags])
    assert refused.exit_code == 2
    assert "--kafka" in refused.output


def test_should_say_what_to_install_when_java_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    refused = CliRunner().invoke(main, ["broker", "--kafka"])
    assert refused.exit_code == 2
    assert "apt-get install openjdk" in refused.output


def test_should_export_the_contracts_and_list_the_files(tmp_path: Path):
    done = CliRunner().invoke(main, ["schemas", "export", str(tmp_path / "out"), "--partitions", "9", "--topic-prefix", "shop."])
    assert done.exit_code == 0, done.output
    assert set(done.output.split()) == {str(path) for path in (tmp_path / "out").iterdir()}
    channel = json.loads((tmp_path / "out" / "asyncapi.json").read_text())["channels"]["recommendations"]
    assert (channel["address"], channel["bindings"]["kafka"]["partitions"]) == ("shop.recommendations", 9)


def test_should_say_where_the_contracts_could_not_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(main, ["schemas", "export", str(tmp_path / "file" / "out")])
    assert refused.exit_code == 1
    assert "could not write" in refused.output
