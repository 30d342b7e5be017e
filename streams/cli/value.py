"""``assay value``: what data assets are worth."""

from __future__ import annotations

import click

from streams.cli.value_recompute import recompute
from streams.cli.value_report import report


@click.group()
def command() -> None:
    """What data assets are worth: the register, and any of its records made again."""


command.add_command(report)
command.add_command(recompute)
