"""How often intervals hold what they should, over many replays: ours, and the naive one that takes events to be independent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.valuation.intervals import BatchLadder, batch_means, poisson_bootstrap
from tests.models.valuation.replays import Floats, buyers, by_pane

NORMAL = 1.96


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of replays whose 95 % interval held the truth, and how much wider ours was on average."""

    ours: float
    naive: float
    width: float

    def __str__(self) -> str:
        return f"{100 * self.ours:5.1f} % (i.i.d. {100 * self.naive:5.1f} %; {self.width:.2f} x as wide)"


class _Replay(NamedTuple):
    ours: tuple[float, float]
    naive: tuple[float, float]
    truth: float


def _coverage(replays: list[_Replay]) -> Coverage:
    return Coverage(
        fmean(low <= truth <= high for (low, high), _, truth in replays),
        fmean(low <= truth <= high for _, (low, high), truth in replays),
        fmean(high - low for (low, high), _, _ in replays) / fmean(high - low for _, (low, high), _ in replays),
    )


def mean_coverage(values: Floats, counts: NDArray[np.int64], truth: float, sums: Floats | None = None) -> Coverage:
    """Of the mean of each row of ``values`` (replays, outcomes), ``counts`` in each pane."""
    replays = []
    for outcomes, panes in zip(values, by_pane(values, counts) if sums is None else sums, strict=True):
        interval = batch_means(panes.tolist(), counts.tolist())
        assert interval.low is not None
        assert interval.high is not None
        mean, half = float(outcomes.mean()), NORMAL * float(outcomes.std(ddof=1)) / np.sqrt(len(outcomes))
        replays.append(_Replay((interval.low, interval.high), (mean - half, mean + half), truth))
    return _coverage(replays)


def money_coverage(generator: np.random.Generator, replays: int, mean_buyers: int, purchases: float, sigma: float) -> Coverage:
    """Of the total that a Poisson number of buyers spends (see ``replays.buyers``), against purchases taken as independent."""
    made = []
    for number in range(replays):
        buyer, amounts = buyers(generator, mean_buyers, purchases, sigma)
        cents = np.round(100 * 50 * amounts).astype(np.int64)
        names = [f"{number}-{index}" for index in buyer.tolist()]
        interval = poisson_bootstrap(names, [Decimal(amount).scaleb(-2) for amount in cents.tolist()]).interval()
        assert interval.low is not None
        assert interval.high is not None
        total, half = float(interval.estimate), NORMAL * float(np.sqrt((cents.astype(float) ** 2).sum())) / 100
        made.append(_Replay((float(interval.low), float(interval.high)), (total - half, total + half), 50.0 * mean_buyers * purchases))
    return _coverage(made)


def ladder_coverage(values: Floats, counts: NDArray[np.int64], truth: float) -> Coverage:
    """Of the mean of each row of ``values``, ``counts`` in each minute, by a ladder over all minutes."""
    replays = []
    for outcomes, minutes in zip(values, by_pane(values, counts), strict=True):
        ladder = BatchLadder()
        for minute, (value, count) in enumerate(zip(minutes.tolist(), counts.tolist(), strict=True)):
            ladder.add(60_000 * minute, Decimal(round(value * 10**9)).scaleb(-9), count)
        interval = ladder.interval()
        assert interval.low is not None
        assert interval.high is not None
        mean, half = float(outcomes.mean()), NORMAL * float(outcomes.std(ddof=1)) / np.sqrt(len(outcomes))
        replays.append(_Replay((interval.low, interval.high), (mean - half, mean + half), truth))
    return _coverage(replays)
