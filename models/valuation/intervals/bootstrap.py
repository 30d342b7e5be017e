"""How sure an amount of money is, without a memory of who paid: a Poisson bootstrap over shoppers that adds up over the stream."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.valuation.money import EXACT
from schemas.base import AMOUNT_DECIMALS, TOTAL_LIMIT

#: Replicates: the standard error that they give is itself off by 1 / sqrt(2 * 100) = 7 %.
REPLICATES: Final = 100
#: A total that rests on fewer buyers than these (``MoneyInterval.buyers``) is not to be relied on.
LEAST_BUYERS: Final = 20

_SEED: Final = 0x6D6F6E6579
_LARGEST: Final = Decimal(10) ** 16
#: Purchases at a time: their weights are a table of 8 bytes x replicates.
_CHUNK: Final = 4_096
#: Amounts in units of 10^-6 are split at this bit, so that no weighted sum of a chunk leaves 64 bits.
_LOW_BITS: Final = 32
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
#: Bytes of a number as it is written: the fewest that hold all of its sums. 24 hold ten thousand million times any total.
_WIDTHS: Final = (4, 8, 24)
_WIDEST: Final = _WIDTHS[-1]
_LIMIT: Final = int(TOTAL_LIMIT) * 10**AMOUNT_DECIMALS

#: The quantiles of Poisson(1) at the middles of 2^16 equal parts of 0..1, by the top 16 bits of a hash.
_TOP_BITS: Final = 16
_CUMULATIVE: Final = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(16)])
_POISSON: Final = np.searchsorted(_CUMULATIVE, (np.arange(1 << _TOP_BITS) + 0.5) / (1 << _TOP_BITS)).astype(np.uint8)


def poisson_weights(users: Sequence[str], replicates: int = REPLICATES) -> NDArray[np.uint8]:
    """How often each shopper is drawn in each replicate: uint8, shape (len(users), replicates), Poisson distributed with mean 1.

    A function of the shopper and the number of the replicate alone: xxh3 of the shopper, moved on by the number and mixed
    (SplitMix64; Steele, Lea and Flood, OOPSLA 2014). So a shopper weighs the same in every purchase, in every worker, in every run.
    """
    state = np.array([xxhash.xxh3_64_intdigest(user.encode(), _SEED) for user in users], np.uint64)[:, None]
    mixed = state + np.arange(1, replicates + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    weights: NDArray[np.uint8] = _POISSON[mixed >> np.uint64(64 - _TOP_BITS)]
    return weights


@dataclass(frozen=True, slots=True)
class MoneyInterval:
    """``estimate``: the exact total. ``buyers``: how many buyers of equal spending would leave it as uncertain, (sum x)^2 / sum x^2
    over what each buyer x spent; of amounts of both signs, those of the sign that has more. Bounds are None where nothing can be said, and
    to be doubted where it is ``insufficient``.
    """

    estimate: Decimal
    low: Decimal | None
    high: Decimal | None
    buyers: float
    insufficient: bool


class ReplicateSums(msgspec.Struct, array_like=True, frozen=True):
    """Total and replicate sums in units of 10^-6 of the currency: exact, additive over parts of the stream, and equal sums are equal bytes.

    ``gains``: of amounts above 0, ``losses``: of those below, without their sign; the total first, then each replicate, as little-endian
    signed integers of 4, 8 or 24 bytes, as few as hold them all. Empty where all are 0.
    """

    gains: bytes = b""
    losses: bytes = b""

    @classmethod
    def merged(cls, parts: Sequence[ReplicateSums]) -> ReplicateSums:
        """The sums of disjoint parts of the stream."""
        return parts[0] if len(parts) == 1 else cls(_added([p.gains for p in parts]), _added([p.losses for p in parts]))

    @property
    def total(self) -> int:
        """Gains less losses."""
        return _numbers(self.gains)[0] - _numbers(self.losses)[0]

    def check(self) -> None:
        """Raise ``ValueError`` for what no sums are written as, or for larger ones than any total."""
        for held in (self.gains, self.losses):
            if held and (len(held) % (REPLICATES + 1) or _width(held) not in _WIDTHS):
                raise ValueError(f"{len(held)} bytes hold no sums of {REPLICATES} replicates")
            if _width(held) == _WIDEST and max(map(abs, _numbers(held))) >= _LIMIT:
                raise ValueError("a sum of a replicate is larger than any total")

    def interval(self, level: float = 0.95) -> MoneyInterval:
        """The total and the interval of what it would be on average with other shoppers of this kind, and another number of them.

        Of amounts of one sign, with r the relative standard error by the replicates and n = 1 / r^2 buyers, the bounds are total x
        exp(-+ t s), where s^2 = ln(1 + r^2) and t is the quantile of Student's t with n / 3 degrees of freedom (at least 2). Spending is
        skewed, so an interval that is symmetric in money lies too low; and where few buyers make up the total, what it varies by is little
        known. Gains g in (g1, g2) and losses l in (l1, l2) differ by

            g - l - f sqrt((g - g1)^2 + (l2 - l)^2) .. g - l + f sqrt((g2 - g)^2 + (l - l1)^2)

        (recovery of variance estimates; Zou and Donner, Statistics in Medicine 2008), where f is the standard error of the difference, by
        the replicates, over what it would be of independent ones: shoppers whose gains and losses offset each other vary less.

        Nominal 95 %, 1,000 replays of log-normal amounts of one sign, two purchases a buyer: of 100 buyers 94.7, 95.3 and 93.2 % are
        covered at sigma 0.5, 1 and 1.5, of 300 buyers at sigma 1.5 92.0 % (92.9 with 200 replicates). With what a worker credits to assets,
        sigma 1.5, 150 buyers (``test_money_coverage.covered(1, 150, 150, 1.5)``): 93 to 94 %, by batch means of 60 hours 91 to 92.
        """
        if not self.gains and not self.losses:
            return MoneyInterval(_amount(0), None, None, 0.0, insufficient=True)
        gains, losses = (_one_sign(_numbers(held), level) for held in (self.gains, self.losses))
        total, buyers = gains.total - losses.total, max(gains, losses, key=lambda side: abs(side.total)).buyers
        low, high = gains.total - gains.low, gains.high - gains.total
        if not gains.error:
            low, high = losses.high - losses.total, losses.total - losses.low
        elif losses.error:
            error = _error([gain - loss for gain, loss in zip(gains.differences, losses.differences, strict=True)])
            ratio = error / math.hypot(gains.error, losses.error)
            low = round(ratio * math.hypot(low, losses.high - losses.total))
            high = round(ratio * math.hypot(high, losses.total - losses.low))
        return MoneyInterval(_amount(total), _amount(total - low), _amount(total + high), buyers, buyers < LEAST_BUYERS)


class _Side(NamedTuple):
    """Amounts of one sign: their total, its interval, its standard error, and by what each replicate differs from it."""

    total: int
    low: int
    high: int
    buyers: float
    error: float
    differences: list[int]


def _one_sign(numbers: Sequence[int], level: float) -> _Side:
    total, *sums = numbers
    differences = [value - total for value in sums]
    error = _error(differences)
    buyers = (total / error) ** 2 if error else 0.0
    if not buyers:
        # Nothing varies, or what came in was given back by others: there is no ratio to go by.
        half = round(float(stdtrit(REPLICATES, (1 + level) / 2)) * error)
        return _Side(total, total - half, total + half, 0.0, error, differences)
    quantile = float(stdtrit(max(buyers / 3, 2.0), (1 + level) / 2))
    factor = math.exp(quantile * math.sqrt(math.log1p(1 / buyers)))
    low, high = sorted((round(total / factor), round(total * factor)))
    return _Side(total, low, high, buyers, error, differences)


def _error(differences: Sequence[int]) -> float:
    return math.sqrt(sum(difference**2 for difference in differences) / REPLICATES)


def poisson_bootstrap(users: Sequence[str], amounts: Sequence[Decimal]) -> ReplicateSums:
    """The replicate sums of a part of the stream: ``amounts`` of one currency, each spent by the user in its place.

    In each replicate every shopper counts as often as ``poisson_weights`` says (Chamandy et al., 2012: a bootstrap for streams), in all
    purchases alike, so what a shopper's purchases have in common widens the interval.
    Raises ``ValueError`` for amounts that are none (as of 10^16, or with more than six decimals) and for lengths that differ.

    >>> part = poisson_bootstrap(["ann", "bob"], [Decimal("12.50"), Decimal("3.20")])
    >>> whole = ReplicateSums.merged([part, poisson_bootstrap(["ann"], [Decimal("4.30")])])
    >>> whole == poisson_bootstrap(["ann", "ann", "bob"], [Decimal("4.30"), Decimal("12.50"), Decimal("3.20")])
    True
    >>> whole.interval().estimate
    Decimal('20.000000')
    """
    units = [_checked_units(amount) for amount in amounts]
    if len(users) != len(units):
        raise ValueError(f"{len(users)} users and {len(units)} amounts")
    return ReplicateSums(*weighted_sums(users, [(max(unit, 0), max(-unit, 0)) for unit in units], 2))


def weighted_sums(users: Sequence[str], units: Sequence[Sequence[int]], columns: int) -> list[bytes]:
    """Total and replicate sums of each of ``columns`` columns, as ``ReplicateSums`` keeps them. ``units``: what each user adds to
    each, in units of 10^-6, 10^22 at most.
    """
    sums: NDArray[Any] = np.zeros((columns, REPLICATES + 1), np.int64)
    for first in range(0, len(users), _CHUNK):
        part = slice(first, first + _CHUNK)
        weights = np.ones((len(users[part]), REPLICATES + 1), np.int64)
        weights[:, 1:] = poisson_weights(users[part])
        low = np.array([[unit & _LOW_MASK for unit in row] for row in units[part]], np.int64)
        high = np.array([[unit >> _LOW_BITS for unit in row] for row in units[part]], np.int64)
        added: NDArray[Any] = low.T @ weights
        if high.any():
            added = added.astype(object) + ((high.T @ weights).astype(object) << _LOW_BITS)
        sums = added if not first else sums.astype(object) + added
    return [_written(row) for row in sums]


def _added(parts: Iterable[bytes]) -> bytes:
    held = [part for part in parts if part]
    if len(held) < 2:
        return held[0] if held else b""
    if max(map(_width, held)) == _WIDEST:
        return _written(np.sum([np.array(_numbers(part), object) for part in held], axis=0))
    arrays = [np.frombuffer(part, f"<i{_width(part)}") for part in held]
    largest = max(max(int(array.max()), -int(array.min())) for array in arrays)
    return _written(np.sum(arrays, axis=0, dtype=np.int64 if largest * len(held) < 2**63 else object))


def _written(numbers: NDArray[Any]) -> bytes:
    """int64[n] or Python's integers, likewise."""
    least, most = int(numbers.min()), int(numbers.max())
    if not least and not most:
        return b""
    bits = max(most, ~least).bit_length() + 1
    width = next(width for width in _WIDTHS if bits <= 8 * width)
    if width == _WIDEST:
        return b"".join(int(number).to_bytes(width, "little", signed=True) for number in numbers)
    return numbers.astype(f"<i{width}").tobytes()


def _width(held: bytes) -> int:
    return len(held) // (REPLICATES + 1)


def _numbers(held: bytes) -> list[int]:
    width = _width(held)
    if not held:
        return [0] * (REPLICATES + 1)
    if width == _WIDEST:
        return [int.from_bytes(held[place : place + width], "little", signed=True) for place in range(0, len(held), width)]
    numbers: list[int] = np.frombuffer(held, f"<i{width}").tolist()
    return numbers


def _checked_units(amount: Decimal) -> int:
    if amount.is_finite() and abs(amount) < _LARGEST:
        units = _units(amount)
        if _amount(units) == amount:
            return units
    raise ValueError(f"{str(amount)[:80]!r} is no amount of money")


def _units(amount: Decimal) -> int:
    return int(amount.scaleb(AMOUNT_DECIMALS, EXACT))


def _amount(units: int) -> Decimal:
    return Decimal(units).scaleb(-AMOUNT_DECIMALS, EXACT)
