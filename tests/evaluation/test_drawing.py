from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streams.evaluation.chart import Bar, Chart, Curve, Panel
from streams.evaluation.drawing import figure, page, write

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")

CHART = Chart(
    "Lists & <others>",
    (
        Panel("all", "hit rate at 20 (%)", (Bar("ours", 30.0, (25.0, 36.0), "assay"), Bar("theirs", 40.0, None, "baseline"))),
        Panel("cold", "hit rate at 20 (%)", (Bar("ours", 3.0, (2.0, 4.0), "assay"), Bar("theirs", 0.0, (0.0, 1.0), "baseline"))),
    ),
    ("assay", "baseline"),
    (Curve("assay", ((100, 20.0), (200, 40.0))), Curve("baseline", ((100, 45.0), (200, 35.0)))),
    ("tests so far", "hit rate at 20 (%)"),
)  # fmt: skip
ROWS = [{"method": "ours", "tests": 200, "rate": 0.3}, {"method": "<theirs>", "tests": 200, "rate": 0.4}]


def test_methods_stand_best_first_and_have_their_colour_in_every_panel() -> None:
    assert CHART.methods == ["theirs", "ours"]
    drawn = figure(CHART)
    left, right, curves = drawn.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["theirs", "ours"]
    assert left.yaxis_inverted()
    assert left.get_xlabel() == "hit rate at 20 (%), with 95 % interval"
    assert (curves.get_xlabel(), curves.get_ylabel()) == ("tests so far", "hit rate at 20 (%)")
    colours = {axes.get_title(): [bar.get_facecolor() for bar in axes.patches] for axes in (left, right)}
    assert colours["all"] == colours["cold"]
    assert len(set(colours["all"])) == 2
    assert [line.get_color() for line in curves.lines] == [matplotlib.colors.to_hex(colour, False).upper() for colour in colours["all"]]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["assay", "baseline"]


def test_a_bar_without_an_interval_has_no_whisker_and_all_fit_their_axes() -> None:
    left, right, _ = figure(CHART).axes
    assert (len(left.containers), len(right.containers)) == (3, 4)  # bars, and the whiskers of those that have one
    # Two panels of one unit have one scale, which holds the longest bar and the number beside it.
    assert left.get_xlim() == right.get_xlim()
    assert left.get_xlim()[1] > 44.0


class _Page(HTMLParser):
    """What a page refers to, and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.cells: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip()


def test_a_page_holds_all_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write(CHART, ROWS, path)
    text = path.read_text(encoding="utf-8")
    read = _Page(text)
    assert read.cells == ["method", "tests", "rate", "ours", "200", "0.3", "<theirs>", "200", "0.4"]
    assert "<h1>Lists &amp; &lt;others&gt;</h1>" in text
    assert [reference.split(";")[0] for reference in read.references] == ["data:image/svg+xml"]
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)) == []
    picture = base64.b64decode(read.references[0].partition("base64,")[2])
    assert picture.startswith(b"<?xml")
    # Inside the picture, too: names of XML spaces and of its document type, but nothing that is fetched.
    assert re.findall(rb'(?:href|src)="(?!#)[^"]*"', picture) == []
    assert read.images[0]["alt"] == (
        "all, hit rate at 20 (%): ours 30.0, theirs 40.0. cold, hit rate at 20 (%): ours 3.0, theirs 0.0."
    )  # fmt: skip


def test_the_same_results_make_the_same_page() -> None:
    assert page(CHART, ROWS) == page(CHART, ROWS)


def test_nothing_judged_is_an_empty_picture() -> None:
    assert figure(Chart("nothing", (), ())).axes == []


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    write(CHART, ROWS, tmp_path / "picture.PNG")
    assert (tmp_path / "picture.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_page_has_the_tables_below_the_first() -> None:
    read = _Page(page(CHART, ROWS, {"By <type>": [{"type": "click", "share": None}]}))
    assert read.cells[-2:] == ["click", ""]
    assert "<h2>By &lt;type&gt;</h2>" in page(CHART, ROWS, {"By <type>": []})
    assert "<h2>" not in page(CHART, ROWS)
