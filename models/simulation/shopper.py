"""Shoppers with planted tastes: what they like is known exactly, which is what makes the simulation a ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from models.simulation.catalogue import Catalogue
from models.simulation.chance import Chance
from models.simulation.vocabulary import CATEGORIES, STYLES

#: Width of a price taste, in price levels (0..1): about a quarter of the range feels right to a shopper.
_PRICE_WIDTH = 0.25
_COUNTRIES = ("GB", "GB", "GB", "GB", "GB", "GB", "IE", "DE", "FR", "NL")
_TREND_PERIODS_DAYS = (3.0, 11.0)


@dataclass(slots=True)
class Shopper:
    """One person. ``category_weight`` (18,) and ``style_weight`` (8,) are 1 at their favourite; ``level`` is the liked price level."""

    user_id: str | None
    category_weight: NDArray[np.float64]
    style_weight: NDArray[np.float64]
    level: float
    country: str
    segment: str
    category_cumulative: list[float]
    bought: list[int] = field(default_factory=list)
    #: (epoch, category) -> cumulative weights of that shelf; rebuilt when trends have moved on.
    shelf_weights: dict[tuple[int, int], list[float]] = field(default_factory=dict)


def draw_shopper(chance: Chance, user_id: str | None, segment: str) -> Shopper:
    """A shopper with two to four favourite categories, one or two favourite styles and a price level."""
    category_weight = np.full(len(CATEGORIES), 0.02)
    for strength in (1.0, 0.7, 0.4, 0.25)[: 2 + chance.below(3)]:
        category_weight[chance.below(len(CATEGORIES))] = strength
    style_weight = np.full(len(STYLES), 0.06)
    style_weight[chance.below(len(STYLES))] = 0.6
    style_weight[chance.below(len(STYLES))] = 1.0
    return Shopper(
        user_id=user_id,
        category_weight=category_weight,
        style_weight=style_weight,
        level=0.1 + 0.8 * chance.uniform(),
        country=chance.one_of(_COUNTRIES),
        segment=segment,
        category_cumulative=list(accumulate(category_weight.tolist())),
    )


def affinity(shopper: Shopper, catalogue: Catalogue, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """How well products suit a shopper in style and price, float64 (rows,), in 0..1."""
    price = np.exp(-0.5 * ((catalogue.level[rows] - shopper.level) / _PRICE_WIDTH) ** 2)
    return np.asarray(shopper.style_weight[catalogue.style[rows]] * price)


def appeal(shopper: Shopper, catalogue: Catalogue, row: int) -> float:
    """How much a shopper wants one product, in 0..1: style, price and category together."""
    distance = (float(catalogue.level[row]) - shopper.level) / _PRICE_WIDTH
    liked = float(shopper.style_weight[catalogue.style[row]]) * float(shopper.category_weight[catalogue.category[row]]) ** 0.5
    return float(liked * np.exp(-0.5 * distance * distance))


@dataclass(frozen=True, slots=True)
class Trends:
    """Fashions that come and go: each (category, style) swells and fades with a period of its own, 3 to 11 days."""

    phase: NDArray[np.float64]
    period_days: NDArray[np.float64]

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Trends:
        """Phases and periods for every (category, style) pair."""
        shape = (len(CATEGORIES), len(STYLES))
        return cls(generator.uniform(0, 2 * np.pi, shape), generator.uniform(*_TREND_PERIODS_DAYS, shape))

    def at(self, category: int, days: float) -> NDArray[np.float64]:
        """Multipliers of the styles of a category, ``days`` after the start: float64 (8,), between 0.45 and 2.2."""
        return np.asarray(np.exp(0.8 * np.sin(2 * np.pi * days / self.period_days[category] + self.phase[category])))
