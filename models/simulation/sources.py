"""A shop that is told of its shoppers by several channels, one of which may be broken: planted harm for value feedback.

Shoppers have a theme each that most of their visits are about, and visits walk along its items, so what comes next can be foretold. The
channel ``relay`` has visits of its own; where it is broken, their items are drawn by chance from the whole catalogue, and while shoppers
go about their visits by other channels it also reports items that they never looked at (a tracker that counts what pages load ahead).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

#: The channel that may be broken, and those that are not.
RELAY: Final = "relay"
SOUND: Final = ("web", "app", "store")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """``visits`` begin evenly over ``days``, a share ``relay_share`` of them by the relay. Where it is ``broken`` a real event is followed
    by a stray one of the relay with probability ``strays``, and the relay's own visits are ``relay_length`` items long on average, those
    of others ``length``. A step goes on to one of the next ``reach`` items of the theme, or with probability ``jumps`` to any of them.
    """

    visits: int = 5_000
    days: float = 4.0
    shoppers: int = 500
    themes: int = 30
    items_of_a_theme: int = 40
    length: float = 5.0
    relay_length: float = 12.0
    relay_share: float = 0.3
    strays: float = 0.3
    reach: int = 3
    jumps: float = 0.15
    broken: bool = True


@dataclass(frozen=True, slots=True)
class Touch:
    """A shopper clicks on an item, or is said to, at a time in ms after the beginning."""

    at_ms: int
    shopper: str
    sku: str
    channel: str


def items(options: SourceOptions) -> list[str]:
    """The SKUs of the shop."""
    return [_sku(theme, place) for theme in range(options.themes) for place in range(options.items_of_a_theme)]


def touches(seed: int, options: SourceOptions) -> Iterator[Touch]:
    """All touches in the order of time, a function of ``seed`` and ``options``."""
    chance = np.random.default_rng(seed)
    own_theme = chance.integers(options.themes, size=options.shoppers)
    found: list[Touch] = []
    for visit in range(options.visits):
        begin_ms = int(visit * options.days * 86_400_000 / options.visits)
        shopper = int(chance.integers(options.shoppers))
        by_relay = chance.random() < options.relay_share
        lost = by_relay and options.broken
        channel = RELAY if by_relay else str(chance.choice(SOUND))
        length = 2 + int(chance.poisson((options.relay_length if lost else options.length) - 2))
        theme = int(own_theme[shopper]) if chance.random() < 0.7 else int(chance.integers(options.themes))
        place = int(chance.integers(options.items_of_a_theme))
        for step in range(length):
            at_ms = begin_ms + 20_000 * step
            sku = _any(chance, options) if lost else _sku(theme, place)
            found.append(Touch(at_ms, f"shopper-{shopper}", sku, channel))
            if not lost and options.broken and chance.random() < options.strays:
                found.append(Touch(at_ms + 5_000, f"shopper-{shopper}", _any(chance, options), RELAY))
            jump = chance.random() < options.jumps
            ahead = options.items_of_a_theme if jump else options.reach
            place = (place + 1 + int(chance.integers(ahead))) % options.items_of_a_theme
    yield from sorted(found, key=lambda touch: touch.at_ms)


def _any(chance: np.random.Generator, options: SourceOptions) -> str:
    return _sku(int(chance.integers(options.themes)), int(chance.integers(options.items_of_a_theme)))


def _sku(theme: int, place: int) -> str:
    return f"{theme}-{place}"
