"""How much work a worker gets done while a fault hits it every ten seconds, as a share of its rate undisturbed in the same run.

One worker works off a backlog of the state-only job, first undisturbed, then another one, which would last as long as the
measurement, under a supervisor that starts it again at once over the same data dir: so the share says what a restart costs the runtime.
`assay worker --supervise` is another one: it pauses longer before each restart while runs stay short, which is right for a worker that
crashes and not what is measured here, and after a clean stop starts nothing. Faults come by a seeded schedule: ``kill -9``, a
clean stop (SIGTERM), or a stall (SIGSTOP for three seconds). A second row has two workers, one of which is hit each time: what the
group as a whole gets done. The outputs are then held against the input log: exactly once under faults is what the share is worth
anything for.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zlib import crc32

import orjson
from confluent_kafka import Consumer

from tests.benchmarks.failover import flags
from tests.benchmarks.measure import PARTITIONS, broker, create_topics, delete_topics, end_offsets, preload
from tests.benchmarks.pipeline import EXACTLY_ONCE, Bench, state_records
from tests.benchmarks.report import Report, medians
from tests.committed import read_settled

#: How long the faults last.
SECONDS = 60.0
EVERY_S = 10.0
_STALL_S = 3.0
#: What is worked off undisturbed first.
_CALM_EVENTS = 1_000_000
#: More backlog than the undisturbed rate says, so that it outlasts the measurement.
_MARGIN = 1.4
_PATIENCE_S = 300.0
_FAULTS = ("kill -9", "clean stop", "stall")
#: The judge reads the content of the outputs of one user in so many.
_LOOKED_INTO = 8
SEED = 20_260


class Supervised:
    """A worker that is started again whenever it ends, until ``close``."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log
        self._stopping = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as sink:
            return subprocess.Popen(self._command, stdout=sink, stderr=subprocess.STDOUT)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._process.wait()
            if not self._stopping.is_set():
                self._process = self._start()

    def suffer(self, fault: str) -> None:
        """Do ``fault`` to the process as it is now; a stall ends by itself."""
        process = self._process
        if fault == "stall":
            process.send_signal(signal.SIGSTOP)
            threading.Timer(_STALL_S, process.send_signal, (signal.SIGCONT,)).start()
        else:
            process.send_signal(signal.SIGKILL if fault == "kill -9" else signal.SIGTERM)

    def close(self) -> None:
        """End it for good, in good order."""
        self._stopping.set()
        process = self._process
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._thread.join(5)


def measure(bench: Bench, workers: int, seconds: float, seed: int) -> dict[str, object]:
    """One run: a backlog worked off undisturbed, then one that would last ``seconds`` at that rate, disturbed."""
    name = f"int{uuid.uuid4().hex[:6]}"
    source, sink, changelog = f"{name}-in", f"{name}-out", f"{name}-state-changelog"
    create_topics(bench.bootstrap, [source, sink], compacted=[changelog])
    observer = Consumer({"bootstrap.servers": bench.bootstrap, "group.id": f"{name}-watch"})
    struck: list[str] = []
    first = int(_CALM_EVENTS * min(1.0, seconds / SECONDS))
    preload(bench.bootstrap, source, state_records(first))
    with _crew(bench, name, workers):
        undisturbed = _rate(observer, sink, first // 5, first)
    backlog = int(undisturbed * seconds * _MARGIN)
    preload(bench.bootstrap, source, state_records(backlog, seed))
    chance = random.Random(seed)
    with _crew(bench, name, workers) as crew:
        began = end_offsets(observer, sink)
        while end_offsets(observer, sink) == began:
            time.sleep(0.05)
        before, started, begun_ms = end_offsets(observer, sink), time.perf_counter(), time.time() * 1000
        while (left := started + seconds - time.perf_counter()) > 0:
            fault, victim = chance.choice(_FAULTS), chance.randrange(workers)
            crew[victim].suffer(fault)
            struck.append(fault)
            time.sleep(min(EVERY_S, left))
        done, took, ended_ms = end_offsets(observer, sink) - before, time.perf_counter() - started, time.time() * 1000
    observer.close()
    if done >= 0.97 * backlog:
        raise RuntimeError(f"the backlog of {backlog} events ended before the measurement did")
    # Offsets count what was aborted as well; only what was committed is work.
    wrong, committed = _judge(bench.bootstrap, source, sink, begun_ms, ended_ms)
    disturbed = committed / took
    delete_topics(bench.bootstrap, [source, sink, changelog])
    return {
        "system": "assay", "job": f"state-only, {workers} worker{'s' * (workers > 1)}", "guarantee": EXACTLY_ONCE, "unit": "events/s",
        "faults": len(struck), "undisturbed": round(undisturbed), "disturbed": round(disturbed),
        "share": round(disturbed / undisturbed, 3), "wrong_outputs": wrong,
    }  # fmt: skip


@contextmanager
def _crew(bench: Bench, name: str, workers: int) -> Iterator[list[Supervised]]:
    with ExitStack() as stack:
        crew = []
        for which in range(workers):
            command = bench.state_command("assay", EXACTLY_ONCE, name, f"{name}-in", f"{name}-out", str(which))
            crew.append(Supervised([*command, *flags("assay", standby=workers > 1)], bench.folder / f"{name}-{which}.log"))
            stack.callback(crew[-1].close)
        yield crew


def _rate(observer: Consumer, topic: str, start: int, end: int) -> float:
    """Records/s at which ``topic`` fills from ``start`` to ``end`` records."""
    began: tuple[float, int] | None = None
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        now, held = time.perf_counter(), end_offsets(observer, topic)
        if began is None and held >= start:
            began = now, held
        if held >= end and began is not None:
            return (held - began[1]) / max(1e-3, now - began[0])
        time.sleep(0.02)
    raise TimeoutError(f"{topic} was not filled within {_PATIENCE_S:.0f} s")


def _judge(bootstrap: str, source: str, sink: str, begun_ms: float, ended_ms: float) -> tuple[int, int]:
    """(outputs that are not what the input log says; committed outputs made in between).

    The n-th output of a partition must be of the user of its n-th event, for every event, so that one lost, doubled or out of order
    shows, whatever the state says. Of one user in ``_LOOKED_INTO`` the content is read as well: the n-th output counts n and ends with
    the n-th item. To parse millions of records takes longer than the measurement.
    """
    users: dict[bytes, bytes] = {}  # One object a user, not one an event.
    asked: dict[int, list[bytes]] = defaultdict(list)
    skus: dict[bytes, list[str]] = defaultdict(list)
    for message in read_settled(bootstrap, source, PARTITIONS):
        key = message.key() or b""
        user = users.setdefault(key, key)
        asked[message.partition()].append(user)
        if crc32(user) % _LOOKED_INTO == 0:
            skus[user].append(orjson.loads(message.value() or b"")["sku"])
    places, counts = [0] * PARTITIONS, dict.fromkeys(skus, 0)
    wrong = committed = 0
    for message in read_settled(bootstrap, sink, PARTITIONS):
        user, place = message.key() or b"", places[message.partition()]
        events = asked[message.partition()]
        right = place < len(events) and events[place] == user
        places[message.partition()] += 1
        if right and user in counts:
            output = orjson.loads(message.value() or b"")
            right = output["count"] == counts[user] + 1 and output["items"][-1] == skus[user][counts[user]]
            counts[user] += 1
        wrong += not right
        committed += begun_ms <= message.timestamp()[1] <= ended_ms
    return wrong, committed


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """One and two workers, interleaved; medians of ``repetitions``, each with a schedule of its own. ``events``: milliseconds for which
    faults come (default 60,000)."""
    seconds = events / 1000 if events else SECONDS
    rows: list[dict[str, object]] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        bench = Bench(bootstrap, folder)
        for repetition in range(repetitions):
            rows += [measure(bench, workers, seconds, SEED + repetition) for workers in (1, 2)]
    if any(row["wrong_outputs"] for row in rows):
        raise RuntimeError(f"faults changed outputs: {rows}")
    remark = (
        f"a fault every {EVERY_S:.0f} s ({', '.join(_FAULTS)}), seeds {SEED}.., for {seconds:.0f} s; "
        "restarted at once, where assay worker --supervise would pause for longer and longer, and leave a stopped worker down"
    )
    return Report("interrupted", medians(rows, ("system", "job")), [remark])
