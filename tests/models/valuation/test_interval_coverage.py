"""Do 95 % intervals hold the truth in 95 % of replays? Each line printed is a figure of the documentation; -s shows them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.models.valuation.coverage import ladder_coverage, mean_coverage, money_coverage
from tests.models.valuation.replays import autocorrelated, hits, pane_counts, with_pane_effects

REPLAYS = 1_000


@pytest.mark.parametrize("panes", [60, 168])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_means_of_outcomes_that_depend_on_each_other(correlation: float, panes: int) -> None:
    generator = np.random.default_rng([1, panes, int(10 * correlation)])
    counts = pane_counts(generator, panes, 20 * panes, uneven=False)
    coverage = mean_coverage(autocorrelated(generator, REPLAYS, 20 * panes, correlation), counts, 0.0)
    print(f"AR(1) {correlation}, {panes} panes of 20: {coverage}")
    assert 0.93 <= coverage.ours <= 0.97
    assert coverage.naive < 0.55 or correlation < 0.9


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_means_over_panes_of_which_some_are_crowded_and_some_empty(correlation: float) -> None:
    generator = np.random.default_rng([2, int(10 * correlation)])
    counts = pane_counts(generator, 60, 1_200, uneven=True)
    assert (counts == 0).any()
    coverage = mean_coverage(autocorrelated(generator, REPLAYS, 1_200, correlation), counts, 0.0)
    print(f"AR(1) {correlation}, 60 uneven panes: {coverage}")
    assert 0.93 <= coverage.ours <= 0.975


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_shares_of_hits(correlation: float) -> None:
    """120 hits; in long runs (0.9) they are the worth of some twenty, and their number is skewed."""
    generator = np.random.default_rng([3, int(10 * correlation)])
    counts = pane_counts(generator, 60, 1_200, uneven=False)
    coverage = mean_coverage(hits(generator, REPLAYS, 1_200, correlation, 0.1), counts, 0.1)
    print(f"hits, 10 %, over an AR(1) {correlation}: {coverage}")
    assert (0.92 if correlation else 0.93) <= coverage.ours <= 0.97


@pytest.mark.parametrize(
    ("panes", "correlation", "least"), [(60, 0.3, 0.93), (60, 0.6, 0.92), (168, 0.6, 0.93), (60, 0.8, 0.87), (168, 0.8, 0.93)]
)
def test_panes_that_depend_on_each_other(panes: int, correlation: float, least: float) -> None:
    """A twentieth of the variance is the pane's; at 0.8 sixty panes are the worth of seven, and the interval falls short."""
    generator = np.random.default_rng([4, panes, int(10 * correlation)])
    counts = pane_counts(generator, panes, 20 * panes, uneven=False)
    sums, values = with_pane_effects(generator, REPLAYS, counts, correlation, 0.05)
    coverage = mean_coverage(values, counts, 0.0, sums)
    print(f"pane means AR(1) {correlation}, {panes} panes: {coverage}")
    assert least <= coverage.ours <= 0.97


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_ladders_since_the_beginning(correlation: float) -> None:
    """5,000 minutes of 2 outcomes; bins of about 256 minutes."""
    generator = np.random.default_rng([5, int(10 * correlation)])
    counts = pane_counts(generator, 5_000, 10_000, uneven=False)
    coverage = ladder_coverage(autocorrelated(generator, 300, 10_000, correlation), counts, 0.0)
    print(f"AR(1) {correlation}, a ladder over 5,000 minutes: {coverage}")
    assert 0.92 <= coverage.ours <= 0.98


@pytest.mark.parametrize(("sigma", "buyers"), [(0.5, 100), (1.0, 100), (1.5, 300)])
def test_money_with_heavy_tails(sigma: float, buyers: int) -> None:
    """Of sigma 1.5 some 92 to 93 % are covered."""
    coverage = money_coverage(np.random.default_rng([6, int(10 * sigma), buyers]), REPLAYS, buyers, 2.0, sigma)
    print(f"log-normal, sigma {sigma}, {buyers} buyers of 2 purchases: {coverage}")
    assert (0.92 if sigma == 1.5 else 0.93) <= coverage.ours <= 0.97
    assert coverage.naive < coverage.ours - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("buyers", "purchases"), [*product([50, 100, 300], [1.0, 2.0, 5.0]), (1_000, 2.0)])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_money_with_all_tails(sigma: float, buyers: int, purchases: float) -> None:
    """Sigma 2 is beyond what is promised: three hundred buyers of it are the worth of twenty-five."""
    coverage = money_coverage(np.random.default_rng([7, int(10 * sigma), buyers, int(purchases)]), REPLAYS, buyers, purchases, sigma)
    print(f"log-normal, sigma {sigma}, {buyers} buyers of {purchases:g} purchases: {coverage}")
    assert {0.5: 0.94, 1.0: 0.94, 1.5: 0.91, 2.0: 0.86}[sigma] <= coverage.ours <= 0.98
