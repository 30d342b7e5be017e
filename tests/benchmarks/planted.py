"""Does valuation find planted worth? Channels of 2 to 50 % noise, valued as a stream: each outcome is scored, then learned.

Judged over seeds: Kendall's tau between the channels' points and their planted order; whether the interval of the noisiest channel
lies below 0; and by how much the share of a channel moves whose every session comes ten times. Copies outvote others at any K above 1, so
good data copied gains a little, and bad data copied is worth less than before; what rows alone are worth, points, says ten times as much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from models.simulation.planted import CORRUPTED, planted_sessions
from models.valuation.intervals import Interval, batch_means
from models.valuation.neighbours import SessionNeighbours
from models.valuation.register import PANES, owners_of, value_test
from tests.benchmarks.report import Report

OUTCOMES = 3_000
SEEDS = 20
WINDOW = 10_000
THEMES = 20
K = 5
COPIES = 10


@dataclass(frozen=True, slots=True)
class Books:
    """Of one run: ``points`` and ``player`` float64[outcomes, channels], seconds spent, and the largest residual of a sum."""

    points: NDArray[np.float64]
    player: NDArray[np.float64]
    seconds: float
    residual: float

    def intervals(self) -> list[Interval]:
        """Of each channel's points per outcome, by panes of consecutive outcomes."""
        size = len(self.points) // PANES
        panes = self.points[: PANES * size].reshape(PANES, size, -1).sum(axis=1)
        return [batch_means(column.tolist(), [size] * PANES) for column in panes.T]

    def tau(self, corrupted: Sequence[float] = CORRUPTED) -> float:
        """Kendall's tau-b between points and the planted order, 1 where they agree."""
        return float(kendalltau(-np.array(corrupted), self.points.sum(axis=0)).statistic)

    def player_shares(self) -> NDArray[np.float64]:
        """float64[channels], which add up to 1."""
        sums = self.player.sum(axis=0)
        return np.asarray(sums / sums.sum())

    def point_shares(self) -> NDArray[np.float64]:
        """float64[channels], which add up to 1."""
        sums = self.points.sum(axis=0)
        return np.asarray(sums / sums.sum())


def keep_books(
    seed: int, outcomes: int = OUTCOMES, *, copied: int | None = None, window: int = WINDOW, k: int = K, themes: int = THEMES
) -> Books:
    """Value the channels on ``outcomes`` outcomes, each scored before it is learned, from the moment on at which ``WINDOW`` sessions are
    known; every session of channel ``copied`` enters the window ten times.
    """
    channels = len(CORRUPTED)
    rows = SessionNeighbours(window, dimensions=1)
    points, player = np.zeros((outcomes, channels)), np.zeros((outcomes, channels))
    seconds, residual = 0.0, 0.0
    for number, one in enumerate(planted_sessions(seed, WINDOW + outcomes, themes=themes), -WINDOW):
        rows.add(one.name, one.name, one.context[::-1], one.at_ms, [one.channel])
        if number >= 0:
            began = time.perf_counter()
            found = rows.neighbours(one.name, None, one.context, one.label, one.at_ms)
            values = value_test(found, owners_of(rows, found, 0, channels), k)
            seconds += time.perf_counter() - began
            points[number], player[number] = values.points, values.player
            residual = max(residual, abs(float(values.points.sum()) - values.lift), abs(float(values.player.sum()) - values.lift))
        rows.extend(one.name, one.label, one.at_ms)
        for copy in range(1, COPIES if one.channel == copied else 1):
            rows.add(f"{one.name}/{copy}", f"{one.name}/{copy}", (*one.context[::-1], one.label), one.at_ms, [one.channel])
    return Books(points, player, seconds, residual)


def moved_by_copies(seed: int, outcomes: int = OUTCOMES) -> NDArray[np.float64]:
    """float64[2, channels]: percentage points by which the share of each channel, as a player and in the points, moves when its every
    session comes ten times, in a window that holds them all.
    """
    window = (WINDOW + outcomes) * COPIES
    before = keep_books(seed, outcomes, window=window)
    moved = np.empty((2, len(CORRUPTED)))
    for channel in range(len(CORRUPTED)):
        after = keep_books(seed, outcomes, copied=channel, window=window)
        moved[0, channel] = after.player_shares()[channel] - before.player_shares()[channel]
        moved[1, channel] = after.point_shares()[channel] - before.point_shares()[channel]
    return 100 * moved


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``: ``repetitions`` are of the copied channels, ``events`` outcomes a seed. Needs no broker."""
    outcomes = events or OUTCOMES
    books = [keep_books(seed, outcomes) for seed in range(SEEDS)]
    intervals = [one.intervals() for one in books]
    before = np.array([one.player_shares() for one in books])
    # Seven runs each, in a window ten times as long: on fewer outcomes.
    moved = np.array([moved_by_copies(seed, outcomes // 2) for seed in range(repetitions)])
    rows = [
        {
            "system": "assay", "job": "planted", "channel": f"{share:.0%} noise", "unit": "points per 1,000 outcomes",
            "points": 1_000 * fmean(float(one.points[:, channel].mean()) for one in books),
            "low": 1_000 * fmean(one[channel].low or 0.0 for one in intervals),
            "high": 1_000 * fmean(one[channel].high or 0.0 for one in intervals),
            "below_zero_pct": 100 * fmean(float((one[channel].high or 0.0) < 0) for one in intervals),
            "player_share_pct": 100 * float(before[:, channel].mean()),
            "copied_ten_times_player_moves_pct": float(moved[:, 0, channel].mean()),
            "copied_ten_times_points_move_pct": float(moved[:, 1, channel].mean()),
        }
        for channel, share in enumerate(CORRUPTED)
    ]  # fmt: skip
    taus = [one.tau() for one in books]
    return Report(
        "planted", rows,
        (
            f"{SEEDS} seeds of {outcomes:,} outcomes, window {WINDOW:,}, K = {K}: Kendall's tau at least {min(taus):.3f}, "
            f"mean {fmean(taus):.3f}, at or above 0.9 in {sum(tau >= 0.9 for tau in taus)} seeds",
            f"the sums miss the lift by {max(one.residual for one in books):.1e} at most; "
            f"{1e3 * fmean(one.seconds for one in books) / outcomes:.2f} ms an outcome (points, players, leave one out, one thread)",
        ),
    )  # fmt: skip
