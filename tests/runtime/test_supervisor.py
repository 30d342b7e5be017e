from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streams.runtime import supervisor
from streams.runtime.supervisor import final, next_pause, supervise


@pytest.mark.parametrize(
    ("code", "runs", "stays_down"),
    [(0, 1, True), (2, 3, True), (4, 2, True), (3, 1, True), (3, 2, False), (5, 1, False), (1, 1, False), (-9, 1, False)],
)
def test_only_a_crash_is_worth_a_restart_and_a_broker_that_was_there_before(code: int, runs: int, stays_down: bool) -> None:
    assert final(code, runs) is stays_down


def test_a_broker_lost_after_a_healthy_first_run_is_no_wrong_address() -> None:
    assert final(3, 1, ran_s=supervisor.HEALTHY_S - 1)
    assert not final(3, 1, ran_s=supervisor.HEALTHY_S)


def test_pauses_double_to_a_limit_and_are_short_again_after_a_healthy_run() -> None:
    pauses = [supervisor.FIRST_PAUSE_S]
    for _ in range(10):
        pauses.append(next_pause(pauses[-1], ran_s=1.0))
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(pauses) == supervisor.LONGEST_PAUSE_S
    assert next_pause(30.0, ran_s=61.0) == 0.5


def test_a_crashed_worker_is_started_again_until_it_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    runs = tmp_path / "runs"
    script = (
        f"import pathlib, sys; p = pathlib.Path({str(runs)!r}); n = len(p.read_text()) if p.exists() else 0; "
        "p.write_text('x' * (n + 1)); sys.exit(5 if n < 2 else 0)"
    )
    assert supervise([sys.executable, "-c", script]) == 0
    assert runs.read_text() == "xxx"


def test_a_worker_that_is_configured_wrongly_is_not_started_again(tmp_path: Path) -> None:
    assert supervise([sys.executable, "-c", "import sys; sys.exit(2)"]) == 2
