"""``assay tune``: weights of the sources, from a log."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from streams.cli.logs import event_types, log_options, snapshot_options, take_snapshots, text_option
from streams.cli.options import EXIT_OTHER, raise_usage


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
@snapshot_options(20_000, "Tune on so many of the newest lists.")
@click.option("--trials", type=click.IntRange(1), default=200, show_default=True, help="Weights to try.")
def command(
    *, dataset: str, path: Path, text: bool, limit: int | None, encoding: str, out: Path, types: str, batch: int, lists: int, trials: int
) -> None:
    """Find how much each source of lists should count, on a log of yours.

    The recommend worker's own code goes through the log and notes, before each event, what every source says of the hundred best
    candidates. Weights are then tried (by the tree-structured Parzen estimator) for the highest MRR at 20. The newest fifth of the lists
    has no say: it tells what tuning is worth, and the file is written only where that is something. A source that said nothing, such as
    searches in a log without any or a sequence model that no setting names, keeps its built-in weight beside the tuned ones.
    """
    from models.ranking.weights import tune_weights

    chosen = event_types(types)
    if not out.parent.is_dir():
        raise_usage(f"there is no folder {out.parent}")
    console = Console(stderr=True)
    snapshots = take_snapshots(
        console, dataset, path, chosen, text=text, limit=limit, encoding=encoding, batch=batch, lists=lists, weights=None, ranker=None
    )
    with console.status(f"{len(snapshots.lists):,} lists, {trials} trials"):
        try:
            weights, card = tune_weights(*snapshots.joined(), trials=trials)
        except ValueError as error:
            raise_usage(f"{path}: {error}", EXIT_OTHER)
    console.print(
        f"on {card['held_out']:,} lists held out: MRR@20 {card['mrr_at_20']:.4f}, before {card['mrr_at_20_before']:.4f}", highlight=False
    )
    if card["not_tuned"]:
        console.print(f"not tuned, for they said nothing: {', '.join(card['not_tuned'])}", highlight=False)
    if card["mrr_at_20"] <= card["mrr_at_20_before"]:
        raise_usage("the built-in weights do as well; nothing was written", EXIT_OTHER)
    weights.save(out)
    click.echo(weights.model_dump_json())
    console.print(f"{out}: written", highlight=False)
