"""The full job under measurement: topics of its own, a catalogue with vectors, and the commands of its workers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from schemas.topics import CATALOG, EMBEDDINGS
from streams.settings import Settings
from streams.topics import TopicAdmin, plan
from tests.benchmarks.measure import count_committed, delete_topics, preload, python_module, worker


class Shop:
    """A catalogue with vectors on a Kafka, and workers to order. Logs and data dirs are in ``folder``."""

    def __init__(self, bootstrap: str, folder: Path, products: Sequence[tuple[bytes, bytes]]) -> None:
        self.name = f"shop{uuid.uuid4().hex[:6]}"
        self.settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{self.name}.", app_id=self.name)
        self._folder = folder
        self.flags = ["--bootstrap-servers", bootstrap, "--topic-prefix", self.settings.topic_prefix, "--app-id", self.name]
        TopicAdmin(self.settings).create()
        preload(bootstrap, self.settings.topic(CATALOG.name), products)
        with worker(self.command("embed"), self.log("embed")):
            count_committed(bootstrap, self.settings.topic(EMBEDDINGS.name), at_least=len(products))

    def command(self, roles: str, which: str = "") -> list[str]:
        """The command of a worker; ``which`` tells several of the same roles apart."""
        return python_module("streams.cli", "worker", "--roles", roles, *self.flags, "--data-dir", str(self.data(roles + which)))

    def data(self, which: str) -> Path:
        """The data dir of a worker."""
        return self._folder / f"{self.name}-{which}"

    def log(self, which: str) -> Path:
        """Where a worker's output goes."""
        return self._folder / f"{self.name}-{which}.log"

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.settings.topic(name)

    def close(self) -> None:
        """Delete the topics."""
        delete_topics(self.settings.bootstrap_servers, [topic.name for topic in plan(self.settings)])
