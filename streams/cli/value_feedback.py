"""``assay value feedback``: what value feedback would have done to the lists of a log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console

from streams.cli.logs import event_types, log_options, open_shop, text_option
from streams.cli.options import load_settings, raise_usage
from streams.cli.report import bars, report_options, report_sections
from streams.replay import ReplayError, open_dataset

if TYPE_CHECKING:
    from streams.evaluation.feedback import Comparison

_LIST_COLUMNS: Final = (
    "arm", "tests", "hit_rate_at_20", "hit_rate_low", "hit_rate_high", "mrr_at_20", "mrr_low", "mrr_high", "hit_rate_gain",
    "hit_rate_gain_low", "hit_rate_gain_high", "mrr_gain", "mrr_gain_low", "mrr_gain_high",
)  # fmt: skip
_WEIGHT_COLUMNS: Final = ("dimension", "asset", "weight", "points_per_1k", "low", "high", "insufficient", "sessions", "tests")
_WINDOW_MS: Final = {"1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000}
#: So often within its window a register is looked at; the value worker publishes it every second.
_LOOKS: Final = 168


@click.command(
    epilog="""\b
Examples:
  assay value feedback online-retail --path online_retail.csv.gz --limit 60000 --no-text
  # by country too, looking back on a day, event by event
  assay value feedback rees46 --path events.csv.gz --dimensions channel,event_type,country --window 24h --batch 1 --json
"""
)
@log_options
@text_option
@click.option("--types", default="browse,click,add_to_cart,purchase", show_default=True, help="Events that are tests, with commas between.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Events in a micro-batch; lists are made once in each.")
@click.option(
    "--window", type=click.Choice(list(_WINDOW_MS)),
    help="As of the setting feedback_window: with 24h weights stay as they were while any of the 24 hours holds no test.",
)  # fmt: skip
@click.option("--dimensions", help="As of the setting feedback_dimensions.")
@report_options("lists, weights (the last), and how they changed", plot=False)
def feedback(
    *, dataset: str, path: Path, limit: int | None, encoding: str, text: bool, types: str, batch: int, window: str | None,
    dimensions: str | None, **outputs: Any,
) -> None:  # fmt: skip
    """What would value feedback have done to lists? A log, in its order, through two shops, one that lets its data's value weigh on it
    (`assay worker --value-feedback`) and one that does not.

    Before an event is learned: was its item in the list that its shopper had been sent last? By the recommend worker's own code; outcomes
    are valued by the value worker's own. `gain` is feedback's hit rate, or MRR, less that without on the same events; intervals are
    95 % by batch means. Where no data does harm, weights stay 1, lists are the same, and the gain is 0.
    """
    from streams.evaluation.feedback import WITH, WITHOUT, compare_feedback

    kinds = event_types(types)
    chosen = load_settings(value_feedback=True, feedback_window=window, feedback_dimensions=dimensions)
    named = {name: getattr(chosen, name) for name in ("value_feedback", "feedback_window", "feedback_dimensions")}
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding)
        catalogue = source.catalogue()
        shops = {
            WITHOUT: open_shop(catalogue.products, text, console, value_feedback=False),
            WITH: open_shop(catalogue.products, text, console, **named),
        }
        with bars(console) as progress:
            task = progress.add_task("events", total=catalogue.events)
            compared = compare_feedback(
                shops, source.events(), kinds, batch=batch, every_ms=_WINDOW_MS[chosen.feedback_window] // _LOOKS,
                progress=lambda done: progress.update(task, completed=done),
            )  # fmt: skip
    except ReplayError as error:
        raise_usage(str(error))
    lists, weights = [asdict(result) for result in compared.results()], weight_rows(compared)
    about = {
        "protocol": "feedback", "dataset": dataset, "window": chosen.feedback_window, "dimensions": chosen.feedback_dimensions,
        "lists": lists, "weights": weights, "changes": [{"events": events, "weights": below} for events, below in compared.weights],
    }  # fmt: skip
    report_sections({"lists": (lists, _LIST_COLUMNS), "weights": (weights, _WEIGHT_COLUMNS)}, about, **outputs)


def weight_rows(compared: Comparison) -> list[dict[str, object]]:
    """What each asset counts at the end, and what it was worth, in points per 1,000 tests."""
    below = compared.weights[-1][1]

    def thousandfold(value: float | None) -> float | None:
        return None if value is None else round(1_000 * value, 3)

    return [
        {
            "dimension": register.dimension, "asset": asset, "weight": below[register.dimension].get(asset, 1.0),
            "points_per_1k": thousandfold(value.points), "low": thousandfold(value.low), "high": thousandfold(value.high),
            "insufficient": value.insufficient, "sessions": round(value.rows, 1), "tests": value.tests,
        }
        for register in compared.registers
        for asset, value in sorted(register.assets.items(), key=lambda entry: entry[1].points)
    ]  # fmt: skip
