"""``assay train``: models that are not learned live, from sessions in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from streams.cli.logs import LOGS, event_types, log_options, snapshot_options, take_snapshots, text_option
from streams.cli.options import EXIT_OTHER, load_settings, raise_usage, torch_device, torch_device_option
from streams.replay import DATASETS, ReplayError, open_dataset

if TYPE_CHECKING:
    from models.evaluation.dataset import Sequences

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
  --path    the file of a log that `assay replay` reads, with --log its kind: visits are taken from it, and texts of its products
  --out     model.safetensors, model.json (the card) and items.json; held-out/ holds a model of all but the newest 5 %;
            member-2/ and so on hold more members

\b
Examples:
  assay train sequence --train train_sessions.txt.gz --out models/sequence
  assay train sequence --train train_sessions.txt.gz --out models/sequence --device cuda --batch 4096
  # then: judge it, beside everything else
  assay evaluate session --train train_sessions.txt.gz --test test.tsv.gz --models models/sequence
  # three, which are asked as one
  assay train sequence --train train_sessions.txt.gz --out models/sequence --members 3
  # from a log, with texts, so that new products have a place on arrival; workers take up each new model by themselves
  assay train sequence --log rees46 --path events.csv.gz --out models/sequence
  assay worker --roles recommend --sequence models/sequence
"""
)
@click.option("--train", type=click.Path(path_type=Path, dir_okay=False), help="Sessions to learn from.")
@click.option("--log", type=click.Choice(LOGS), help="Learn from the visits of a log of this kind instead.")
@click.option("--path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The log's file.")
@text_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the model; goes on from what is there."
)
@torch_device_option("Where to train.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: as many as torch takes).")
@click.option(
    "--members", type=click.IntRange(1), default=1, show_default=True,
    help="Models trained, with seeds from --seed on, and asked as one: better lists, at the time and memory of as many.",
)  # fmt: skip
@_with_options
def sequence(
    *, train: Path | None, log: str | None, path: Path | None, text: bool, out: Path, device: str, threads: int | None, members: int,
    **chosen: Any,
) -> None:  # fmt: skip
    """A small transformer over sessions: what comes next, by inner products of vectors.

    Trained twice: on all but the newest 5 % of the sessions, to find the number of epochs that does best on those, then on all of them.
    A training that was cut off goes on from its last epoch when the same command is run again. On a GPU it runs in mixed precision.
    Several members are trained one after the other; models of unlike options can be members too: train each in a folder of its own
    (`member-2`, `member-3`) inside that of the first, from the same sessions. Of a log, visits of shoppers without consent are left out,
    and what they did before they withdrew it (`"consent": false` in an event).
    """
    import torch

    from models.evaluation.neural import train_members
    from models.sequence import Epoch, SequenceModelError, SequenceOptions
    from models.sequence.source import save_names

    device = torch_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        options = SequenceOptions(**chosen)
    except ValueError as error:
        raise_usage(str(error))
    console = Console(stderr=True)
    if train is not None and log is None and path is None:
        taught = _read_sessions(train, console)
    elif train is None and log is not None and path is not None:
        taught = _read_visits(log, path, text, device, console)
    else:
        raise_usage("give either --train FILE, or --log KIND and --path FILE")
    console.print(f"{len(taught.sessions):,} sessions, {len(taught.names):,} items, on {device}", highlight=False)

    def told(part: str, epoch: Epoch) -> None:
        rates = "" if epoch.mrr != epoch.mrr else f", on the newest 5 %: hit rate@20 {epoch.hit_rate:.4f}, MRR@20 {epoch.mrr:.4f}"
        console.print(f"{part}, epoch {epoch.number}: loss {epoch.loss:.4f}{rates}, {epoch.seconds:.0f} s", highlight=False)

    try:
        train_members(taught.sessions, len(taught.names), out, options, device, members, told, taught.text)
        save_names(out, taught.names, taught.encoder)
    except SequenceModelError as error:
        raise_usage(str(error), EXIT_OTHER)
    if members > 1:
        _judge_together(taught, out, console)
    console.print(f"{out}: written", highlight=False)


class _Taught(NamedTuple):
    """Sessions, oldest first, the names of their items by row, and unit text vectors float32[items, t] by ``encoder``, if any."""

    sessions: Sequences
    names: Sequence[str]
    text: NDArray[np.float32] | None = None
    encoder: str | None = None


def _read_sessions(train: Path, console: Console) -> _Taught:
    from models.evaluation import DatasetError, read_dataset

    try:
        dataset = read_dataset(train, None)
    except DatasetError as error:
        raise_usage(str(error))
    for warning in dataset.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    return _Taught(dataset.train, dataset.names)


def _judge_together(taught: _Taught, out: Path, console: Console) -> None:
    """Say what all members do as one on the sessions that they were held out from, beside what was said of each."""
    from models.evaluation import DatasetError, Sequences, SessionDataset, judge
    from models.evaluation.neural import HELD_OUT, SequenceMethod

    try:
        held_out = SessionDataset(tuple(taught.names), taught.sessions, Sequences.of([]), np.empty(0, dtype=np.int32)).tail(HELD_OUT)
    except DatasetError:
        return  # the newest sessions are of one click each
    with console.status("all members together"):
        found = judge(SequenceMethod(out), held_out)
    console.print(
        f"all members as one, on the newest 5 %: hit rate@20 {found.hit_rate_at_20 / 100:.4f}, MRR@20 {found.mrr_at_20 / 100:.4f}",
        highlight=False,
    )


def _read_visits(log: str, path: Path, text: bool, device: str, console: Console) -> _Taught:
    from models.encoder.encoder import TextEncoder
    from models.encoder.text import product_text
    from streams.evaluation.visits import visits_of

    settings = load_settings()
    try:
        source = open_dataset(log, path)
        products = {product.sku: product_text(product) for product in source.catalogue().products}
        with console.status("reading visits"):
            names, sessions = visits_of(source.events(), int(settings.session_gap_s * 1000))
    except ReplayError as error:
        raise_usage(str(error))
    if not text:
        return _Taught(sessions, names)
    encoder = TextEncoder(settings.encoder, device=device, threads=settings.threads)
    known = [row for row, name in enumerate(names) if products.get(name)]
    with console.status(f"{len(known):,} texts"):
        vectors = encoder.encode([products[names[row]] for row in known])
    placed = np.zeros((len(names), vectors.shape[1]), dtype=np.float32)
    placed[known] = vectors
    return _Taught(sessions, names, placed, encoder.version)


@command.command(
    epilog="""\b
Examples:
  assay train ranker online-retail --path online_retail.csv.gz --out models/ranker
  # a list after every event; views of a product's page are `browse`, which counts unless --types leaves it out
  assay train ranker rees46 --path events.csv.gz --batch 1 --out models/ranker --no-text
  # then: workers that have it take up each new one by themselves
  assay worker --roles recommend --ranker models/ranker
"""
)
@log_options
@text_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the ranker.")
@snapshot_options(40_000, "Learn from so many of the newest lists.")
def ranker(
    *, dataset: str, path: Path, text: bool, limit: int | None, encoding: str, out: Path, types: str, batch: int, lists: int
) -> None:
    """The order of the best candidates: gradient-boosted trees over what every source says of them (LambdaMART).

    The recommend worker's own code goes through the log and notes, before each event, the hundred best candidates as it knew them then,
    whether the event was about one of them, and which were bought before the visit was over. The newest fifth of these lists is held out:
    its older half says how many trees are enough, its newer half what probability a score stands for, and whether the ranker does better
    than the blend of sources that it orders. It is kept only where that is hardly chance: where the 95 % interval of the gain in MRR lies
    above 0. Trees beside it say how probable a purchase before the visit is over is.
    """
    from models.ranking.trained import TrainedRanker

    chosen = event_types(types)
    console = Console(stderr=True)
    snapshots = take_snapshots(console, dataset, path, chosen, text=text, limit=limit, encoding=encoding, batch=batch, lists=lists)
    with console.status(f"{len(snapshots.lists):,} lists"):
        try:
            trained, card = TrainedRanker.fit(*snapshots.joined(), threads=os.cpu_count() or 1, bought=snapshots.purchases())
        except ValueError as error:
            raise_usage(f"{path}: {error}", EXIT_OTHER)
    console.print(
        f"on {card['held_out']:,} lists held out: MRR@20 {card['mrr_at_20']:.4f}, the blend {card['mrr_at_20_blend']:.4f}; "
        f"gain {card['gain']:+.4f} (95 %: {card['gain_low']:+.4f} to {card['gain_high']:+.4f})", highlight=False,
    )  # fmt: skip
    if "purchases" in card:
        console.print(
            f"bought before the visit is over: probability {card['purchase_probability']:.5f}, frequency {card['purchase_frequency']:.5f}; "
            f"Brier score {card['purchase_brier']:.6f}, of the frequency alone {card['purchase_brier_constant']:.6f}", highlight=False,
        )  # fmt: skip
    if card["gain_low"] <= 0:
        raise_usage("the ranker does not surely do better than the blend and is not kept; give it a longer log", EXIT_OTHER)
    trained.save(out, {"dataset": dataset, "file": path.name, "types": list(chosen), **card})
    console.print(f"{out}: {trained.name} written", highlight=False)


@command.command(
    epilog="""\b
Files:
  --path    the file of a log that `assay replay` reads, with --log its kind
  --out     factors.safetensors and factors.json (the card, with the items' SKUs)

\b
Examples:
  assay train factors --log online-retail --path online_retail.csv.gz --out models/factors
  # then: workers that have it take up each new one by themselves
  assay worker --roles recommend --factors models/factors
  # every night, from the events that the broker still holds
  for topic in storefront.events privacy.erasures; do assay tail $topic --from beginning --until-end --json
  done | jq -c '.value // empty' | gzip > events.jsonl.gz
  assay train factors --log json-lines --path events.jsonl.gz --out models/factors
"""
)
@click.option("--log", type=click.Choice(list(DATASETS)), required=True, help="Kind of the log.")
@click.option("--path", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=True, help="The log's file.")
@click.option("--limit", type=click.IntRange(1), help="Read so many rows.")
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of the file.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the factors.")
@click.option("--factors", type=click.IntRange(1, 1024), default=64, show_default=True, help="Width of the vectors.")
@click.option("--regularization", type=float, default=1.0, show_default=True, help="What keeps vectors short.")
@click.option("--alpha", type=float, default=2.0, show_default=True, help="Confidence that a touch of an item adds.")
@click.option("--iterations", type=click.IntRange(1), default=15, show_default=True, help="Rounds over shoppers and items.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the vectors to begin with.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def factors(*, log: str, path: Path, limit: int | None, encoding: str, out: Path, threads: int, **chosen: Any) -> None:
    """Vectors of items and shoppers by matrix factorisation: alternating least squares over who touched what.

    Every touch of an item counts by its effort (a purchase more than a view). The newest 5 % of them say first what factors of the others
    foretell of each shopper's next item, of those known by then; then all are learned. They are kept only where that is more than what
    popularity foretells. Workers serve them without the library that made them, and fold each shopper in from the items of the moment.

    What shoppers without consent do is left out, and what they did before they withdrew it (`"consent": false` in an event). A record of
    `privacy.erasures` in the log forgets all that stands before it of its user: put them behind the events.
    """
    from models.factors.model import FactorsError
    from models.factors.training import FactorOptions, judge_factors, train_factors
    from streams.evaluation.interactions import interactions_of

    try:
        options = FactorOptions(**chosen)
    except ValueError as error:
        raise_usage(str(error))
    console = Console(stderr=True)
    try:
        with console.status("reading"):
            interactions = interactions_of(open_dataset(log, path, limit=limit, encoding=encoding).events())
    except ReplayError as error:
        raise_usage(str(error))
    shape = f"{interactions.user_count:,} shoppers, {len(interactions.skus):,} items"
    console.print(f"{len(interactions.users):,} touches, {shape}", highlight=False)
    try:
        with console.status("all but the newest 5 %"):
            card = judge_factors(interactions, options, threads)
        console.print(
            f"next items of {card['shoppers']:,} shoppers: hit rate@20 {card['hit_rate_at_20']:.4f}, MRR@20 {card['mrr_at_20']:.4f}; "
            f"popularity {card['hit_rate_at_20_popular']:.4f}, {card['mrr_at_20_popular']:.4f}", highlight=False,
        )  # fmt: skip
        if card["mrr_at_20"] <= card["mrr_at_20_popular"]:
            raise_usage("the factors do no better than popularity and are not kept; give them a longer log", EXIT_OTHER)
        with console.status("all"):
            model = train_factors(interactions, options, threads)
    except FactorsError as error:
        raise_usage(f"{path}: {error}", EXIT_OTHER)
    model.save(out, {"log": log, "file": path.name, **asdict(options), **card})
    console.print(f"{out}: {model.name} written", highlight=False)
