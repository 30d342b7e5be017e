"""``assay value report``: the register of data assets, as their owner reads it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import click
from pydantic import BaseModel

from models.valuation import WINDOWS
from models.valuation.appraisal import AGE, OVERALL, WORTH_DIMENSIONS
from models.valuation.asset_register import Ageing, AssetEntry, ageing, entries, random_spread
from models.valuation.assets import DIMENSIONS
from models.valuation.costs import Costs, CostsError
from schemas.topics import REGISTER, VALUATION
from schemas.valuation import AdjustedMargin, Completeness, IncrementalMargin, RollingValuation, ValueRegister
from streams.cli.options import EXIT_OTHER, broker_options, raise_usage, stop_on_broker_trouble
from streams.cli.value_csv import csv_of
from streams.reading import TopicReader, newest
from streams.settings import Settings

M = TypeVar("M", bound=BaseModel)

_COLUMNS = (
    "asset", "sessions", "points", "interval", "share", "player", "leave one out", "random", "money", "cost", "net", "incremental", "late",
    "complete", "action", "reason",
)  # fmt: skip
_FORMATS = ("markdown", "html", "csv")
_POINTS = {
    "session_neighbours": (
        "Points: by how many percentage points the asset's past sessions raised the chance that a neighbour of the shopper's session held "
        "the item that came next, over what popularity alone would have guessed; they add up to the lift. "
    ),
    "embedding_neighbours": (
        "Points: by how many percentage points the asset's items shown (counted as sessions below) raised the chance that of an item like "
        "the next one shown the same became, taken up or not, over what their share alone would have guessed; they add up to the lift. "
    ),
}
_EXPLANATION = (
    "Player: the same in the game whose "
    "players are the assets, which copies of data move less (by -12 to +4 % of the whole where points move by 25 to 60). Random: what the "
    "asset would be credited with if its sessions were any sessions, in proportion to how many there are. Money: what purchases that "
    "recommendations are credited with brought, times points, less refunds; margin where it is told "
    "or modelled, and beside it the revenue of the others; by itself, where it is said, what clicks on items that are not bought yet are "
    "taken to be worth. These are accounts of what happened, given what was shown: a value near 0 does "
    "not say that the data could not be useful otherwise, and only a hold-out tells what was caused. Incremental (window total): what a "
    "hold-out says was caused, shared out by the players' values; by convention, for nobody was held out from one asset alone. "
    "Complete: the shares of the asset's outcomes that name a category, a country and a segment, and of its purchases whose margin is told."
)


@click.command(
    epilog=f"""Examples:

\b
  assay value report                                           # the last seven days, every dimension, as Markdown
  assay value report --window total --dimension country
  assay value report --format html --output register.html --costs costs.yaml

\b
costs.yaml, per thousand events, by dimension ({", ".join(DIMENSIONS)}) and asset:
  channel:
    affiliate: {{acquire: 12.50, store: 0.10, compute: 0.02, currency: GBP}}
"""
)
@click.option(
    "--window", type=click.Choice([name for name in WINDOWS if name != "1m"]), default="7d", show_default=True,
    help="Event time. In 24h the interval of points is sufficient, and advice is given, only while each of the 24 hours holds a test, the "
    "one that has just begun too; 7d needs 24 of its 168.",
)  # fmt: skip
@click.option("--dimension", "dimensions", type=click.Choice(WORTH_DIMENSIONS), multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--costs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What data costs, as YAML (see below), in the place of what the records say (--asset-costs of the workers).",
)
@click.option("--discount-rate", type=click.FloatRange(min=0), default=0.1, show_default=True, help="A year, for the present value.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="markdown", show_default=True,
    help="html has charts; csv plain numbers in full, one column a figure: points as utility per test, shares of 1; how worth ages and "
    "what was caused in lines that name no asset.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of the screen.")
@broker_options
def report(
    *, settings: Settings, window: str, dimensions: Sequence[str], costs: Path | None, discount_rate: float, form: str, output: Path | None
) -> None:
    """Print the register of data assets: what each was worth, how sure that is, what it cost, and what to do with it.

    It is read from the topics valuation.register and valuation.rolling, as they are now.
    """
    charges = _read_costs(costs)
    with stop_on_broker_trouble():
        registers = _newest(settings, REGISTER.name, ValueRegister)
        records = _newest(settings, VALUATION.name, RollingValuation)
    if not registers:
        click.echo(
            f"nothing in {settings.topic(REGISTER.name)} yet: values come with the first tests (`assay worker value` writes them)", err=True
        )
        raise SystemExit(EXIT_OTHER)
    sections = [
        (register, entries(register, _of_dimension(records, dimension, window), charges.root.get(dimension, {})))
        for dimension in dimensions or WORTH_DIMENSIONS
        if (register := registers.get(f"{dimension}|{window}")) is not None
    ]
    aged = ageing(registers[f"{AGE}|{window}"], discount_rate) if f"{AGE}|{window}" in registers else None
    overall = registers.get(f"{OVERALL}|total")
    caused = (overall.incremental if overall is not None else None) or ()
    write = {"markdown": markdown, "html": _html}.get(form)
    text = csv_of(window, sections, aged, caused) if write is None else write(window, sections, aged, _caused(caused))
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


Sections: TypeAlias = Sequence[tuple[ValueRegister, Sequence[AssetEntry]]]


def _read_costs(path: Path | None) -> Costs:
    try:
        return Costs() if path is None else Costs.load(path)
    except CostsError as error:
        raise_usage(str(error))


def _newest(settings: Settings, topic: str, model: type[M]) -> dict[str, M]:
    """The records of a compacted topic by key, those of minutes that are over left out."""
    with TopicReader(settings, [settings.topic(topic)]) as reader:
        live = newest(reader, lambda key: b"|1m@" not in key)
    return {key.decode(): model.model_validate_json(value) for (_, key), value in live.items()}


def _of_dimension(records: Mapping[str, RollingValuation], dimension: str, window: str) -> dict[str, RollingValuation]:
    return {record.asset: record for key, record in records.items() if record.dimension == dimension and key.endswith(f"|{window}")}


def _cells(entry: AssetEntry, register: ValueRegister) -> list[str]:
    def amounts(money: Mapping[str, float]) -> str:
        return ", ".join(f"{amount:,.2f} {currency}" for currency, amount in sorted(money.items()))

    interval = "" if entry.low is None or entry.high is None else f"{100 * entry.low:+.3f} to {100 * entry.high:+.3f}"
    share = "" if entry.share is None else f"{entry.share:.1%}"
    late = "" if entry.late is None else f"{entry.late:.1%}"
    points = [f"{100 * value:+.3f}" for value in (entry.points, entry.player, entry.leave_one_out, entry.random)]
    caused = ", ".join(
        f"{found.parts[entry.asset]:,.2f} {_unit(found.currency, found.basis)}"
        for found in register.incremental_split or ()
        if entry.asset in found.parts
    )
    return [
        entry.asset, f"{entry.rows:,.0f}", points[0], interval, share, points[1], points[2], points[3], amounts(entry.money),
        amounts(entry.cost), amounts(entry.net) or entry.no_net, caused, late, _complete(entry.completeness),
        entry.action, entry.reason,
    ]  # fmt: skip


def _complete(found: Completeness | None) -> str:
    if found is None:
        return ""
    return ", ".join(f"{name} {share:.0%}" for name, share in found.model_dump().items() if share is not None)


def _unit(currency: str, basis: str) -> str:
    return f"{currency} margin" if basis == "margin" else currency


def _caused(margins: Sequence[IncrementalMargin]) -> list[str]:
    """What hold-outs say was caused, a sentence or two for each experiment, currency and basis."""
    lines = []
    for found in margins:
        best = found.adjusted or found
        experiment = f"Experiment {found.experiment}: " if found.experiment else ""
        line = (
            f"{experiment}the recommendations brought {_amount(best)} {_unit(found.currency, found.basis)} from {found.treated:,} treated "
            f"shoppers, beside {found.held_out:,} held out"
        )
        if found.modelled_fraction:
            line += f" ({found.modelled_fraction:.0%} of the margin is modelled)"
        if found.adjusted is not None:
            gone = f"{found.adjusted.variance_reduction:.0%} of the variance"
            line += f"; adjusted for what they brought before (CUPED), which takes away {gone}. Not adjusted: {_amount(found)}"
        lines.append(line + ".")
    return lines


def _amount(estimate: IncrementalMargin | AdjustedMargin) -> str:
    always = "too few shoppers to say"
    if estimate.always_valid_low is not None and estimate.always_valid_high is not None:
        always = f"{estimate.always_valid_low:,.2f} to {estimate.always_valid_high:,.2f}"
    return f"{estimate.amount:,.2f} (95 % interval for who looks once: {estimate.low:,.2f} to {estimate.high:,.2f}; at any time: {always})"


def _summary(register: ValueRegister, found: Sequence[AssetEntry]) -> str:
    game = register.game
    return (
        f"{game.tests:,} tests; utility {game.utility:.2%}, popularity {game.baseline:.2%}, lift {100 * game.lift:+.3f} points; "
        f"{random_spread(found):.0%} of the lift lies elsewhere than chance would have put it; sums miss it by "
        f"{abs(register.checks.efficiency_residual):.0e}"
    )


def _ages(aged: Ageing | None) -> str:
    if aged is None:
        return ""
    if aged.half_life_days is None:
        return aged.reason
    present = "" if aged.present_value_days is None else f"{aged.present_value_days:,.1f} days' worth of its first day"
    return (
        f"What a session is worth halves in {aged.half_life_days:,.1f} days. All that it will be worth is {present}, at a discount rate of "
        f"{aged.discount_rate:.0%} a year."
    )


def _explained(sections: Sections) -> str:
    """Of what the registers are: past sessions, unless they say otherwise."""
    return _POINTS[sections[0][0].game.name if sections else "session_neighbours"] + _EXPLANATION


def markdown(window: str, sections: Sections, aged: Ageing | None, caused: Sequence[str]) -> str:
    """The register for people: ``sections`` are dimensions, ``caused`` what hold-outs say."""
    lines = [f"# Register of data assets, window {window}", "", _explained(sections), "", _ages(aged)]
    if caused:
        lines += ["", "## What was caused, since the experiment began", "", *(f"- {line}" for line in caused)]
    for register, found in sections:
        lines += ["", f"## {register.dimension}", "", _summary(register, found), ""]
        lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(entry, register)) + " |" for entry in found]
    return "\n".join(lines)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1d2430}"
    "table{border-collapse:collapse;width:100%;font-size:13px}th,td{border-bottom:1px solid #dde2ea;padding:.3rem .5rem;text-align:right}"
    "th:first-child,td:first-child,td:last-child,th:last-child{text-align:left}svg{display:block;margin:.5rem 0 1rem}"
    ".drop{color:#b3261e}.clean{color:#9a6700}.buy{color:#116329}.scroll{overflow-x:auto}"
)
_BAR_HEIGHT, _CHART_WIDTH, _LABEL_WIDTH = 22, 900, 180


def _html(window: str, sections: Sections, aged: Ageing | None, caused: Sequence[str]) -> str:
    escape = html.escape
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Data assets, {window}</title><style>{_STYLE}</style>",
        f"<h1>Register of data assets, window {window}</h1><p>{escape(_explained(sections))}</p><p><b>{escape(_ages(aged))}</b></p>",
    ]
    if caused:
        items = "".join(f"<li>{escape(line)}</li>" for line in caused)
        parts.append(f"<h2>What was caused, since the experiment began</h2><ul>{items}</ul>")
    for register, found in sections:
        head = "".join(f"<th>{escape(column)}</th>" for column in _COLUMNS)
        rows = "".join(
            f'<tr class="{entry.action.split()[0]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(entry, register)) + "</tr>"
            for entry in found
        )
        parts.append(f"<h2>{escape(register.dimension)}</h2><p>{escape(_summary(register, found))}</p>{_chart(found)}")
        parts.append(f"<div class=scroll><table><tr>{head}</tr>{rows}</table></div>")
    return "".join(parts) + "</html>"


def _chart(found: Sequence[AssetEntry]) -> str:
    """Bars of points with their intervals, and a mark for what a random valuation would have said."""
    shown = found[:24]
    values = [value for e in shown for value in (0.0, e.points, e.random, e.low, e.high) if value is not None]
    low, span = min(values), (max(values) - min(values)) or 1.0

    def x(value: float) -> float:
        return _LABEL_WIDTH + (value - low) / span * (_CHART_WIDTH - _LABEL_WIDTH - 10)

    height = _BAR_HEIGHT * len(shown) + 6
    parts = [f'<svg width="{_CHART_WIDTH}" height="{height}" role="img" aria-label="points by asset, with 95 % intervals">']
    for place, entry in enumerate(shown):
        y = _BAR_HEIGHT * place
        left, right = sorted((x(0.0), x(entry.points)))
        colour = "#3b6fb6" if entry.points >= 0 else "#c4552d"
        parts.append(f'<text x="{_LABEL_WIDTH - 8}" y="{y + 15}" text-anchor="end" font-size="12">{html.escape(entry.asset[:26])}</text>')
        parts.append(f'<rect x="{left:.1f}" y="{y + 4}" width="{max(1.0, right - left):.1f}" height="14" fill="{colour}"/>')
        if entry.low is not None and entry.high is not None:
            parts.append(f'<path d="M{x(entry.low):.1f} {y + 11}H{x(entry.high):.1f}" stroke="#1d2430" stroke-width="1.5"/>')
        parts.append(f'<path d="M{x(entry.random):.1f} {y + 2}v18" stroke="#8a93a3" stroke-dasharray="2 2"/>')
    parts.append(f'<path d="M{x(0.0):.1f} 0V{height}" stroke="#8a93a3"/></svg>')
    return "".join(parts) + "<p>Line: 95 % interval. Dashes: what a random valuation would have said.</p>"
