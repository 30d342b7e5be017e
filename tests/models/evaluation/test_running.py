from __future__ import annotations

import doctest

import numpy as np
import pytest

from models.evaluation import running
from models.evaluation.intervals import batch_means
from models.evaluation.running import RunningRanks
from models.metrics import MRR, NDCG, HitRate, RankCounts


def series(ranks: np.ndarray) -> RunningRanks:
    made = RunningRanks(ranks.shape[1])
    for row in ranks.astype(np.uint8):
        made.add(row.tobytes())
    return made


def test_the_docstring_holds() -> None:
    assert doctest.testmod(running).failed == 0


@pytest.mark.parametrize("tests", [0, 1, 59, 60, 255, 256, 257, 300, 5_000])
def test_counts_are_those_of_all_tests(tests: int) -> None:
    ranks = np.random.default_rng(1).integers(0, 21, (tests, 3))
    made = series(ranks)
    assert made.tests == tests
    for method in range(3):
        whole = RankCounts().update_many(ranks[:, method])
        assert made.counts(method).tests == tests
        assert made.counts(method).by_rank.tolist() == whole.by_rank.tolist()


@pytest.mark.parametrize("tests", [0, 59, 60, 255])
def test_intervals_of_few_tests_are_those_of_the_single_ones(tests: int) -> None:
    ranks = np.random.default_rng(2).integers(0, 21, (tests, 1))
    made = series(ranks)
    assert made.interval(0, HitRate) == pytest.approx(batch_means((ranks[:, 0] > 0).astype(float).tolist()))
    assert made.interval(0, MRR) == pytest.approx(batch_means([0.0 if rank == 0 else 1 / rank for rank in ranks[:, 0].tolist()]))


def test_intervals_of_many_tests_come_close_in_bounded_space() -> None:
    rng = np.random.default_rng(3)
    hits = np.repeat(rng.random(1_000) < 0.3, 50)  # in runs, so that the tests depend on each other
    made = series(np.where(hits, rng.integers(1, 21, len(hits)), 0)[:, None])
    assert made.interval(0, HitRate) == pytest.approx(batch_means(hits.astype(float).tolist()), abs=0.004)
    assert made._runs.nbytes < 25_000
    assert len(made._open) < 1_024


@pytest.mark.parametrize("metric", [HitRate, MRR, NDCG])
def test_a_curve_is_the_metric_by_parts(metric) -> None:
    ranks = np.random.default_rng(4).integers(0, 3, (7_777, 2))
    made = series(ranks)
    curve = made.curve(1, metric, points=50)
    assert len(curve) <= 50
    assert curve[-1][0] == 7_777
    before = 0
    for tests, value in curve:
        part = RankCounts().update_many(ranks[before:tests, 1])
        assert value == pytest.approx(metric(20, part).get())
        before = tests
    assert RunningRanks(2).curve(0, metric, points=50) == []
