"""What each arm of an experiment brought, as sums over shoppers that add up over the stream: the third layer of VALUATION, section 1.

The unit is the shopper, so a sum of squares is needed of each shopper's total. When a total moves from a to b the sum of squares
moves by b^2 - a^2: differences that add up like everything else, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from models.experiments.effects import incremental_margin, welch
from models.valuation.money import EXACT, ZERO

#: The arm of those who are held out (``Outcome.arm``).
HOLDOUT: Final = "holdout"
#: Shoppers in the smaller arm below which nothing is said: a mean of fewer is no normal variable.
LEAST_SHOPPERS: Final = 30


class Moments(msgspec.Struct, array_like=True):
    """Over the shoppers of one arm, in one currency: the sum of what each spent, and of its square."""

    total: Decimal = ZERO
    squares: Decimal = ZERO

    def plus(self, other: Moments) -> Moments:
        """The exact sum."""
        return Moments(EXACT.add(self.total, other.total), EXACT.add(self.squares, other.squares))


class ArmSums(msgspec.Struct, array_like=True):
    """One arm: how many shoppers it has, and their moments by currency."""

    shoppers: int = 0
    money: dict[str, Moments] = {}

    def plus(self, other: ArmSums) -> ArmSums:
        """The sums of disjoint parts of the stream."""
        money = dict(self.money)
        for currency, moments in other.money.items():
            money[currency] = money[currency].plus(moments) if currency in money else moments
        return ArmSums(self.shoppers + other.shoppers, money)


class Account(msgspec.Struct, array_like=True):
    """What one shopper spent in an arm, less refunds, by currency."""

    money: dict[str, Decimal] = {}

    def spent(self, currency: str, amount: Decimal) -> tuple[Account, Moments]:
        """The account after ``amount`` more (below 0: less), and by what the arm's moments move.

        >>> account, _ = Account().spent("GBP", Decimal("3"))
        >>> account.spent("GBP", Decimal("2"))[1]  # from 9 to 25
        Moments(total=Decimal('2'), squares=Decimal('16'))
        """
        before = self.money.get(currency, ZERO)
        after = EXACT.add(before, amount)
        squares = EXACT.subtract(EXACT.multiply(after, after), EXACT.multiply(before, before))
        return Account({**self.money, currency: after}), Moments(amount, squares)


class Spending(NamedTuple):
    """One outcome of a shopper in ``arm``, whose account is under ``account``; ``amount`` of ``currency`` came in, if any."""

    account: bytes
    arm: str
    currency: str | None
    amount: Decimal | None


class Forgotten(NamedTuple):
    """The accounts whose keys begin like this are closed; who comes back afterwards is a new shopper."""

    prefix: bytes


def booked(accounts: MutableMapping[bytes, Account | None], entries: Iterable[Spending | Forgotten]) -> dict[str, ArmSums]:
    """By what the sums of the arms move, entry after entry. ``accounts`` (None or absent: the shopper is new) are brought up to date."""
    moved: dict[str, ArmSums] = {}
    for entry in entries:
        if isinstance(entry, Forgotten):
            accounts.update((key, None) for key in accounts if key.startswith(entry.prefix))
            continue
        account = accounts.get(entry.account)
        change = ArmSums(int(account is None))
        account = account or Account()
        if entry.currency is not None and entry.amount is not None:
            account, moments = account.spent(entry.currency, entry.amount)
            change = ArmSums(change.shoppers, {entry.currency: moments})
        accounts[entry.account] = account
        moved[entry.arm] = moved[entry.arm].plus(change) if entry.arm in moved else change
    return moved


def added(one: Mapping[str, ArmSums], other: Mapping[str, ArmSums]) -> dict[str, ArmSums]:
    """The sums of disjoint parts of the stream, by arm."""
    both = {
        arm: one[arm].plus(other[arm]) if arm in one and arm in other else one.get(arm) or other[arm] for arm in one.keys() | other.keys()
    }
    return dict(sorted(both.items()))


class Incremental(NamedTuple):
    """What the treated shoppers brought because they were treated, in ``currency``, with its 95 % interval."""

    currency: str
    treated: int
    held_out: int
    amount: float
    low: float
    high: float


def incremental(arms: Mapping[str, ArmSums], level: float = 0.95) -> list[Incremental]:
    """Difference of means between treated and held-out shoppers x treated shoppers, by currency (``experiments.effects``).

    Treated are all that were not held out, by whichever weights their lists were made.
    Empty without a hold-out, and while either arm has fewer than ``LEAST_SHOPPERS`` shoppers.
    """
    held_out, treated = arms.get(HOLDOUT, ArmSums()), ArmSums()
    for arm, sums in arms.items():
        if arm != HOLDOUT:
            treated = treated.plus(sums)
    if min(treated.shoppers, held_out.shoppers) < LEAST_SHOPPERS:
        return []
    found = []
    for currency in sorted(treated.money.keys() | held_out.money.keys()):
        means, variances = zip(*(_mean(arm, currency) for arm in (treated, held_out)), strict=True)
        margin = incremental_margin(welch(means[0] - means[1], variances, (treated.shoppers, held_out.shoppers), level), treated.shoppers)
        found.append(Incremental(currency, treated.shoppers, held_out.shoppers, margin.amount, margin.low, margin.high))
    return found


def _mean(arm: ArmSums, currency: str) -> tuple[float, float]:
    """The mean over all shoppers of the arm, those who spent nothing included, and the variance of that mean."""
    moments = arm.money.get(currency, Moments())
    # Exact until here: the difference of two large sums is where floats would lose everything.
    spread = EXACT.subtract(EXACT.multiply(moments.squares, Decimal(arm.shoppers)), EXACT.multiply(moments.total, moments.total))
    count = arm.shoppers
    return float(moments.total) / count, float(spread) / count / (count - 1) / count
