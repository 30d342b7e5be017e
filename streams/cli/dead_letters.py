"""``assay dead-letters``: look at refused records, and send them again once their cause is mended."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson
from confluent_kafka import KafkaError, Producer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from schemas.decoding import CODES
from schemas.operations import DeadLetter
from schemas.topics import DEAD_LETTERS
from streams.cli.options import EXIT_OTHER, broker_options, raise_usage, settings_options, stop_on_broker_trouble
from streams.reading import TopicReader
from streams.runtime.partitioner import partitioner
from streams.settings import Settings

_SHOWN = 120
_FLUSH_S = 60.0


@click.group()
def command() -> None:
    """Look at the records that workers refused, and send them again.

    Nothing is lost: a dead letter holds the record whole, with the code, the field and the place it came from.
    """


def code_option(function: Any) -> Any:
    """Add ``--code``, which may be given several times."""
    return click.option(
        "--code", "codes", multiple=True, type=click.Choice(sorted(CODES)), metavar="CODE", help="Only this code (repeatable)."
    )(function)


@command.command(
    "list",
    epilog="""Examples:

\b
  assay dead-letters list
  assay dead-letters list --code sku_unknown --limit 10
  assay dead-letters list --code price_invalid --json > refused.jsonl   # to be edited, then: replay --edit refused.jsonl
""",
)
@code_option
@click.option("--limit", type=click.IntRange(min=1), help="At most this many.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: the dead letter, with key_text and text where they are UTF-8."
)
@broker_options
def list_(*, settings: Settings, codes: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """List refused records, oldest first, then how many there are of each code and what the producer should do."""
    count: Counter[str] = Counter()
    with stop_on_broker_trouble():
        for letter in islice(_letters(settings, codes), limit):
            count[letter.code] += 1
            if as_json:
                click.echo(orjson.dumps(_editable(letter)))
            else:
                click.echo(_line(letter))
    if not as_json:
        click.echo("" if count else "no dead letters")
        for code, number in count.most_common():
            click.echo(f"{number:>8}  {code}: {CODES.get(code, '')}")


@command.command(
    epilog="""Examples:

\b
  assay topics check && assay dead-letters replay --code sku_unknown --dry-run
  assay dead-letters replay --code sku_unknown --yes          # after the products were published
  assay dead-letters replay --edit refused.jsonl              # lines of `list --json` with their "text" mended
""",
)
@code_option
@click.option(
    "--edit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send these lines of `list --json` (their text, key_text) instead.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options("bootstrap_servers", "topic_prefix", "app_id", "partitioner")
def replay(*, settings: Settings, codes: tuple[str, ...], edit: Path | None, dry_run: bool, yes: bool) -> None:
    """Send refused records again, with their bytes and key, to the topic they came from.

    What is still invalid comes back as a new dead letter. An event that was applied meanwhile is not counted twice while its
    event_id is among the shopper's last 256. Dead letters stay in their topic until its retention removes them.
    """
    with stop_on_broker_trouble():
        letters = list(_from_file(edit, codes) if edit else _letters(settings, codes))
        cut = [letter for letter in letters if letter.truncated_bytes]
        whole = [letter for letter in letters if not letter.truncated_bytes]
        for (topic, code), number in sorted(Counter((letter.topic, letter.code) for letter in whole).items()):
            click.echo(f"{number:>8}  {code} -> {topic}")
        if cut:
            click.echo(f"{len(cut):>8}  were too large to be kept whole and cannot be sent again")
        if not whole:
            click.echo("nothing to send")
            return
        if dry_run:
            click.echo(f"dry run: {len(whole)} record(s) would be sent")
            return
        if not yes:
            click.confirm(f"Send {len(whole)} record(s)?", abort=True)
        failed = _send(settings, whole)
    click.echo(f"sent {len(whole) - len(failed)} record(s)")
    if failed:
        raise_usage(f"{len(failed)} record(s) could not be sent, the first because: {failed[0]}", EXIT_OTHER)


def _letters(settings: Settings, codes: tuple[str, ...]) -> Iterator[DeadLetter]:
    with TopicReader(settings, [settings.topic(DEAD_LETTERS.name)]) as reader:
        for message in reader.to_end():
            if message.value() is not None:
                letter = DeadLetter.model_validate_json(message.value())
                if not codes or letter.code in codes:
                    yield letter


def _line(letter: DeadLetter) -> str:
    at = datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC)
    field = f" at {letter.path}" if letter.path else ""
    raw = "(no value)" if letter.value is None else base64.b64decode(letter.value)[:_SHOWN].decode(errors="replace")
    return f"{at:%Y-%m-%d %H:%M:%S}  {letter.topic}/{letter.partition}@{letter.offset}  {letter.code}{field}: {letter.message}\n    {raw}"


def _editable(letter: DeadLetter) -> dict[str, Any]:
    fields = letter.model_dump(mode="json", exclude_none=True)
    for raw, text in (("key", "key_text"), ("value", "text")):
        if raw in fields:
            try:
                fields[text] = base64.b64decode(fields[raw]).decode()
            except UnicodeDecodeError:
                continue
    return fields


def _from_file(path: Path, codes: tuple[str, ...]) -> Iterator[DeadLetter]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = orjson.loads(line)
            for raw, text in (("key", "key_text"), ("value", "text")):
                if text in fields:
                    fields[raw] = base64.b64encode(fields[text].encode()).decode()
            letter = DeadLetter.model_validate_json(orjson.dumps(fields))
        except (orjson.JSONDecodeError, ValidationError, AttributeError, TypeError) as error:
            raise_usage(f"{path}, line {number} is no line of `assay dead-letters list --json`: {error}")
        if not codes or letter.code in codes:
            yield letter


def _send(settings: Settings, letters: Iterable[DeadLetter]) -> list[str]:
    place = partitioner(settings.partitioner)
    failed: list[str] = []

    def delivered(error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            failed.append(error.str())

    producer = Producer(settings.client_config() | {"compression.type": "lz4", "enable.idempotence": True, "log_level": 0})
    counts: dict[str, int] = {}
    shown = track(list(letters), "sending", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    for letter in shown:
        if letter.topic not in counts:
            counts[letter.topic] = len(producer.list_topics(letter.topic, timeout=10).topics[letter.topic].partitions) or 1
        key = None if letter.key is None else base64.b64decode(letter.key)
        value = None if letter.value is None else base64.b64decode(letter.value)
        partition = letter.partition if not key else place(key, counts[letter.topic])
        while True:
            try:
                producer.produce(letter.topic, value, key, partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.5)
        producer.poll(0)
    unsent = producer.flush(_FLUSH_S)
    return failed + ["the broker did not answer in time"] * unsent
