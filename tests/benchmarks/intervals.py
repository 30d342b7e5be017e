"""What intervals hold: coverage of 95 % intervals by dependence and by tail, beside naive ones on the same replays.

Three parts: the mean of outcomes over panes, the money of a window, and experiments (campaigns with a hold-out, and tests of equal
rankers that are looked at again and again). Streams and campaigns are simulated, so that the truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.simulation.campaign import CampaignOptions
from tests.benchmarks.report import Report, medians
from tests.models.experiments.campaigns import campaign_coverage
from tests.models.experiments.peeking import false_positives
from tests.models.valuation.coverage import Coverage, mean_coverage, money_coverage
from tests.models.valuation.replays import autocorrelated, hits, pane_counts, with_pane_effects

#: Replays of a row in one repetition; campaigns are a third as many.
REPLAYS = 1_000
PANES = 60
OUTCOMES_PER_PANE = 20
CORRELATIONS = (0.0, 0.5, 0.9)
TAILS = (0.5, 1.0, 1.5)
BUYERS = (100, 1_000)


def measure(seed: int, replays: int = REPLAYS) -> Iterator[dict[str, object]]:
    """The rows of one repetition: percentages, but for the last two of a campaign, which are multiples of the margin really added."""
    generator = np.random.default_rng(seed)
    counts = pane_counts(generator, PANES, PANES * OUTCOMES_PER_PANE, uneven=False)
    uneven = pane_counts(generator, PANES, PANES * OUTCOMES_PER_PANE, uneven=True)
    for correlation in CORRELATIONS:
        values = autocorrelated(generator, replays, int(counts.sum()), correlation)
        yield _row("mean over 60 panes", f"AR(1) {correlation:g} from outcome to outcome", mean_coverage(values, counts, 0.0))
        values = autocorrelated(generator, replays, int(uneven.sum()), correlation)
        yield _row("mean over 60 panes", f"the same, panes uneven: AR(1) {correlation:g}", mean_coverage(values, uneven, 0.0))
        clicks = hits(generator, replays, int(counts.sum()), correlation, 0.1)
        yield _row("mean over 60 panes", f"hits (10 %) over an AR(1) {correlation:g}", mean_coverage(clicks, counts, 0.1))
    for correlation in (0.3, 0.6):
        sums, values = with_pane_effects(generator, replays, counts, correlation, 0.2)
        yield _row(
            "mean over 60 panes", f"pane means AR(1) {correlation:g}, a fifth of the variance", mean_coverage(values, counts, 0.0, sums)
        )
    for sigma in TAILS:
        for mean_buyers in BUYERS:
            case = f"log-normal, sigma {sigma:g}, {mean_buyers:,} buyers of 2 purchases"
            yield _row("money of a window", case, money_coverage(generator, replays, mean_buyers, 2.0, sigma))
    for sigma in (1.0, 1.5):
        campaigns = campaign_coverage(max(10, replays // 3), seed, options=CampaignOptions(margin_sigma=sigma))
        case = f"20,000 users, 5 % held out, sigma {sigma:g}"
        yield _figures("incremental margin", f"{case}: coverage", 100 * campaigns.plain, None, "% of campaigns")
        yield _figures("incremental margin", f"{case}: coverage with CUPED", 100 * campaigns.adjusted, None, "% of campaigns")
        yield _figures(
            "incremental margin", f"{case}: estimate, beside last-touch credit", campaigns.estimate, campaigns.over_statement, "x of added"
        )
    fixed, always_valid = false_positives("skewed", generator, replays)
    yield _figures(
        "equal rankers", "looked at every 100 users up to 20,000: ever told apart", 100 * always_valid, 100 * fixed, "% of tests"
    )


def _row(job: str, case: str, coverage: Coverage) -> dict[str, object]:
    return _figures(job, case, 100 * coverage.ours, 100 * coverage.naive, "% of replays", coverage.width)


def _figures(job: str, case: str, ours: float, naive: float | None, unit: str, width: float | None = None) -> dict[str, object]:
    return {"job": job, "case": case, "ours": ours, "naive": naive, "unit": unit, "width_over_naive": width}


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``; needs no broker. ``events``: replays of a row in each repetition."""
    rows = [row for seed in range(1, repetitions + 1) for row in measure(seed, events or REPLAYS)]
    remarks = (
        "Coverage should be 95 %; the naive interval takes outcomes, and purchases, to be independent (mean +- 1.96 s / sqrt n).",
        "Of equal rankers at most 5 % should be told apart; the naive interval is the one for a single look (Welch).",
    )
    return Report("intervals", medians(rows, ("job", "case")), remarks)


if __name__ == "__main__":
    print(run().table())
