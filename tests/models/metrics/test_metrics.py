"""Online metrics: known values, agreement with the textbook formula, and exact merging."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models.metrics
from models.metrics import DEPTH, MRR, NDCG, CatalogueCoverage, FunnelCounts, HitRate, RankCounts, RankMetric

RANKS = st.lists(st.one_of(st.none(), st.integers(1, 30)), max_size=60)
METRICS = pytest.mark.parametrize("metric", [HitRate, MRR, NDCG])
CUTOFFS = pytest.mark.parametrize("k", [5, 10, 20])


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(models.metrics.__path__)])
def test_the_examples_in_the_documentation_hold(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"models.metrics.{module}"))
    assert result.failed == 0


@METRICS
@CUTOFFS
@given(ranks=RANKS)
def test_a_metric_is_the_mean_of_its_textbook_gain(metric: type[RankMetric], k: int, ranks: list[int | None]) -> None:
    gains = {HitRate: lambda r: 1.0, MRR: lambda r: 1 / r, NDCG: lambda r: 1 / math.log2(1 + r)}
    expected = sum(gains[metric](r) if r is not None and r <= k else 0.0 for r in ranks) / len(ranks) if ranks else 0.0
    online = metric(k)
    for rank in ranks:
        online.update(rank)
    assert online.get() == pytest.approx(expected, abs=1e-12)


@METRICS
@given(ranks=RANKS, cut=st.integers(0, 60), seed=st.integers(0, 2**16))
def test_parts_in_any_order_merge_to_the_very_same_number(metric: type[RankMetric], ranks: list[int | None], cut: int, seed: int) -> None:
    whole = metric(10)
    for rank in ranks:
        whole.update(rank)
    shuffled = list(ranks)
    random.Random(seed).shuffle(shuffled)
    parts = [metric(10).update_many(np.array([r or 0 for r in part], np.int64)) for part in (shuffled[:cut], shuffled[cut:])]
    assert parts[1].merge(parts[0]).get() == whole.get()


def test_metrics_at_several_cutoffs_can_share_one_set_of_counts() -> None:
    counts = RankCounts()
    metrics = [HitRate(k, counts) for k in (5, 10, 20)]
    counts.update(7)
    assert [metric.get() for metric in metrics] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("k", [0, -1, DEPTH + 1])
def test_a_cutoff_that_is_not_counted_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="k must lie in"):
        HitRate(k)


def test_metrics_at_different_cutoffs_do_not_merge() -> None:
    with pytest.raises(ValueError, match="cannot merge"):
        HitRate(5).merge(HitRate(10))


def test_counts_of_another_depth_are_refused() -> None:
    with pytest.raises(ValueError, match="by_rank"):
        RankCounts(1, [1, 0])


@pytest.mark.parametrize("distinct", [1, 50, 300])
def test_few_items_are_counted_all_but_exactly(distinct: int) -> None:
    coverage = CatalogueCoverage(distinct * 2).update(f"sku-{i % distinct}" for i in range(distinct * 3))
    assert coverage.distinct() == pytest.approx(distinct, rel=1e-5)
    assert coverage.get() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("distinct", [1_000, 10_000, 100_000])
def test_many_items_are_counted_within_three_standard_errors(distinct: int) -> None:
    coverage = CatalogueCoverage().update(f"sku-{i}" for i in range(distinct))
    assert coverage.distinct() == pytest.approx(distinct, rel=3 * 0.01625)
    assert len(coverage.to_bytes()) < 2_200


@pytest.mark.parametrize("distinct", [3, 200, 450, 3_000])
def test_the_estimate_does_not_depend_on_order_grouping_or_storage(distinct: int) -> None:
    items = [f"sku-{i}" for i in range(distinct)]
    estimates = {CatalogueCoverage().update(items).distinct()}
    for seed in range(4):
        random.Random(seed).shuffle(items)
        merged = CatalogueCoverage()
        for part in range(7):
            piece = CatalogueCoverage().update(items[part::7])
            merged.merge(piece) if part % 2 else merged.merge_sketch(piece.to_bytes())
        estimates |= {merged.distinct(), CatalogueCoverage(sketch=merged.to_bytes()).distinct()}
    assert len(estimates) == 1


def test_coverage_stays_within_one_and_is_zero_for_an_unknown_catalogue() -> None:
    assert CatalogueCoverage(2).update(["a", "b", "c"]).get() == 1.0
    assert CatalogueCoverage().update(["a"]).get() == 0.0


def test_funnel_counts_merge() -> None:
    one = FunnelCounts().update("click", recommended=True, count=4).update("browse")
    other = FunnelCounts().update("purchase", recommended=True).update("purchase").update("click")
    one.merge(other)
    assert (one.events, one.clicks, one.conversions, one.by_type) == (8, 4, 1, {"click": 5, "browse": 1, "purchase": 2})
    assert one.conversion_rate() == 0.25
    assert FunnelCounts().conversion_rate() == 0.0
