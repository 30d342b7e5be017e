"""``assay value offline``: what data assets are worth, away from the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console

from streams.cli.logs import event_types, open_shop, own_log_options, text_option
from streams.cli.options import EXIT_OTHER, load_settings, raise_usage
from streams.cli.report import bars, report_options, report_sections
from streams.replay import Mapping as LogMapping
from streams.replay import ReplayError, open_dataset

if TYPE_CHECKING:
    from models.evaluation.responses import Judgement, Shown
    from models.valuation.register import RegisterLine
    from streams.evaluation.registers import Valued
    from streams.replay.record import Catalogue, Dataset

_PARTS: Final = ("register", "responses")
_DIMENSIONS: Final = "channel,event_type,category,country,segment,age"
_REGISTER_COLUMNS: Final = (
    "dimension", "asset", "rows", "points_per_1k", "low", "high", "share_pct", "player_pct", "leave_one_out_per_1k", "random_pct",
    "random_spread", "random_player_pct", "random_player_spread",
)  # fmt: skip
_RESPONSE_COLUMNS: Final = (
    "protocol", "train_lists", "lists", "items", "taken", "auc", "low", "high", "threshold", "tp", "fp", "fn", "tn", "precision", "recall",
    "f1",
)  # fmt: skip
_HEALTH_COLUMNS: Final = ("protocol", "P_train", "P_test", "gap", "E", "epsilon")
_CURVE_COLUMNS: Final = ("training", "lists", "P_train", "P_test", "low", "high")

#: Of ``offline``: name -> what `click.option` takes.
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "parts": {"default": ",".join(_PARTS), "help": "What to compute, by commas."},
    "share": {"type": click.FloatRange(0, 1, min_open=True, max_open=True), "default": 0.2, "help": "Newest share that is judged."},
    "dimensions": {"default": _DIMENSIONS, "help": "Of the register, by commas; also: length (touches of a visit)."},
    "k": {"type": click.IntRange(1, 100), "default": 10, "help": "Nearest visits, or items shown, that vote."},
    "neighbours": {
        "type": click.Choice(["sessions", "embeddings"]), "default": "sessions",
        "help": "What votes in the register: past visits on what comes next; items shown on whether an item like them is taken up.",
    },
    "tests": {"type": click.IntRange(1), "default": 2_000, "help": "Items that came next, on which assets are valued, at most."},
    "shuffles": {"type": click.IntRange(0), "default": 5, "help": "How often assets are dealt to visits by chance."},
    "types": {"default": "click,add_to_cart,purchase", "help": "Events that take up what was listed, by commas."},
    "model": {
        "type": click.Choice(["trees", "linear", "nearest"]), "default": "trees", "help": "What guesses whether an item is taken up.",
    },
    "lists": {"type": click.IntRange(100), "default": 20_000, "help": "Judge on so many of the newest lists."},
    "listed": {"type": click.IntRange(1, 100), "default": 20, "help": "Items of a list that count as shown."},
    "batch": {"type": click.IntRange(1), "default": 4, "help": "Events between two lists of a shopper at most."},
    "folds": {"type": click.IntRange(2, 50), "default": 5, "help": "Blocks of time for cross-validation."},
    "gap": {
        "type": click.FloatRange(0, 0.5, max_open=True), "default": 0.01, "help": "Share of the lists' time left out around the judged.",
    },
    "threshold": {
        "type": click.FloatRange(0, 1), "help": "Score from which on an item is said to be taken up (default: of the best F1 in training).",
    },
    "epsilon": {"type": click.FloatRange(0, 1), "default": 0.01, "help": "Slack of E = max(0, P_train - P_test - epsilon)."},
}  # fmt: skip


def _offline_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, option in reversed(_OPTIONS.items()):
        function = click.option(f"--{name}", show_default="default" in option, **option)(function)
    return function


@click.command(
    epilog="""\b
Examples:
  # value by country, month of age and segment, each set beside chance
  assay value offline online-retail --path online_retail.csv.gz --parts register --dimensions country,age,segment
  # by channel and category, for whether what is shown is taken up, from your own events
  assay value offline json-lines --path events.jsonl.gz --catalog products.jsonl --parts register --neighbours embeddings
  # and whether what was listed is clicked: ROC, confusion, P_train and P_test, as a page with curves
  assay value offline rees46 --path events.csv.gz --no-text --json --plot value.html
"""
)
@own_log_options
@text_option
@_offline_options
@report_options("value, responses, curves, roc and health")
def offline(
    *, dataset: str, path: Path, limit: int | None, encoding: str, mapping: LogMapping | None, catalog: Path | None, text: bool,
    neighbours: str, parts: str, dimensions: str, types: str, share: float, k: int, tests: int, shuffles: int, model: str, lists: int,
    listed: int, batch: int, folds: int, gap: float, threshold: float | None, epsilon: float, **outputs: Any,
) -> None:  # fmt: skip
    """What the older part of a log did for predicting its newer part.

    The register: past visits vote for what comes next by the serving model's own similarity; each asset (country, month of age, ..) of the
    visits is given its KNN-Shapley value, in utility points per 1,000 outcomes with 95 % interval. `share` divides the vote's lift over
    popularity by points, `player` by the game in which assets are the players (copies do not help). `random` is the player's and the
    points' share that an asset of as many visits gets by chance, and its standard deviation.

    With --neighbours embeddings items shown take the place of visits, near by their texts: of a log with impressions (json-lines), it is
    valued what they tell of whether an item shown is taken up (within a day; ASSAY_VIEW_WINDOW_S) by those --types.

    The responses: lists made by the worker's own code before each event, and a model that guesses which of their items are taken up next:
    judged on the newest part, by cross-validation in blocks of time with a gap, and by training size. P is the area under the ROC curve.
    E = max(0, P_train - P_test - epsilon) measures over-fitting: it is printed under health, and is no value.
    """
    from streams.evaluation import chart

    chosen = _named(parts, _PARTS, "part")
    kinds = event_types(types)
    console = Console(stderr=True)
    about: dict[str, object] = {"protocol": "offline", "dataset": dataset, "share": share}
    sections: dict[str, tuple[Sequence[Mapping[str, object]], Sequence[str]]] = {}
    valued: Valued | None = None
    curve: list[Judgement] = []
    judged: list[Judgement] = []
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding, mapping=mapping, catalog=catalog)
        catalogue = source.catalogue()
        if "register" in chosen:
            if neighbours == "embeddings":
                valued, summary = _shown_register(source, catalogue, dimensions, share, k, tests, shuffles, kinds, console, text=text)
            else:
                valued, summary = _register(source, catalogue, dimensions, share, k, tests, shuffles, console)
            lines = [line for register in valued.registers.values() for line in register.lines()]
            sections["value"] = [_register_row(line) for line in lines], _REGISTER_COLUMNS
            residual = max(register.residual for register in valued.registers.values())
            lift = next(iter(valued.registers.values())).lift
            about |= {
                "neighbours": neighbours, "value": [asdict(line) for line in lines], "tests": valued.tests, "rows": valued.rows, "k": k,
                "hits": valued.hits, "lift": lift, "efficiency_residual": residual, "shuffles": shuffles,
            }  # fmt: skip
            console.print(
                f"{summary}, {lift:+.4f} over popularity; the assets' sums miss that by {residual:.0e} at most",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        if "responses" in chosen:
            shown = _shown(source, catalogue, kinds, text=text, batch=batch, lists=lists, listed=listed, console=console)
            judged, curve = _judged(shown, model, share, gap, folds, threshold)
            sections["responses"] = [_response_row(one) for one in judged], _RESPONSE_COLUMNS
            sections["curves"] = [_curve_row(one) for one in curve], _CURVE_COLUMNS
            health = [_health_row(one, epsilon) for one in judged]
            sections["health"] = health, _HEALTH_COLUMNS
            about |= {
                "model": model, "threshold_from": "training" if threshold is None else "given", "gap": gap,
                "responses": sections["responses"][0], "curves": sections["curves"][0], "roc": chart.roc_points(judged[0]),
                "health": health,
            }  # fmt: skip
    except ReplayError as error:
        raise_usage(str(error))
    registers = {} if valued is None else {one: register.lines() for one, register in valued.registers.items()}
    title = f"Value of {dataset}, on its newest {share:.0%}"
    report_sections(sections, about, chart=lambda: chart.of_value(registers, judged, curve, title), **outputs)


def _named(given: str, known: Sequence[str], what: str) -> list[str]:
    chosen = [name.strip() for name in given.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(known))
    if unknown or not chosen:
        raise_usage(f"no {what} is called {', '.join(unknown) or repr(given)}; there are {', '.join(known)}")
    return chosen


def _register(
    source: Dataset, catalogue: Catalogue, dimensions: str, share: float, k: int, tests: int, shuffles: int, console: Console
) -> tuple[Valued, str]:
    """The register over past visits, and a sentence of what it was made of."""
    from streams.evaluation.registers import DIMENSIONS, read_visits, split_visits, value_visits

    chosen = _named(dimensions, DIMENSIONS, "dimension")
    category = _categories(catalogue)
    with console.status("reading visits"):
        parts = split_visits(read_visits(source.events(), int(load_settings().session_gap_s * 1000)), share)
    with bars(console, 14) as progress:
        task = progress.add_task("items next", total=tests)
        valued = value_visits(
            parts, category, chosen, k=k, tests=tests, shuffles=shuffles, progress=lambda done: progress.update(task, completed=done)
        )
        progress.update(task, total=valued.tests)
    if not valued.tests or not valued.rows:
        raise_usage(
            f"{valued.rows:,} visits were over before the newest {share:.0%} began, in which {valued.tests:,} items came next: take a "
            "longer log, or another --share",
            EXIT_OTHER,
        )
    return valued, f"{valued.rows:,} visits vote on {valued.tests:,} items that came next: {valued.hits:.4f} of the {k} nearest hold it"


def _shown_register(
    source: Dataset, catalogue: Catalogue, dimensions: str, share: float, k: int, tests: int, shuffles: int, kinds: Sequence[str],
    console: Console, *, text: bool,
) -> tuple[Valued, str]:  # fmt: skip
    """The register over items shown, and a sentence of what it was made of."""
    from models.encoder.text import product_text
    from streams.evaluation.showings import SHOWN_DIMENSIONS, read_showings, split_showings, value_showings

    chosen = _named(dimensions, SHOWN_DIMENSIONS, "dimension of items shown")
    settings = load_settings()
    window_ms = int(settings.view_window_s * 1000)
    with console.status("reading impressions"):
        showings = read_showings(source.events(), window_ms, kinds)
    if not showings:
        raise_usage(
            f"{source.name} has no impression of which it is known what became of it within {settings.view_window_s / 3600:g} hours: it "
            "says what was touched, not what was shown beside it and passed over, and without that there are no items shown to be near. "
            "Take a log that has impressions (json-lines), or --neighbours sessions",
            EXIT_OTHER,
        )
    texts = {product.sku: spoken for product in catalogue.products if (spoken := product_text(product))}
    if not text or not texts:
        raise_usage("items shown are near by their texts: leave out --no-text, and name their products (json-lines: --catalog)")
    from models.encoder.encoder import TextEncoder  # torch comes with it, which a refusal does without

    placed = [one for one in showings if one.sku in texts]
    skus = sorted({one.sku for one in placed})
    with console.status(f"{len(skus):,} texts"):
        vectors = TextEncoder(settings.encoder, device="cpu", threads=settings.threads).encode([texts[sku] for sku in skus])
    parts = split_showings(placed, share, window_ms)
    with bars(console, 14) as progress:
        task = progress.add_task("items shown", total=min(tests, len(parts.test)))
        valued = value_showings(
            parts, dict(zip(skus, vectors, strict=True)), _categories(catalogue), chosen,
            k=k, tests=tests, shuffles=shuffles, progress=lambda done: progress.update(task, completed=done),
        )  # fmt: skip
    if not valued.tests or not valued.rows:
        raise_usage(
            f"of {valued.rows:,} items shown it was known what became of them before the newest {share:.0%} were shown, {valued.tests:,} "
            "items: take a longer log, or another --share",
            EXIT_OTHER,
        )
    left_out = f" ({len(showings) - len(placed):,} without a text are left out)" if len(placed) < len(showings) else ""
    shown = f"{valued.rows:,} items shown vote on {valued.tests:,} shown later{left_out}"
    return valued, f"{shown}: to {valued.hits:.4f} of the {k} nearest happened the same"


def _categories(catalogue: Catalogue) -> dict[str, str]:
    return {product.sku: product.category_path[0] for product in catalogue.products if product.category_path}


def _shown(
    source: Dataset, catalogue: Catalogue, types: Sequence[str], *, text: bool, batch: int, lists: int, listed: int, console: Console
) -> Shown:
    from streams.evaluation.shown import collect_shown

    shop = open_shop(catalogue.products, text, console, ranker=None)
    with bars(console, 14) as progress:
        task = progress.add_task("events", total=catalogue.events)
        return collect_shown(
            shop, source.events(), types, batch=batch, lists=lists, listed=listed,
            progress=lambda done: progress.update(task, completed=done),
        )  # fmt: skip


def _judged(
    shown: Shown, model: str, share: float, gap: float, folds: int, threshold: float | None
) -> tuple[list[Judgement], list[Judgement]]:
    """The replay and the folds, and the replay by training size."""
    from models.evaluation.responders import RESPONDERS
    from models.evaluation.responses import TooFewResponses, judge_folds, judge_replay, learning_curve

    fit = RESPONDERS[model]
    try:
        replay = judge_replay(shown, fit, share, gap, threshold)
        return [replay, *judge_folds(shown, fit, folds, gap, threshold)], list(learning_curve(shown, fit, share, gap))
    except TooFewResponses as error:
        raise_usage(str(error), EXIT_OTHER)


def _register_row(line: RegisterLine) -> dict[str, object]:
    """As the table has it: points per 1,000 outcomes, shares in percent."""
    thousand = {name: _rounded(getattr(line, name), 1_000) for name in ("points", "low", "high", "leave_one_out")}
    percent = {
        name: _rounded(value, 100, 2)
        for name, value in (
            ("share_pct", line.share), ("player_pct", line.player_share), ("random_pct", line.random_share),
            ("random_spread", line.random_spread), ("random_player_pct", line.random_player),
            ("random_player_spread", line.random_player_spread),
        )
    }  # fmt: skip
    return {
        "dimension": line.dimension, "asset": line.asset, "rows": line.rows, "points_per_1k": thousand["points"], "low": thousand["low"],
        "high": thousand["high"], "leave_one_out_per_1k": thousand["leave_one_out"], **percent,
    }  # fmt: skip


def _rounded(value: float | None, scale: float, digits: int = 3) -> float | None:
    return None if value is None else round(scale * value, digits)


def _response_row(one: Judgement) -> dict[str, object]:
    found = one.confusion
    return {
        "protocol": one.protocol, "train_lists": one.train_lists, "lists": one.lists, "items": one.rows, "taken": one.taken,
        "auc": round(one.p_test.auc, 4), "low": round(one.p_test.low, 4), "high": round(one.p_test.high, 4),
        "threshold": round(one.threshold, 4), "tp": found.true_positives, "fp": found.false_positives, "fn": found.false_negatives,
        "tn": found.true_negatives, "precision": round(found.precision, 4), "recall": round(found.recall, 4), "f1": round(found.f1, 4),
    }  # fmt: skip


def _curve_row(one: Judgement) -> dict[str, object]:
    return {
        "training": one.protocol, "lists": one.train_lists, "P_train": round(one.p_train, 4), "P_test": round(one.p_test.auc, 4),
        "low": round(one.p_test.low, 4), "high": round(one.p_test.high, 4),
    }  # fmt: skip


def _health_row(one: Judgement, epsilon: float) -> dict[str, object]:
    from models.valuation.health import health_pair

    pair = health_pair(one.p_train, one.p_test.auc, epsilon)
    return {
        "protocol": one.protocol, "P_train": round(one.p_train, 4), "P_test": round(one.p_test.auc, 4), "gap": round(pair.gap, 4),
        "E": round(pair.E, 4), "epsilon": epsilon,
    }  # fmt: skip
