"""``assay dead-letters``: look at refused records, and send them again once their cause is mended."""

from __future__ import annotations

import base64
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson
from confluent_kafka import KafkaException, Producer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from schemas.decoding import CODES
from schemas.operations import DeadLetter
from schemas.topics import DEAD_LETTERS
from streams.cli.options import EXIT_OTHER, broker_options, raise_usage, settings_options, stop_on_broker_trouble
from streams.reading import TopicReader
from streams.runtime.partitioner import LIBRDKAFKA
from streams.runtime.producer import MAX_RECORD_BYTES
from streams.settings import Settings

_SHOWN = 120
_FLUSH_S = 60.0


@dataclass(frozen=True, slots=True)
class _Filed:
    """A dead letter and where it lies: partition and key in the dead-letter topic."""

    letter: DeadLetter
    partition: int
    key: bytes


@click.group()
def command() -> None:
    """Look at the records that workers refused, and send them again.

    Nothing is lost: a dead letter holds the record whole, with the code, the field and the place it came from. One that was
    sent again is marked in the topic by a record without a value under its key, and is left out from then on.
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
@click.option("--replayed", is_flag=True, help="Those that were sent again, instead of those that were not.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: the dead letter, with key_text and text where they are UTF-8."
)
@broker_options
def list_(*, settings: Settings, codes: tuple[str, ...], limit: int | None, replayed: bool, as_json: bool) -> None:
    """List refused records that were not sent again, oldest first, then how many there are of each code and what the producer should do."""
    count: Counter[str] = Counter()
    with stop_on_broker_trouble():
        for filed in islice(_letters(settings, codes, replayed=replayed), limit):
            letter = filed.letter
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
  assay dead-letters replay --yes --json | jq .sent
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
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object: found [{code, topic, records}], and how many were left_out, too_large, sent, failed, unmarked. "
    "Needs --yes or --dry-run.",
)
@settings_options("bootstrap_servers", "topic_prefix", "app_id", "partitioner")
def replay(*, settings: Settings, codes: tuple[str, ...], edit: Path | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Send refused records again, with their bytes and key, to the topic they came from.

    What is still invalid comes back as a new dead letter. Once the broker has a record, its dead letter is marked as sent again
    and is sent no more. If this command dies in between, the next run sends the records that were not marked yet a second time;
    an event is not counted twice while its event_id is among the shopper's last 256. Dead letters stay in their topic until its
    retention removes them (`list --replayed` shows those that were sent again).
    """
    if as_json and not (yes or dry_run):
        raise_usage("--json does not ask: add --yes, or --dry-run")
    left_out = 0
    with stop_on_broker_trouble():
        # A record that was refused twice, because its topic was reprocessed, is sent once.
        found = list({(filed.partition, filed.key): filed for filed in _letters(settings, () if edit else codes)}.values())
        if edit:
            edited = list(_from_file(edit, codes))
            found = _at_their_place(edited, found)
            left_out = len(edited) - len(found)
        cut = [filed for filed in found if filed.letter.truncated_bytes]
        whole = [filed for filed in found if not filed.letter.truncated_bytes]
        kinds = sorted(Counter((filed.letter.topic, filed.letter.code) for filed in whole).items())
        if not as_json:
            for line in _plan(kinds, left_out, len(cut), dry_run=dry_run):
                click.echo(line)
        if whole and not (yes or dry_run):
            click.confirm(f"Send {len(whole)} record(s)?", abort=True)
        sending = bool(whole) and not dry_run
        sent = _send(settings, whole) if sending else _Sent([], [])
    count = len(whole) - len(sent.failed) if sending else 0
    if as_json:
        report = {
            "found": [{"code": code, "topic": topic, "records": number} for (topic, code), number in kinds],
            "left_out": left_out,
            "too_large": len(cut),
            "sent": count,
            "failed": len(sent.failed),
            "unmarked": len(sent.unmarked),
        }
        click.echo(orjson.dumps(report))
    elif sending:
        click.echo(f"sent {count} record(s)")
    if sent.failed:
        raise_usage(f"{len(sent.failed)} record(s) could not be sent, the first because: {sent.failed[0]}", EXIT_OTHER)
    if sent.unmarked:
        raise_usage(
            f"{len(sent.unmarked)} of them could not be marked as sent again, so the next replay repeats them, the first because: "
            f"{sent.unmarked[0]}",
            EXIT_OTHER,
        )


def _plan(kinds: Sequence[tuple[tuple[str, str], int]], left_out: int, cut: int, *, dry_run: bool) -> Iterator[str]:
    """What a replay of ``kinds`` ((topic, code), how many) is going to do, in words."""
    if left_out:
        yield f"{left_out:>8}  were sent again before, or are no longer in the topic"
    for (topic, code), number in kinds:
        yield f"{number:>8}  {code} -> {topic}"
    if cut:
        yield f"{cut:>8}  were too large to be kept whole and cannot be sent again"
    if not kinds:
        yield "nothing to send"
    elif dry_run:
        yield f"dry run: {sum(number for _, number in kinds)} record(s) would be sent"


def _letters(settings: Settings, codes: tuple[str, ...], *, replayed: bool = False) -> Iterator[_Filed]:
    """The dead letters of ``codes`` (of all, if none is given) that were not sent again yet, or with ``replayed`` those that were."""
    topic = settings.topic(DEAD_LETTERS.name)
    # Read twice rather than held in memory: a dead letter may be a mebibyte long. A letter after its mark was refused anew.
    with TopicReader(settings, [topic]) as reader:
        marked = {(message.partition(), message.key()): message.offset() for message in reader.to_end() if message.value() is None}
    strays = 0
    with TopicReader(settings, [topic]) as reader:
        for message in reader.to_end():
            if message.value() is None or (message.offset() < marked.get((message.partition(), message.key()), -1)) != replayed:
                continue
            try:
                letter = DeadLetter.model_validate_json(message.value())
            except ValidationError:
                strays += 1
                continue
            if not codes or letter.code in codes:
                yield _Filed(letter, message.partition(), message.key() or _key(letter))
    if strays:
        click.echo(f"assay: passed over {strays} record(s) of {topic} that are no dead letters; who else writes to it?", err=True)


def _key(letter: DeadLetter) -> bytes:
    return f"{letter.topic}-{letter.partition}-{letter.offset}".encode()


def _at_their_place(edited: Sequence[DeadLetter], found: Sequence[_Filed]) -> list[_Filed]:
    """The edited letters with the places of those that they were made from; what was sent again or is gone is left out."""
    places = {_key(filed.letter): filed for filed in found}
    return [_Filed(letter, places[key].partition, places[key].key) for letter in edited if (key := _key(letter)) in places]


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


@dataclass(frozen=True, slots=True)
class _Sent:
    """Why records could not be sent, and why some that were could not be marked: an entry for each."""

    failed: list[str]
    unmarked: list[str]


def _send(settings: Settings, letters: Sequence[_Filed]) -> _Sent:
    """Send the records, and mark each dead letter (a record without value, same key and partition) once the broker has its record."""
    marks = settings.topic(DEAD_LETTERS.name)
    options = {
        "compression.type": "lz4", "enable.idempotence": True, "partitioner": LIBRDKAFKA[settings.partitioner], "log_level": 0,
        "message.max.bytes": MAX_RECORD_BYTES,
    }  # fmt: skip
    producer = Producer(settings.client_config() | options)
    failed: list[str] = []
    unmarked: list[str] = []
    delivered: deque[_Filed] = deque()
    under_way = len(letters)

    def produce(topic: str, value: bytes | None, key: bytes | None, partition: int, report: Callable[[str | None], None]) -> None:
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=lambda error, _: report(error and error.str()))
                return
            except BufferError:
                producer.poll(0.5)
            except KafkaException as error:
                report(error.args[0].str())
                return

    def mark() -> None:
        while delivered:
            filed = delivered.popleft()
            produce(marks, None, filed.key, filed.partition, lambda error: unmarked.append(error) if error else None)

    shown = track(list(letters), "sending", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    for filed in shown:
        letter = filed.letter
        key = None if letter.key is None else base64.b64decode(letter.key)
        value = None if letter.value is None else base64.b64decode(letter.value)
        partition = -1 if key else letter.partition  # where its key belongs now

        def report(error: str | None, filed: _Filed = filed) -> None:
            nonlocal under_way
            under_way -= 1
            if error is None:
                delivered.append(filed)
            else:
                failed.append(error)

        produce(letter.topic, value, key, partition, report)
        producer.poll(0)
        mark()
    producer.flush(_FLUSH_S)
    failed += ["the broker did not answer in time"] * under_way
    mark()
    unmarked += ["the broker did not answer in time"] * producer.flush(_FLUSH_S)
    return _Sent(failed, unmarked)
