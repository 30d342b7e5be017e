"""Exact money: sums of decimals that are never rounded."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final, NamedTuple

#: Wide enough for any sum of amounts; ``Inexact`` is trapped, so a sum that would need rounding raises instead.
EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation])
ZERO: Final = Decimal(0)


class Takings(NamedTuple):
    """Sums in one currency, all at or above zero: purchases, refunds, and the purchases whose item had been recommended."""

    revenue: Decimal = ZERO
    refunds: Decimal = ZERO
    attributable: Decimal = ZERO

    def plus(self, other: Takings) -> Takings:
        """The exact sum.

        >>> Takings(Decimal("0.10")).plus(Takings(Decimal("0.20"), Decimal("1"))).revenue
        Decimal('0.30')
        """
        add = EXACT.add
        return Takings(add(self[0], other[0]), add(self[1], other[1]), add(self[2], other[2]))


def takings_of(amount: Decimal, *, attributed: bool) -> Takings:
    """One outcome's money: a purchase's revenue is positive, a refund's negative.

    >>> takings_of(Decimal("-2.50"), attributed=False)
    Takings(revenue=Decimal('0'), refunds=Decimal('2.50'), attributable=Decimal('0'))
    """
    if not amount.is_finite():
        raise ValueError(f"amount {amount} is not a number")
    if amount < 0:
        return Takings(refunds=amount.copy_negate())
    return Takings(revenue=amount, attributable=amount if attributed else ZERO)


def add_takings(into: dict[str, Takings], other: dict[str, Takings]) -> None:
    """Add ``other`` to ``into``, currency by currency."""
    for currency, takings in other.items():
        known = into.get(currency)
        into[currency] = takings if known is None else known.plus(takings)
