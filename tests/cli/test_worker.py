import sys

import pytest

from streams import worker


@pytest.fixture
def started(monkeypatch):
    """What the command would run."""
    calls = []
    monkeypatch.setattr(worker, "run_worker", lambda settings, roles: calls.append((settings, roles)) or 0)
    monkeypatch.setattr(worker, "supervise", lambda arguments: calls.append(arguments) or 0)
    return calls


def test_flags_become_settings_and_roles_keep_their_order(assay, started, tmp_path):
    assert assay("worker", "--roles", "value, recommend", "--k", "5", "--data-dir", str(tmp_path), "--standby").exit_code == 0
    ((settings, roles),) = started
    assert roles == ("recommend", "value")
    assert (settings.k, settings.data_dir, settings.standby) == (5, tmp_path, True)


def test_without_roles_a_worker_does_everything(assay, started):
    assay("worker")
    assert started[0][1] == ("embed", "recommend", "value", "serve")


@pytest.mark.parametrize("roles", ["", "cook", "recommend,cook"])
def test_unknown_or_no_roles_are_a_usage_error_that_names_the_roles(assay, started, roles):
    result = assay("worker", "--roles", roles)
    assert result.exit_code == 2
    assert "embed,recommend,value,serve" in result.output
    assert started == []


def test_the_exit_code_of_the_worker_is_that_of_the_command(assay, monkeypatch):
    monkeypatch.setattr(worker, "run_worker", lambda _settings, _roles: 4)
    assert assay("worker").exit_code == 4


def test_supervise_runs_the_same_command_line_without_itself(assay, started, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["assay", "worker", "--supervise", "--k", "5"])
    assay("worker", "--supervise", "--k", "5")
    assert started == [[sys.executable, "-m", "streams.cli", "worker", "--k", "5"]]
