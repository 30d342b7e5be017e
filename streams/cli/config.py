"""``assay config show``: every setting in force and where it came from."""

from __future__ import annotations

from typing import Any

import click
import orjson
from click.core import ParameterSource
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from streams.cli.options import settings_options
from streams.settings import Settings, origins


@click.group()
def command() -> None:
    """Show every setting in force and where it came from.

    First wins: flags, then ASSAY_* variables, then assay.toml in the working folder
    (or the file that ASSAY_CONFIG names), then defaults.
    """


@command.command(
    epilog="""Examples:

\b
  assay config show
  ASSAY_K=10 assay config show --json | jq .settings.k
  assay config show --partitions 16
"""
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: settings {name: {value, source, help}}, unread.")
@settings_options()
@click.pass_context
def show(ctx: click.Context, settings: Settings, as_json: bool) -> None:
    """Print each setting with its value and source; secrets are masked.

    Takes the flags of `assay worker`, so that a command line can be tried before it runs.
    """
    flags = [name for name in Settings.model_fields if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    found = origins(flags)
    rows = {
        name: (_shown(getattr(settings, name)), found.by_setting[name], field.description or "")
        for name, field in Settings.model_fields.items()
    }
    if as_json:
        listed = {name: {"value": value, "source": source, "help": about} for name, (value, source, about) in rows.items()}
        click.echo(orjson.dumps({"settings": listed, "unread": found.unread}, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("setting", "value", "source", "meaning", box=None, pad_edge=False, header_style="bold")
    for name, (value, source, about) in rows.items():
        table.add_row(name, "-" if value is None else str(value), source, about, style=None if source == "default" else "bold cyan")
    Console(soft_wrap=False).print(table)
    for name in found.unread:
        click.echo(f"warning: {name} is set, but names no setting", err=True)


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********"
    return value if value is None or isinstance(value, bool | int | float) else str(value)
