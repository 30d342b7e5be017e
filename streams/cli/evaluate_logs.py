"""The protocols of ``assay evaluate`` that judge the recommend worker's own code on a log: basket, prequential, cold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from schemas.recommendation import SourceName
from streams.cli.logs import event_types, open_shop, own_log_options, silenced, text_option
from streams.cli.options import raise_usage
from streams.cli.report import bars, report, report_options
from streams.replay import Mapping as LogMapping
from streams.replay import ReplayError, open_dataset

_types_option = click.option(
    "--types", default="browse,click,add_to_cart,purchase", show_default=True, help="Events that are tests, with commas between."
)


_BASKET_COLUMNS = ("method", "state", "baskets", "tests", "hit_rate", "low", "high")


@click.command(
    epilog="""\b
Examples:
  assay evaluate basket online-retail --path online_retail.csv.gz --cut 2011-09-25T21:33Z
  # lists that go on learning, each made before its basket, beside the frozen ones; without text vectors
  assay evaluate basket online-retail --path online_retail.csv.gz --cut 2011-09-25T21:33Z --live --no-text --json
  # your own orders
  assay evaluate basket json-lines --path events.jsonl.gz --catalog products.jsonl --cut 2026-02-01
"""
)
@own_log_options
@text_option
@click.option("--cut", required=True, help="Learn up to here (UTC unless a zone is given); judge every basket after it.")
@click.option("--live", is_flag=True, help="Judge lists that go on learning as well.")
@report_options()
def basket(
    *, dataset: str, path: Path, limit: int | None, encoding: str, mapping: LogMapping | None, catalog: Path | None, cut: str, live: bool,
    text: bool, **outputs: Any,
) -> None:  # fmt: skip
    """The next basket: does a list of 20 hold any item of the shopper's next order?

    The recommend worker's own code learns every purchase of a named shopper up to --cut, and makes one list for each later order: by what
    it knew at the cut (frozen), and with --live also by what it knew just before the order. `known` shoppers had bought before the cut;
    `discovery` judges a second list, without what they had bought, by orders that hold something new to them.
    """
    from streams.evaluation import chart
    from streams.evaluation.basket import judge_baskets, purchases

    try:
        at = datetime.fromisoformat(cut)
    except ValueError:
        raise_usage(f"--cut {cut} is no time; write it like 2011-09-25T21:33Z")
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding, mapping=mapping, catalog=catalog)
        products = source.catalogue().products
        bought = purchases(source.events())
    except ReplayError as error:
        raise_usage(str(error))
    cut_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not bought or not bought[0][3].at_ms <= cut_ms < bought[-1][3].at_ms:
        ends = [datetime.fromtimestamp(line[3].at_ms / 1000, UTC).isoformat() for line in (bought[:1] + bought[-1:])]
        raise_usage(f"--cut must lie within the purchases of {path}: {' .. '.join(ends) or 'there are none'}")
    shop = open_shop(products, text, console)
    with bars(console) as progress:
        task = progress.add_task("learned", total=len(bought))
        results = judge_baskets(
            shop, bought, cut_ms, live=live,
            progress=lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
    rows = [{column: getattr(result, column) for column in _BASKET_COLUMNS} for result in results]
    about = {"protocol": "basket", "dataset": dataset, "purchases": len(bought)}
    title = f"The next basket on {dataset}, after {cut}"
    report(rows, _BASKET_COLUMNS, about, chart=lambda: chart.of_baskets(results, title), **outputs)


_PREQUENTIAL_COLUMNS = (
    "method", "items", "tests", "hit_rate_at_20", "low", "high", "mrr_at_20", "mrr_low", "mrr_high", "ndcg_at_20", "coverage", "novelty",
    "repeats",
)  # fmt: skip


@click.command(
    epilog="""\b
Examples:
  assay evaluate prequential online-retail --path online_retail.csv.gz --types purchase
  # lists that follow a shopper event by event, on the first 60,000 rows, as a page with bars and running curves
  assay evaluate prequential online-retail --path online_retail.csv.gz --types purchase --batch 4 --limit 60000 --plot running.html
  # what is the session index worth?
  assay evaluate prequential online-retail --path online_retail.csv.gz --types purchase --without sessions
  # your own log: events of the contract, or a table whose columns are named
  assay evaluate prequential json-lines --path events.jsonl.gz --catalog products.jsonl
  assay evaluate prequential csv --path sales.csv --column occurred_at=ts --column user_id=who --column sku=item --column type=action
      --type view=browse --constant channel=web --product title=name --no-text
"""
)
@own_log_options
@text_option
@_types_option
@click.option(
    "--batch", type=click.IntRange(1), default=500, show_default=True, help="Events in a micro-batch; lists are made once in each."
)
@click.option(
    "--without",
    type=click.Choice(get_args(SourceName)),
    multiple=True,
    help="Leave a source of lists out, to see what it is worth (repeatable).",
)
@report_options("results, splits, and running curves")
def prequential(
    *, dataset: str, path: Path, limit: int | None, encoding: str, mapping: LogMapping | None, catalog: Path | None, types: str, batch: int,
    without: tuple[str, ...], text: bool, **outputs: Any,
) -> None:  # fmt: skip
    """A log, in its order: before an event is learned, was its item in the list that its shopper had been sent last?

    The recommend worker's own code, beside popularity (fading), the shopper's own items, what followed the shopper's last item, and
    sequential rules (what came up to ten items after it in a visit), fed the same way. Intervals are 95 % by batch means. Shown apart are
    tests on items that the visit had not touched yet (without repeats) and on those that nobody had touched before (cold).

    Of all lists that tests were judged by: `coverage`, the share of the catalogue that was in any; `novelty`, how little known their items
    were (bits: -log2 of an item's share of all touches so far); `repeats`, the share of hits whose item the shopper had touched before.

    Splits by event type, category (the first 64), age of the item, position in the visit and repeats: hit rates are in the --markdown file
    and the .html page, all figures, also hit rate, MRR and NDCG at 5 and 10, in --json.
    """
    from models.metrics import MRR, NDCG, HitRate
    from streams.evaluation import chart
    from streams.evaluation.prequential import METHODS, judge_log

    kinds = event_types(types)
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding, mapping=mapping, catalog=catalog)
        catalogue = source.catalogue()
        with silenced(without) as instead:
            shop = open_shop(catalogue.products, text, console, **instead)
        with bars(console) as progress:
            task = progress.add_task("events", total=catalogue.events)
            judged = judge_log(shop, source.events(), kinds, batch=batch, progress=lambda done: progress.update(task, completed=done))
    except ReplayError as error:
        raise_usage(str(error))
    rows = [asdict(result) for result in judged.results()]
    splits = [asdict(one) for one in judged.splits()]
    about = {
        "protocol": "prequential",
        "dataset": dataset,
        "without": without,
        **{
            name: {method: judged.curve(method, metric) for method in METHODS}
            for name, metric in (("curves", HitRate), ("mrr_curves", MRR), ("ndcg_curves", NDCG))
        },
        "coverage_curves": {method: judged.lists(method).coverage_curve() for method in METHODS},
        "novelty_curves": {method: judged.lists(method).novelty_curve() for method in METHODS},
        "repeats_curves": {method: judged.lists(method).repeats_curve() for method in METHODS},
        "splits": splits,
    }
    title = f"Next item on {dataset}, in lists sent before"
    below = {"Hit rate at 20 by event type, category, age of item, position in the visit, repeats": _split_table(splits)}
    report(rows, _PREQUENTIAL_COLUMNS, about, chart=lambda: chart.of_log(judged, title), below=below, **outputs)


def _split_table(splits: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, object]], list[str]]:
    """A row a group of tests, a column a method, and the interval of ours."""
    from streams.evaluation.prequential import METHODS, OURS

    table: dict[tuple[str, str], dict[str, object]] = {}
    for one in splits:
        row = table.setdefault((one["dimension"], one["group"]), {key: one[key] for key in ("dimension", "group", "tests")})
        row[one["method"]] = one["hit_rate_at_20"]
        if one["method"] == OURS:
            row |= {"low": one["low"], "high": one["high"]}
    return list(table.values()), ["dimension", "group", "tests", OURS, "low", "high", *METHODS[1:]]


_COLD_COLUMNS = ("method", "group", "tests", "hit_rate_at_20", "low", "high", "mrr_at_20", "gain", "gain_low", "gain_high")


@click.command(
    epilog="""\b
Examples:
  assay evaluate cold online-retail --path online_retail.csv.gz --types purchase
  assay evaluate cold rees46 --path 2019-Oct.csv.gz --limit 100000 --json --plot cold.png
  assay evaluate cold json-lines --path events.jsonl.gz --catalog products.jsonl
"""
)
@own_log_options
@_types_option
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
    help="Newest share of the log's events: what comes first there is new.",
)  # fmt: skip
@report_options()
def cold(
    *, dataset: str, path: Path, limit: int | None, encoding: str, mapping: LogMapping | None, catalog: Path | None, types: str,
    share: float, **outputs: Any,
) -> None:  # fmt: skip
    """Cold start: lists for what is new in the newest part of a log, with product texts and without.

    The recommend worker's own code learns the older part, then goes on event by event; before an event is learned, was its item in the
    list made after the shopper's event before? Twice: with text vectors of all products (BERT), and with none, where an item must have
    been touched to be listed. Judged are events on items whose first event is in the newest part (new items), those among them that
    nobody had touched yet (first touch), and, of shoppers whose first event is there, the one that follows their 1st, 2nd and 3rd event
    on an item. `gain` is the hit rate less that without text on the same events. Intervals are 95 % by batch means.
    """
    from streams.evaluation import chart
    from streams.evaluation.cold import NO_TEXT, TEXT, judge_cold

    kinds = event_types(types)
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding, mapping=mapping, catalog=catalog)
        catalogue = source.catalogue()
        texts = sum(bool(product.title) for product in catalogue.products)
        if not texts:
            raise_usage(f"no product of {path} has a text: there is nothing to compare")
        shops = {method: open_shop(catalogue.products, method == TEXT, console) for method in (NO_TEXT, TEXT)}
        with bars(console, 14) as progress:
            tasks = {method: progress.add_task(method, total=catalogue.events) for method in shops}
            results = judge_cold(
                shops, source, catalogue.events, kinds, share=share,
                progress=lambda method, done: progress.update(tasks[method], completed=done),
            )  # fmt: skip
    except ReplayError as error:
        raise_usage(str(error))
    rows = [{column: getattr(result, column) for column in _COLD_COLUMNS} for result in results]
    about = {
        "protocol": "cold", "dataset": dataset, "events": catalogue.events, "share": share, "products": len(catalogue.products),
        "products_with_text": texts,
    }  # fmt: skip
    title = f"Cold start on {dataset}: the newest {share:.0%} of {catalogue.events:,} events"
    report(rows, _COLD_COLUMNS, about, chart=lambda: chart.of_cold_start(results, title), **outputs)
