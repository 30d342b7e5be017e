"""Worker processes to be killed, stopped and watched, and the log that their outputs are judged against."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.runtime.marker import RESERVED
from streams.runtime.partitioner import murmur2_partition
from tests.committed import read_settled

PARTITIONS = 4
USERS = 400
ITEMS = 20


class Worker:
    """One worker slot: a process with a data dir of its own, started anew after each death."""

    def __init__(self, name: str, folder: Path, arguments: list[str]) -> None:
        self.name = name
        self.data_dir = folder / name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seam: str = "") -> None:
        environment = {**os.environ, "ASSAY_SEAM": seam, "ASSAY_SESSION_TIMEOUT_S": "6", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.our_state_worker", *self._arguments, "--data-dir", str(self.data_dir)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wipe(self) -> None:
        shutil.rmtree(self.data_dir)

    def end(self) -> None:
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class Fleet:
    """Topics, workers, a seeded feed and a reader that reads committed."""

    def __init__(self, bootstrap: str, app_id: str, folder: Path, workers: int) -> None:
        self.bootstrap, self.app_id = bootstrap, app_id
        self.source, self.sink, self.changelog = f"{app_id}-in", f"{app_id}-out", f"{app_id}-state-changelog"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        compact = {"cleanup.policy": "compact"}
        topics = [
            NewTopic(self.source, PARTITIONS, 1),
            NewTopic(self.sink, PARTITIONS, 1),
            NewTopic(self.changelog, PARTITIONS, 1, config=compact),
        ]
        for future in self._admin.create_topics(topics).values():
            future.result(30)
        arguments = ["--broker", bootstrap, "--app-id", app_id, "--source", self.source, "--sink", self.sink]
        self.workers = [Worker(f"w{i}", folder, arguments) for i in range(workers)]
        # Idempotent: a producer that tries again without it may put records into the log in another order, or twice.
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True})
        self._random = random.Random(7)
        self.sent = 0
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{app_id}-judge",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        self._reader.assign([TopicPartition(self.sink, p, 0) for p in range(PARTITIONS)])
        self.seen: Counter[tuple[str, int]] = Counter()
        self.items: dict[tuple[str, int], list[str]] = {}

    def recreate_source(self) -> None:
        """Delete the source topic and create it anew."""
        for future in self._admin.delete_topics([self.source]).values():
            future.result(30)
        self.until(lambda: self.source not in self._admin.list_topics(timeout=10).topics, "the topic is gone")
        for future in self._admin.create_topics([NewTopic(self.source, PARTITIONS, 1)]).values():
            future.result(30)

    def feed(self, count: int) -> None:
        """Send ``count`` events and wait until the broker has them."""
        for _ in range(count):
            user = f"u{self._random.randrange(USERS)}"
            event = {"user_id": user, "sku": f"s{self.sent}"}
            self._producer.produce(self.source, json.dumps(event).encode(), user.encode(), murmur2_partition(user.encode(), PARTITIONS))
            self.sent += 1
        assert self._producer.flush(60) == 0

    def read(self, wait_s: float = 0.1) -> None:
        """Take what has been committed to the sink."""
        message = self._reader.poll(wait_s)
        for found in [message, *self._reader.consume(10_000, 0.0)] if message is not None else []:
            if found.error() is None:
                output = json.loads(found.value())
                place = (output["user"], output["count"])
                self.seen[place] += 1
                self.items[place] = output["items"]

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0, *, feed: int = 0) -> None:
        """Read (and feed) until ``condition`` holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {w.name}\n{w.log.read_text()[-3000:]}" for w in self.workers if w.log.exists())
                raise AssertionError(f"not within {timeout_s:.0f} s: {what} ({len(self.seen)} of {self.sent} seen)\n{logs}")
            if feed and self.sent - len(self.seen) < 20 * feed:
                self.feed(feed)
            self.read()

    @property
    def complete(self) -> bool:
        return len(self.seen) >= self.sent

    def judge(self) -> dict[str, int]:
        """Stop all workers; what is missing, there twice, out of order, or wrong, against one clean pass over the input log.

        Everything is read anew and to its end, so that a duplicate which came late counts too; state is rebuilt from the changelog.
        """
        for worker in self.workers:
            if worker.alive:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGTERM)
                worker.process.wait(30)
        log: dict[str, list[str]] = defaultdict(list)
        for message in read_settled(self.bootstrap, self.source, PARTITIONS):
            event = json.loads(message.value())
            log[event["user_id"]].append(event["sku"])
        assert sum(map(len, log.values())) == self.sent, "the log holds what was fed, once"
        self.seen.clear()
        reordered = 0
        newest: dict[str, int] = defaultdict(int)
        for message in read_settled(self.bootstrap, self.sink, PARTITIONS):
            output = json.loads(message.value())
            self.seen[output["user"], output["count"]] += 1
            self.items[output["user"], output["count"]] = output["items"]
            reordered += output["count"] < newest[output["user"]]
            newest[output["user"]] = max(newest[output["user"]], output["count"])
        expected = {(user, i + 1): skus[max(0, i + 1 - ITEMS) : i + 1] for user, skus in log.items() for i in range(len(skus))}
        state = {}
        for key, value in self._compacted(self.changelog).items():
            if not key.startswith(RESERVED):
                state[key.decode()] = json.loads(value)
        oracle = {user: {"count": len(skus), "items": skus[-ITEMS:]} for user, skus in log.items()}
        differences = sum(state.get(user) != oracle.get(user) for user in state.keys() | oracle.keys())
        return {
            "inputs": self.sent,
            "missing": len(expected.keys() - self.seen.keys()),
            "duplicated": sum(count - 1 for count in self.seen.values()),
            "reordered": reordered,
            "strange": len(self.seen.keys() - expected.keys()),
            "wrong": sum(self.items[place] != skus for place, skus in expected.items() if place in self.items),
            "state_differences": differences,
        }

    def _compacted(self, topic: str) -> dict[bytes, bytes]:
        reader = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "judge", "isolation.level": "read_committed", "enable.partition.eof": True}
        )
        reader.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        live: dict[bytes, bytes] = {}
        ended: set[int] = set()
        while len(ended) < PARTITIONS:
            for message in reader.consume(10_000, 0.5):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF
                    ended.add(message.partition())
                elif message.value() is None:
                    live.pop(message.key(), None)
                elif not message.key().startswith(RESERVED):
                    live[message.key()] = message.value()
        reader.close()
        return live

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self._reader.close()


CLEAN = {"missing": 0, "duplicated": 0, "reordered": 0, "strange": 0, "wrong": 0, "state_differences": 0}
