"""``assay tune``: weights of the sources, from a log."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from streams.cli.logs import event_types, log_options, open_shop, text_option
from streams.cli.options import EXIT_OTHER, raise_usage
from streams.replay import ReplayError, open_dataset


@click.command(
    epilog="""\b
Examples:
  assay tune rees46 --path events.csv.gz --out weights.json --no-text
  # then: workers with it weigh sources so from their start on
  assay worker --roles recommend --weights weights.json
"""
)
@log_options
@text_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File of the weights.")
@click.option(
    "--types", default="click,add_to_cart,purchase", show_default=True, help="Events that a list should have foreseen, by commas."
)
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Events between two lists of a shopper at most.")
@click.option("--lists", type=click.IntRange(100), default=20_000, show_default=True, help="Tune on so many of the newest lists.")
@click.option("--trials", type=click.IntRange(1), default=200, show_default=True, help="Weights to try.")
def command(
    *, dataset: str, path: Path, text: bool, limit: int | None, encoding: str, out: Path, types: str, batch: int, lists: int, trials: int
) -> None:
    """Find how much each source of lists should count, on a log of yours.

    The recommend worker's own code goes through the log and notes, before each event, what every source says of the hundred best
    candidates. Weights are then tried (by the tree-structured Parzen estimator) for the highest MRR at 20. The newest fifth of the lists
    has no say: it tells what tuning is worth, and the file is written only where that is something.
    """
    from models.ranking.weights import tune_weights
    from streams.evaluation.snapshots import collect

    chosen = event_types(types)
    if not out.parent.is_dir():
        raise_usage(f"there is no folder {out.parent}")
    console = Console(stderr=True)
    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding)
        shop = open_shop(source.catalogue().products, text, console, weights=None, ranker=None)
        with console.status("reading") as status:
            snapshots = collect(
                shop, source.events(), chosen, batch=batch, limit=lists, progress=lambda done: status.update(f"{done:,} events")
            )
    except ReplayError as error:
        raise_usage(str(error))
    with console.status(f"{len(snapshots.lists):,} lists, {trials} trials"):
        try:
            weights, card = tune_weights(*snapshots.joined(), trials=trials)
        except ValueError as error:
            raise_usage(f"{path}: {error}", EXIT_OTHER)
    console.print(
        f"on {card['held_out']:,} lists held out: MRR@20 {card['mrr_at_20']:.4f}, before {card['mrr_at_20_before']:.4f}", highlight=False
    )
    if card["mrr_at_20"] <= card["mrr_at_20_before"]:
        raise_usage("the built-in weights do as well; nothing was written", EXIT_OTHER)
    weights.save(out)
    click.echo(weights.model_dump_json())
    console.print(f"{out}: written", highlight=False)
