"""``assay value``: what data assets are worth."""

from __future__ import annotations

import click

from streams.cli.value_feedback import feedback
from streams.cli.value_offline import offline
from streams.cli.value_recompute import recompute
from streams.cli.value_report import report


@click.group()
def command() -> None:
    """What data assets are worth: the register, its records made again, the same computed from a log, and what feeding values back does."""


for _part in (report, recompute, offline, feedback):
    command.add_command(_part)
