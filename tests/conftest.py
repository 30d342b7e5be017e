"""Fixtures that every test may use: brokers, topic names of one's own, and the public data sets."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from streams.broker import EmbeddedBroker, KafkaUnavailable, RealKafka

REPOSITORY = Path(__file__).resolve().parent.parent

# Machines are shared: how long an example takes, or is drawn for, says nothing of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def make_kafka(folder: Path, **options: Any) -> RealKafka:
    """A Kafka of the caller's own, not yet started. Where there can be none the test is skipped, but in CI it fails."""
    try:
        return RealKafka(folder, **options)
    except KafkaUnavailable as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must test on a real Kafka: {missing}")
        pytest.skip(str(missing))


#: Begun first, so that no process is left with one of them when the others are done: minutes each.
_LONGEST = ("test_value_kills.py", "test_swaps.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """One Apache Kafka for the whole session. Tests that stop or pause a broker start their own instead."""
    with make_kafka(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka(real_kafka: RealKafka) -> str:
    """The bootstrap servers of the session's Apache Kafka. Each test names its topics by ``topic_prefix``."""
    return real_kafka.bootstrap_servers


@pytest.fixture
def embedded() -> Iterator[str]:
    """The bootstrap servers of an embedded broker of the test's own."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has; also fit for ``app_id`` once its dot is cut off."""
    return f"t{uuid.uuid4().hex[:10]}."


@dataclass(frozen=True)
class DataSets:
    """Where the public data sets are. A property skips the test where its file is absent."""

    folder: Path

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            pytest.skip(f"{path} is absent; set ASSAY_DATA to the folder of the public data sets (README says where to download them)")
        return path

    @property
    def online_retail(self) -> Path:
        return self._file("online_retail/online_retail.csv.gz")

    @property
    def diginetica(self) -> Path:
        """The folder with ``train_sessions.txt.gz`` and ``test.tsv.gz``."""
        self._file("diginetica/train_sessions.txt.gz")
        return self.folder / "diginetica"

    @property
    def rees46(self) -> Path:
        return self._file("rees46_sample/2019-Oct_first_17k.csv.gz")


@pytest.fixture(scope="session")
def datasets() -> DataSets:
    """The public data sets, from ``ASSAY_DATA`` or ``../shared/data`` beside the checkout."""
    return DataSets(Path(os.environ.get("ASSAY_DATA", REPOSITORY.parent / "shared" / "data")))
