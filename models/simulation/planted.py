"""Channels of known worth: sessions whose last item is what their first ones foretell, but for a planted share of noise in each channel.

The ground truth of valuation: the less of a channel's outcomes is noise, the more its data is worth to whoever predicts the next ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

#: Share of each channel's outcomes that is drawn by chance.
CORRUPTED: Final = (0.02, 0.05, 0.10, 0.20, 0.30, 0.50)
_ITEMS_OF_A_THEME: Final = 8
_CONTEXT: Final = 3
_STEP_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class PlantedSession:
    """One session of ``channel``: the items ``context``, newest first, then ``label`` at ``at_ms``."""

    name: str
    channel: int
    context: tuple[str, ...]
    label: str
    at_ms: int


def planted_sessions(
    seed: int, count: int, corrupted: tuple[float, ...] = CORRUPTED, themes: int = 20, start: int = 0
) -> Iterator[PlantedSession]:
    """``count`` sessions a second apart, each of a channel, and of one of ``themes``, drawn alike: three of the theme's eight items, then
    the theme's own outcome, or in a share ``corrupted`` of the channel's sessions that of any theme. Names are numbered from ``start``.
    """
    chance = np.random.default_rng(seed)
    for number in range(start, start + count):
        channel, theme = int(chance.integers(len(corrupted))), int(chance.integers(themes))
        items = chance.choice(_ITEMS_OF_A_THEME, _CONTEXT, replace=False).tolist()
        outcome = int(chance.integers(themes)) if chance.random() < corrupted[channel] else theme
        yield PlantedSession(
            f"s{number}", channel, tuple(f"item-{theme}-{item}" for item in items), f"outcome-{outcome}", number * _STEP_MS
        )
