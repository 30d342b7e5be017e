"""``assay replay``: a public data set or your own log through the event topic."""

from __future__ import annotations

import inspect
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import orjson
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from schemas.catalog import Product
from streams.cli.logs import mapping_options
from streams.cli.options import EXIT_BROKER, EXIT_CONFIG, broker_options, raise_usage, stop_on_broker_trouble
from streams.replay import DATASETS, Catalogue, Mapping, ReplayError, open_dataset
from streams.replay.publisher import Publisher, Summary, await_embeddings
from streams.settings import Settings
from streams.topics import TopicAdmin

#: The embedded broker forgets after 100,000 batches or 5 MiB a partition; a reader must stay well inside that.
_EMBEDDED_MAX_LAG = 10_000


def _speed(_: click.Context, __: click.Parameter, value: str) -> float | None:
    if value == "max":
        return None
    try:
        speed = float(value)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise click.BadParameter("a number above 0, or max")
    return speed


def _describe(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print each adapter's docstring: where to download the data and what becomes of a row."""
    if wanted:
        for name, adapter in DATASETS.items():
            click.echo(f"{click.style(name, bold=True)}\n{inspect.cleandoc(inspect.getmodule(adapter).__doc__ or '')}\n")
        context.exit()


@click.command()
@click.argument("dataset", type=click.Choice(list(DATASETS)))
@click.option(
    "--path",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="The file (plain or .gz), or its folder where a set has several.",
)
@broker_options
@click.option("--speed", default="max", show_default=True, callback=_speed, help="Times the log's own pace, or max.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option(
    "--shift-time", type=click.Choice(["first", "last"]),
    help="Move event times so that the first (with --speed up to 1) or the last event happens now.",
)  # fmt: skip
@click.option("--products/--no-products", default=True, show_default=True, help="Publish the catalogue first.")
@click.option("--wait-embeddings", is_flag=True, help="Between catalogue and events, wait until every product with text has its vector.")
@click.option("--wait-timeout", type=float, default=300.0, show_default=True, help="Give up after so many seconds without a new vector.")
@click.option(
    "--max-lag",
    type=click.IntRange(min=1),
    help="Wait while the workers are more than N events behind.  [default: 10000 on the embedded broker]",
)
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of the file (Kaggle's Online Retail: latin-1).")
@mapping_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; no progress bar.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_describe,
    help="Say where to download each set and what becomes of a row.",
)
def command(
    *, dataset: str, path: Path, settings: Settings, speed: float | None, limit: int | None, shift_time: str | None, products: bool,
    wait_embeddings: bool, wait_timeout: float, max_lag: int | None, encoding: str, mapping: Mapping | None, catalog: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Send a public data set or your own log through the event topic: the catalogue first, then events in the file's order.

    Nothing in the data is mended: rows that break the contract are sent as they are and end in the dead letters. Exit
    codes: 2 the data cannot be read, 3 the broker is unreachable, wrongly set up or did not take the records.
    """
    if shift_time == "first" and (speed is None or speed > 1):
        raise_usage(
            "--shift-time first runs ahead of the clock, and events from the future are refused: add --speed 1, or use --shift-time last"
        )
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding, mapping=mapping, catalog=catalog)
        console = Console(stderr=True)
        with console.status(f"reading {path.name}") if _interactive(as_json) else nullcontext():
            catalogue = source.catalogue()
    except (ReplayError, LookupError) as error:
        raise_usage(str(error), EXIT_CONFIG)
    _require_topics(settings)
    summary = Summary()
    began = time.monotonic()
    with _progress(as_json) as bars:
        try:
            lag = max_lag if max_lag is not None or not _embedded(settings) else _EMBEDDED_MAX_LAG
            with Publisher(settings, max_lag=lag) as publisher:
                if products:
                    summary.products = publisher.publish_products(catalogue.products, _bar(bars, "products", len(catalogue.products)))
                if wait_embeddings:
                    skus = {p.sku for p in catalogue.products if _has_text(p)}
                    await_embeddings(settings, skus, timeout_s=wait_timeout, progress=_bar(bars, "vectors", len(skus)))
                events = source.events(_shift_ms(shift_time, catalogue, int(time.time() * 1000)))
                sent_from = time.monotonic()
                publisher.publish_events(events, summary, speed=speed, progress=_bar(bars, "events", catalogue.events))
                summary.seconds = time.monotonic() - sent_from
        except (ReplayError, KafkaException) as error:
            raise_usage(f"after {summary.events} events: {error}", EXIT_BROKER)
    report = summary.as_json() | {"dataset": dataset, "total_seconds": round(time.monotonic() - began, 3)}
    click.echo(orjson.dumps(report) if as_json else _text(report))


def _shift_ms(anchor: str | None, catalogue: Catalogue, now_ms: int) -> int:
    if anchor is None:
        return 0
    return now_ms - (catalogue.first_ms if anchor == "first" else catalogue.last_ms)


def _has_text(product: Product) -> bool:
    return bool(product.title or product.description or product.brand or product.category_path)


def _embedded(settings: Settings) -> bool:
    return TopicAdmin(settings).embedded


def _require_topics(settings: Settings) -> None:
    with stop_on_broker_trouble():
        fatal = [drift for drift in TopicAdmin(settings).check() if drift.fatal]
    if fatal:
        raise_usage("\n  ".join(("the topics are not as they should be:", *map(str, fatal))), EXIT_BROKER)


def _interactive(as_json: bool) -> bool:
    return not as_json and sys.stderr.isatty()


def _progress(as_json: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=Console(stderr=True), disable=not _interactive(as_json),
    )  # fmt: skip


def _bar(bars: Progress, name: str, total: int) -> Any:
    """A function that moves the bar ``name``; the bar itself moves every 1,000th time, because drawing costs more than sending."""
    task = bars.add_task(name, total=total, rate="")
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done % 1000 == 0 or done >= total or total < 1000:
            speed = bars.tasks[task].speed
            bars.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

    return advance


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['products']:,} products, {report['events']:,} events in {report['seconds']:.1f} s ({report['events_per_second']:,.0f}/s)"
    ]
    for kind, count in sorted(report["kinds"].items()):
        amounts = ", ".join(f"{amount} {currency}" for currency, amount in report["revenue"].get(kind, {}).items())
        lines.append(f"  {kind:<12} {count:>10,}  {amounts}")
    return "\n".join(lines)
