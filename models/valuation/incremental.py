"""What the arms of experiments say was caused, in money, and how that is shared out: the third layer of VALUATION, section 1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from models.experiments.effects import ArmMoments, Effect, cuped_of, incremental_margin, welch
from models.experiments.sequential import ConfidenceSequence
from models.valuation.arms import HOLDOUT, ArmSums, Moments, is_over
from models.valuation.money import EXACT, Receipts, bases, modelled_fraction, name_of, rounded
from schemas.base import AMOUNT_DECIMALS

#: Shoppers in the smaller arm below which nothing is said: a mean of fewer is no normal variable.
LEAST_SHOPPERS: Final = 30
#: Shoppers of both arms with whom the always-valid interval is narrowest beside the fixed one: as many as `assay experiment report`
#: expects. It must be chosen before anything is known, and nothing but the width depends on it.
TIGHTEST_AT: Final = 10_000
#: Up to so many times their sum the players' values may be, all without signs, for an amount to be shared out by them.
MOST_SPREAD: Final = 2


class Estimate(NamedTuple):
    """Money, with an interval that is right for who looks once and, from ``sequential.LEAST_USERS`` shoppers in each arm on, one that
    holds at all times at once.
    """

    amount: float
    low: float
    high: float
    always_valid_low: float | None
    always_valid_high: float | None


class Incremental(NamedTuple):
    """What the treated shoppers of ``experiment`` brought because they were treated, in ``currency``: in ``margin``, of which
    ``modelled_fraction`` is modelled, or, where no margin is known, in ``revenue``.

    ``adjusted``: the same less what the shoppers' pasts foretold of it (CUPED), which takes away ``variance_reduction`` of the variance;
    None where no shopper has a past of that basis and currency.
    """

    experiment: str
    currency: str
    basis: Receipts
    modelled_fraction: float | None
    treated: int
    held_out: int
    plain: Estimate
    adjusted: Estimate | None
    variance_reduction: float | None


def incremental(books: Mapping[str, ArmSums], watermark_ms: int, level: float = 0.95) -> list[Incremental]:
    """Difference of means between treated and held-out shoppers x treated shoppers, by experiment, currency and basis
    (``experiments.effects``).

    Treated are all that were not held out, by whichever weights their lists were made. Nothing is said of an experiment without a
    hold-out, while either arm has fewer than ``LEAST_SHOPPERS`` shoppers, nor of one that is over at ``watermark_ms``, nor of a
    currency and basis in which nobody brought anything.
    """
    experiments: dict[str, dict[str, ArmSums]] = {}
    for book, sums in sorted(books.items()):
        experiment, _, arm = book.partition(":")
        experiments.setdefault(experiment, {})[arm] = sums
    return [
        found
        for experiment, arms in experiments.items()
        if not is_over(max(sums.newest_ms for sums in arms.values()), watermark_ms)
        for found in _incremental(experiment, arms, level)
    ]


def _incremental(experiment: str, arms: Mapping[str, ArmSums], level: float) -> Iterator[Incremental]:
    held_out, treated = arms.get(HOLDOUT, ArmSums()), ArmSums()
    for arm, sums in arms.items():
        if arm != HOLDOUT:
            treated = treated.plus(sums)
    shoppers = treated.shoppers, held_out.shoppers
    if min(shoppers) < LEAST_SHOPPERS:
        return
    totals = {name: moments.total for name, moments in treated.plus(held_out).money.items() if moments.squares}
    for currency, basis in bases(totals):
        if basis == "clicks":  # which are not experiments' to judge: nothing came in
            continue
        one, other = (_moments(arm, name_of(currency, basis)) for arm in (treated, held_out))
        plain = welch(one.mean - other.mean, [arm.variance / arm.users for arm in (one, other)], shoppers, level)
        adjusted = cuped_of(one, other, level) if one.before_variance or other.before_variance else None
        yield Incremental(
            experiment,
            currency,
            basis,
            modelled_fraction(currency, basis, totals),
            *shoppers,
            _estimate(plain, *shoppers),
            None if adjusted is None else _estimate(adjusted.effect, *shoppers),
            None if adjusted is None else adjusted.variance_reduction,
        )


def _moments(arm: ArmSums, name: str) -> ArmMoments:
    """Over all shoppers of the arm, those who spent nothing included."""
    moments, count = arm.money.get(name, Moments()), arm.shoppers

    def between(products: Decimal, one: Decimal, other: Decimal) -> float:
        # Exact until here: the difference of two large sums is where floats would lose everything.
        spread = EXACT.subtract(EXACT.multiply(products, Decimal(count)), EXACT.multiply(one, other))
        return float(spread) / count / (count - 1)

    return ArmMoments(
        count,
        float(moments.total) / count,
        between(moments.squares, moments.total, moments.total),
        float(moments.past) / count,
        between(moments.past_squares, moments.past, moments.past),
        between(moments.products, moments.total, moments.past),
    )


def _estimate(effect: Effect, treated: int, held_out: int) -> Estimate:
    margin = incremental_margin(effect, treated)
    bounds = ConfidenceSequence(TIGHTEST_AT, effect.level).bounds(effect, treated, held_out)
    low, high = (None, None) if bounds is None else (bounds[0] * treated, bounds[1] * treated)
    return Estimate(margin.amount, margin.low, margin.high, low, high)


class Split(NamedTuple):
    """An incremental ``amount`` shared out among assets: ``parts`` add up to it. ``estimate``: which of the two it is."""

    experiment: str
    currency: str
    basis: Receipts
    estimate: Literal["adjusted", "plain"]
    amount: Decimal
    parts: dict[str, Decimal]


def split(found: Incremental, players: Mapping[str, Decimal], lift: Decimal) -> Split | None:
    """The adjusted amount, or where there is none the plain one, in proportion to what each asset's ``players`` value is of the ``lift``.

    It is a convention: the experiment withheld all data at once and says nothing of one asset. By the players' values, because they are
    what accounts are settled by: an asset that was copied gets hardly more. A value below 0 has a part below 0.

    None where there is nothing to share out (an amount at or below 0) or nothing to share it out by (a lift at or below 0), nor where
    values above and below 0 all but cancel out: parts would be many times the whole.
    """
    best = found.adjusted or found.plain
    amount = rounded(Decimal(best.amount))
    if amount <= 0 or lift <= 0 or sum(map(abs, players.values())) > MOST_SPREAD * sum(players.values()):
        return None
    parts = shared_out(amount, players)
    if parts is None:
        return None
    return Split(found.experiment, found.currency, found.basis, "plain" if found.adjusted is None else "adjusted", amount, parts)


def shared_out(whole: Decimal, weights: Mapping[str, Decimal]) -> dict[str, Decimal] | None:
    """``whole``, which has the decimals of an amount, in proportion to ``weights``, by name ascending. The parts have no more decimals, and
    add up to ``whole`` exactly: what rounding down leaves goes to those that lost most by it (method of largest remainders; of
    equal ones to the first by name). None where the weights add up to 0 or less.

    >>> shared_out(Decimal(10), {"app": Decimal(1), "web": Decimal(2)})
    {'app': Decimal('3.333333'), 'web': Decimal('6.666667')}
    """
    shares = {name: Fraction(weight) for name, weight in sorted(weights.items())}
    total = sum(shares.values(), Fraction(0))
    if total <= 0:
        return None
    units = int(whole.scaleb(AMOUNT_DECIMALS, EXACT))
    due = {name: units * share / total for name, share in shares.items()}
    given = {name: math.floor(part) for name, part in due.items()}
    losers = sorted(due, key=lambda name: (given[name] - due[name], name))
    for name in losers[: units - sum(given.values())]:
        given[name] += 1
    return {name: Decimal(part).scaleb(-AMOUNT_DECIMALS, EXACT) for name, part in given.items()}
