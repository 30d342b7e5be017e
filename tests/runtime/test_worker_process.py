"""A worker as a process: what it ends with, how soon, and when it says that it is ready."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.broker.node import free_port
from streams.runtime.datadir import DataDir
from streams.runtime.errors import AddressTaken, RuntimeFault
from streams.runtime.metrics import MetricsPort
from streams.serve.replica import Replica
from streams.settings import Settings
from streams.worker import RunningWorker
from tests.runtime.processors import Counter
from tests.runtime.test_worker import PATIENCE_S, Bench

#: What is said in the deployment's guarantees, and what is left for a busy machine to notice it.
STOP_S, GRACE_S = 10.0, 1.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as reply:
            return b"assay_lag_records" in reply.read()
    except (urllib.error.URLError, ConnectionError):
        return False


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what


def test_a_taken_metrics_port_ends_the_worker_with_exit_code_2_and_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "streams.cli", "worker", "--roles", "embed", "--metrics-port", str(port)]
        where = ["--bootstrap-servers", "127.0.0.1:1", "--data-dir", str(tmp_path)]
        ended = subprocess.run([*command, *where], capture_output=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert b"cannot listen on 127.0.0.1:%d" % port in ended.stderr
    assert b"--metrics-port" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_the_metrics_port_is_kept_from_the_start_and_answers_only_once_it_is_opened() -> None:
    number = free_port()
    port = MetricsPort("127.0.0.1", number)
    assert not answers(number)
    port.open()
    assert answers(number)
    with pytest.raises(AddressTaken, match="--metrics-port"):
        MetricsPort("127.0.0.1", number)
    port.close()


HELD_WORKER = """
import sys
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import _run_process, build_host
from tests.runtime.processors import Counter
settings = Settings()
def build():
    print("building", flush=True)
    sys.stdin.readline()
    return build_host(settings, [Task("task", ("in",), Counter())], {"in": "in", "out": "out"})
sys.exit(_run_process(build, ("127.0.0.1", settings.metrics_port)))
"""

STUCK_WORKER = """
import sys, threading
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import run_tasks
from tests.runtime.processors import Counter
def hang(_batch):
    print("hanging", flush=True)
    threading.Event().wait()
sys.exit(run_tasks(Settings(), [Task("task", ("in",), Counter(hang))], {"in": "in"}))
"""

WORKER = """
import sys
from streams.runtime.task import Task
from streams.settings import Settings
from streams.worker import run_tasks
from tests.runtime.processors import Counter
def work(_batch):
    print("working", flush=True)
sys.exit(run_tasks(Settings(), [Task("task", ("in",), Counter(work))], {"in": "in", "out": "out"}))
"""

STARTING_WORKER = """
import threading
from streams.settings import Settings
from streams.worker import _run_process, _supervised_start
_supervised_start(Settings(), [])
def build():
    print("working", flush=True)
    threading.Event().wait()
_run_process(build)
"""

SUPERVISOR = "import sys; from streams.runtime.supervisor import supervise; sys.exit(supervise([sys.executable, '-c', sys.argv[1]]))"


def start(bench: Bench, script: str, *arguments: str, **settings: object) -> subprocess.Popen[bytes]:
    bench.broker.touch(["app-task-changelog"])
    given = {"bootstrap_servers": bench.broker.bootstrap_servers, "data_dir": bench.folder / "process", "app_id": "app", **settings}
    environment = {**os.environ, **{f"ASSAY_{name.upper()}": str(value) for name, value in given.items()}}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


def test_a_worker_is_healthy_once_it_reads_and_not_before(bench: Bench) -> None:
    number = free_port()
    process = start(bench, HELD_WORKER, metrics_port=number)
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"building\n"
        assert not answers(number)
        process.stdin.write(b"go on\n")
        process.stdin.flush()
        until(lambda: answers(number), "it answers")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_a_stop_ends_in_time_even_if_the_processor_never_returns(bench: Bench) -> None:
    bench.send("a")
    process = start(bench, STUCK_WORKER)
    assert process.stdout is not None
    assert process.stdout.readline() == b"hanging\n"
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - asked < STOP_S + GRACE_S
    assert process.returncode == 5
    assert b"redone at the next start" in said


@contextlib.contextmanager
def supervised(bench: Bench, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor with a worker, of which nothing is left afterwards."""
    process = start(bench, SUPERVISOR, script)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("script", [WORKER, STARTING_WORKER], ids=["working", "starting"])
def test_a_worker_ends_with_its_supervisor_and_another_takes_its_place(bench: Bench, script: str) -> None:
    bench.send("a")
    with supervised(bench, script) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"working\n"
        first.kill()
        with supervised(bench, WORKER) as second:
            assert second.stdout is not None
            # What the worker of the first one says ends with it.
            _, said = first.communicate(timeout=PATIENCE_S)
            bench.send("a")
            assert second.stdout.readline() == b"working\n"
            second.send_signal(signal.SIGTERM)
            _, more = second.communicate(timeout=PATIENCE_S)
    assert b"the supervisor (pid %d) is gone" % first.pid in said
    assert (second.returncode, b"ended with" in more) == (0, False), more


def test_a_supervised_start_waits_for_the_data_dir_and_another_fails_at_once(bench: Bench) -> None:
    bench.send("a")
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(DataDir(bench.folder / "process"))
        alone = start(bench, WORKER)
        _, said = alone.communicate(timeout=PATIENCE_S)
        assert (alone.returncode, b"waiting" in said) == (4, False)
        process = stack.enter_context(supervised(bench, WORKER))
        assert process.stdout is not None
        assert process.stderr is not None
        assert next(line for line in process.stderr if b"waiting up to 30 s" in line).startswith(b"data dir")
        holder.close()
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, b"waiting" in said) == (0, False)


def test_a_worker_whose_read_replica_fails_ends_with_exit_code_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, messages: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Replica, "_apply", fail)
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, data_dir=tmp_path, port=0)
        worker = RunningWorker(settings, ["serve"]).start()
        worker.wait_ready(PATIENCE_S)
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        producer.produce("recommendations", b"{}", b"ann", 0)
        assert producer.flush(PATIENCE_S) == 0
        until(lambda: not worker.alive, "the worker ends")
        with pytest.raises(RuntimeFault, match="the disk is gone") as ended:
            worker.check()
    assert ended.value.exit_code == 5


def test_a_worker_to_which_no_partition_falls_is_ready(bench: Bench) -> None:
    for number in range(5):
        bench.worker(Counter(), f"w{number}").start()
    for worker in bench.workers:
        worker.wait_ready(PATIENCE_S)
    bench.wait(lambda: sorted(len(w.positions()["task"]) for w in bench.workers) == [0, 1, 1, 1, 1], "four share four partitions")


def test_invalid_business_rules_end_the_worker_with_exit_code_2_and_the_place_of_the_fault(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("exclude:\n  - brand: Acme\n")
    with EmbeddedBroker() as broker:
        command = [sys.executable, "-m", "streams.cli", "worker", "--roles", "recommend", "--business-rules", str(rules)]
        where = ["--bootstrap-servers", broker.bootstrap_servers, "--data-dir", str(tmp_path / "data")]
        ended = subprocess.run([*command, *where], capture_output=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert b"assay: RulesWrong: " in ended.stderr
    assert b"line 2, column 5: exclude.0.brand: there is no such key here; known are name, for, from" in ended.stderr
    assert b"assay rules check" in ended.stderr
    assert b"Traceback" not in ended.stderr
