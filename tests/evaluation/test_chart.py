from __future__ import annotations

from models.evaluation import SessionResult
from streams.evaluation import basket, cold, prequential
from streams.evaluation.chart import Bar, of_baskets, of_cold_start, of_log, of_sessions
from streams.replay.record import encode
from streams.runtime.processor import Output


def session(method: str, hit_rate: float, mrr: float) -> SessionResult:
    return SessionResult(method, hit_rate, hit_rate - 1, hit_rate + 1, mrr, mrr - 0.5, mrr + 0.5, 2_000, 1.0, 2.0, 0.1, 1.0)


def test_sessions_are_two_panels_of_ours_and_baselines() -> None:
    chart = of_sessions([session("popularity", 1.0, 0.75), session("session-index", 50.0, 18.0)], "title")
    assert chart.methods == ["session-index", "popularity"]
    assert [(panel.title, panel.axis) for panel in chart.panels] == [
        ("2,000 tests", "hit rate at 20 (%)"), ("2,000 tests", "MRR at 20 (%)"),
    ]  # fmt: skip
    assert [(bar.value, bar.interval, bar.series) for bar in chart.panels[1].bars] == [
        (0.75, (0.25, 1.25), "baseline"), (18.0, (17.5, 18.5), "assay"),
    ]  # fmt: skip
    assert of_sessions([], "nothing was judged").methods == []


def test_baskets_are_a_panel_a_group_and_states_are_told_apart() -> None:
    results = [
        basket.BasketResult(method, state, group, 10, 0.5, 0.4, 0.6)
        for state in ("frozen", "live") for method in (basket.OURS, basket.HISTORY) for group in ("known", "all")
    ]  # fmt: skip
    chart = of_baskets(results, "title")
    assert [panel.title for panel in chart.panels] == ["all baskets (10 tests)", "known shoppers (10 tests)"]
    assert chart.methods == [f"{method}, {state}" for state in ("frozen", "live") for method in (basket.OURS, basket.HISTORY)]
    assert chart.panels[0].bars[0] == Bar("assay, frozen", 50.0, (40.0, 60.0), "assay")
    assert of_baskets(results[:4], "title").methods == [basket.OURS, basket.HISTORY]


def test_a_log_has_a_running_curve_of_every_method() -> None:
    judged = prequential.Prequential(["click"], gap_ms=1_800_000, catalogue_size=7)
    for number in range(120):
        value = {
            "kind": "outcome",
            "event_id": f"e{number}",
            "shopper": "u",
            "type": "click",
            "sku": f"s{number % 7}",
            "list_size": 3,
            "occurred_at": "2026-03-01T10:14:00Z",
            "rank": 1,
        }
        judged.take([Output("outcomes", b"u", encode(value, 0).value)])
    chart = of_log(judged, "title")
    assert [curve.series for curve in chart.curves] == list(prequential.METHODS)
    assert chart.curves[0].points[-1] == (120, 100.0)
    assert [curve.points[-1] for curve in chart.further[0].curves][:2] == [(120, 100.0), (120, 0.0)]
    titles = ["all items (120 tests)", "without repeats of the visit (7 tests)", "cold items (7 tests)"]
    assert [panel.title for panel in chart.panels] == titles
    assert chart.panels[1].bars[0].interval is None  # seven tests tell nothing
    empty = of_log(prequential.Prequential(["click"], gap_ms=1, catalogue_size=7), "no tests")
    assert (empty.curves, empty.further, empty.panels) == ((), (), ())


def test_a_group_without_tests_has_no_panel() -> None:
    def row(method: str, group: str, tests: int) -> cold.ColdResult:
        return cold.ColdResult(method, group, tests, 0.2, 0.1, 0.3, 0.05, 0.0, 0.0, 0.0)

    results = [
        row(method, group, tests) for group, tests in ((cold.NEW_ITEMS, 5), (cold.FIRST_TOUCH, 0)) for method in (cold.TEXT, cold.NO_TEXT)
    ]
    chart = of_cold_start(results, "title")
    assert [panel.title for panel in chart.panels] == ["new items (5 tests)"]
    assert [bar.series for bar in chart.panels[0].bars] == [cold.TEXT, cold.NO_TEXT]
