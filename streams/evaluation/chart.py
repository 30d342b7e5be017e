"""What a protocol's results look like: bars with intervals, a panel for each group of tests, and running curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.evaluation import BASELINES, SessionResult
from streams.evaluation import basket, cold, prequential


@dataclass(frozen=True, slots=True)
class Bar:
    """``value`` of a method, in percent, and its 95 % interval (None: too few tests to tell). Bars of one ``series`` share a colour."""

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
    """(tests so far, percent) of one series."""

    series: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels beside each other, whose methods are those of the first one, best first; ``curves`` below them, on ``curve_axes`` (x, y).
    ``series`` are in the order of the colours: ours first.
    """

    title: str
    panels: tuple[Panel, ...]
    series: tuple[str, ...]
    curves: tuple[Curve, ...] = ()
    curve_axes: tuple[str, str] = ("", "")

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
    """All items and cold ones, and the running hit rate of every method."""
    axis = "hit rate at 20 (%)"
    groups = {"all": "all items", "cold": "cold items"}
    rows = [(one.items, one.tests, _bar(one.method, one.hit_rate_at_20, one.low, one.high, one.method)) for one in judged.results()]
    shares = {method: judged.curve(method) for method in prequential.METHODS}
    curves = tuple(Curve(method, tuple((tests, 100 * share) for tests, share in points)) for method, points in shares.items() if points)
    return Chart(title, _panels(rows, groups, axis), prequential.METHODS, curves, ("tests so far", axis))


def of_cold_start(results: Iterable[cold.ColdResult], title: str) -> Chart:
    """A panel for each group of events."""
    rows = [(one.group, one.tests, _bar(one.method, one.hit_rate_at_20, one.low, one.high, one.method)) for one in results]
    groups = {group: group.replace(", ", ",\n") for group in cold.GROUPS}
    return Chart(title, _panels(rows, groups, "hit rate at 20 (%)"), (cold.TEXT, cold.NO_TEXT, cold.POPULARITY))


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
