"""Exact money: sums of decimals that are never rounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation
from typing import Final, Literal, NamedTuple, TypeAlias

from schemas.base import AMOUNT_DECIMALS
from schemas.currency import CURRENCIES

#: Wide enough for any sum of amounts; ``Inexact`` is trapped, so a sum that would need rounding raises instead.
EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation])
ZERO: Final = Decimal(0)
_ROUNDING: Final = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
_LEAST: Final = Decimal(1).scaleb(-AMOUNT_DECIMALS)

#: What sums of money are of, by the name under which they are added up. A currency by itself: revenue of what no margin is known of.
#: With ``MARGIN``: margin, with ``MODELLED``: the part of it that is modelled. Revenue and margin are never in one sum.
MARGIN: Final = ".margin"
MODELLED: Final = ".modelled"
#: What clicks that are not bought yet are taken to be worth, which is no money that came in: a sum of its own.
CLICKS: Final = ".clicks"
MONEY_NAMES: Final = frozenset(currency + kind for currency in CURRENCIES for kind in ("", MARGIN, MODELLED, CLICKS))

#: What came in, and what a sum is of.
Receipts: TypeAlias = Literal["margin", "revenue"]
Basis: TypeAlias = Literal["margin", "revenue", "clicks"]


class Margin(NamedTuple):
    """What an amount earns; ``modelled``: by a share that is said of its category, since nobody told."""

    amount: Decimal
    modelled: bool = False


def amounts_of(currency: str, revenue: Decimal, margin: Margin | None) -> dict[str, Decimal]:
    """What one amount adds to which sums.

    >>> amounts_of("GBP", Decimal(9), None), amounts_of("GBP", Decimal(9), Margin(Decimal(4)))
    ({'GBP': Decimal('9')}, {'GBP.margin': Decimal('4')})
    """
    if margin is None:
        return {currency: revenue}
    return {currency + MARGIN: margin.amount} | ({currency + MODELLED: margin.amount} if margin.modelled else {})


def bases(names: Iterable[str]) -> list[tuple[str, Basis]]:
    """The currencies that sums of these names are in, and what they are of.

    >>> bases(["GBP", "GBP.margin", "GBP.modelled", "EUR", "EUR.clicks"])
    [('EUR', 'clicks'), ('EUR', 'revenue'), ('GBP', 'margin'), ('GBP', 'revenue')]
    """
    found: set[tuple[str, Basis]] = set()
    for name in names:
        currency, _, kind = name.partition(".")
        found.add((currency, "revenue" if not kind else "clicks" if kind == CLICKS[1:] else "margin"))
    return sorted(found)


def name_of(currency: str, basis: Basis) -> str:
    """The name of the sum."""
    return currency + {"revenue": "", "margin": MARGIN, "clicks": CLICKS}[basis]


def modelled_fraction(currency: str, basis: Basis, sums: Mapping[str, Decimal]) -> float | None:
    """How much of a sum of margin is modelled, 0..1: of what was told and what was modelled, as amounts without their signs. None where the
    sum is of revenue; of clicks all is.

    >>> modelled_fraction("GBP", "margin", {"GBP.margin": Decimal(4), "GBP.modelled": Decimal(-1)}).__round__(3)
    0.167
    """
    if basis != "margin":
        return 1.0 if basis == "clicks" else None
    modelled = sums.get(currency + MODELLED, ZERO)
    told = EXACT.subtract(sums.get(currency + MARGIN, ZERO), modelled).copy_abs()
    return float(modelled.copy_abs()) / float(EXACT.add(modelled.copy_abs(), told)) if modelled else 0.0


def rounded(amount: Decimal) -> Decimal:
    """To the decimals of an amount, half to even."""
    return _ROUNDING.quantize(amount, _LEAST)


def part_of(whole: Decimal, part: Decimal, of: Decimal) -> Decimal:
    """``whole`` x ``part`` / ``of``, all of ``whole`` where they are equal, else rounded to the decimals of an amount.

    >>> part_of(Decimal(10), Decimal(1), Decimal(3)), part_of(Decimal(10), Decimal(3), Decimal(3))
    (Decimal('3.333333'), Decimal('10'))
    """
    return whole if part == of else rounded(_ROUNDING.divide(EXACT.multiply(whole, part), of))


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
