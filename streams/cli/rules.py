"""``assay rules``: business rules as the recommend worker would read them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson

from models.rules.example import EXAMPLE
from models.rules.reading import RulesError
from models.rules.wording import Sentence, describe
from streams.agents.rules import load_rules
from streams.cli.options import EXIT_OTHER

_COLOURS = {"to come": "yellow", "in force": None, "over": "bright_black"}


@click.group()
def command() -> None:
    """Say what a file of business rules means or what is wrong with it; print an example.

    Rules pin products to places, bury them, exclude them, and hold categories and brands in check. The recommend worker takes them from
    --business-rules FILE (ASSAY_BUSINESS_RULES) and reads the file again within a second of a change.
    """


@command.command(
    epilog="""Examples:

\b
  assay rules check rules.yaml && mv rules.yaml /etc/assay/rules.yaml     # renamed into place: never read half-written
  assay rules check rules.yaml --json | jq '.rules[] | select(.standing != "in force")'

Exit codes: 0 valid, 1 not valid, 2 no such file.
"""
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object: valid, digest, rules {kind, name, text, standing}, faults.")
def check(file: Path, as_json: bool) -> None:
    """Print what each rule of FILE means and whether it holds now; or each fault with its line and column.

    Lists carry the digest of the rules that they were made under (versions.rules).
    """
    try:
        rules = load_rules(file)
    except RulesError as error:
        if as_json:
            faults = [{name: getattr(fault, name) for name in ("line", "column", "path", "message")} for fault in error.faults]
            _print({"valid": False, "digest": None, "rules": [], "faults": faults})
        else:
            click.echo(f"{file} is not valid; no worker would start with it, and one that runs would keep its present rules:", err=True)
            for fault in error.faults:
                click.echo(f"  {fault}", err=True)
        raise SystemExit(EXIT_OTHER) from None
    sentences = describe(rules, int(time.time() * 1000))
    if as_json:
        _print({"valid": True, "digest": rules.digest, "rules": [sentence._asdict() for sentence in sentences], "faults": []})
        return
    click.echo(f"{file}: {rules.count} rule{'' if rules.count == 1 else 's'}, digest {rules.digest}")
    for sentence in sentences:
        click.echo(_line(sentence))


@command.command(
    epilog="""Examples:

\b
  assay rules example > rules.yaml
"""
)
def example() -> None:
    """Print a commented file that shows all that rules may say."""
    click.echo(EXAMPLE, nl=False)


def _line(sentence: Sentence) -> str:
    standing = "" if sentence.standing == "in force" else f"  [{sentence.standing}]"
    name = f"  ({sentence.name})" if sentence.name else ""
    return click.style(f"  {sentence.kind:<13}  {sentence.text}{name}{standing}", fg=_COLOURS[sentence.standing])


def _print(fields: dict[str, Any]) -> None:
    click.echo(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
