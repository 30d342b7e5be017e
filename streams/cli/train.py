"""``assay train``: models that are not learned live, from sessions in a file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from streams.cli.options import EXIT_OTHER, raise_usage, torch_device, torch_device_option

#: Field of ``SequenceOptions``, which is an option of the same name -> what it does.
_OPTIONS = {
    "dimensions": "Width of item and session vectors.",
    "layers": "Layers of the transformer.",
    "heads": "Attention heads; must divide --dimensions.",
    "length": "Newest clicks of a session that are read.",
    "dropout": "Dropout inside the transformer.",
    "item_dropout": "Dropout of item vectors.",
    "temperature": "What cosines are divided by.",
    "label_smoothing": "Share of the target that is spread over all items.",
    "half_life": "Age at which a session counts half, in shares of all sessions; 0: all count alike.",
    "negatives": "Items drawn against the right one; 0: all items, which a GPU or a catalogue below 100,000 can bear.",
    "text_only": "Share of items that each step sees by their text alone.",
    "epochs": "Passes over the sessions at most; the one that does best on the newest ones is kept.",
    "batch": "Examples a step.",
    "learning_rate": "Highest rate of the schedule.",
    "weight_decay": "Decay of the transformer's weights.",
    "seed": "Of everything drawn.",
}


@click.group()
def command() -> None:
    """Train what is not learned live."""


def _with_options(function: Any) -> Any:
    from models.sequence.options import SequenceOptions

    for field in reversed(fields(SequenceOptions)):
        kind = int if isinstance(field.default, int) else float
        flag = f"--{field.name.replace('_', '-')}"
        function = click.option(flag, type=kind, default=field.default, show_default=True, help=_OPTIONS[field.name])(function)
    return function


@command.command(
    epilog="""\b
Files:
  --train   a session a line, its items separated by spaces, oldest session first (may be gzipped, NAME.gz)
  --out     model.safetensors and model.json (the card); held-out/ holds a model of all but the newest 5 %

\b
Examples:
  assay train sequence --train train_sessions.txt.gz --out models/sequence
  assay train sequence --train train_sessions.txt.gz --out models/sequence --device cuda --batch 4096
  # then: judge it, beside everything else
  assay evaluate session --train train_sessions.txt.gz --test test.tsv.gz --models models/sequence
"""
)
@click.option("--train", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Sessions to learn from.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the model; goes on from what is there."
)
@torch_device_option("Where to train.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: as many as torch takes).")
@_with_options
def sequence(*, train: Path, out: Path, device: str, threads: int | None, **chosen: Any) -> None:
    """A small transformer over sessions: what comes next, by inner products of vectors.

    Trained twice: on all but the newest 5 % of the sessions, to find the number of epochs that does best on those, then on all of them.
    A training that was cut off goes on from its last epoch when the same command is run again. On a GPU it runs in mixed precision.
    """
    import torch

    from models.evaluation import DatasetError, read_dataset
    from models.evaluation.neural import train_pair
    from models.sequence import Epoch, SequenceModelError, SequenceOptions

    device = torch_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        options = SequenceOptions(**chosen)
    except ValueError as error:
        raise_usage(str(error))
    try:
        dataset = read_dataset(train, None)
    except DatasetError as error:
        raise_usage(str(error))
    console = Console(stderr=True)
    for warning in dataset.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(dataset.train):,} sessions, {len(dataset.names):,} items, on {device}", highlight=False)

    def told(part: str, epoch: Epoch) -> None:
        rates = "" if epoch.mrr != epoch.mrr else f", on the newest 5 %: hit rate@20 {epoch.hit_rate:.4f}, MRR@20 {epoch.mrr:.4f}"
        console.print(f"{part}, epoch {epoch.number}: loss {epoch.loss:.4f}{rates}, {epoch.seconds:.0f} s", highlight=False)

    try:
        train_pair(dataset.train, len(dataset.names), out, options, device, told)
    except SequenceModelError as error:
        raise_usage(str(error), EXIT_OTHER)
    console.print(f"{out}: written", highlight=False)
