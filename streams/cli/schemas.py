"""``assay schemas``: the contracts as documents."""

from __future__ import annotations

from pathlib import Path

import click

from schemas.export import write
from streams.cli.options import EXIT_OTHER, raise_usage, settings_options
from streams.settings import Settings


@click.group()
def command() -> None:
    """Export JSON Schema and AsyncAPI documents."""


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@settings_options("partitions", "topic_prefix")
def export(folder: Path, settings: Settings) -> None:
    """Write JSON Schema 2020-12 for each message and one AsyncAPI 3 document (asyncapi.json) for all topics into DIR."""
    try:
        paths = write(folder, partitions=settings.partitions, topic_prefix=settings.topic_prefix)
    except OSError as error:
        raise_usage(f"could not write into {folder}: {error}", EXIT_OTHER)
    for path in paths:
        click.echo(path)
