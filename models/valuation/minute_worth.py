"""What the tests of one minute were worth, counted test by test in whole quanta, on its way to the exact sums of ``worth``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.retrieval.columns import longer
from models.valuation.games import COLUMNS, TESTS
from models.valuation.intervals import ReplicateSums, weighted_sums
from models.valuation.money import CLICKS, EXACT, MODELLED, Margin, amounts_of, part_of
from models.valuation.sums import NEVER
from models.valuation.worth import DECIMALS, QUANTUM, ROW_DECIMALS, Credit, Worth
from schemas.base import AMOUNT_DECIMALS

#: Tests after which 64 bits may be too few for their sums: values of up to 9,000 points each would still fit.
_FLUSHED: Final = 1_024


class Purchase(msgspec.Struct, array_like=True):
    """A purchase in a session. ``amount``: what refunds have left of its revenue, ``margin`` of
    what it earns, None where nobody knows. ``lift``: of its test, in quanta of utility points,
    0 where no recommendation is credited with it.

    ``clicked_ms``: it is a click that is not bought yet, of that time (0: a purchase), and ``amount`` what that is taken to be worth, 0
    once it is bought or can be no more.
    """

    sku: str
    amount: Decimal
    currency: str
    lift: int
    margin: Decimal | None = None
    modelled: bool = False
    clicked_ms: int = 0

    def left(self) -> dict[str, Decimal]:
        """What is left of it, by name of the sum."""
        if self.clicked_ms:
            return {self.currency + CLICKS: self.amount}
        return amounts_of(self.currency, self.amount, None if self.margin is None else Margin(self.margin, self.modelled))

    def given_back(self, amount: Decimal) -> dict[str, Decimal]:
        """``amount`` of it, at most all, was refunded, and as large a part of its margin: what that adds to which sums of money."""
        margin = None
        if self.margin is not None:
            less = part_of(self.margin, amount, self.amount)
            self.margin = EXACT.subtract(self.margin, less)
            margin = Margin(less.copy_negate(), self.modelled)
        self.amount = EXACT.subtract(self.amount, amount)
        if self.clicked_ms:
            return {self.currency + CLICKS: amount.copy_negate()}
        return amounts_of(self.currency, amount.copy_negate(), margin)


class Appraisal(NamedTuple):
    """One test, in quanta of utility points: ``utility`` and ``baseline``, and ``points`` int64[a] by asset number."""

    utility: int
    baseline: int
    points: NDArray[np.int64]


class MinuteWorth:
    """What the tests of one minute were worth, by asset number, in quanta: Python's integers, which have no end."""

    def __init__(self) -> None:
        self.low, self.high = NEVER, -1
        self._tests = self._utility = self._baseline = self._most_rows = 0
        # Of each asset: the columns of ``games.play``.
        self._credits: dict[int, list[int]] = {}
        self._sums = np.zeros((0, COLUMNS), np.int64)
        self._waiting = 0
        # Quanta times the smallest amounts, by name of the sum, and for each asset.
        self._lift_money: dict[str, int] = {}
        self._money: dict[str, dict[int, int]] = {}
        # Who paid, or was paid back, and what that adds to the gains and to the losses of each asset, by name of the sum.
        self._paid: dict[str, list[tuple[str, dict[int, int], dict[int, int]]]] = {}

    def sums(self, assets: int) -> NDArray[np.int64]:
        """int64[a, 6], of at least ``assets``: what the test that comes next is added to by ``games.play``; then it is to be ``add``ed."""
        if self._waiting >= _FLUSHED:
            self._flush()
        if len(self._sums) < assets:
            self._sums = longer(self._sums, assets, 0)
        return self._sums

    def add(self, appraisal: Appraisal, rows: int) -> None:
        """One test more, in a window of so many ``rows`` that take part."""
        self._tests += 1
        self._waiting += 1
        self._utility += appraisal.utility
        self._baseline += appraisal.baseline
        self._most_rows = max(self._most_rows, rows)

    def _flush(self) -> None:
        takes_part = np.flatnonzero(self._sums[:, TESTS])
        for number, values in zip(takes_part.tolist(), self._sums[takes_part].tolist(), strict=True):
            held = self._credits.get(number)
            self._credits[number] = values if held is None else [one + more for one, more in zip(held, values, strict=True)]
        self._sums[:] = 0
        self._waiting = 0

    def pay(self, shopper: str, bought: Purchase, points: Mapping[int, int], money: Mapping[str, Decimal]) -> None:
        """``money`` came in, or below 0 went back, by name of the sum, for something ``bought`` by ``shopper``, as it is left now; its test
        gave ``points`` by asset number.
        """
        left = bought.left()
        for name, amount in money.items():
            units = int(amount.scaleb(AMOUNT_DECIMALS, EXACT))
            self._lift_money[name] = self._lift_money.get(name, 0) + bought.lift * units
            held = self._money.setdefault(name, {})
            for number, quanta in points.items():
                held[number] = held.get(number, 0) + quanta * units
            if not name.endswith((MODELLED, CLICKS)):
                # What is left less what was left before, so that nothing remains of what was given back in parts.
                after = int(left[name].scaleb(AMOUNT_DECIMALS, EXACT))
                gains: dict[int, int] = {}
                losses: dict[int, int] = {}
                for number, quanta in points.items():
                    now, before = _whole_units(quanta * after), _whole_units(quanta * (after - units))
                    gains[number] = max(now, 0) - max(before, 0)
                    losses[number] = max(-now, 0) - max(-before, 0)
                self._paid.setdefault(name, []).append((shopper, gains, losses))

    def worths(self, pairs: Sequence[tuple[str, str]], dimensions: Iterable[str]) -> dict[str, Worth]:
        """By dimension; ``pairs``: dimension and name of each asset number."""
        self._flush()
        money: dict[int, dict[str, Decimal]] = {}
        for name, held in self._money.items():
            for number, amount in held.items():
                money.setdefault(number, {})[name] = _money(amount)
        lift_money = {name: _money(amount) for name, amount in self._lift_money.items()}
        worths = {
            dimension: Worth(
                self._tests, _points(self._utility), _points(self._baseline), self.low, self.high, dict(lift_money), {},
                most_rows=self._most_rows,
            )
            for dimension in dimensions
        }  # fmt: skip
        for number in sorted(self._credits.keys() | money.keys()):
            dimension, asset = pairs[number]
            tests, rows, owned, *quanta = self._credits.get(number, [0] * COLUMNS)
            points, player, without = map(_points, quanta)
            parts = Decimal(rows).scaleb(-ROW_DECIMALS, EXACT)
            worths[dimension].credits[asset] = Credit(tests, parts, owned, points, player, without, money.get(number, {}))
        return worths

    def replicates(self, pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, dict[str, ReplicateSums]]]:
        """Of the money, by dimension, asset and name of the sum; ``pairs`` as in ``worths``."""
        found: dict[str, dict[str, dict[str, ReplicateSums]]] = {}
        for name, paid in self._paid.items():
            numbers = sorted({number for _, gains, _ in paid for number in gains})
            units = [[side.get(number, 0) for side in (gains, losses) for number in numbers] for _, gains, losses in paid]
            sums = weighted_sums([shopper for shopper, _, _ in paid], units, 2 * len(numbers))
            for number, gained, lost in zip(numbers, sums[: len(numbers)], sums[len(numbers) :], strict=True):
                dimension, asset = pairs[number]
                found.setdefault(dimension, {}).setdefault(asset, {})[name] = ReplicateSums(gained, lost)
        return found


def _whole_units(amount: int) -> int:
    """Quanta times the smallest amounts as the smallest amounts, to the nearest."""
    value = (abs(amount) + QUANTUM // 2) // QUANTUM
    return value if amount >= 0 else -value


def _points(quanta: int) -> Decimal:
    return Decimal(quanta).scaleb(-DECIMALS, EXACT)


def _money(units: int) -> Decimal:
    return Decimal(units).scaleb(-DECIMALS - AMOUNT_DECIMALS, EXACT)
