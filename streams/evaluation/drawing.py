"""Charts as files: PNG, or an HTML page that holds its picture and the table and refers to nothing outside itself."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from streams.evaluation.chart import Chart, Curve, Panel

Rows: TypeAlias = Sequence[Mapping[str, object]]

SUFFIXES: Final = (".png", ".html")
#: Colours that the colour-blind tell apart (Okabe and Ito, 2008), and dashes for those who print in grey.
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_DASHES: Final = ("-", "--", "-.", ":")
_INK: Final = "#333333"
_LOOK: Final = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "assay",
}  # fmt: skip
#: Inches: of a panel, of the names beside the first, of a bar, of the title and axis of a panel, of the curves, of title and legend.
_PANEL, _NAMES, _BAR, _AROUND, _CURVES, _LEGEND = 2.9, 2.0, 0.3, 0.8, 2.8, 0.6
_ABREAST: Final = 3
#: Panels that curves are wide.
_WIDE: Final = 2
_DPI: Final = 150

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}"
    "img{max-width:100%;height:auto}table{border-collapse:collapse;font-size:14px;display:block;overflow-x:auto}"
    "th,td{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right;font-variant-numeric:tabular-nums}"
)


def write(chart: Chart, rows: Rows, path: Path, below: Mapping[str, Rows] = MappingProxyType({})) -> None:
    """Draw ``chart`` into ``path``, by its suffix (``SUFFIXES``); a page has ``rows`` as its table, and those ``below`` it by heading.
    Needs matplotlib.
    """
    if path.suffix.lower() == ".html":
        path.write_text(page(chart, rows, below), encoding="utf-8")
    else:
        path.write_bytes(_render(chart, "png"))


def page(chart: Chart, rows: Rows, below: Mapping[str, Rows] = MappingProxyType({})) -> str:
    """The HTML page: title, picture (SVG in a data URI), tables."""
    picture = base64.b64encode(_render(chart, "svg")).decode()
    further = "".join(f"<h2>{escape(heading)}</h2>\n{_table(held)}" for heading, held in below.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(chart.title)}</title><style>{_STYLE}</style><h1>{escape(chart.title)}</h1>\n"
        f'<p><img alt="{escape(_in_words(chart))}" src="data:image/svg+xml;base64,{picture}">\n'
        f"{_table(rows)}{further}</html>\n"
    )


def _table(rows: Rows) -> str:
    head = "".join(f"<th>{escape(str(column))}" for column in (rows[0] if rows else ()))
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "\n" for row in rows)
    return f"<table><thead><tr>{head}\n<tbody>\n{body}</table>\n"


def _cell(value: object) -> str:
    number = isinstance(value, (int, float))
    return f'<td class="n">{value}' if number else f"<td>{'' if value is None else escape(str(value))}"


def _in_words(chart: Chart) -> str:
    """For those who do not see the picture."""
    return " ".join(
        f"{' '.join(panel.title.split())}, {panel.axis}: " + ", ".join(f"{bar.method} {bar.value:.1f}" for bar in panel.bars) + "."
        for panel in chart.panels
    )


def _render(chart: Chart, kind: str) -> bytes:
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_LOOK):
        # Without a date the same results make the same file.
        figure(chart).savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def figure(chart: Chart) -> Figure:
    """The chart as a figure of matplotlib's."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    abreast = 1 if chart.own_names else _ABREAST
    rows = math.ceil(len(chart.panels) / abreast)
    columns = math.ceil(len(chart.panels) / max(1, rows)) or 1
    names = [[bar.method for bar in panel.bars] if chart.own_names else chart.methods for panel in chart.panels]
    curves = [(chart.curves, chart.curve_axes)] * bool(chart.curves) + [(one.curves, one.axes) for one in chart.further]
    heights = [_BAR * max(3, len(names[row * columns])) + _AROUND for row in range(rows)] + [_CURVES] * len(curves)
    drawn = Figure(figsize=(_NAMES + _PANEL * max(columns, _WIDE if curves else 1), sum(heights) + _LEGEND), layout="constrained")
    drawn.suptitle(chart.title, fontsize=11)
    grid = drawn.add_gridspec(max(1, len(heights)), columns, height_ratios=heights or None)
    colours = dict(zip(chart.series, cycle(_COLOURS), strict=False))
    # Panels of one unit have one scale.
    ends: dict[str, float] = defaultdict(float)
    starts: dict[str, float] = defaultdict(float)
    for panel in chart.panels:
        ends[panel.axis] = max(ends[panel.axis], *(bar.interval[1] if bar.interval else bar.value for bar in panel.bars))
        starts[panel.axis] = min(starts[panel.axis], *(bar.interval[0] if bar.interval else bar.value for bar in panel.bars))
    for number, panel in enumerate(chart.panels):
        axes = drawn.add_subplot(grid[number // columns, number % columns])
        _draw_bars(axes, panel, names[number], colours, starts[panel.axis], ends[panel.axis] or 1.0)
        axes.tick_params(axis="y", length=0, labelleft=number % columns == 0)
    for number, (below, (along, up)) in enumerate(curves):
        axes = drawn.add_subplot(grid[rows + number, :])
        _draw_curves(axes, below, colours)
        axes.set(xlabel=along, ylabel=up)
    used = {bar.series for panel in chart.panels for bar in panel.bars} | {curve.series for below, _ in curves for curve in below}
    handles = [Patch(color=colours[series], label=series) for series in chart.series if series in used]
    drawn.legend(handles=handles, loc="outside lower center", ncols=max(1, len(handles)), frameon=False)
    return drawn


def _draw_bars(axes: Axes, panel: Panel, methods: Sequence[str], colours: Mapping[str, str], start: float, end: float) -> None:
    for bar in panel.bars:
        place = methods.index(bar.method)
        low, high = bar.interval or (bar.value, bar.value)
        axes.barh(place, bar.value, height=0.62, color=colours[bar.series])
        if bar.interval:
            # Rounding may leave the value a hair outside its interval.
            around = [[max(0.0, bar.value - low)], [max(0.0, high - bar.value)]]
            axes.errorbar(bar.value, place, xerr=around, color=_INK, capsize=2.5, elinewidth=1, capthick=1)
        axes.text(max(high, bar.value, 0.0) + 0.02 * (end - start), place, f"{bar.value:.1f}", va="center")
    axes.set(
        title=panel.title, xlabel=f"{panel.axis}, with 95 % interval", xlim=(1.18 * start, 1.18 * end),
        yticks=range(len(methods)), yticklabels=methods,
    )  # fmt: skip
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_curves(axes: Axes, curves: Sequence[Curve], colours: Mapping[str, str]) -> None:
    looks: Any = zip(curves, cycle(_DASHES), strict=False)
    for curve, dashes in looks:
        axes.plot(*zip(*curve.points, strict=True), dashes, color=colours[curve.series], linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
