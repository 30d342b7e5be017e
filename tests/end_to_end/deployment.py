"""One deployment of Assay under test: topics of its own on a real Kafka, worker processes, and eyes on the topics."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from confluent_kafka import Message, Producer

from schemas.topics import CATALOG, EMBEDDINGS, OUTCOMES
from streams.reading import TopicReader
from streams.runtime.names import changelog_topic
from streams.runtime.supervisor import final
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.committed import read_settled


class WorkerProcess:
    """``assay worker`` as a process that can be killed, wiped and started again."""

    def __init__(self, settings: Settings, roles: str, folder: Path, name: str, session_timeout_s: int) -> None:
        self.data_dir = folder / name
        self._log = folder / f"{name}.log"
        self._command = [
            sys.executable, "-m", "streams.cli", "worker", "--roles", roles, "--bootstrap-servers", settings.bootstrap_servers,
            "--topic-prefix", settings.topic_prefix, "--app-id", settings.app_id, "--data-dir", str(self.data_dir),
            "--session-timeout-s", str(session_timeout_s),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start (again)."""
        environment = dict(os.environ, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(self._command, stdout=sink, stderr=subprocess.STDOUT, env=environment)

    def kill(self, *, wipe: bool = False) -> None:
        """kill -9, and lose the disk too if ``wipe``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if wipe:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(30)

    def check_alive(self) -> None:
        """Fail with the end of the log if the process has ended by itself."""
        if self._process is not None and self._process.poll() not in (None, -signal.SIGKILL):
            raise AssertionError(f"worker ended with {self._process.returncode}:\n{self._log.read_text(errors='replace')[-4000:]}")

    def supervise(self) -> None:
        """Start it again if it ended by itself, by the product's rule; that it must stay down is a failure."""
        code = None if self._process is None else self._process.poll()
        if code is not None and not final(code):
            self.start()
        self.check_alive()


class Deployment:
    """Topics under a prefix; producers and readers for them."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap, topic_prefix=prefix, app_id=prefix.rstrip("."), data_dir=folder / "unused")
        self.folder = folder
        TopicAdmin(self.settings).create()

    def worker(self, roles: str, name: str, session_timeout_s: int = 6) -> WorkerProcess:
        """A worker process, not yet started."""
        return WorkerProcess(self.settings, roles, self.folder, name, session_timeout_s)

    def produce(self, table: str, records: Iterable[tuple[bytes | None, bytes | None]], *, compression: str = "none") -> None:
        """Send records and wait until all are acknowledged."""
        failed: list[object] = []
        producer = Producer(
            {
                "bootstrap.servers": self.settings.bootstrap_servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.max.bytes": 8_000_000,
                "compression.type": compression,
                "linger.ms": 5,
            }
        )
        for key, value in records:
            producer.produce(self.settings.topic(table), value, key, on_delivery=lambda error, _: failed.append(error) if error else None)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not failed

    def read(self, table: str) -> list[Message]:
        """All committed records of a topic, to its present end."""
        return list(self._read_settled(self.settings.topic(table)))

    def _read_settled(self, topic: str) -> Iterator[Message]:
        return read_settled(self.settings.bootstrap_servers, topic, self.settings.partitions)

    def state(self, task: str, prefix: bytes) -> dict[tuple[int, bytes], bytes]:
        """The live records of a task's changelog whose key starts with ``prefix``, by (partition, key)."""
        live: dict[tuple[int, bytes], bytes] = {}
        for message in self._read_settled(changelog_topic(self.settings, task)):
            place = (message.partition(), message.key())
            if message.key().startswith(prefix):
                live[place] = message.value()
        return {place: value for place, value in live.items() if value is not None}

    def await_records(
        self,
        table: str,
        enough: Callable[[int], bool],
        workers: Sequence[WorkerProcess] = (),
        *,
        marked: bytes = b"",
        key: bytes | None = None,
        deadline_s: float = 180.0,
    ) -> int:
        """Read ``table`` until ``enough(number of committed records that contain marked)``, under ``key`` if given; that number."""
        count, deadline = 0, time.monotonic() + deadline_s
        with TopicReader(self.settings, [self.settings.topic(table)]) as reader:
            while not enough(count):
                values = [message.value() for message in reader.poll(0.2) if key is None or message.key() == key]
                count += sum(1 for value in values if value is not None and marked in value)
                for worker in workers:
                    worker.check_alive()
                if time.monotonic() > deadline:
                    raise AssertionError(f"{table} holds {count} such records after {deadline_s:.0f} s")
        return count

    def await_after(self, table: str, ends: Mapping[int, int], workers: Sequence[WorkerProcess], *, deadline_s: float = 180.0) -> None:
        """Read ``table`` until a partition holds a committed record behind the offset that ``ends`` has for it.

        Of a compacted topic a number of records says nothing: it shrinks.
        """
        deadline = time.monotonic() + deadline_s
        with TopicReader(self.settings, [self.settings.topic(table)]) as reader:
            while not any(message.offset() > ends.get(message.partition(), -1) for message in reader.poll(0.2)):
                for worker in workers:
                    worker.supervise()
                if time.monotonic() > deadline:
                    raise AssertionError(f"{table} holds nothing behind {dict(ends)} after {deadline_s:.0f} s")

    def await_outcomes(self, number: int, workers: Sequence[WorkerProcess] = (), *, deadline_s: float = 180.0) -> int:
        """Wait until at least ``number`` events have their outcome."""
        return self.await_records(OUTCOMES.name, lambda n: n >= number, workers, marked=b'"kind":"outcome"', deadline_s=deadline_s)

    def publish_catalogue(self, products: Sequence[tuple[bytes, bytes]]) -> None:
        """Send products; with an embed worker running, wait for ``embedded`` afterwards."""
        self.produce(CATALOG.name, products)

    def embedded(self, number: int, workers: Sequence[WorkerProcess] = ()) -> None:
        """Wait until ``number`` vectors are there."""
        self.await_records(EMBEDDINGS.name, lambda n: n >= number, workers)
