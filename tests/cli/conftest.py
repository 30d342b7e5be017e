from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from schemas.topics import TOPICS
from streams.broker import EmbeddedBroker
from streams.cli import main
from streams.replay.rees46 import HEADER
from streams.runtime.partitioner import murmur2_partition

PARTITIONS = 4


@pytest.fixture
def assay(tmp_path, monkeypatch) -> Callable[..., Result]:
    """Run the command in an empty folder, with no setting in the environment."""
    import os

    for name in list(os.environ):
        if name.startswith("ASSAY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: str, **options: Any) -> Result:
        return runner.invoke(main, list(arguments), catch_exceptions=False, **options)

    return run


@pytest.fixture
def rees46(tmp_path) -> Callable[[Iterable[tuple[str, str, int, int]]], list[str]]:
    """Write a log in REES46's form of (time, kind, product, visit), and say by which arguments a command reads it."""

    def write(rows: Iterable[tuple[str, str, int, int]]) -> list[str]:
        lines = [",".join(HEADER)]
        for at, kind, product, visit in rows:
            lines.append(
                f"{at} UTC,{kind},{product},{product % 3},aisle{product % 3}.shelf,brand,9.50,{visit % 90},"
                f"00000000-0000-0000-0000-{visit:012d}"
            )
        path = tmp_path / "events.csv"
        path.write_text("\n".join(lines) + "\n")
        return ["rees46", "--path", str(path), "--no-text"]

    return write


@pytest.fixture(scope="module")
def broker():
    """An embedded broker with every topic of the table."""
    with EmbeddedBroker(topic.name for topic in TOPICS) as running:
        yield running.bootstrap_servers


@pytest.fixture
def send() -> Callable[..., None]:
    """Produce (key, value) pairs to a topic, each where murmur2 puts its key."""

    def produce(servers: str, topic: str, pairs: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        failures: list[str] = []
        producer = Producer({"bootstrap.servers": servers, "on_delivery": lambda error, _: failures.append(str(error)) if error else None})
        for key, value in pairs:
            producer.produce(topic, value, key, murmur2_partition(key, PARTITIONS) if key else 0)
        assert producer.flush(20) == 0
        assert failures == []

    return produce
