"""The register: what each data asset did for predicting a set of tests, beside what chance would have said of it.

Three numbers an asset, all in utility points per outcome (VALUATION, section 3). ``points``: the sum of its rows' centred KNN-Shapley
values. ``player``: its value where assets are the players, which copies of its rows move less. ``leave_one_out``: what the lift
would lose without it. ``points`` and ``player`` of all assets add up to the lift over popularity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.valuation.asset_game import PLAYER_LIMIT, asset_game, leave_one_out
from models.valuation.assets import OTHER
from models.valuation.intervals import batch_means
from models.valuation.neighbours import Neighbours, NeighbourWindow
from models.valuation.truncation import truncated, vote

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

#: Panes of consecutive outcomes that an interval is made of.
PANES: Final = 30


class Owners(NamedTuple):
    """To which asset of one dimension the rows of a test's ``Neighbours`` belong: ``head`` int64[m], ``beyond`` int64[b], ``left_out``
    int64[l]. ``totals`` int64[g]: rows of each asset in the whole window.
    """

    head: Int64
    beyond: Int64
    left_out: Int64
    totals: Int64


def owners_of(window: NeighbourWindow, found: Neighbours, dimension: int, assets: int) -> Owners:
    """The owners of the rows of ``found`` in a window as it is, ``assets`` being at least the number of assets that it has seen."""
    head, beyond, left_out = (window.assets(ids)[:, dimension] for ids in (found.rows, found.beyond, found.left_out))
    totals = window.totals(dimension)
    return Owners(head, beyond, left_out, np.pad(totals, (0, assets - len(totals))))


class AssetValues(NamedTuple):
    """Of one test: float64[g] each, and the ``lift`` that ``points`` and ``player`` add up to."""

    points: Float64
    player: Float64
    leave_one_out: Float64
    lift: float


def value_test(found: Neighbours, owners: Owners, k: int) -> AssetValues:
    """The values of the assets of one dimension for one test, at most ``PLAYER_LIMIT`` of them, in a vote of the ``k`` nearest rows."""
    assets = len(owners.totals)
    rows = owners.totals - np.bincount(owners.left_out, minlength=assets)
    beyond = rows - np.bincount(owners.head, minlength=assets)
    matching = np.bincount(owners.beyond, minlength=assets)
    few, far = len(found.beyond), int(beyond.sum())
    total = int(rows.sum())
    if not total:
        nothing = np.zeros(assets)
        return AssetValues(nothing, nothing, nothing, 0.0)
    utility, popularity = vote(found.match.astype(np.float64), few, far, k)
    row = truncated(found.match, few, far, k)
    points = np.bincount(owners.head, weights=row.head, minlength=assets) - popularity / total * rows
    points += row.matched * matching + row.unmatched * (beyond - matching)
    game = (owners.head, found.match, k, beyond, matching, assets)
    return AssetValues(points, asset_game(*game), leave_one_out(*game), utility - popularity)


@dataclass(frozen=True, slots=True)
class RegisterLine:
    """One asset. Values in utility points per outcome, shares in 0..1 of the lift (None where there is none to share).

    ``low`` and ``high``: 95 % of ``points``, by batch means over panes of consecutive outcomes; ``insufficient`` where there are too few.
    ``random_share``: the share in the points that the asset has on average where assets are dealt to the rows by chance, ``random_spread``
    its standard deviation over the deals; ``random_player`` and ``random_player_spread``: the same of the player's share.
    """

    dimension: str
    asset: str
    rows: int
    points: float
    share: float | None
    low: float | None
    high: float | None
    insufficient: bool
    player: float
    player_share: float | None
    leave_one_out: float
    random_share: float | None
    random_spread: float | None
    random_player: float | None
    random_player_spread: float | None


class Register:
    """Values of the assets of one dimension over a window that stands still (a training part), test by test in the order of time.

    ``ids`` int64[n]: the rows of the window, rising, and ``owner`` int64[n] their assets, numbers of ``names``; ``shuffles``: how often
    assets are dealt to the rows by chance. Of more than 12 assets all but the 11 of most rows are folded into ``OTHER``.
    """

    def __init__(
        self, dimension: str, ids: Int64, owner: Int64, names: Sequence[str], k: int, *, shuffles: int = 10, seed: int = 0
    ) -> None:
        self.dimension = dimension
        self._ids = ids
        owner, self._names = fold(owner, names)
        self._k = k
        self._totals = np.bincount(owner, minlength=len(self._names)).astype(np.int64)
        chance = np.random.default_rng(seed)
        #: The true owners, then those of each deal.
        self._owners = [owner, *(chance.permutation(owner) for _ in range(shuffles))]
        self._points: list[Float64] = []
        self._sums = np.zeros((len(self._owners), 3, len(self._names)))
        self._lift = 0.0
        self._residual = 0.0

    @property
    def tests(self) -> int:
        """Outcomes taken so far."""
        return len(self._points)

    @property
    def lift(self) -> float:
        """Mean lift of the vote over popularity, in points per outcome."""
        return self._lift / max(1, self.tests)

    @property
    def residual(self) -> float:
        """By how much the assets' points, or players, of a test have missed its lift at most."""
        return self._residual

    def take(self, found: Neighbours) -> None:
        """Add one test."""
        rows, beyond, out = (np.searchsorted(self._ids, ids) for ids in (found.rows, found.beyond, found.left_out))
        for deal, owner in enumerate(self._owners):
            values = value_test(found, Owners(owner[rows], owner[beyond], owner[out], self._totals), self._k)
            self._sums[deal] += values[:3]
            self._residual = max(self._residual, *(abs(float(part.sum()) - values.lift) for part in values[:2]))
            if deal == 0:
                self._points.append(values.points)
                self._lift += values.lift

    def lines(self) -> list[RegisterLine]:
        """The assets, most valuable first by ``points``."""
        if not self.tests:
            return []
        means = self._sums / self.tests
        dealt = [_shares(means[1:, part]) for part in (0, 1)]
        bounds = np.linspace(0, self.tests, min(PANES, self.tests) + 1).astype(int)
        panes = np.add.reduceat(np.array(self._points), bounds[:-1], axis=0)
        lines = []
        for asset, name in enumerate(self._names):
            interval = batch_means(panes[:, asset].tolist(), np.diff(bounds).tolist())
            by_chance = [None if part is None else (float(part[:, asset].mean()), _spread(part[:, asset])) for part in dealt]
            points, player, absent = (float(means[0, part, asset]) for part in range(3))
            lines.append(
                RegisterLine(
                    self.dimension, name, int(self._totals[asset]), points, _share(points, self.lift), interval.low, interval.high,
                    interval.insufficient, player, _share(player, self.lift), absent, *(by_chance[0] or (None, None)),
                    *(by_chance[1] or (None, None)),
                )
            )  # fmt: skip
        return sorted(lines, key=lambda line: -line.points)


def fold(owner: Int64, names: Sequence[str], limit: int = PLAYER_LIMIT) -> tuple[Int64, list[str]]:
    """At most ``limit`` assets: those of most rows under new numbers in their old order, and ``OTHER``, last, for the rest.

    >>> fold(np.array([0, 1, 2, 2, 1, 3]), ["a", "b", "c", "d"], limit=3)
    (array([2, 0, 1, 1, 0, 2]), ['b', 'c', 'other'])
    """
    counts = np.bincount(owner, minlength=len(names))
    used = np.flatnonzero(counts)
    if len(used) > limit:
        used = np.sort(np.argsort(-counts, kind="stable")[: limit - 1])
    number = np.full(len(names), len(used), np.int64)
    number[used] = np.arange(len(used))
    kept = [names[asset] for asset in used.tolist()]
    return number[owner], kept if int(counts[used].sum()) == len(owner) else [*kept, OTHER]


def _share(value: float, lift: float) -> float | None:
    """``value`` as a share of the lift; of no lift, or a loss, there are no shares."""
    return value / lift if lift > 0 else None


def _shares(means: Float64) -> Float64 | None:
    """float64[deals, g] as shares of each deal's sum."""
    sums = means.sum(axis=1, keepdims=True)
    return means / sums if len(means) and bool((sums > 0).all()) else None


def _spread(shares: Float64) -> float | None:
    return float(shares.std(ddof=1)) if len(shares) > 1 else None


def registers(parts: Iterable[Register]) -> list[RegisterLine]:
    """The lines of several dimensions, end to end."""
    return [line for part in parts for line in part.lines()]
