"""What each arm of an experiment brought, as sums over shoppers that add up over the stream: the third layer of VALUATION, section 1.

The unit is the shopper, so a sum of squares is needed of each shopper's total. When a total moves from a to b the sum of squares
moves by b^2 - a^2: differences that add up like everything else, exactly. So do the sums of what shoppers brought before, which CUPED needs
(``accounts``).

Each experiment has books of its own (``book_of``). They are closed when nothing was heard of it for ``HORIZON_MS`` of event time: what they
hold is taken back from the sums, and its shoppers' accounts are forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from models.valuation.money import EXACT, ZERO
from models.valuation.panes import WINDOWS

#: The arm of those who are held out (``Outcome.arm``).
HOLDOUT: Final = "holdout"
#: How long an experiment of which nothing is heard keeps its books: the longest window of the records.
HORIZON_MS: Final = 1_000 * WINDOWS["7d"].length_s * WINDOWS["7d"].panes


class Moments(msgspec.Struct, array_like=True):
    """Over the shoppers of one arm, of one sum of money: the sum of what each spent, and of its square; of each one's ``past`` and of its
    square; and of the products of the two.
    """

    total: Decimal = ZERO
    squares: Decimal = ZERO
    past: Decimal = ZERO
    past_squares: Decimal = ZERO
    products: Decimal = ZERO

    def plus(self, other: Moments) -> Moments:
        """The exact sum."""
        add = EXACT.add
        return Moments(
            add(self.total, other.total),
            add(self.squares, other.squares),
            add(self.past, other.past),
            add(self.past_squares, other.past_squares),
            add(self.products, other.products),
        )

    def negated(self) -> Moments:
        """What takes them back."""
        return Moments(
            self.total.copy_negate(),
            self.squares.copy_negate(),
            self.past.copy_negate(),
            self.past_squares.copy_negate(),
            self.products.copy_negate(),
        )


class ArmSums(msgspec.Struct, array_like=True):
    """One arm: how many shoppers it has, their moments by name of the sum (``money.MONEY_NAMES``), and the time of its newest outcome."""

    shoppers: int = 0
    money: dict[str, Moments] = {}
    newest_ms: int = 0

    def plus(self, other: ArmSums) -> ArmSums:
        """The sums of disjoint parts of the stream."""
        money = dict(self.money)
        for currency, moments in other.money.items():
            money[currency] = money[currency].plus(moments) if currency in money else moments
        return ArmSums(self.shoppers + other.shoppers, money, max(self.newest_ms, other.newest_ms))

    def negated(self) -> ArmSums:
        """What takes them back."""
        money = {currency: moments.negated() for currency, moments in self.money.items()}
        return ArmSums(-self.shoppers, money, self.newest_ms)


def book_of(experiment: str, arm: str) -> str:
    """The name under which an arm of an experiment (``Experiment.identity``; empty where none is named) is added up.

    >>> book_of("9f2c", "holdout")
    '9f2c:holdout'
    """
    return f"{experiment}:{arm}"


def is_over(newest_ms: int, watermark_ms: int) -> bool:
    """Whether an experiment of which nothing was heard since ``newest_ms`` has no books any more."""
    return newest_ms < watermark_ms - HORIZON_MS


def added(one: Mapping[str, ArmSums], other: Mapping[str, ArmSums]) -> dict[str, ArmSums]:
    """The sums of disjoint parts of the stream, by book."""
    both = {
        book: one[book].plus(other[book]) if book in one and book in other else one.get(book) or other[book]
        for book in one.keys() | other.keys()
    }
    return dict(sorted(both.items()))
