from __future__ import annotations

import importlib

import pytest

from tests.benchmarks.report import Report, medians


def test_soak_takes_the_seed_and_the_minutes_that_it_is_given(assay, monkeypatch):
    soak = importlib.import_module("tests.benchmarks.soak")
    asked = []
    monkeypatch.setattr(soak, "run", lambda **options: asked.append(options) or Report("soak", []))
    assert assay("bench", "soak", "--seed", "11", "--minutes", "2").exit_code == 0
    assert assay("bench", "soak").exit_code == 0
    common = {"repetitions": 3, "events": None, "bootstrap_servers": None}
    assert asked == [{**common, "seed": 11, "minutes": 2.0}, common]


@pytest.mark.parametrize(("flag", "complaint"), [("--seed", "--seed is for soak"), ("--minutes", "--minutes is for overload and soak")])
def test_what_a_benchmark_does_not_take_is_a_usage_error(assay, flag, complaint):
    result = assay("bench", "pipeline", flag, "3")
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_percentiles_tell_how_many_samples_they_rest_on_and_leave_out_those_that_no_sample_lies_beyond():
    load = pytest.importorskip("tests.benchmarks.load", exc_type=ImportError)
    found = load.percentiles(number / 1000 for number in range(1, 1001))
    assert (found["p50"], found["p99"], found["p99.9"]) == (
        pytest.approx(500, rel=0.01),
        pytest.approx(990, rel=0.01),
        pytest.approx(999, rel=0.01),
    )
    assert (found["samples"], found["max"]) == (1000, pytest.approx(1000, rel=0.01))
    fewer = load.percentiles(number / 1000 for number in range(1, 301))
    assert (fewer["samples"], fewer["p99"], fewer["p99.9"], fewer["max"]) == (
        300,
        pytest.approx(297, rel=0.01),
        None,
        pytest.approx(300, rel=0.01),
    )
    assert load.percentiles([0.001] * 30)["p99"] is None


def test_a_median_over_repetitions_of_which_one_could_not_tell_is_none():
    rows = [{"job": "a", "p99.9": value, "samples": count} for value, count in [(3.0, 1200), (None, 900), (5.0, 1300)]]
    assert medians(rows, ["job"]) == [{"job": "a", "p99.9": None, "samples": 1200, "repetitions": 3}]
    assert medians(rows[::2], ["job"])[0]["p99.9"] == 4.0


def test_memory_that_grows_under_overload_fails_the_run_and_is_told_by_new_shopper():
    overload = pytest.importorskip("tests.benchmarks.overload", exc_type=ImportError)
    # Ten minutes in which 1,000 events/s are applied of twice as many, and .39 GB are taken.
    samples = [overload.Sample(at, 2_000 * at, 1_000 * at, (400 + 39 * at // 60) << 20) for at in range(0, 601, 20)]
    records = [(b"%d" % (number % 300), b"") for number in range(1_000)]
    rows = {
        row["measure"]: row["value"]
        for row in overload.rows_of(1_000.0, 2_000.0, samples, overload.Sample(1_200, 1_200_000, 1_200_000, 0), 0.0, records)
    }
    assert rows["memory slope"] == pytest.approx(39, rel=0.01)
    assert overload.is_bad("memory slope", rows["memory slope"])
    assert not overload.is_bad("memory slope", 9.0)
    # Every 1,000 events hold 300 shoppers, who are new every third time.
    assert rows["new shoppers applied"] == 6_000
    assert rows["memory per new shopper"] == pytest.approx(39 * 2**20 / 6_000, rel=0.01)


def test_memory_or_files_that_grow_through_a_long_soak_fail_it():
    soak = pytest.importorskip("tests.benchmarks.soak", exc_type=ImportError)

    def rows(mb_a_minute, files_a_minute):
        # Two processes, the second of which begins anew; each takes two partitions over, and has done so since.
        def sample(life, age):
            taken = age > 120
            memory = 100 + 20 * taken + mb_a_minute * age / 60
            return soak.Sample(300.0 * life + age, age, int(memory * 2**20), 80 + 30 * taken + round(files_a_minute * age / 60), 2**20)

        samples = [sample(life, age) for life in range(2) for age in range(20, 300, 2)]
        return soak.worker_rows("w0", samples, 0)

    assert soak.grown(rows(4.5, 0.5), 60) == []
    assert soak.grown(rows(50, 10), 9.9) == []
    (memory,) = soak.grown(rows(5.5, 0.5), 10)
    assert memory.startswith("memory slope of w0: 5.5")
    (files,) = soak.grown(rows(4.5, 1.2), 10)
    assert files.startswith("open files slope of w0: 2.0")
