"""What the tests of one minute were worth, counted test by test in whole quanta, on its way to the exact sums of ``worth``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.valuation.money import EXACT, ZERO
from models.valuation.sums import NEVER
from models.valuation.worth import DECIMALS, Credit, Worth


class Purchase(msgspec.Struct, array_like=True):
    """A purchase in a session. ``amount``: what refunds have left of it. ``lift``: of its test, in quanta of utility points."""

    sku: str
    amount: Decimal
    currency: str
    lift: int


class Appraisal(NamedTuple):
    """One test, in quanta of utility points: ``utility`` and ``baseline``; by asset number ``points``, ``player`` and ``leave_one_out``;
    ``rows``: how many rows of each there are, 0 where it takes no part. All int64[a].
    """

    utility: int
    baseline: int
    points: NDArray[np.int64]
    player: NDArray[np.int64]
    leave_one_out: NDArray[np.int64]
    rows: NDArray[np.int64]


class MinuteWorth:
    """What the tests of one minute were worth, by asset number, in quanta: Python's integers, which have no end."""

    def __init__(self) -> None:
        self.low, self.high = NEVER, -1
        self._tests = self._utility = self._baseline = 0
        # Of each asset: tests, rows, points, player, leave-one-out.
        self._credits: dict[int, list[int]] = {}
        self._lift_money: dict[str, Decimal] = {}
        self._money: dict[tuple[int, str], Decimal] = {}

    def add(self, appraisal: Appraisal) -> None:
        """One test more."""
        self._tests += 1
        self._utility += appraisal.utility
        self._baseline += appraisal.baseline
        # An asset of a few events may earn points without owning a row, and what plays for many may own none itself.
        takes_part = np.flatnonzero((appraisal.rows > 0) | (appraisal.points != 0) | (appraisal.player != 0))
        columns = (array[takes_part].tolist() for array in (appraisal.rows, *appraisal[2:5]))
        for number, *values in zip(takes_part.tolist(), *columns, strict=True):
            held = self._credits.get(number)
            if held is None:
                self._credits[number] = [1, *values]
            else:
                held[0] += 1
                for i, value in enumerate(values, 1):
                    held[i] += value

    def pay(self, bought: Purchase, points: Mapping[int, int], amount: Decimal) -> None:
        """``amount`` came in, or below 0 went back, for something bought, whose test gave ``points`` by asset number."""
        times, add, currency = EXACT.multiply, EXACT.add, bought.currency
        self._lift_money[currency] = add(self._lift_money.get(currency, ZERO), times(_points(bought.lift), amount))
        for number, quanta in points.items():
            self._money[number, currency] = add(self._money.get((number, currency), ZERO), times(_points(quanta), amount))

    def worths(self, pairs: Sequence[tuple[str, str]], dimensions: Iterable[str]) -> dict[str, Worth]:
        """By dimension; ``pairs``: dimension and name of each asset number."""
        money: dict[int, dict[str, Decimal]] = {}
        for (number, currency), amount in self._money.items():
            money.setdefault(number, {})[currency] = amount
        worths = {
            dimension: Worth(
                self._tests, _points(self._utility), _points(self._baseline), self.low, self.high, dict(self._lift_money), {}
            )
            for dimension in dimensions
        }  # fmt: skip
        for number in sorted(self._credits.keys() | money.keys()):
            dimension, asset = pairs[number]
            tests, rows, *quanta = self._credits.get(number, (0, 0, 0, 0, 0))
            points, player, without = map(_points, quanta)
            worths[dimension].credits[asset] = Credit(tests, rows, points, player, without, money.get(number, {}))
        return worths


def _points(quanta: int) -> Decimal:
    return Decimal(quanta).scaleb(-DECIMALS, EXACT)
