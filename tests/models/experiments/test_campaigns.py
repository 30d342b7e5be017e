"""The incremental margin against the margin that was planted, beside what attribution claims."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulation.campaign import CampaignOptions, run_campaign
from tests.models.experiments.campaigns import campaign_coverage


def test_a_campaign_is_what_it_was_told_to_be() -> None:
    treated = np.arange(200_000) % 2 == 0
    options = CampaignOptions(purchases=0.8, reached=0.25, lift=0.1, margin_sigma=0.5)
    campaign = run_campaign(treated, options, np.random.default_rng(1))
    assert campaign.purchases[~treated].mean() == pytest.approx(0.8, rel=0.03)
    assert campaign.purchases[treated].mean() == pytest.approx(0.88, rel=0.03)
    assert not campaign.added[~treated].any()
    assert not campaign.credited[~treated].any()
    mean = 8 * np.exp(0.125)
    assert campaign.added[treated].mean() == pytest.approx(0.08 * mean, rel=0.05)
    assert campaign.credited.sum() / campaign.added.sum() == pytest.approx((0.25 + 0.1) / 0.1, rel=0.05)
    assert campaign.before.mean() == pytest.approx(0.8 * mean, rel=0.03)
    assert np.array_equal(campaign.margin, run_campaign(treated, options, np.random.default_rng(1)).margin)


def test_the_added_margin_lies_in_its_interval_and_attribution_overstates_it() -> None:
    """300 campaigns of 20,000 users, a twentieth of them held out."""
    result = campaign_coverage(300, seed=1)
    print(
        f"added margin in its 95 % interval: {100 * result.plain:.1f} % of campaigns, with CUPED {100 * result.adjusted:.1f} % "
        f"({100 * result.variance_reduction:.0f} % of the variance gone); last-touch credit over-states it {result.over_statement:.1f} x, "
        f"the estimate {result.estimate:.2f} x"
    )
    assert result.plain >= 0.93
    assert result.adjusted >= 0.93
    assert result.estimate == pytest.approx(1.0, abs=0.15)
    assert result.over_statement > 3


def test_recommendations_that_add_nothing_get_credit_all_the_same_but_no_increment() -> None:
    treated = np.arange(20_000) % 10 > 0
    campaign = run_campaign(treated, CampaignOptions(lift=0.0), np.random.default_rng(2))
    assert not campaign.added.any()
    assert campaign.credited.sum() > 0.4 * campaign.margin[treated].sum()
