"""Campaigns with a hold-out: does the interval hold the margin that was really added, and what does last-touch credit say?"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from models.experiments import Experiment, cuped, difference_of_means, incremental_margin
from models.simulation.campaign import CampaignOptions, run_campaign


@dataclass(frozen=True, slots=True)
class CampaignCoverage:
    """Over many campaigns: shares whose 95 % interval held the added margin, without and with CUPED; the median of last-touch credit
    over added margin and of the estimate over it; and the share of the variance that CUPED took away.
    """

    plain: float
    adjusted: float
    over_statement: float
    estimate: float
    variance_reduction: float


def campaign_coverage(
    campaigns: int, seed: int, users: int = 20_000, hold_out: float = 0.05, options: CampaignOptions | None = None
) -> CampaignCoverage:
    """Run so many campaigns, each with users and a hold-out of its own."""
    plain, adjusted, over_statement, estimates, reductions = [], [], [], [], []
    for number in range(campaigns):
        experiment = Experiment("hold-out", f"{seed}-{number}", {"hold_out": hold_out, "treated": 1 - hold_out})
        treated = np.array([experiment.arm(str(user)) == "treated" for user in range(users)])
        campaign = run_campaign(treated, options or CampaignOptions(), np.random.default_rng((seed, number)))
        added = float(campaign.added.sum())
        raw = incremental_margin(difference_of_means(campaign.margin[treated], campaign.margin[~treated]), int(treated.sum()))
        better = cuped(campaign.margin[treated], campaign.before[treated], campaign.margin[~treated], campaign.before[~treated])
        total = incremental_margin(better.effect, int(treated.sum()))
        plain.append(raw.low <= added <= raw.high)
        adjusted.append(total.low <= added <= total.high)
        over_statement.append(float(campaign.credited.sum()) / added)
        estimates.append(total.amount / added)
        reductions.append(better.variance_reduction)
    return CampaignCoverage(fmean(plain), fmean(adjusted), median(over_statement), fmean(estimates), fmean(reductions))
