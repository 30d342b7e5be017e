"""The register of data assets as an owner reads it: value, interval, cost, net, how fast it ages, and what to do with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from models.valuation.appraisal import AGE, AGES, OLDEST
from models.valuation.costs import AssetCost, why_no_net
from schemas.valuation import AssetValue, Completeness, RollingValuation, ValueRegister

Action = Literal["keep", "clean", "drop", "buy more"]

#: An asset whose rows are worth this many times the average of its dimension is worth having more of.
RICH: Final = 1.25
#: Of an asset's outcomes more late ones than this are a reason to look at how it is delivered.
LATE_SHARE: Final = 0.05
_DAY_S: Final = 86_400
_OF_BASIS: Final = {"margin": " margin", "revenue": "", "clicks": " of clicks, modelled"}
#: Middle of the age of rows in the last bucket, which has no upper end: in s.
_OLDEST_S: Final = 120 * _DAY_S


@dataclass(frozen=True, slots=True)
class AssetEntry:
    """One line of the register. ``points``, ``low``, ``high``, ``player``, ``leave_one_out`` and ``random`` in utility points per test.

    ``random``: what the asset would be credited with if its rows were any rows, the lift times its share of them. ``money`` by currency,
    that of margin as ``GBP margin``, what clicks are taken to be worth as ``GBP of clicks, modelled``; ``cost`` and ``net`` by
    currency. ``net`` is there where all the money (but that of clicks) is in the currency of the cost, and all of it margin or all of it
    revenue; else ``no_net`` says which it is not. ``late``: share of its outcomes that came late, None where it had none, and
    so ``completeness``, which of them say what.
    """

    dimension: str
    asset: str
    rows: float
    points: float
    share: float | None
    low: float | None
    high: float | None
    player: float
    leave_one_out: float
    per_1k_rows: float | None
    random: float
    money: Mapping[str, float]
    cost: Mapping[str, float]
    net: Mapping[str, float]
    no_net: str
    late: float | None
    completeness: Completeness | None
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Ageing:
    """How the worth of a session falls with its age: ``half_life_days``, None where there is none, and then ``reason`` says why.
    ``present_value_days``: for how many days' worth of its first day a session is good, at a ``discount_rate`` a year.
    """

    half_life_days: float | None
    present_value_days: float | None
    discount_rate: float
    reason: str = ""


def entries(register: ValueRegister, assets: Mapping[str, RollingValuation], costs: Mapping[str, AssetCost]) -> list[AssetEntry]:
    """The register of one dimension and window, dearest asset first. ``assets``: their rolling records of that window, by name. ``costs``:
    of assets whose records do not say them, or say others.
    """
    rows = sum(value.rows for value in register.assets.values())
    average = 1_000 * register.game.lift / rows if rows else 0.0
    found = [_entry(register, asset, value, rows, average, assets.get(asset), costs.get(asset)) for asset, value in register.assets.items()]
    return sorted(found, key=lambda entry: (-entry.points, entry.asset))


def _entry(
    register: ValueRegister,
    asset: str,
    value: AssetValue,
    rows: float,
    average: float,
    record: RollingValuation | None,
    cost: AssetCost | None,
) -> AssetEntry:
    money = {amount.currency + _OF_BASIS[amount.basis]: amount.attributable for amount in value.money}
    # Of the events that came in during the window, over all partitions, as the money is; ``rows`` are those of one partition.
    charge, earned = None, value.money
    if cost is not None and record is not None:
        charge = cost.of(record.rows, earned)
    elif record is not None:
        # Its net is of the money that it quotes.
        charge, earned = record.cost, () if record.value is None else record.value.money
    spent = {} if charge is None else {charge.currency: charge.acquire + charge.store + charge.compute}
    net = {} if charge is None or charge.net is None else {charge.currency: charge.net}
    no_net = why_no_net(charge.currency, earned) if charge is not None and charge.net is None else ""
    late = record.late / record.rows if record is not None and record.rows else None
    completeness = record.quality.completeness if record is not None and record.quality is not None else None
    action, reason = _advice(value, average, net, late)
    return AssetEntry(
        register.dimension, asset, value.rows, value.points, value.share, value.low, value.high, value.player, value.leave_one_out,
        value.per_1k_rows, register.game.lift * value.rows / rows if rows else 0.0, money, spent, net, no_net, late, completeness, action,
        reason,
    )  # fmt: skip


def _advice(value: AssetValue, average: float, net: Mapping[str, float], late: float | None) -> tuple[Action, str]:
    if value.insufficient or value.low is None or value.high is None:
        return "keep", "too few tests to say more"
    losing = [f"{amount:,.2f} {currency}" for currency, amount in net.items() if amount < 0]
    # Records of old have no ``owned``: their ``rows`` were what it is.
    if value.high < 0 and (value.rows if value.owned is None else value.owned) == 0:
        return "clean", "its events harm (the interval lies below 0); no session is mostly of it, so its absence was never played"
    if value.high < 0 and value.leave_one_out <= 0:
        return "drop", "predictions are better without it: its interval lies below 0, and leaving it out costs nothing"
    if value.high < 0:
        return "clean", "its sessions harm on the whole (the interval lies below 0), but without any of them more would be lost"
    if losing and value.low <= 0:
        return "drop", f"it costs more than it brought ({', '.join(losing)}), and its interval holds 0"
    if late is not None and late > LATE_SHARE:
        return "clean", f"{late:.0%} of its outcomes came late"
    if value.low > 0:
        if value.per_1k_rows is not None and average > 0 and value.per_1k_rows >= RICH * average:
            return "buy more", f"a session of it is worth {value.per_1k_rows / average:.1f} x the average"
        costly = f", but it costs more than it brought: {', '.join(losing)}" if losing else ""
        return "keep", f"its interval lies above 0{costly}"
    if value.points < 0:
        return "clean", "it seems to harm, and its interval holds 0"
    return "keep", "its interval holds 0"


def ageing(register: ValueRegister, discount_rate: float = 0.1) -> Ageing:
    """Fit worth per session = w exp(-age / t) to the buckets of ``age_bucket``, each weighed by its sessions (least squares of the
    logarithm), and discount it: the integral of exp(-age (1 / t + rate)) over all ages.

    Where a bucket is worth nothing, or harms, no such curve fits all of them, and one through the others would say that old data lasts
    longer than it does: there is no half-life then.

    Raises ``ValueError`` for another dimension than ``age_bucket``, or a rate below 0.
    """
    if register.dimension != AGE or discount_rate < 0:
        raise ValueError(f"needs the register of {AGE} and a rate at or above 0, got {register.dimension} and {discount_rate}")
    known = {
        asset: (middle / _DAY_S, value.per_1k_rows, value.rows)
        for asset, middle in _middles().items()
        if (value := register.assets.get(asset)) is not None and value.per_1k_rows is not None
    }
    if len(known) < 2:
        return Ageing(None, None, discount_rate, "What a session is worth is not known of two ages yet.")
    if any(per_1k_rows <= 0 for _, per_1k_rows, _ in known.values()):
        return Ageing(None, None, discount_rate, _worthless({asset: per_1k_rows for asset, (_, per_1k_rows, _) in known.items()}))
    age, worth, weight = np.array(list(known.values())).T
    worth = np.log(worth)
    slope = float(np.polyfit(age, worth, 1, w=np.sqrt(weight))[0])
    yearly = math.log1p(discount_rate) / 365.25
    if slope >= 0:
        lasting = "What a session is worth does not fall with its age, as far as it is known."
        return Ageing(None, 1 / yearly if yearly else None, discount_rate, lasting)
    return Ageing(math.log(2) / -slope, 1 / (yearly - slope), discount_rate)


def _worthless(worths: Mapping[str, float]) -> str:
    """In which buckets, youngest first, a session is worth nothing or harms: from one on, or here and there."""
    ages = list(worths)
    worthless = [age for age in ages if worths[age] <= 0]
    if len(worthless) < len(ages) and worthless == ages[-len(worthless) :]:
        return f"What a session is worth falls to nothing or below from the bucket '{worthless[0]}' on, so no half-life fits."
    return f"What a session is worth is nothing or below in the buckets {', '.join(map(repr, worthless))}, so no half-life fits."


def _middles() -> dict[str, float]:
    """Middle of each age bucket in s."""
    lower, middles = 0, {}
    for name, upper in AGES:
        middles[name] = (lower + upper) / 2
        lower = upper
    return {**middles, OLDEST: float(_OLDEST_S)}


def random_spread(entry: Sequence[AssetEntry]) -> float:
    """How far the values lie from what random ones would be: half the sum of differences, as a share of the lift; 0 where there is none."""
    lift = sum(e.points for e in entry)
    return 0.5 * sum(abs(e.points - e.random) for e in entry) / abs(lift) if lift else 0.0
