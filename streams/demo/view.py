"""What the demo looks like: a live panel on a terminal, plain lines elsewhere. All of it goes to standard error."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.catalog import Product
from streams.demo.readings import Figures

_REDRAW_S = 0.25
_LINE_S = 2.0
_RATE_WINDOW_S = 3.0
_SHOWN_ITEMS = 8
_BAR = 30


class Rate:
    """Events a second over the last three seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, count: int) -> float:
        """Note ``count`` at ``now`` (seconds); the rate."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (count - before) / (now - began) if now > began else 0.0


class View(Protocol):
    """Shows the run; ``show`` may be called as often as one likes."""

    def show(self, sent: int, figures: Figures) -> None:
        """Show how many events were sent and what the topics say; drawn when it is time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class PlainView:
    """A line every two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = Rate()
        self._due = 0.0

    def show(self, sent: int, figures: Figures) -> None:
        """See ``View.show``."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _LINE_S
        line = f"{sent:>10,} events  {self._rate.update(now, sent):>7,.0f}/s  {figures.recommendations:,} lists"
        lift = None if figures.total is None else figures.total.lift
        if lift is not None:
            line += f"  hit rate@20 {lift.hit_rate['20']:.1%} (popularity {lift.popularity.hit_rate['20']:.1%})"
        currency, _, _, attributable = figures.money()
        if currency:
            line += f"  {attributable} {currency} attributable"
        self._console.print(f"{line}  {figures.dead_letters.total()} refused", highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class LiveView:
    """A panel redrawn four times a second. ``hints`` are the lines that say what to do next."""

    def __init__(self, console: Console, title: str, products: Mapping[str, Product], hints: list[str]) -> None:
        self._title = title
        self._products = products
        self._hints = hints
        self._rate = Rate()
        self._due = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def show(self, sent: int, figures: Figures) -> None:
        """See ``View.show``."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _REDRAW_S
            self._live.update(self._panel(sent, self._rate.update(now, sent), figures), refresh=True)

    def _panel(self, sent: int, rate: float, figures: Figures) -> RenderableType:
        hints = Text("\n".join(self._hints), style="dim")
        body = Group(
            Columns([self._numbers(sent, rate, figures), self._scores(figures)], padding=(0, 4)), "", self._list(figures), "", hints
        )
        return Panel(body, title=f"[bold]Assay[/bold]  {self._title}", border_style="cyan", padding=(1, 2))

    def _numbers(self, sent: int, rate: float, figures: Figures) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim")
        table.add_column(justify="right")
        table.add_row("events", f"{sent:,}")
        table.add_row("events a second", f"{rate:,.0f}")
        table.add_row("lists made", f"{figures.recommendations:,}")
        currency, revenue, refunds, attributable = figures.money()
        if currency:
            table.add_row("revenue", f"{revenue:,} {currency}")
            table.add_row("refunds", f"{refunds:,} {currency}")
            table.add_row("attributable revenue", f"[bold green]{attributable:,} {currency}[/]")
        table.add_row("refused", f"{figures.dead_letters.total():,}")
        for code, count in figures.dead_letters.most_common(3):
            table.add_row(f"  {code}", f"{count:,}")
        return table

    def _scores(self, figures: Figures) -> RenderableType:
        lift = None if figures.total is None else figures.total.lift
        if figures.total is None or lift is None:
            return Text("no shopper has come back to a list yet", style="dim")
        ours, popularity = lift.hit_rate["20"], lift.popularity.hit_rate["20"]
        table = Table(box=None, show_header=False, pad_edge=False, title="was the next item in the list of 20?", title_justify="left")
        table.add_row("recommended", Text("█" * round(ours * _BAR), style="green"), f"[bold]{ours:.1%}[/]")
        table.add_row("popularity", Text("█" * round(popularity * _BAR), style="yellow"), f"{popularity:.1%}")
        table.add_row("[dim]tests[/]", "", f"[dim]{figures.total.tests:,}[/]")
        table.add_row("[dim]MRR@20[/]", "", f"[dim]{lift.mrr['20']:.3f} : {lift.popularity.mrr['20']:.3f}[/]")
        return table

    def _list(self, figures: Figures) -> RenderableType:
        newest = figures.newest
        if newest is None:
            return Text("the first list is on its way", style="dim")
        who = newest.get("user_id") or f"anonymous session {newest.get('session_id')}"
        table = Table(title=f"newest list, for {who}", title_justify="left", box=None, pad_edge=False, header_style="dim", expand=True)
        table.add_column("", width=2, justify="right")
        table.add_column("product", no_wrap=True, overflow="ellipsis", ratio=5)
        table.add_column("price", width=11, justify="right")
        table.add_column("why", no_wrap=True, overflow="ellipsis", ratio=6)
        for item in newest["items"][:_SHOWN_ITEMS]:
            table.add_row(str(item["position"]), *self._describe(item["sku"]), item["explanation"])
        return table

    def _describe(self, sku: str) -> tuple[str, str]:
        product: Any = self._products.get(sku)
        if product is None:
            return sku, ""
        return product.title or sku, f"{product.price} {product.currency}" if product.price is not None else ""

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, error, trace)
