"""Worker processes to be killed, stopped and watched, and the log that their outputs are judged against."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.runtime.changelog import watermarks
from streams.runtime.marker import RESERVED
from streams.runtime.partitioner import murmur2_partition
from streams.runtime.store import Store
from tests.committed import ends, read_settled
from tests.faults.schedule import SESSION_TIMEOUT_S
from tests.faults.verdict import Verdict

PARTITIONS = 4
USERS = 400
ITEMS = 20
#: Who sends ``hot_share`` of all events.
HOT = "u0"
#: That a broker is away is what the test is about.
_QUIET = {"log_level": 2}
_OPENED = re.compile(r"^(\S+ \S+) .*/(\d+): open, (\d+) changelog records", re.MULTILINE)


class Opening(NamedTuple):
    """A worker has opened ``partition``, for which it read ``restored`` records of the changelog. ``at``: as logged, in order of time."""

    at: str
    partition: int
    restored: int


class Worker:
    """One worker slot: a process of ``module`` with a data dir of its own, started anew after each death."""

    def __init__(
        self, name: str, folder: Path, arguments: list[str], module: str = "tests.benchmarks.our_state_worker", metrics_port: int = 0
    ) -> None:
        self.name = name
        self.data_dir = folder / name
        self.log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0
        # A worker of the command line logs warnings only; its metrics port answers once it reads.
        self._metrics_port = metrics_port

    def start(self, seam: str = "") -> None:
        environment = {**os.environ, "ASSAY_SEAM": seam, "ASSAY_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S), "OMP_NUM_THREADS": "1"}
        if self._metrics_port:
            environment["ASSAY_METRICS_PORT"] = str(self._metrics_port)
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--data-dir", str(self.data_dir)],
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

    @property
    def said(self) -> str:
        """What its present run has logged."""
        with self.log.open("rb") as log:
            log.seek(self._read_from)
            return log.read().decode(errors="replace")

    @property
    def reason(self) -> str:
        """What its present run, which has ended by itself, gives as the kind of its fault; empty where it gives none."""
        last = re.findall(r"^assay: (\w+): (.*)$", self.said, re.MULTILINE)
        kind, message = last[-1] if last else ("", "")
        # Broadcast topics go with their broker; a record of theirs that cannot be applied is a fault of ours.
        return "RecordNotApplied" if kind == "BroadcastFailed" and "could not be applied" in message else kind

    @property
    def ready(self) -> bool:
        if not self._metrics_port:
            return self.alive and "ready: " in self.said
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._metrics_port)) == 0

    @property
    def openings(self) -> list[Opening]:
        """Every opening of a partition by all its runs, oldest first. A worker of the command line does not log them."""
        found = _OPENED.findall(self.log.read_text(errors="replace")) if self.log.exists() else []
        return [Opening(at, int(partition), int(records)) for at, partition, records in found]

    @property
    def restored(self) -> int:
        """How many records all its runs have read from the changelog to open partitions."""
        return sum(opening.restored for opening in self.openings)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM (to a frozen one too); the exit code. 0 too for one that could not be asked yet: before it has said anything, or reads,
        the signal ends it.
        """
        early = not self.said and not self.ready
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        code = self.process.wait(30)
        return 0 if early and code == -signal.SIGTERM else code

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def wipe(self) -> None:
        if self.data_dir.exists():
            shutil.rmtree(self.data_dir)

    def end(self) -> None:
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


def last_words(workers: Sequence[Worker]) -> str:
    """The ends of their logs."""
    return "\n".join(f"--- {worker.name}\n{worker.log.read_text(errors='replace')[-3000:]}" for worker in workers if worker.log.exists())


def given_up(log: Path) -> int:
    """How many transactions a worker, by its log, could not commit because another had its partition, or its time was over."""
    return len(re.findall(r"while (?:committing|sending|beginning)\b", log.read_text(errors="replace")))


class Fleet:
    """Topics, workers, a seeded feed and a reader that reads committed."""

    def __init__(
        self,
        bootstrap: str,
        app_id: str,
        folder: Path,
        workers: int,
        *,
        seed: int = 7,
        hot_share: float = 0.0,
        replicas: int = 1,
        changelog: Mapping[str, str] | None = None,
        standby: bool = False,
    ) -> None:
        """``hot_share`` of all events are of one user. ``changelog``: settings of that topic beside its compaction. ``standby``: each
        worker follows the partitions of the others.
        """
        self.bootstrap, self.app_id = bootstrap, app_id
        self.source, self.sink, self.changelog = f"{app_id}-in", f"{app_id}-out", f"{app_id}-state-changelog"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        compact = {"cleanup.policy": "compact", **(changelog or {})}
        topics = [
            NewTopic(self.source, PARTITIONS, replicas),
            NewTopic(self.sink, PARTITIONS, replicas),
            NewTopic(self.changelog, PARTITIONS, replicas, config=compact),
        ]
        for future in self._admin.create_topics(topics).values():
            future.result(30)
        self.arguments = ["--broker", bootstrap, "--app-id", app_id, "--source", self.source, "--sink", self.sink, *["--standby"] * standby]
        self.workers = [Worker(f"w{i}", folder, self.arguments) for i in range(workers)]
        # Idempotent: a producer that tries again without it may put records into the log in another order, or twice.
        unbounded = {"queue.buffering.max.messages": 1_000_000, "linger.ms": 5, **_QUIET}
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, **unbounded})
        self._random = random.Random(seed)
        self._hot_share = hot_share
        self.sent = 0
        self.max_lag = 0
        # By partition: the number of the newest event whose output was read.
        self.newest = dict.fromkeys(range(PARTITIONS), -1)
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{app_id}-judge",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                **_QUIET,
            }
        )
        self._reader.assign([TopicPartition(self.sink, p, 0) for p in range(PARTITIONS)])
        self.seen: Counter[tuple[str, int]] = Counter()
        # Where somebody is hot: time (ms), partition and number of the newest event of each output.
        self._answers: list[tuple[int, int, int]] = []
        # Of an output's items only the hash is kept: a night's outputs are millions.
        self._items: dict[tuple[str, int], int] = {}
        self.oracle: dict[str, dict[str, object]] = {}

    def recreate_source(self) -> None:
        """Delete the source topic and create it anew."""
        for future in self._admin.delete_topics([self.source]).values():
            future.result(30)
        self.until(lambda: self.source not in self._admin.list_topics(timeout=10).topics, "the topic is gone")
        for future in self._admin.create_topics([NewTopic(self.source, PARTITIONS, 1)]).values():
            future.result(30)

    def feed(self, count: int, *, flush: bool = True) -> None:
        """Send ``count`` events and wait until the broker has them; without ``flush`` they may wait for a broker that is away."""
        for _ in range(count):
            # No draw where nobody is hot, so that a feed is what it was before there were hot users.
            hot = self._hot_share > 0 and self._random.random() < self._hot_share
            user = HOT if hot else f"u{self._random.randrange(USERS)}"
            self._send(user)
        if flush:
            assert self._producer.flush(120) == 0

    def forget(self, count: int) -> None:
        """Send one event of each of ``count`` users, and have them forgotten once it is answered; they never come again."""
        users = [f"gone{number}" for number in range(count)]
        for user in users:
            self._send(user)
        self.until(lambda: self.complete, "those who will be forgotten are known")
        for user in users:
            self._producer.produce(self.source, None, user.encode(), murmur2_partition(user.encode(), PARTITIONS))
        assert self._producer.flush(120) == 0

    def _send(self, user: str) -> None:
        event = {"user_id": user, "sku": f"s{self.sent}"}
        self._producer.produce(self.source, json.dumps(event).encode(), user.encode(), murmur2_partition(user.encode(), PARTITIONS))
        self.sent += 1
        self._producer.poll(0)

    @property
    def lag(self) -> int:
        """Events whose output was not read yet."""
        return self.sent - len(self.seen)

    def read(self, wait_s: float = 0.1) -> None:
        """Take what has been committed to the sink."""
        message = self._reader.poll(wait_s)
        for found in [message, *self._reader.consume(10_000, 0.0)] if message is not None else []:
            if found.error() is None:
                output = json.loads(found.value())
                self._take(output)
                number = int(output["items"][-1][1:])
                if self._hot_share:
                    self._answers.append((found.timestamp()[1], found.partition(), number))
                self.newest[found.partition()] = max(self.newest[found.partition()], number)
        self.max_lag = max(self.max_lag, self.lag)

    def _take(self, output: Mapping[str, Any]) -> None:
        place = (output["user"], output["count"])
        self.seen[place] += 1
        self._items[place] = hash(tuple(output["items"]))

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0, *, feed: int = 0) -> None:
        """Read (and feed) until ``condition`` holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                seen = f"{len(self.seen)} of {self.sent} seen"
                raise AssertionError(f"not within {timeout_s:.0f} s: {what} ({seen})\n{last_words(self.workers)}")
            if feed and self.lag < 20 * feed:
                self.feed(feed)
            self.read()

    @property
    def complete(self) -> bool:
        return len(self.seen) >= self.sent

    def changelogged(self, partitions: Iterable[int]) -> int:
        """How many records the changelogs of ``partitions`` have had: what one who followed none of them must read before compaction."""
        return sum(watermarks(self._reader, self.changelog, partition)[1] for partition in partitions)

    def waiting_behind(self, number: int) -> dict[int, int]:
        """For each partition but the hot user's: how many events of that one, sent before event ``number``, were answered only after this
        partition had answered an event sent after it.
        """
        hot = murmur2_partition(HOT.encode(), PARTITIONS)
        waited = [at for at, partition, event in self._answers if partition == hot and event < number]
        ahead: dict[int, int] = {}
        for partition in {*range(PARTITIONS)} - {hot}:
            first = min((at for at, where, event in self._answers if where == partition and event >= number), default=None)
            ahead[partition] = 0 if first is None else sum(at > first for at in waited)
        return ahead

    def open_outputs(self) -> dict[int, int]:
        """By partition of the sink in which a transaction is open: the offset of the newest output in it."""
        places = [TopicPartition(self.sink, partition) for partition in range(PARTITIONS)]
        settled, written = (ends(self._admin, places, level) for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED))
        return {number: end - 1 for number, (committed, end) in enumerate(zip(settled, written, strict=True)) if committed < end}

    def stop(self, excused: Collection[str] = ()) -> None:
        """SIGTERM to all that live. Raises ``AssertionError`` for one that then ends with a fault whose reason is none of ``excused``."""
        for worker in self.workers:
            if worker.alive:
                code = worker.stop()
                assert code == 0 or worker.reason in excused, f"{worker.name} stopped with {code}: {worker.said[-3000:]}"

    def outputs(self) -> int:
        """Committed outputs there are by now."""
        return sum(1 for _ in read_settled(self.bootstrap, self.sink, PARTITIONS))

    def local_differences(self, worker: Worker) -> int:
        """Users whose state on the disk of ``worker`` is not the oracle's, once it has opened every partition alone; after ``judge``."""
        worker.start()
        self.until(lambda: worker.ready or not worker.alive, f"{worker.name} has opened every partition")
        assert worker.stop() == 0, worker.said[-3000:]
        state: dict[str, dict[str, object]] = {}
        for partition in range(PARTITIONS):
            store = Store(worker.data_dir / "state" / str(partition))
            state |= {key.decode(): json.loads(value) for key, value in store.scan(b"")}
            store.close()
        return _differences(state, self.oracle)

    def judge(self, stop: Callable[[], None] | None = None) -> dict[str, int]:
        """Stop all workers (by ``stop``); what is missing, there twice, out of order, or wrong, against one clean pass over the input log.

        Everything is read anew and to its end, so that a duplicate which came late counts too; state is rebuilt from the changelog.
        """
        (stop or self.stop)()
        log: dict[str, list[str]] = defaultdict(list)
        forgotten: set[str] = set()
        for message in read_settled(self.bootstrap, self.source, PARTITIONS):
            if message.value() is None:
                forgotten.add(message.key().decode())
                continue
            event = json.loads(message.value())
            log[event["user_id"]].append(event["sku"])
        assert sum(map(len, log.values())) == self.sent, "the log holds what was fed, once"
        self.seen.clear()
        reordered = 0
        newest: dict[str, int] = defaultdict(int)
        for message in read_settled(self.bootstrap, self.sink, PARTITIONS):
            output = json.loads(message.value())
            self._take(output)
            reordered += output["count"] < newest[output["user"]]
            newest[output["user"]] = max(newest[output["user"]], output["count"])
        expected = {(user, i + 1): hash(tuple(skus[max(0, i + 1 - ITEMS) : i + 1])) for user, skus in log.items() for i in range(len(skus))}
        state = {}
        for key, value in self._compacted().items():
            if not key.startswith(RESERVED):
                state[key.decode()] = json.loads(value)
        self.oracle = {user: {"count": len(skus), "items": skus[-ITEMS:]} for user, skus in log.items() if user not in forgotten}
        differences = _differences(state, self.oracle)
        return {
            "inputs": self.sent,
            "missing": len(expected.keys() - self.seen.keys()),
            "duplicated": sum(count - 1 for count in self.seen.values()),
            "reordered": reordered,
            "strange": len(self.seen.keys() - expected.keys()),
            "wrong": sum(self._items[place] != items for place, items in expected.items() if place in self._items),
            "state_differences": differences,
        }

    def verdict(self, name: str, stop: Callable[[], None] | None = None) -> Verdict:
        """What ``judge`` says, as a line."""
        found = self.judge(stop)
        counts = found["missing"], found["duplicated"], found["reordered"], 0, found["wrong"] + found["strange"], found["state_differences"]
        return Verdict(name, found["inputs"], *counts, self.max_lag)

    def _compacted(self) -> dict[bytes, bytes]:
        live: dict[bytes, bytes] = {}
        for message in self.changelog_records():
            if message.value() is None:
                live.pop(message.key(), None)
            elif not message.key().startswith(RESERVED):
                live[message.key()] = message.value()
        return live

    def changelog_records(self) -> Iterator[Message]:
        """What the changelog holds at present, committed."""
        reader = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "judge", "isolation.level": "read_committed", "enable.partition.eof": True}
        )
        reader.assign([TopicPartition(self.changelog, p, 0) for p in range(PARTITIONS)])
        ended: set[int] = set()
        while len(ended) < PARTITIONS:
            for message in reader.consume(10_000, 0.5):
                error = message.error()
                if error is None:
                    yield message
                else:
                    assert error.code() == KafkaError._PARTITION_EOF
                    ended.add(message.partition())
        reader.close()

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self._reader.close()


def _differences(state: Mapping[str, object], oracle: Mapping[str, object]) -> int:
    return sum(state.get(user) != oracle.get(user) for user in state.keys() | oracle.keys())
