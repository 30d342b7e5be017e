"""A campaign of recommendations whose true worth is known: purchases that would have been made anyway, and those that it added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """``purchases``: mean a user without recommendations; ``evenness``: shape of the gamma distribution of their rates over users.
    ``margin_median`` and ``margin_sigma``: of the log-normal margin of a purchase. ``reached``: share of the purchases of treated
    users that would have been made anyway, but were made by way of a recommendation. ``lift``: purchases that recommendations add,
    per purchase that would have been made anyway. ``lists`` and ``idle_clicks``: means a user of what leads to no purchase.
    """

    purchases: float = 0.5
    evenness: float = 0.3
    margin_median: float = 8.0
    margin_sigma: float = 1.0
    reached: float = 0.5
    lift: float = 0.15
    lists: float = 6.0
    idle_clicks: float = 0.4


@dataclass(frozen=True, slots=True)
class Campaign:
    """What was seen of each user, arrays of shape (users,): ``before`` is the margin of an equally long time before the campaign,
    ``credited`` the part of ``margin`` whose last touch was a recommendation. ``added`` is what nobody sees: the part of ``margin``
    that there would not have been without recommendations.
    """

    treated: NDArray[np.bool_]
    before: NDArray[np.float64]
    lists: NDArray[np.int64]
    clicks: NDArray[np.int64]
    purchases: NDArray[np.int64]
    margin: NDArray[np.float64]
    credited: NDArray[np.float64]
    added: NDArray[np.float64]


def run_campaign(treated: NDArray[np.bool_], options: CampaignOptions, generator: np.random.Generator) -> Campaign:
    """Simulate a campaign in which the users of ``treated`` get recommendations and the others none that change what they do."""
    users = len(treated)
    rate = generator.gamma(options.evenness, options.purchases / options.evenness, users)
    anyway = generator.poisson(rate)
    reached = generator.binomial(anyway, options.reached) * treated
    more = generator.poisson(rate * options.lift) * treated
    before = _margins(generator.poisson(rate), options, generator)
    unreached_margin = _margins(anyway - reached, options, generator)
    reached_margin = _margins(reached, options, generator)
    added = _margins(more, options, generator)
    return Campaign(
        treated=treated,
        before=before,
        lists=1 + generator.poisson(options.lists, users),
        clicks=generator.poisson(options.idle_clicks, users) + reached + more,
        purchases=anyway + more,
        margin=unreached_margin + reached_margin + added,
        credited=reached_margin + added,
        added=added,
    )


def _margins(purchases: NDArray[np.int64], options: CampaignOptions, generator: np.random.Generator) -> NDArray[np.float64]:
    """The margin of so many purchases of each user, each a whole number of cents."""
    each = np.round(options.margin_median * generator.lognormal(0.0, options.margin_sigma, int(purchases.sum())), 2)
    return np.bincount(np.repeat(np.arange(len(purchases)), purchases), weights=each, minlength=len(purchases)).astype(np.float64)
