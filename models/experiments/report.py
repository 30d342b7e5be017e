"""What an A/B test of two rankers says: the split, each metric by arm, differences with intervals, and what it could have seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.experiments.assignment import Experiment
from models.experiments.effects import (
    AdjustedEffect,
    Effect,
    IncrementalMargin,
    cuped,
    difference_of_means,
    difference_of_ratios,
    incremental_margin,
)
from models.experiments.exposures import ArmUsers, ExposureLog
from models.experiments.sample_ratio import SampleRatio, sample_ratio
from models.experiments.sequential import ConfidenceSequence

#: With which probability an experiment should see the effect that its power remark speaks of.
POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared, from the sums of ``ExposureLog``: the mean of ``of`` per user; with ``per`` the ratio of the sums of both
    (clicks per list); with ``share`` the share of users who have any. ``adjusted``: also by CUPED on the same sum of before. ``optional``:
    left out where nobody has such a sum.
    """

    name: str
    of: str
    per: str | None = None
    share: bool = False
    adjusted: bool = False
    optional: bool = False


#: From sums named purchases, clicks and lists, and of one currency margin and, of purchases whose margin nobody knows, revenue. The two
#: are of different purchases and never one sum, and what is not known of anybody is not 0.
METRICS: Final = (
    Metric("conversion", "purchases", share=True),
    Metric("click rate", "clicks", per="lists"),
    Metric("margin per user", "margin", adjusted=True, optional=True),
    Metric("revenue per user, margin unknown", "revenue", adjusted=True, optional=True),
)


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric: its value in each arm, and what can be said of the difference (nothing, if an arm has fewer than two users).

    ``effect``: by the fixed interval, right if looked at once, at the end that was set before. ``always_valid``: bounds that hold
    whenever one looks; None below ``sequential.LEAST_USERS``. ``detectable``: the difference that an experiment of this size sees
    with probability ``POWER``; ``users_needed``: both arms' users that it would take to see the difference found.
    """

    metric: Metric
    control: float | None
    treated: float | None
    effect: Effect | None = None
    always_valid: tuple[float, float] | None = None
    adjusted: AdjustedEffect | None = None
    adjusted_always_valid: tuple[float, float] | None = None
    incremental: IncrementalMargin | None = None
    detectable: float | None = None
    users_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The report of one experiment: ``treated`` against ``control``. ``crossed``: users seen in several arms, who were left out."""

    experiment: str
    control: str
    treated: str
    users: dict[str, int]
    crossed: int
    split: SampleRatio
    results: tuple[MetricResult, ...]
    level: float

    def markdown(self) -> str:
        """The report for people."""
        percent = f"{100 * self.level:g} %"
        users = ", ".join(f"{count:,} in {arm}" for arm, count in self.users.items())
        lines = [
            f"# {self.experiment}: {self.treated} against {self.control}",
            "",
            f"Users: {users}; {self.crossed:,} seen in several arms left out.",
            self._split_line(),
            "",
            f"| metric | {self.control} | {self.treated} | difference | {percent}, looked at once | {percent}, at any time | p |",
            "|---|---|---|---|---|---|---|",
        ]
        for result in self.results:
            lines += _rows(result)
        lines += ["", *self._remarks()]
        return "\n".join(lines) + "\n"

    def _split_line(self) -> str:
        expected = ", ".join(f"{count:,.0f} in {arm}" for arm, count in self.split.expected.items())
        verdict = f"chi-square {self.split.statistic:.2f}, p = {self.split.p_value:.2g}"
        if self.split.mismatch:
            return f"**The split is broken** ({verdict}; expected {expected}): find out who was lost before reading on."
        return f"The split is as it should be ({verdict})."

    def _remarks(self) -> list[str]:
        remarks = []
        for result in self.results:
            name = result.metric.name
            if result.effect is None:
                remarks.append(f"- {name}: too few users or nothing to divide by.")
                continue
            if result.adjusted is not None:
                share = result.adjusted.variance_reduction
                remarks.append(f"- {name}: the covariate takes away {100 * share:.1f} % of the variance (CUPED).")
            if result.incremental is not None:
                total = result.incremental
                amounts = f"{total.amount:,.2f} ({total.low:,.2f} to {total.high:,.2f})"
                remarks.append(f"- {name}: {amounts} over the {total.users:,} users of {self.treated}.")
            if result.detectable:
                remark = f"- {name}: users as many as these show a difference of {result.detectable:.4g} in {100 * POWER:.0f} of 100 tests"
                if result.users_needed is not None:
                    remark += f"; for the difference found it would take {result.users_needed:,}"
                remarks.append(remark + ".")
        return remarks


def compare(
    log: ExposureLog,
    experiment: Experiment,
    control: str,
    treated: str,
    sequence: ConfidenceSequence,
    metrics: Sequence[Metric] = METRICS,
    until_ms: int | None = None,
) -> Comparison:
    """Compare two arms of ``experiment`` by their users who were first exposed before ``until_ms`` (see ``ExposureLog.arm``).

    Fixed intervals have the level of ``sequence``. Raises ``ValueError`` if the experiment has no such arms.
    """
    if not {control, treated} <= experiment.arms.keys():
        raise ValueError(f"experiment {experiment.name!r} has the arms {list(experiment.arms)}, not {control!r} and {treated!r}")
    arms = {name: log.arm(name, until_ms) for name in experiment.arms}
    users = {name: arm.users for name, arm in arms.items()}
    return Comparison(
        experiment=experiment.name,
        control=control,
        treated=treated,
        users=users,
        crossed=log.crossed,
        split=sample_ratio(users, experiment.arms),
        results=tuple(
            _result(metric, arms[treated], arms[control], sequence)
            for metric in metrics
            if not metric.optional or any(metric.of in sums for name in (treated, control) for sums in arms[name].by_metric)
        ),
        level=sequence.level,
    )


def _result(metric: Metric, treated: ArmUsers, control: ArmUsers, sequence: ConfidenceSequence) -> MetricResult:
    values = [_column(metric, arm) for arm in (treated, control)]
    per = [arm.sums(metric.per) if metric.per else np.ones(arm.users) for arm in (treated, control)]
    totals = [float(under.sum()) for under in per]
    means = [float(over.sum()) / total if total else None for over, total in zip(values, totals, strict=True)]
    if min(treated.users, control.users) < 2 or not all(totals):
        return MetricResult(metric, control=means[1], treated=means[0])
    level = sequence.level
    effect = (
        difference_of_ratios(values[0], per[0], values[1], per[1], level)
        if metric.per
        else difference_of_means(values[0], values[1], level)
    )
    adjusted = None
    if metric.adjusted and not metric.per:
        adjusted = cuped(values[0], treated.covariates(metric.of), values[1], control.covariates(metric.of), level)
    best = adjusted.effect if adjusted else effect
    reach = (float(ndtri((1 + level) / 2)) + float(ndtri(POWER))) * best.standard_error
    needed = math.ceil((treated.users + control.users) * (reach / best.difference) ** 2) if best.difference else None
    return MetricResult(
        metric,
        control=means[1],
        treated=means[0],
        effect=effect,
        always_valid=sequence.bounds(effect, treated.users, control.users),
        adjusted=adjusted,
        adjusted_always_valid=sequence.bounds(adjusted.effect, treated.users, control.users) if adjusted else None,
        incremental=None if metric.per or metric.share else incremental_margin(best, treated.users),
        detectable=reach,
        users_needed=needed,
    )


def _column(metric: Metric, arm: ArmUsers) -> NDArray[np.float64]:
    sums = arm.sums(metric.of)
    return (sums > 0).astype(np.float64) if metric.share else sums


def _rows(result: MetricResult) -> list[str]:
    arms = f"| {_number(result.control)} | {_number(result.treated)} "
    if result.effect is None:
        return [f"| {result.metric.name} {arms}| | | | |"]
    rows = [f"| {result.metric.name} {arms}{_difference(result.effect, result.always_valid)}"]
    if result.adjusted is not None:
        rows.append(f"| {result.metric.name}, adjusted | | {_difference(result.adjusted.effect, result.adjusted_always_valid)}")
    return rows


def _difference(effect: Effect, always_valid: tuple[float, float] | None) -> str:
    at_any_time = f"{always_valid[0]:.4g} to {always_valid[1]:.4g}" if always_valid else "too few users"
    return f"| {effect.difference:.4g} | {effect.low:.4g} to {effect.high:.4g} | {at_any_time} | {effect.p_value:.2g} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
