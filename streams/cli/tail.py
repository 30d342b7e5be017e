"""``assay tail``: read a topic as a human would."""

from __future__ import annotations

import base64
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click
import orjson
from confluent_kafka import Message

from schemas.topics import TOPICS
from streams.cli.one_liners import describe
from streams.cli.options import broker_options, stop_on_broker_trouble
from streams.reading import BEGINNING, END, TopicReader
from streams.settings import Settings

_NAMES = tuple(topic.name for topic in TOPICS)


@click.command(
    epilog="Examples:\n\n\b\n  assay tail recommendations\n  assay tail storefront.events --from beginning --limit 20\n"
    "  assay tail valuation.rolling --from beginning --until-end --json | jq .value.lift"
)
@click.argument("topic", type=click.Choice(_NAMES), metavar="TOPIC")
@click.option("--from", "start", type=click.Choice([BEGINNING, END]), default=END, show_default=True, help="Where to begin.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many records.")
@click.option("--until-end", is_flag=True, help="Stop at the present end instead of waiting for more.")
@click.option("--key", help="Only records with this key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: topic, partition, offset, timestamp, key, value.")
@broker_options
def command(*, settings: Settings, topic: str, start: str, limit: int | None, until_end: bool, key: str | None, as_json: bool) -> None:
    """Read TOPIC as a human would: one line a record, committed records only, Ctrl-C to stop.

    TOPIC is a name of the table of topics (`assay topics check` lists them), without the prefix.
    """
    with stop_on_broker_trouble(), TopicReader(settings, [settings.topic(topic)], start) as reader:
        records = reader.to_end() if until_end else reader.follow()
        wanted = (record for record in records if key is None or record.key() == key.encode())
        try:
            for record in islice(wanted, limit):
                click.echo(_as_json(record) if as_json else _as_line(topic, record))
                sys.stdout.flush()
        except KeyboardInterrupt:
            return


def _as_line(topic: str, record: Message) -> str:
    at = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
    return f"{at:%H:%M:%S}  {record.partition()}:{record.offset()}  {describe(topic, record.key(), record.value())}"


def _as_json(record: Message) -> str:
    fields: dict[str, Any] = {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp()[1],
        "key": None if record.key() is None else record.key().decode(errors="replace"),
    }
    value = record.value()
    try:
        fields["value"] = None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        fields["raw"] = base64.b64encode(value).decode()
    return orjson.dumps(fields).decode()
