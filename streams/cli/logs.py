"""Options and openings of the commands that send a log through the recommend worker's own code."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import ValidationError
from rich.console import Console

from models.profiles.profile import TYPE_CODES
from streams.cli.options import load_settings, raise_usage
from streams.replay import DATASETS, Mapping, ReplayError, open_dataset
from streams.replay.table import CsvLog, JsonLines

if TYPE_CHECKING:
    from schemas.catalog import Product
    from streams.evaluation.shop import InProcessShop
    from streams.evaluation.snapshots import Snapshots


#: Kinds of logs that bring their products with them.
LOGS: Final = [name for name in DATASETS if name not in (CsvLog.name, JsonLines.name)]


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names a log: ``dataset``, ``path``, ``limit``, ``encoding``."""
    return _named_log(function, LOGS)


def own_log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, and your own events as JSON Lines or CSV beside them, with what ``mapping_options`` add."""
    return _named_log(mapping_options(function), list(DATASETS))


def mapping_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how a log of your own is read: ``mapping``, what its columns mean (None: nothing is said), and ``catalog``, the file of
    its products. Exits with one message where a mapping is none.
    """

    @wraps(function)
    def with_mapping(
        *,
        mapping: Path | None,
        columns: tuple[str, ...],
        constants: tuple[str, ...],
        words: tuple[str, ...],
        product: tuple[str, ...],
        **others: Any,
    ) -> Any:
        flags = {"columns": columns, "constants": constants, "types": words, "product": product}
        try:
            own = (Mapping.read(mapping) if mapping else Mapping()).merged(**flags) if mapping or any(flags.values()) else None
        except ReplayError as error:
            raise_usage(str(error))
        return function(mapping=own, **others)

    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    decorated: Callable[..., Any] = with_mapping
    for option in reversed(
        (
            click.option("--mapping", type=file, help="csv, json-lines: TOML file that maps columns to fields."),
            click.option("--column", "columns", multiple=True, metavar="FIELD=COLUMN", help="csv, json-lines: one column of the mapping."),
            click.option(
                "--constant", "constants", multiple=True, metavar="FIELD=VALUE", help="csv, json-lines: a field that all rows share."
            ),
            click.option("--type", "words", multiple=True, metavar="WORD=TYPE", help="csv, json-lines: a word of the type column."),
            click.option(
                "--product",
                multiple=True,
                metavar="FIELD=COLUMN",
                help="csv, json-lines: a product's title, description, brand, category, price.",
            ),
            click.option("--catalog", type=file, help="csv, json-lines: products as JSON Lines."),
        )
    ):
        decorated = option(decorated)
    return decorated


def _named_log(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.argument("dataset", type=click.Choice(names)),
            click.option(
                "--path", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="The data set's file."
            ),
            click.option("--limit", type=click.IntRange(1), help="Read so many rows."),
            click.option("--encoding", default="utf-8", show_default=True, callback=_encoding, help="Text encoding of the file."),
        )
    ):
        function = option(function)
    return function


def _encoding(_ctx: click.Context, _option: click.Parameter, name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise click.BadParameter(f"no text encoding is called {name}") from None
    return name


text_option = click.option("--text/--no-text", default=True, show_default=True, help="Embed product texts (takes a minute for 4,000).")


def event_types(given: str) -> tuple[str, ...]:
    """The types named in ``given``, by commas; exits with one message where there is no such type."""
    chosen = tuple(kind.strip() for kind in given.split(",") if kind.strip())
    unknown = sorted(set(chosen) - set(TYPE_CODES))
    if unknown or not chosen:
        raise_usage(f"no event about an item is called {', '.join(unknown) or repr(given)}; there are {', '.join(TYPE_CODES)}")
    return chosen


def open_shop(products: Sequence[Product], text: bool, console: Console, **instead: Any) -> InProcessShop:
    """A shop of ``products`` under the settings in force but for ``instead``, with text vectors or without."""
    from models.encoder.encoder import TextEncoder
    from models.factors.model import FactorsError
    from models.ranking.trained import RankerFileError
    from models.ranking.weights import WeightsError
    from models.sequence.model import SequenceModelError
    from streams.evaluation.shop import InProcessShop
    from streams.runtime.errors import RankingWrong

    settings = load_settings().model_copy(update=instead)
    encoder = TextEncoder(settings.encoder, device="cpu", threads=settings.threads) if text else None
    with console.status(f"{len(products):,} products"):
        try:
            return InProcessShop(settings, products, encoder)
        except (RankerFileError, WeightsError, SequenceModelError, FactorsError, RankingWrong) as error:
            raise_usage(str(error))


@contextmanager
def silenced(sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Settings for ``open_shop`` in which ``sources`` count nothing and the others what they count by the settings in force; exits with one
    message where none is left.
    """
    if not sources:
        yield {}
        return
    from models.ranking.weights import Weights, WeightsError

    given = load_settings().weights
    try:
        weights = Weights() if given is None else Weights.load(given)
        left = Weights.model_validate(weights.model_dump() | dict.fromkeys(sources, 0.0))
    except (WeightsError, ValidationError) as error:
        raise_usage(str(error) if isinstance(error, WeightsError) else "no source of lists is left")
    with TemporaryDirectory() as folder:
        left.save(Path(folder) / "weights.json")
        yield {"weights": Path(folder) / "weights.json"}


def snapshot_options(lists: int, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add what says which snapshots are taken of a log: ``types``, ``batch`` and ``lists`` (``what`` is its help)."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--lists", type=click.IntRange(100), default=lists, show_default=True, help=what),
            click.option(
                "--batch", type=click.IntRange(1), default=4, show_default=True, help="Events between two lists of a shopper at most."
            ),
            click.option(
                "--types",
                default="browse,click,add_to_cart,purchase",
                show_default=True,
                help="Events that a list should have foreseen, by commas.",
            ),
        ):
            function = option(function)
        return function

    return decorate


def take_snapshots(
    console: Console, dataset: str, path: Path, types: Sequence[str], *, text: bool, limit: int | None, encoding: str, batch: int,
    lists: int, **instead: Any,
) -> Snapshots:  # fmt: skip
    """Snapshots of a log, by a shop under the settings in force but for ``instead``; exits with one message where it cannot be read."""
    from streams.evaluation.snapshots import collect

    try:
        source = open_dataset(dataset, path, limit=limit, encoding=encoding)
        shop = open_shop(source.catalogue().products, text, console, **instead)
        with console.status("reading") as status:
            return collect(shop, source.events(), types, batch=batch, limit=lists, progress=lambda done: status.update(f"{done:,} events"))
    except ReplayError as error:
        raise_usage(str(error))
