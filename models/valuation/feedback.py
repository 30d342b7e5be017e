"""From what data was worth back to how much it counts: weights in 0..1 of data assets, by the register that is in force.

With s the points of an asset over the half width of their 95 % interval, so that the interval lies wholly below 0 where s < -1, a weight
w gives way to what the new register allows:

    w' = min(max(w, low(s)), high(s)),  high(s) = 2 + s,  low(s) = 1 + s,  both cut to 0..1, in steps of 0.05

So what is uncertain counts in full (high is 1 from s = -1 on); what is shown to do harm counts less, and nothing once s <= -2, some four
standard errors. It counts more again only as its interval reaches 0 (s > -1), and in full once its points do (s >= 0). In between a
weight stays as it is: that is the hysteresis, one half width of the interval wide. Weights are graded because registers are looked at again
and again, and for every asset: of harmless ones one in forty lies below -1 at any time, but few far below it, and those pay little.

- A floor of evidence: with fewer than ``LEAST_TESTS`` tests that could draw on it, fewer than ``LEAST_ROWS`` past sessions, or an interval
  that is ``insufficient`` (as when an hour of a day's 24 has only begun), an asset counts what it did: in full, where nothing was known.
- A way back: the register values the sessions of every asset, whatever they count in lists, so an asset that does no more harm is seen
  to. One that is in the register no more counts in full.
- Never all: where no asset of a dimension counts in full and is worth something, all do. Weights that are alike would change no list.

What no asset is named by (``unknown``) and what is counted together (``other``) is no source that could be told from others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import starmap
from typing import Final, NamedTuple

from models.valuation.appraisal import UNKNOWN
from models.valuation.assets import OTHER
from schemas.valuation import AssetValue, ValueRegister

#: Dimensions that can be weighed, in the order of ``models.retrieval.Source``. ``category`` and ``age_bucket`` are not among them: what a
#: product is about is what lists are there to tell, not where data came from, and age has its own decay.
DIMENSIONS: Final = ("channel", "event_type", "country", "segment")
#: Tests of the window that could draw on an asset, at least: five times what an interval asks for.
LEAST_TESTS: Final = 500
#: Past sessions of an asset in the window, on average, at least: fewer shift no list that others are in.
LEAST_ROWS: Final = 20.0
#: Weights are multiples of 1 / 20: what moves them by less is no news.
_STEPS: Final = 20


def weight_of(value: AssetValue, former: float = 1.0) -> float:
    """What one asset counts, given what it counted so far.

    >>> harmful = AssetValue(points=-0.03, player=0, leave_one_out=0, low=-0.05, high=-0.01, insufficient=False, tests=900, rows=50)
    >>> weight_of(harmful), weight_of(harmful, former=0.2), weight_of(harmful.model_copy(update={"tests": 400}), former=0.2)
    (0.5, 0.2, 0.2)
    """
    if value.insufficient or value.low is None or value.high is None or value.tests < LEAST_TESTS or value.rows < LEAST_ROWS:
        return former
    half = (value.high - value.low) / 2
    if half <= 0:  # equal values in every pane: nothing says how sure that is
        return former
    s = value.points / half
    return min(max(former, _cut(1.0 + s)), _cut(2.0 + s))


def _cut(weight: float) -> float:
    return min(_STEPS, max(0, round(_STEPS * weight))) / _STEPS


def weigh(register: ValueRegister, former: Mapping[str, float]) -> dict[str, float]:
    """The assets of ``register`` that count less than 1, and what they count, given what they counted so far (``former``, the same way)."""
    sources = {asset: value for asset, value in register.assets.items() if asset not in (OTHER, UNKNOWN)}
    weights = {asset: weight_of(value, former.get(asset, 1.0)) for asset, value in sources.items()}
    if not any(weight == 1.0 and sources[asset].points > 0 for asset, weight in weights.items()):
        return {}
    return {asset: weight for asset, weight in sorted(weights.items()) if weight < 1.0}


@dataclass(frozen=True, slots=True)
class SourceWeights:
    """``below``: by dimension the assets that count less than 1, and what they count. All others count 1."""

    below: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything counts less than 1."""
        return any(self.below.values())

    def of(self, source: Iterable[str]) -> float:
        """What an event counts whose assets in ``DIMENSIONS``, or the first few of them, are these ("": none named): the least of them.

        Not their product: a harm that shows in two dimensions is one harm.

        >>> SourceWeights({"channel": {"relay": 0.0}, "event_type": {"browse": 0.4}}).of(("web", "browse"))
        0.4
        """
        return min(
            (self.below.get(dimension, {}).get(asset, 1.0) for dimension, asset in zip(DIMENSIONS, source, strict=False)), default=1.0
        )


class Change(NamedTuple):
    """The weight of an asset that was and that is, and the value behind it (None: the register no longer knows it)."""

    dimension: str
    asset: str
    before: float
    now: float
    value: AssetValue | None

    def __str__(self) -> str:
        known = self.value
        if known is None or known.low is None or known.high is None:
            return f"{self.dimension} {self.asset} counts {self.now:.2f} (was {self.before:.2f})"
        return (
            f"{self.dimension} {self.asset} counts {self.now:.2f} (was {self.before:.2f}): {known.points:+.5f} points a test, "
            f"95 % interval {known.low:+.5f} to {known.high:+.5f}, {known.tests:,} tests"
        )


class FeedbackRule:
    """The weights in force, as register follows register: one window of each of ``dimensions``."""

    def __init__(self, dimensions: Iterable[str]) -> None:
        self.weights = SourceWeights({dimension: {} for dimension in dimensions})

    def take(self, register: ValueRegister) -> list[Change]:
        """Weigh the assets of a dimension anew; what changed. ``weights`` is another object then, and else the same. Only what past
        sessions were worth says whether they should count: a register of items shown changes nothing.
        """
        if register.game.name != "session_neighbours":
            return []
        former = self.weights.below[register.dimension]
        now = weigh(register, former)
        if now == former:
            return []
        self.weights = SourceWeights({**self.weights.below, register.dimension: now})
        moved = sorted(asset for asset in former.keys() | now.keys() if former.get(asset) != now.get(asset))
        rows = ((register.dimension, a, former.get(a, 1.0), now.get(a, 1.0), register.assets.get(a)) for a in moved)
        return list(starmap(Change, rows))
