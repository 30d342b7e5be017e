"""``assay value``: what data assets are worth."""

from __future__ import annotations

import click

from streams.cli.value_offline import offline
from streams.cli.value_recompute import recompute
from streams.cli.value_report import report


@click.group()
def command() -> None:
    """What data assets are worth: the register, its records made again, and the same computed from a log."""


for _part in (report, recompute, offline):
    command.add_command(_part)
