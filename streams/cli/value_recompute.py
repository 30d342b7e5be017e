"""``assay value recompute``: a valuation record rebuilt from the log that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

import click

from models.catalog.catalogue import Catalogue
from models.valuation.appraisal import Rules
from models.valuation.costs import Costs
from schemas.base import Message
from schemas.topics import EMBEDDINGS, OUTCOMES, REGISTER, VALUATION
from schemas.valuation import Lineage, RollingValuation, ValueRegister
from streams.agents.appraisers import PlacementOf, placements
from streams.agents.recomputation import books_of, record_again, register_again
from streams.agents.yardsticks import costs_of, rules_of
from streams.cli.options import EXIT_OTHER, raise_usage, settings_options, stop_on_broker_trouble
from streams.reading import TopicReader, newest
from streams.runtime.errors import ValuationWrong
from streams.runtime.processor import SourceRecord
from streams.settings import Settings

M = TypeVar("M", ValueRegister, RollingValuation)


@click.command(
    epilog="""Examples:

\b
  assay value recompute 'channel|7d'            # the register of a dimension
  assay value recompute 'channel|web|total'     # an asset's own record
  assay value recompute 'country|1m@2011-11-04T12:31:00Z'

Exit codes: 0 identical, 1 not identical or no such record.
"""
)
@click.argument("key")
@settings_options(
    "bootstrap_servers", "topic_prefix", "app_id", "session_gap_s", "margin_shares", "click_margins", "click_window_s", "asset_costs",
    "value_neighbours",
)  # fmt: skip
def recompute(*, settings: Settings, key: str) -> None:
    """Rebuild the record with KEY from the outcomes that its lineage names, and say whether it is identical, byte for byte.

    KEY is that of a record of valuation.register (dimension|window) or of valuation.rolling (dimension|asset|window), as `assay tail` shows
    it. The log is read from its beginning, because the sessions that a test is set beside came before it. Give the settings that the
    workers have. With --value-neighbours embeddings the vectors are those of now, so a record is made again if they are what they were.
    """
    dimension, _, rest = key.partition("|")
    window = rest.rsplit("|", 1)[-1]
    rules, costs = _yardsticks(settings)
    with stop_on_broker_trouble():
        record: ValueRegister | RollingValuation
        record = _find(settings, key, ValueRegister) if window == rest else _find(settings, key, RollingValuation)
        if record.status == "addition":
            _stop(f"{key} holds only what came after its minute was let go of: add it to the records before it")
        outcomes = _read(settings, record.lineage)
        click.echo(f"{sum(map(len, outcomes.values())):,} records of {len(outcomes)} partitions of {OUTCOMES.name} read", err=True)
        try:
            if isinstance(record, ValueRegister):
                again: Message = register_again(window, record, books_of(outcomes, rules, _vectors(settings)), rules)
            else:
                again = record_again(window, record, outcomes, _told_apart(settings, dimension), costs)
        except LookupError as error:
            _stop(str(error.args[0]))
    if again.to_json() == record.to_json():
        quoted = "" if isinstance(record, ValueRegister) else f" (value and versions are quoted; {dimension}|{window} checks the value)"
        click.echo(f"{key}: identical{quoted}")
        return
    cut = [str(partition) for partition, records in outcomes.items() if not records or records[0].offset > 0]
    why = f"; the log of partition {', '.join(cut)} no longer begins at its beginning, and windows reach back" if cut else ""
    if isinstance(record, ValueRegister) and record.game.name == "embedding_neighbours":
        why += "; items stand at the vectors of now, which differ where a product's text or the encoder changed since"
    click.echo(f"{key}: not identical{why}", err=True)
    for path, stored, made in _differences(record.model_dump(mode="json"), again.model_dump(mode="json")):
        click.echo(f"  {path}: {stored} in the record, {made} from the log", err=True)
    raise SystemExit(EXIT_OTHER)


def _yardsticks(settings: Settings) -> tuple[Rules, Costs]:
    try:
        return rules_of(settings), costs_of(settings)
    except ValuationWrong as error:
        raise_usage(str(error))


def _stop(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(EXIT_OTHER)


def _find(settings: Settings, key: str, model: type[M]) -> M:
    topic = settings.topic((REGISTER if model is ValueRegister else VALUATION).name)
    with TopicReader(settings, [topic]) as reader:
        value = next(iter(newest(reader, lambda found: found == key.encode()).values()), None)
    if value is None:
        _stop(f"{topic} holds no record with the key {key!r}; `assay tail {topic} --from beginning --until-end` shows which there are")
    return model.model_validate_json(value)


def _read(settings: Settings, lineage: Sequence[Lineage]) -> dict[int, list[SourceRecord]]:
    """The outcomes by partition, up to the last of each that the lineage names."""
    ends = {part.partition: part.offset_high for part in lineage}
    outcomes: dict[int, list[SourceRecord]] = {partition: [] for partition in ends}
    with TopicReader(settings, [settings.topic(OUTCOMES.name)]) as reader:
        for record in reader.to_end():
            partition, offset = record.partition(), record.offset()
            if partition is not None and offset is not None and offset <= ends.get(partition, -1):
                at_ms = record.timestamp()[1]
                outcomes[partition].append(SourceRecord(OUTCOMES.name, partition, offset, at_ms, record.key(), record.value()))
    return outcomes


def _vectors(settings: Settings) -> PlacementOf | None:
    """Where items stand now, if they are the rows."""
    if settings.value_neighbours == "sessions":
        return None
    catalogue = Catalogue("flat", "cpu")
    with TopicReader(settings, [settings.topic(EMBEDDINGS.name)]) as reader:
        catalogue.apply_embeddings((record.key(), record.value()) for record in reader.to_end())
    catalogue.background(0)
    return placements(catalogue)


def _told_apart(settings: Settings, dimension: str) -> frozenset[str]:
    with TopicReader(settings, [settings.topic(VALUATION.name)]) as reader:
        keys = {(record.key() or b"").decode() for record in reader.to_end()}
    return frozenset(key.split("|", 1)[1].rsplit("|", 1)[0] for key in keys if key.startswith(f"{dimension}|"))


def _differences(stored: object, made: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    if isinstance(stored, dict) and isinstance(made, dict):
        for name in sorted(stored.keys() | made.keys()):
            yield from _differences(stored.get(name), made.get(name), f"{path}.{name}" if path else name)
    elif stored != made:
        yield path, stored, made
