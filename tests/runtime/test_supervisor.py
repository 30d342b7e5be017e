from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime import supervisor
from streams.runtime.errors import (
    EXIT_BROKER,
    EXIT_CRASHED,
    AddressTaken,
    BroadcastFailed,
    BrokerUnreachable,
    DataDirTaken,
    Fenced,
    OutOfFiles,
    OutOfMemory,
    ProducerFailed,
    RankingWrong,
    RecordsLost,
    ResetUnfinished,
    RuntimeFault,
    SourceRecreated,
    SourceTruncated,
    StoreCorrupt,
    StoreDamaged,
    StoreFailed,
    Stuck,
    TopicsWrong,
)
from streams.runtime.supervisor import final, next_pause, supervise


@pytest.mark.parametrize(
    "fault", [None, RankingWrong, AddressTaken, DataDirTaken, StoreDamaged, TopicsWrong, SourceRecreated, SourceTruncated, ResetUnfinished]
)
def test_stays_down_what_was_stopped_or_needs_somebody(fault: type[RuntimeFault] | None) -> None:
    assert final(fault.exit_code if fault else 0)


@pytest.mark.parametrize(
    "fault",
    [BrokerUnreachable, ProducerFailed, Fenced, BroadcastFailed, RecordsLost, OutOfMemory, OutOfFiles, Stuck, StoreCorrupt, StoreFailed],
)
def test_what_waiting_or_a_fresh_start_mends_is_tried_again(fault: type[RuntimeFault]) -> None:
    assert not final(fault.exit_code)


def test_so_is_a_worker_that_a_signal_or_an_unknown_fault_ended() -> None:
    assert not final(-9)
    assert not final(1)


def test_a_worker_that_is_up_before_its_broker_is_started_until_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine comes back from a power cut: nobody is there to start the worker again."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_BROKER_PAUSE_S", 0.02)
    runs = tmp_path / "runs"
    script = (
        f"import pathlib, sys; p = pathlib.Path({str(runs)!r}); n = len(p.read_text()) if p.exists() else 0; "
        "p.write_text('x' * (n + 1)); sys.exit(3 if n < 6 else 0)"
    )
    assert supervise([sys.executable, "-S", "-c", script]) == 0
    assert runs.read_text() == "x" * 7


@pytest.mark.parametrize(
    ("code", "longest_s"), [(1, supervisor.LONGEST_PAUSE_S), (EXIT_CRASHED, supervisor.LONGEST_PAUSE_S), (EXIT_BROKER, 5.0)]
)
def test_pauses_double_to_a_limit_lower_without_a_broker_and_are_short_again_after_a_healthy_run(code: int, longest_s: float) -> None:
    pauses = [supervisor.FIRST_PAUSE_S]
    for _ in range(10):
        pauses.append(next_pause(pauses[-1], 1.0, code))
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(pauses) == pauses[-1] == longest_s
    assert next_pause(30.0, 1.0, code) == longest_s
    assert next_pause(30.0, 61.0, code) == 0.5


def test_a_worker_that_found_no_broker_is_started_again_sooner_than_one_that_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    asked: list[tuple[float, int]] = []

    def pause(pause_s: float, ran_s: float, code: int) -> float:
        asked.append((pause_s, code))
        return next_pause(pause_s, ran_s, code)

    monkeypatch.setattr(supervisor, "next_pause", pause)
    ends = iter([3, 5, 0])

    def start(_arguments: list[str], **_options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({next(ends)})"])

    assert supervise(["worker"], start=start) == 0
    assert asked == [(0.005, 3), (0.01, 5)]


def test_a_crashed_worker_is_started_again_until_it_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    runs = tmp_path / "runs"
    script = (
        f"import pathlib, sys; p = pathlib.Path({str(runs)!r}); n = len(p.read_text()) if p.exists() else 0; "
        "p.write_text('x' * (n + 1)); sys.exit(5 if n < 2 else 0)"
    )
    assert supervise([sys.executable, "-c", script]) == 0
    assert runs.read_text() == "xxx"


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of this process as they were, afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("crashes", [0, 1])
def test_a_signal_that_comes_while_a_worker_is_started_ends_that_worker(crashes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    started: list[subprocess.Popen[bytes]] = []

    def start(arguments: list[str], **_options: object) -> subprocess.Popen[bytes]:
        if len(started) < crashes:
            arguments = [sys.executable, "-c", "import sys; sys.exit(5)"]
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        started.append(subprocess.Popen(arguments))
        return started[-1]

    assert supervise([sys.executable, "-c", "import signal; signal.sigwait([signal.SIGHUP])"], start=start) == 0
    assert [process.returncode for process in started] == [5] * crashes + [-signal.SIGTERM]


@pytest.mark.usefixtures("signals")
def test_a_signal_in_the_pause_starts_no_other_worker() -> None:
    started = []

    def start(arguments: list[str], **_options: object) -> subprocess.Popen[bytes]:
        started.append(arguments)
        return subprocess.Popen(arguments)

    def chance() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    assert supervise([sys.executable, "-c", "import sys; sys.exit(5)"], start=start, chance=chance) == 0
    assert len(started) == 1


def test_ctrl_c_reaches_a_supervised_worker_once() -> None:
    # As a worker listens: a plain handler would take two signals that come at once for one. What is passed on comes in order, so with
    # the SIGTERM every SIGINT is there.
    script = (
        "import asyncio, os, signal\nasync def main():\n  told, over, loop = [], asyncio.Event(), asyncio.get_running_loop()\n"
        "  loop.add_signal_handler(signal.SIGINT, told.append, 'x')\n  loop.add_signal_handler(signal.SIGTERM, over.set)\n"
        "  print(os.getpgrp(), flush=True)\n  await over.wait()\n  print(''.join(told), flush=True)\nasyncio.run(main())"
    )
    supervising = f"import sys; from streams.runtime.supervisor import supervise; sys.exit(supervise([sys.executable, '-c', {script!r}]))"
    with subprocess.Popen([sys.executable, "-c", supervising], stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        group = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        process.terminate()
        told = process.stdout.read()
        assert process.wait(30) == 0
    # Where it is in the terminal's foreground group, the terminal tells it too.
    assert group != process.pid
    assert told == b"x\n"


@pytest.mark.parametrize("code", [2, 4, 6])
def test_a_worker_that_needs_somebody_is_not_started_again_and_the_log_says_so(code: int, caplog: pytest.LogCaptureFixture) -> None:
    assert supervise([sys.executable, "-c", f"import sys; sys.exit({code})"]) == code
    assert f"ended with {code} and stays down" in caplog.text
