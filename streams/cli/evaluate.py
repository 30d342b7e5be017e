"""``assay evaluate``: how good the lists are, by a protocol that others have published numbers for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streams.cli.options import EXIT_OTHER, load_settings, raise_usage, torch_device, torch_device_option
from streams.replay import DATASETS, ReplayError, open_dataset

if TYPE_CHECKING:
    from schemas.catalog import Product
    from streams.evaluation.shop import InProcessShop

_COLUMNS = ("method", "hit_rate_at_20", "hit_rate_low", "hit_rate_high", "mrr_at_20", "p50_us", "p99_us", "train_seconds", "memory_mb")


def _report_options(what: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--json`` and ``--markdown``, passed as ``as_json`` and ``markdown`` (see ``_report``)."""
    about = f"Print one JSON object as the last line{': ' + what if what else ', its results a list of flat rows'}."

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        markdown = click.Path(path_type=Path, dir_okay=False)
        function = click.option("--markdown", type=markdown, help="Write the table to this file as well.")(function)
        return click.option("--json", "as_json", is_flag=True, help=about)(function)

    return decorate


def _log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names a log and the shop that is taught by it: ``dataset``, ``path``, ``text``, ``limit``, ``encoding``."""
    for option in reversed(
        (
            click.argument("dataset", type=click.Choice([name for name in DATASETS if name not in ("csv", "json-lines")])),
            click.option(
                "--path", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="The data set's file."
            ),
            click.option("--text/--no-text", default=True, show_default=True, help="Embed product texts (takes a minute for 4,000)."),
            click.option("--limit", type=click.IntRange(1), help="Read so many rows."),
            click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of the file."),
        )
    ):
        function = option(function)
    return function


def _open_shop(products: Sequence[Product], text: bool, console: Console) -> InProcessShop:
    """A shop of ``products`` under the settings in force, with text vectors or without."""
    from models.encoder.encoder import TextEncoder
    from streams.evaluation.shop import InProcessShop

    settings = load_settings()
    encoder = TextEncoder(settings.encoder, device="cpu", threads=settings.threads) if text else None
    with console.status(f"{len(products):,} products"):
        return InProcessShop(settings, products, encoder)


def _bars(console: Console, width: int = 10) -> Progress:
    """Progress bars with a name of ``width`` characters, a count and the time."""
    columns = (TextColumn(f"{{task.description:<{width}}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


@click.group()
def command() -> None:
    """Judge recommendations by a published protocol."""


@command.command(
    epilog="""\b
Files (either may be gzipped, NAME.gz):
  --train   a session a line, its items separated by spaces, oldest session first
  --test    a test a line: the items so far, separated by spaces, a tab, the one item that came next

\b
Examples:
  assay evaluate session --train train_sessions.txt.gz --test test.tsv.gz
  # choose without looking at the test: judge on the newest 5 % of training
  assay evaluate session --train train_sessions.txt.gz --tail 0.05 --methods session-index,decayed-rules --json
"""
)
@click.option("--train", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Sessions to learn from.")
@click.option("--test", type=click.Path(path_type=Path, dir_okay=False), help="Tests to judge on; either this or --tail.")
@click.option("--tail", type=click.FloatRange(0, 0.9, min_open=True), help="Judge on this newest share of the training sessions instead.")
@click.option("--methods", default="all", show_default=True, help="Names with commas between, or all.")
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of trained sequence models (`assay train sequence`); one that is missing is trained and kept there.",
)
@torch_device_option("Where to train, if need be.")
@_report_options()
def session(
    *,
    train: Path,
    test: Path | None,
    tail: float | None,
    methods: str,
    models: Path | None,
    device: str,
    as_json: bool,
    markdown: Path | None,
) -> None:
    """Next-click prediction in sessions: the protocol of the SR-GNN paper (AAAI 2019) and those that followed.

    Every method learns from all training sessions, then ranks all items for every test; items of the session may be in the list. Shown
    are hit rate (called P@20 there; with its 95 % interval) and MRR at 20, in percent, the time of one recommendation on one thread,
    and what learning took. A target that training never saw counts as a miss. Weights of `fused`, and the order of `ranked` and
    `ranked-live` (which does without the sequence model), are learned on the newest 5 % of training.
    """
    from models.evaluation import METHODS, DatasetError, Training, create_method, judge, read_dataset
    from models.sequence import Epoch, SequenceModelError

    chosen = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(METHODS))
    if unknown or not chosen:
        raise_usage(f"no method is called {', '.join(unknown) or methods!r}; there are {', '.join(METHODS)}")
    if (test is None) == (tail is None):
        raise_usage("give either --test FILE or --tail SHARE")
    try:
        dataset = read_dataset(train, test)
        if tail is not None:
            dataset = dataset.tail(tail)
    except DatasetError as error:
        raise_usage(str(error))
    console = Console(stderr=True)
    console.print(f"{len(dataset.train):,} sessions, {len(dataset.names):,} items, {len(dataset.prefixes):,} tests", highlight=False)
    device = torch_device(device)
    results = []
    failed = False
    with _bars(console, 20) as progress:

        def told(part: str, epoch: Epoch) -> None:
            progress.console.print(
                f"sequence model, {part}: epoch {epoch.number}, loss {epoch.loss:.3f}, {epoch.seconds:.0f} s", highlight=False
            )

        training = Training(models, device, os.cpu_count() or 1, progress=told)
        for name in chosen:
            task = progress.add_task(name, total=len(dataset.prefixes))
            try:
                results.append(judge(create_method(name, training), dataset, lambda done, task=task: progress.update(task, completed=done)))
            except (SequenceModelError, ValueError) as error:
                progress.console.print(f"{name}: {error}", highlight=False)
                failed = True
    rows = [{column: getattr(result, column) for column in _COLUMNS} for result in results]
    about = {"protocol": "session", "sessions": len(dataset.train), "items": len(dataset.names), "tests": len(dataset.prefixes)}
    _report(rows, _COLUMNS, about, as_json, markdown)
    if failed:
        raise SystemExit(EXIT_OTHER)


_BASKET_COLUMNS = ("method", "state", "baskets", "tests", "hit_rate", "low", "high")


@command.command(
    epilog="""\b
Examples:
  assay evaluate basket online-retail --path online_retail.csv.gz --cut 2011-09-25T21:33Z
  # lists that go on learning, each made before its basket, beside the frozen ones; without text vectors
  assay evaluate basket online-retail --path online_retail.csv.gz --cut 2011-09-25T21:33Z --live --no-text --json
"""
)
@_log_options
@click.option("--cut", required=True, help="Learn up to here (UTC unless a zone is given); judge every basket after it.")
@click.option("--live", is_flag=True, help="Judge lists that go on learning as well.")
@_report_options()
def basket(
    *, dataset: str, path: Path, cut: str, live: bool, text: bool, limit: int | None, encoding: str, as_json: bool,
    markdown: Path | None,
) -> None:  # fmt: skip
    """The next basket: does a list of 20 hold any item of the shopper's next order?

    The recommend worker's own code learns every purchase of a named shopper up to --cut, and makes one list for each later order: by what
    it knew at the cut (frozen), and with --live also by what it knew just before the order. `known` shoppers had bought before the cut;
    `discovery` judges a second list, without what they had bought, by orders that hold something new to them.
    """
    from streams.evaluation.basket import judge_baskets, purchases

    try:
        at = datetime.fromisoformat(cut)
    except ValueError:
        raise_usage(f"--cut {cut} is no time; write it like 2011-09-25T21:33Z")
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding)
        products = source.catalogue().products
        bought = purchases(source.events())
    except ReplayError as error:
        raise_usage(str(error))
    cut_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not bought or not bought[0][3].at_ms <= cut_ms < bought[-1][3].at_ms:
        ends = [datetime.fromtimestamp(line[3].at_ms / 1000, UTC).isoformat() for line in (bought[:1] + bought[-1:])]
        raise_usage(f"--cut must lie within the purchases of {path}: {' .. '.join(ends) or 'there are none'}")
    shop = _open_shop(products, text, console)
    with _bars(console) as bars:
        task = bars.add_task("learned", total=len(bought))
        results = judge_baskets(
            shop, bought, cut_ms, live=live,
            progress=lambda what, done, total: bars.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
    rows = [{column: getattr(result, column) for column in _BASKET_COLUMNS} for result in results]
    _report(rows, _BASKET_COLUMNS, {"protocol": "basket", "dataset": dataset, "purchases": len(bought)}, as_json, markdown)


_PREQUENTIAL_COLUMNS = (
    "method", "items", "tests", "hit_rate_at_5", "hit_rate_at_10", "hit_rate_at_20", "low", "high", "mrr_at_20", "ndcg_at_20",
)  # fmt: skip


@command.command(
    epilog="""\b
Examples:
  assay evaluate prequential online-retail --path online_retail.csv.gz --types purchase
  # lists that follow a shopper event by event, on the first 60,000 rows
  assay evaluate prequential online-retail --path online_retail.csv.gz --types purchase --batch 4 --limit 60000 --json
"""
)
@_log_options
@click.option("--types", default="browse,click,add_to_cart,purchase", show_default=True, help="Events that are tests, with commas between.")
@click.option(
    "--batch", type=click.IntRange(1), default=500, show_default=True, help="Events in a micro-batch; lists are made once in each."
)
@_report_options("results, and running curves")
def prequential(
    *, dataset: str, path: Path, types: str, batch: int, text: bool, limit: int | None, encoding: str, as_json: bool, markdown: Path | None
) -> None:
    """A log, in its order: before an event is learned, was its item in the list that its shopper had been sent last?

    The recommend worker's own code, beside popularity (fading), what followed the shopper's last item, and the shopper's own items, fed
    the same way. Items that nobody had touched before are shown apart (cold); intervals are 95 % by batch means.
    """
    from streams.evaluation.prequential import OURS, POPULARITY, judge_log

    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding)
        catalogue = source.catalogue()
        shop = _open_shop(catalogue.products, text, console)
        with _bars(console) as bars:
            task = bars.add_task("events", total=catalogue.events)
            judged = judge_log(
                shop, source.events(), [kind.strip() for kind in types.split(",")], batch=batch,
                progress=lambda done: bars.update(task, completed=done),
            )  # fmt: skip
    except ReplayError as error:
        raise_usage(str(error))
    rows = [{column: getattr(result, column) for column in _PREQUENTIAL_COLUMNS} for result in judged.results()]
    about = {"protocol": "prequential", "dataset": dataset, "curves": {name: judged.curve(name) for name in (OURS, POPULARITY)}}
    _report(rows, _PREQUENTIAL_COLUMNS, about, as_json, markdown)


def _report(
    rows: list[dict[str, object]], columns: tuple[str, ...], about: dict[str, object], as_json: bool, markdown: Path | None
) -> None:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    click.echo("\n".join(lines))
    if markdown is not None:
        markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if as_json:
        click.echo(orjson.dumps(about | {"results": rows}).decode())
