"""An average that fades: what happened counts half as much with every ``HALF_LIFE_S`` that it is past.

It is taken over the hours of the longest window, so it needs no state of its own, is a function of the log as they are, and follows their
corrections. What lies before them, less than a hundredth of the weight, is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from models.valuation.panes import HOUR_S, WINDOWS
from models.valuation.windows import WorthWindow
from models.valuation.worth import Worth

HALF_LIFE_S: Final = 86_400
_SPAN_MS: Final = 1_000 * WINDOWS["7d"].length_s * WINDOWS["7d"].panes


@dataclass(frozen=True, slots=True)
class Faded:
    """The hours of a window and what each counts (the newest 1), and how many tests they are together, so weighted."""

    panes: list[tuple[float, Worth]]
    tests: float

    @property
    def lift(self) -> float:
        """Of a test, on average."""
        return math.fsum(weight * float(pane.lift) for weight, pane in self.panes) / self.tests

    def points(self, asset: str) -> float:
        """Of an asset, per test: those of all assets add up to the lift."""
        return math.fsum(weight * float(pane.credits[asset].points) for weight, pane in self.panes if asset in pane.credits) / self.tests


def fade(window: WorthWindow) -> Faded | None:
    """None for any window but the longest that moves on, and for one without tests."""
    if window.kind != "horizon" or window.end_ms - window.start_ms != _SPAN_MS:
        return None
    newest_ms = window.end_ms - 1_000 * HOUR_S
    panes = [
        (2.0 ** ((start_ms - newest_ms) / (1_000 * HALF_LIFE_S)), pane)
        for start_ms, pane in zip(window.starts_ms, window.panes, strict=True)
    ]
    tests = math.fsum(weight * pane.tests for weight, pane in panes)
    return Faded(panes, tests) if tests else None
