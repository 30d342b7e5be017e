"""What a protocol's results look like: bars with intervals, a panel for each group of tests, and running curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.evaluation import BASELINES, SessionResult
from models.evaluation.classification import roc
from models.metrics import MRR, HitRate, RankMetric
from streams.evaluation import basket, cold, prequential, splits

if TYPE_CHECKING:
    from models.evaluation.responses import Judgement
    from models.valuation.register import RegisterLine


@dataclass(frozen=True, slots=True)
class Bar:
    """``value`` of a method, in the unit of its axis, and its 95 % interval (None: too few tests to tell). Bars of one ``series`` share a
    colour.
    """

    method: str
    value: float
    interval: tuple[float, float] | None
    series: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one ``axis``, whose label has the unit; ``title`` says what they were judged on."""

    title: str
    axis: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) of one series, such as (tests so far, percent)."""

    series: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """Curves on common ``axes`` (x, y)."""

    curves: tuple[Curve, ...]
    axes: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels beside each other, whose methods are those of the first one, best first; ``curves`` below them, on ``curve_axes`` (x, y), and
    ``further`` ones below those. ``series`` are in the order of the colours: ours first. ``own_names``: panels below each other, each with
    bars of its own.
    """

    title: str
    panels: tuple[Panel, ...]
    series: tuple[str, ...]
    curves: tuple[Curve, ...] = ()
    curve_axes: tuple[str, str] = ("", "")
    further: tuple[CurvePanel, ...] = ()
    own_names: bool = False

    @property
    def methods(self) -> list[str]:
        """Best first, by the first panel; of equal ones, and of those that it lacks, as they came."""
        values = {bar.method: bar.value for bar in self.panels[0].bars} if self.panels else {}
        found = dict.fromkeys(bar.method for panel in self.panels for bar in panel.bars)
        return sorted(found, key=lambda method: -values.get(method, -1.0))


def of_sessions(results: Sequence[SessionResult], title: str) -> Chart:
    """Hit rate and MRR, from percent."""
    ours, others = "assay", "baseline"
    named = [(result, others if result.method in BASELINES else ours) for result in results]
    if not results:
        return Chart(title, (), (ours, others))
    hits = (Bar(one.method, one.hit_rate_at_20, (one.hit_rate_low, one.hit_rate_high), series) for one, series in named)
    reciprocal = (Bar(one.method, one.mrr_at_20, (one.mrr_low, one.mrr_high), series) for one, series in named)
    tests = f"{results[0].tests:,} tests"
    panels = Panel(tests, "hit rate at 20 (%)", tuple(hits)), Panel(tests, "MRR at 20 (%)", tuple(reciprocal))
    return Chart(title, panels, (ours, others))


def of_baskets(results: Sequence[basket.BasketResult], title: str) -> Chart:
    """A panel for each group of baskets, all of them first."""
    states = {result.state for result in results}
    groups = {"all": "all baskets", "known": "known shoppers", "new": "new shoppers", "discovery": "new to a known shopper"}
    named = [(one, f"{one.method}, {one.state}" if len(states) > 1 else one.method) for one in results]
    rows = [(one.baskets, one.tests, _bar(name, one.hit_rate, one.low, one.high, one.method)) for one, name in named]
    return Chart(title, _panels(rows, groups, "baskets hit (%)"), (basket.OURS, basket.POPULARITY, basket.HISTORY))


def of_log(judged: prequential.Prequential, title: str) -> Chart:
    """All items, those that were no repeats of the visit and cold ones; below, the running hit rate and MRR of every method."""
    axis = "hit rate at 20 (%)"
    groups = {prequential.ALL: "all items", prequential.FRESH: "without repeats of the visit", splits.COLD: "cold items"}
    rows = [(one.items, one.tests, _bar(one.method, one.hit_rate_at_20, one.low, one.high, one.method)) for one in judged.results()]
    running = CurvePanel(_running(judged, MRR), ("tests so far", "MRR at 20 (%)"))
    return Chart(
        title, _panels(rows, groups, axis), prequential.METHODS, _running(judged, HitRate), ("tests so far", axis),
        further=(running,) if running.curves else (),
    )  # fmt: skip


def _running(judged: prequential.Prequential, metric: type[RankMetric]) -> tuple[Curve, ...]:
    shares = {method: judged.curve(method, metric) for method in prequential.METHODS}
    return tuple(Curve(method, tuple((tests, 100 * share) for tests, share in points)) for method, points in shares.items() if points)


def of_cold_start(results: Iterable[cold.ColdResult], title: str) -> Chart:
    """A panel for each group of events."""
    rows = [(one.group, one.tests, _bar(one.method, one.hit_rate_at_20, one.low, one.high, one.method)) for one in results]
    groups = {group: group.replace(", ", ",\n") for group in cold.GROUPS}
    return Chart(title, _panels(rows, groups, "hit rate at 20 (%)"), (cold.TEXT, cold.NO_TEXT, cold.POPULARITY))


def of_value(registers: Mapping[str, Sequence[RegisterLine]], judged: Sequence[Judgement], curve: Sequence[Judgement], title: str) -> Chart:
    """A panel for each dimension of the register, the ROC curve of the first of ``judged``, and P_train and P_test by training size."""
    axis, asset = "points per 1,000 outcomes", "asset"
    panels = tuple(
        Panel(
            dimension, axis,
            tuple(
                Bar(one.asset, 1e3 * one.points, None if one.low is None or one.high is None else (1e3 * one.low, 1e3 * one.high), asset)
                for one in lines
            ),
        )
        for dimension, lines in registers.items()
        if lines
    )  # fmt: skip
    further: list[CurvePanel] = []
    if judged:
        points = tuple((100 * x, 100 * y) for x, y in roc_points(judged[0]))
        chance = Curve("by chance", ((0.0, 0.0), (100.0, 100.0)))
        further.append(CurvePanel((Curve("ROC", points), chance), ("of items not taken up (%)", "of items taken up (%)")))
    if curve:
        shares = {"P_train": [one.p_train for one in curve], "P_test": [one.p_test.auc for one in curve]}
        lists = [one.train_lists for one in curve]
        learned = tuple(
            Curve(name, tuple((float(size), 100 * value) for size, value in zip(lists, values, strict=True)))
            for name, values in shares.items()
        )
        further.append(CurvePanel(learned, ("training lists", "area under the ROC curve (%)")))
    series = (asset, "ROC", "by chance", "P_train", "P_test")
    return Chart(title, panels, series, further=tuple(further), own_names=True)


def roc_points(one: Judgement, most: int = 200) -> list[tuple[float, float]]:
    """(false, true) positive rates along the curve, at most ``most`` of them, ends included."""
    curve = roc(one.scores, one.labels)
    chosen = np.unique(np.linspace(0, len(curve.thresholds) - 1, min(most, len(curve.thresholds))).round().astype(int))
    rates = zip(curve.false_positive[chosen].tolist(), curve.true_positive[chosen].tolist(), strict=True)
    return [(round(x, 5), round(y, 5)) for x, y in rates]


def _panels(rows: Iterable[tuple[str, int, Bar]], groups: Mapping[str, str], axis: str) -> tuple[Panel, ...]:
    """One for each group that has tests. ``rows``: (group, tests, bar)."""
    bars: dict[str, list[Bar]] = defaultdict(list)
    counts: dict[str, int] = {}
    for group, tests, bar in rows:
        if tests:
            bars[group].append(bar)
            counts[group] = tests
    return tuple(Panel(f"{what} ({counts[group]:,} tests)", axis, tuple(bars[group])) for group, what in groups.items() if group in bars)


def _bar(method: str, share: float, low: float, high: float, series: str) -> Bar:
    """From shares 0..1; an interval that excludes nothing is none."""
    return Bar(method, 100 * share, None if (low, high) == (0.0, 1.0) else (100 * low, 100 * high), series)
