"""From the end of a worker to its partitions putting out again: killed cold, killed beside a standby, and stopped in good order.

Two workers of the state-only job share four partitions, each of which holds its part of ``STATE_KEYS`` keys; a steady feed reaches all
of them. One worker ends; ``failover_s`` is the time from then until **every** partition has put out (committed) an answer to an event
sent afterwards. Each repetition starts afresh: new topics, new folders. Beside ours, the same on Kafka Streams ``exactly_once_v2``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.benchmarks.measure import broker, create_topics, delete_topics, preload
from tests.benchmarks.pipeline import EXACTLY_ONCE, Bench
from tests.benchmarks.report import Report, medians
from tests.benchmarks.steady import SteadyFeed, event, state_events

STATE_KEYS = 200_000
SESSION_TIMEOUT_S = 10.0
RATE = 400.0
#: How long all is well before the fault: standbys catch up, code compiles.
_CALM_S = 5.0
_PATIENCE_S = 120.0
#: What ends a worker, by the name of the row: the signal, and whether the other one keeps a standby.
ENDINGS = {
    "kill -9, cold": (signal.SIGKILL, False),
    "kill -9, standby": (signal.SIGKILL, True),
    "clean stop, cold": (signal.SIGTERM, False),
    "clean stop, standby": (signal.SIGTERM, True),
}


def flags(system: str, *, standby: bool, session_timeout_s: float = SESSION_TIMEOUT_S) -> list[str]:
    """What to add to a worker's command, so that both systems have the same session timeout and the same number of copies."""
    if system == "assay":
        return ["--session-timeout-s", str(session_timeout_s), *(["--standby"] if standby else [])]
    return [f"consumer.session.timeout.ms={session_timeout_s * 1000:.0f}", f"num.standby.replicas={int(standby)}"]


@contextmanager
def expendable(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that may be dead by the end; what is left of it is killed."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=dict(os.environ, OMP_NUM_THREADS="1"))
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for_members(bootstrap: str, group: str, count: int, timeout_s: float = _PATIENCE_S) -> None:
    """Return once ``group`` has ``count`` members and each was given partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(TimeoutError, KafkaException):
            described = admin.describe_consumer_groups([group])[group].result(10)
            owning = [member for member in described.members if member.assignment and member.assignment.topic_partitions]
            if len(owning) == count:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{group} did not get {count} working members within {timeout_s:.0f} s")


def fail_over(bench: Bench, system: str, ending: str, keys: int, log_folder: Path) -> dict[str, object]:
    """One repetition: seconds until every partition puts out again, and the longest that any partition was silent."""
    number, standby = ENDINGS[ending]
    name = f"fail{uuid.uuid4().hex[:6]}"
    source, sink = f"{name}-in", f"{name}-out"
    changelog = f"{name}-state-changelog" if system == "assay" else f"{name}-profiles-changelog"
    create_topics(bench.bootstrap, [source, sink], compacted=[changelog])
    with ExitStack() as stack:
        workers: list[subprocess.Popen[bytes]] = []
        for which in ("a", "b"):
            command = bench.state_command(system, EXACTLY_ONCE, name, source, sink, which) + flags(system, standby=standby)
            workers.append(stack.enter_context(expendable(command, log_folder / f"{name}-{which}.log")))
        wait_for_members(bench.bootstrap, f"{name}-state" if system == "assay" else name, 2)
        feed = stack.enter_context(SteadyFeed(bench.bootstrap, source, sink, events=state_events(keys), rate=RATE))
        preload(bench.bootstrap, source, (event(user, 0) for user in range(keys)))
        feed.wait_all(feed.sent, _PATIENCE_S)
        time.sleep(_CALM_S)
        ended_at, since = time.perf_counter(), feed.sent
        workers[0].send_signal(number)
        answered = feed.wait_all(since + 1, _PATIENCE_S)
        all_out = max(answered.values())
        time.sleep(1.0)
        pause = feed.longest_gap(ended_at, all_out + 1.0)
    delete_topics(bench.bootstrap, [source, sink, changelog])
    return {
        "system": system, "job": ending, "guarantee": EXACTLY_ONCE, "unit": "s", "keys": keys,
        "failover_s": round(all_out - ended_at, 2), "longest_pause_s": round(pause, 2),
    }  # fmt: skip


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Every ending on both systems, interleaved; medians and the worst of ``repetitions``. ``events`` is the number of keys of state."""
    rows: list[dict[str, object]] = []
    remarks: list[str] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        bench = Bench(bootstrap, folder)
        for _ in range(repetitions):
            for ending in ENDINGS:
                rows += [fail_over(bench, system, ending, events or STATE_KEYS, folder) for system in ("assay", "kafka-streams")]
    merged = medians(rows, ("system", "job"))
    for found in merged:
        same = [float(str(row["failover_s"])) for row in rows if (row["system"], row["job"]) == (found["system"], found["job"])]
        found["worst_s"] = max(same)
    seconds = {(row["system"], row["job"]): float(str(row["failover_s"])) for row in merged}
    remarks += [
        f"{ending}: assay {seconds['assay', ending]:.1f} s, kafka-streams {seconds['kafka-streams', ending]:.1f} s" for ending in ENDINGS
    ]
    remarks.append(f"session timeout {SESSION_TIMEOUT_S:.0f} s on both; {RATE:.0f} events/s over {events or STATE_KEYS} keys, two workers")
    return Report("failover", merged, remarks)
