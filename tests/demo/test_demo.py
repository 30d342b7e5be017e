"""The demo as a newcomer runs it: in a process of its own, no broker, no data."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from models.simulation import FAULTS

EVENTS = 3_000


def demo(*arguments, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "streams.cli", "demo", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)


def finish(process, timeout=280):
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    code, out, err = finish(demo("--events", str(EVENTS), "--exit", "--seed", "11", cwd=tmp_path_factory.mktemp("demo")))
    assert code == 0, err
    return out, err


def test_the_last_line_is_one_json_object_in_which_every_event_is_accounted_for(report):
    result = json.loads(report[0].splitlines()[-1])
    assert result["events"] == EVENTS
    assert result["unaccounted"] == 0
    assert result["recommendations"] > 100
    assert result["events_per_second"] == pytest.approx(EVENTS / result["seconds"], rel=0.01)
    assert result["currency"] == "GBP"
    assert float(result["revenue"]) >= float(result["attributable_revenue"]) > 0


def test_recommendations_beat_popularity_on_shoppers_with_planted_tastes(report):
    result = json.loads(report[0].splitlines()[-1])
    assert result["tests"] > 300
    for score in ("hit_rate_at_20", "mrr_at_20", "ndcg_at_20"):
        assert result[score] > 1.5 * result[f"popularity_{score}"] > 0


def test_spoilt_records_end_in_the_dead_letters_under_the_codes_they_deserve(report):
    refused = json.loads(report[0].splitlines()[-1])["dead_letters"]
    assert refused
    assert set(refused) <= set(FAULTS)


def test_a_newcomer_reads_what_is_happening_and_what_came_of_it(report):
    out, err = report
    assert "starting an embedded Kafka broker" in err
    assert "publishing and embedding 1,000 products" in err
    assert "hit rate" in err or "lists" in err
    assert out.splitlines()[0].startswith(f"{EVENTS:,} events in ")


def test_ctrl_c_stops_cleanly_with_a_summary(tmp_path):
    process = demo(cwd=tmp_path)
    deadline = time.monotonic() + 200
    for line in process.stderr:
        assert time.monotonic() < deadline
        if "events" in line and "lists" in line:
            break
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process, timeout=60)
    assert code == 0, err
    assert "lists of recommendations" in out
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--exit",), "--exit needs --events"),
        (("--dataset", "online-retail"), "--dataset and --path go together"),
        (("--speed", "0"), "above 0, or max"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(arguments, complaint):
    code, _, err = finish(demo(*arguments))
    assert code == 2
    assert complaint in err


def test_a_model_folder_that_is_not_there_is_one_message_and_exit_code_2(tmp_path):
    code, out, err = finish(demo("--encoder", str(tmp_path / "missing"), "--events", "10", "--exit", cwd=tmp_path))
    assert code == 2, err
    assert err.splitlines()[-1].startswith("assay: ")
    assert "missing" in err.splitlines()[-1]
    assert "Traceback" not in err.splitlines()[-1]
    assert out == ""
