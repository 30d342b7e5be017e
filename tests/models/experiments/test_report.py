"""The report of an A/B test of two rankers, on campaigns whose truth is known."""

from __future__ import annotations

import doctest
import importlib
from decimal import Decimal

import numpy as np
import pytest

from models.experiments import Comparison, ConfidenceSequence, Experiment, ExposureLog, Metric, compare, sample_ratio
from models.simulation.campaign import CampaignOptions, run_campaign

HALVES = Experiment("rankers of May", "may", {"popular": 0.5, "personal": 0.5})
SEQUENCE = ConfidenceSequence(tightest_at=8_000)


def campaign_log(lift: float, users: int = 8_000, seed: int = 1, lost: str = "") -> tuple[ExposureLog, float]:
    """The log of a campaign, in which a third of the users of the arm ``lost`` were never written down; and the margin added."""
    names = [f"user-{seed}-{number}" for number in range(users)]
    treated = np.array([HALVES.arm(name) == "personal" for name in names])
    campaign = run_campaign(treated, CampaignOptions(lift=lift), np.random.default_rng(seed))
    log = ExposureLog()
    for number, name in enumerate(names):
        if HALVES.arm(name) == lost and number % 3 == 0:
            continue
        log.expose(name, HALVES.arm(name), 1_000 * number, {"margin": Decimal(f"{campaign.before[number]:.2f}")})
        log.add(name, "lists", int(campaign.lists[number]))
        log.add(name, "clicks", int(campaign.clicks[number]))
        log.add(name, "purchases", int(campaign.purchases[number]))
        log.add(name, "margin", Decimal(f"{campaign.margin[number]:.2f}"))
    return log, float(campaign.added.sum())


def report(log: ExposureLog, **options: int) -> Comparison:
    return compare(log, HALVES, "popular", "personal", SEQUENCE, **options)  # type: ignore[arg-type]


def test_a_better_ranker_is_seen_in_every_metric() -> None:
    log, added = campaign_log(lift=0.5)
    comparison = report(log)
    assert not comparison.split.mismatch
    assert sum(comparison.users.values()) == 8_000
    conversion, clicks, margin = comparison.results
    for result in comparison.results:
        assert result.effect is not None
        assert result.always_valid is not None
        assert result.effect.low > 0
        assert result.always_valid[0] < result.effect.low < result.effect.high < result.always_valid[1]
    assert conversion.incremental is None
    assert clicks.incremental is None
    assert margin.incremental is not None
    assert margin.adjusted is not None
    assert margin.incremental.low < added < margin.incremental.high
    assert 0.05 < margin.adjusted.variance_reduction < 0.5
    assert margin.adjusted_always_valid is not None
    assert margin.adjusted_always_valid[0] < margin.adjusted.effect.low
    assert margin.detectable == pytest.approx((1.96 + 0.8416) * margin.adjusted.effect.standard_error, rel=1e-4)
    assert margin.users_needed is not None
    assert margin.users_needed == pytest.approx(8_000 * (margin.detectable / margin.adjusted.effect.difference) ** 2, abs=1)


def test_a_ranker_that_is_clicked_and_adds_nothing_is_seen_through() -> None:
    """Shoppers reach by its lists what they would have bought anyway: more clicks, and no more purchases or margin."""
    conversion, clicks, margin = report(campaign_log(lift=0.0, seed=4)[0]).results
    assert clicks.always_valid is not None
    assert clicks.always_valid[0] > 0
    for result in (conversion, margin):
        assert result.always_valid is not None
        assert result.always_valid[0] < 0 < result.always_valid[1]


def test_users_who_got_lost_break_the_split() -> None:
    comparison = report(campaign_log(lift=0.0, lost="personal")[0])
    assert comparison.split.mismatch
    assert "The split is broken" in comparison.markdown()
    assert "The split is as it should be" in report(campaign_log(lift=0.0)[0]).markdown()


def test_only_users_who_are_complete_count_where_that_is_asked_for() -> None:
    comparison = report(campaign_log(lift=0.1)[0], until_ms=2_000_000)
    assert sum(comparison.users.values()) == 2_000


def test_the_report_reads_as_it_should() -> None:
    text = report(campaign_log(lift=0.5)[0]).markdown()
    assert text.startswith("# rankers of May: personal against popular\n")
    assert "0 seen in several arms left out." in text
    for row in ("| conversion |", "| click rate |", "| margin per user |", "| margin per user, adjusted |"):
        assert row in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}
    assert "of the variance (CUPED)" in text
    assert "users of personal." in text
    assert "in 80 of 100 tests" in text


def test_an_experiment_that_has_hardly_begun_says_so() -> None:
    log = ExposureLog()
    log.expose("ann", "personal", 0)
    log.add("ann", "purchases")
    comparison = report(log)
    assert comparison.results[0].treated == 1.0
    assert (comparison.results[0].control, comparison.results[0].effect, comparison.results[1].treated) == (None, None, None)
    assert "too few users or nothing to divide by" in comparison.markdown()
    few = report(campaign_log(lift=0.1, users=60)[0])
    assert few.results[0].always_valid is None
    assert "too few users" in few.markdown()


def test_any_metric_of_any_two_arms_can_be_compared() -> None:
    experiment = Experiment("three", "s", {"a": 0.2, "b": 0.3, "c": 0.5})
    log = ExposureLog()
    for number in range(900):
        arm = "abc"[number % 3]
        log.expose(str(number), arm, 0)
        log.add(str(number), "minutes", number % 7)
    comparison = compare(log, experiment, "a", "c", SEQUENCE, [Metric("minutes", "minutes", adjusted=True)])
    assert comparison.users == {"a": 300, "b": 300, "c": 300}
    assert comparison.split.mismatch
    assert comparison.results[0].effect is not None
    with pytest.raises(ValueError, match="has the arms"):
        compare(log, experiment, "a", "d", SEQUENCE)


def test_money_that_is_known_of_nobody_is_left_out_and_not_0() -> None:
    log = campaign_log(lift=0.1, users=60)[0]
    log.add("user-1-7", "revenue", Decimal(-3))
    names = [result.metric.name for result in report(log).results]
    assert names == ["conversion", "click rate", "margin per user", "revenue per user, margin unknown"]
    bare = ExposureLog()
    bare.expose("ann", "personal", 0)
    assert [result.metric.name for result in report(bare).results] == ["conversion", "click rate"]


def test_the_split_is_judged_by_chi_square() -> None:
    assert doctest.testmod(importlib.import_module("models.experiments.sample_ratio")).failed == 0
    assert sample_ratio({"a": 10}, {"a": 1.0, "b": 0.0}).p_value == 1.0
    assert sample_ratio({"a": 10, "b": 1}, {"a": 1.0, "b": 0.0}).mismatch
    assert sample_ratio({}, {"a": 0.5, "b": 0.5}).p_value == 1.0
    with pytest.raises(ValueError, match="does not have"):
        sample_ratio({"c": 1}, {"a": 1.0})
