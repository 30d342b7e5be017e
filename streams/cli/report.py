"""What ``assay evaluate`` prints and writes: a table, and on demand one JSON object, a Markdown file, a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streams.evaluation.drawing import SUFFIXES, write

if TYPE_CHECKING:
    from streams.evaluation.chart import Chart


def report_options(what: str = "", *, plot: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--json``, ``--markdown`` and ``--plot``, passed as ``as_json``, ``markdown`` and ``plot`` (see ``report``)."""
    about = f"Print one JSON object as the last line{': ' + what if what else ', its results a list of flat rows'}."
    file = click.Path(path_type=Path, dir_okay=False)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if plot:
            drawn = "Draw the results, with 95 % intervals, into this file: .png, or .html with the table (needs assay[plots])."
            function = click.option("--plot", type=file, callback=_drawable, help=drawn)(function)
        function = click.option("--markdown", type=file, callback=_in_folder, help="Write the table to this file as well.")(function)
        return click.option("--json", "as_json", is_flag=True, help=about)(function)

    return decorate


def _in_folder(_ctx: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Before hours of work rather than after them."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


def _drawable(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    if path.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{path.name} ends neither in {' nor in '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise click.BadParameter("drawing needs matplotlib, which is not installed: pip install 'assay[plots]'")
    return _in_folder(context, option, path)


def report(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    about: Mapping[str, object],
    *,
    as_json: bool,
    markdown: Path | None,
    plot: Path | None = None,
    chart: Callable[[], Chart] | None = None,
    below: Mapping[str, tuple[Sequence[Mapping[str, object]], Sequence[str]]] = MappingProxyType({}),
) -> None:
    """Print ``rows`` as a table of ``columns``, and write what was asked for; ``about`` goes before the results of the JSON object, which
    are whole rows. Files have tables ``below`` as well: heading -> (rows, columns).
    """
    table = markdown_table(rows, columns)
    click.echo(table)
    if markdown is not None:
        further = "".join(f"\n## {heading}\n\n{markdown_table(*held)}\n" for heading, held in below.items())
        markdown.write_text(f"{table}\n{further}", encoding="utf-8")
    if plot is not None and chart is not None:
        tables = {heading: [{column: row[column] for column in shown} for row in held] for heading, (held, shown) in below.items()}
        write(chart(), [{column: row[column] for column in columns} for row in rows], plot, tables)
    if as_json:
        click.echo(orjson.dumps({**about, "results": rows}).decode())


def report_sections(
    sections: Mapping[str, tuple[Sequence[Mapping[str, object]], Sequence[str]]],
    about: Mapping[str, object],
    *,
    as_json: bool,
    markdown: Path | None,
    plot: Path | None = None,
    chart: Callable[[], Chart] | None = None,
) -> None:
    """As ``report``, of several tables: heading -> (rows, columns). Those of the first section that has rows go with the picture; the JSON
    object is ``about``, which holds them all in a form of its own.
    """
    text = "\n\n".join(f"## {heading}\n\n{markdown_table(rows, columns)}" for heading, (rows, columns) in sections.items())
    click.echo(text)
    if markdown is not None:
        markdown.write_text(text + "\n", encoding="utf-8")
    if plot is not None and chart is not None:
        write(chart(), next((rows for rows, _ in sections.values() if rows), ()), plot)
    if as_json:
        click.echo(orjson.dumps(about).decode())


def markdown_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """``rows`` as a table of ``columns``; what is None is left empty."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join("" if row[column] is None else str(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def bars(console: Console, width: int = 10) -> Progress:
    """Progress bars with a name of ``width`` characters, a count and the time."""
    columns = (TextColumn(f"{{task.description:<{width}}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
