"""What value feedback does to lists, measured before each event is learned: the same log through shops with it, without it, and without
what came from sources that do harm.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import orjson

from models.evaluation.intervals import batch_means
from models.valuation.appraisal import Appraiser, Rules
from models.valuation.assets import AssetBound
from models.valuation.windows import WorthPanes
from models.valuation.worth_record import value_register
from schemas.topics import OUTCOMES
from schemas.valuation import ValueRegister
from streams.agents.appraisers import value_source
from streams.agents.feedback import Feedback
from streams.agents.sources import read_sources
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent
from streams.runtime.processor import Output, SourceRecord
from streams.settings import Settings

WITHOUT: Final = "without feedback"
WITH: Final = "with feedback"
SPARED: Final = "source left out"
_LENGTH: Final = 20


class Books:
    """What the value role makes of outcomes: the registers of some dimensions in one window, as one partition would have them."""

    def __init__(self, settings: Settings) -> None:
        self._appraiser = Appraiser(Rules(gap_ms=round(settings.session_gap_s * 1000)))
        self._panes = {dimension: WorthPanes() for dimension in settings.feedback_dimensions.split(",")}
        self._window = settings.feedback_window
        self._bound = AssetBound()
        self._offset = 0
        self.watermark_ms = 0

    def take(self, outputs: Sequence[Output]) -> None:
        """The outcomes among the outputs of a micro-batch."""
        values = [output.value for output in outputs if output.topic == OUTCOMES.name]
        records = [SourceRecord(OUTCOMES.name, 0, self._offset + place, 0, None, value) for place, value in enumerate(values)]
        self._offset += len(records)
        for offset, at_ms, message in read_sources(records):
            value_source(self._appraiser, offset, at_ms, message)
            self.watermark_ms = max(self.watermark_ms, at_ms)

    def registers(self) -> list[ValueRegister]:
        """As they are now."""
        for pane, worths in self._appraiser.sums().items():
            for dimension, panes in self._panes.items():
                if dimension in worths:
                    panes.add(0, pane, worths[dimension].renamed(lambda asset, d=dimension: self._bound.kept(d, asset)))
        found = []
        for dimension, panes in self._panes.items():
            panes.advance(self.watermark_ms)
            if panes.held_panes():
                found.append(value_register(dimension, panes.window(self._window), self.watermark_ms, "open", OUTCOMES.name))
        return found


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """Means over the ``tests`` events that an arm was judged on, 0..1, with 95 % intervals by batch means. ``gain``: the same less that
    without feedback on the very same events; absent there.
    """

    arm: str
    events: str
    tests: int
    hit_rate_at_20: float
    hit_rate_low: float
    hit_rate_high: float
    mrr_at_20: float
    mrr_low: float
    mrr_high: float
    hit_rate_gain: float | None = None
    hit_rate_gain_low: float | None = None
    hit_rate_gain_high: float | None = None
    mrr_gain: float | None = None
    mrr_gain_low: float | None = None
    mrr_gain_high: float | None = None


@dataclass(slots=True)
class Comparison:
    """Ranks (0: not listed) by arm and event, the channel of each event, the last registers, and the weights as they changed: (events so
    far, weights below 1 by dimension).
    """

    ranks: dict[str, dict[str, int]]
    channels: dict[str, str] = field(default_factory=dict)
    registers: list[ValueRegister] = field(default_factory=list)
    weights: list[tuple[int, Mapping[str, Mapping[str, float]]]] = field(default_factory=list)

    def results(self, left_out: Container[str] = ()) -> list[FeedbackResult]:
        """One row an arm and group of events: ``all``, and where some channels are ``left_out`` those of all others, and the last third of
        those. Only events that were
        tests in every arm of the group are judged.
        """
        groups = [("all", [arm for arm in self.ranks if arm != SPARED], list(self.channels))]
        others = [event for event, channel in self.channels.items() if channel not in left_out]
        if len(others) < len(self.channels):
            groups.append(("of sound sources", list(self.ranks), others))
            groups.append(("of sound sources, last third", list(self.ranks), others[-len(others) // 3 :]))
        found = []
        for group, arms, events in groups:
            judged = [event for event in events if all(event in self.ranks[arm] for arm in arms)]
            base = [self.ranks[WITHOUT][event] for event in judged]
            found += [_result(arm, group, [self.ranks[arm][event] for event in judged], base) for arm in arms]
        return found


def compare_feedback(
    shops: Mapping[str, InProcessShop],
    events: Iterable[ReplayEvent],
    types: Sequence[str],
    *,
    batch: int,
    every_ms: int,
    left_out: Container[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Feed ``shops``, by arm, a log in micro-batches of ``batch`` events: each is judged by the list that the batch before left behind, and
    then learned. That of ``WITH`` must have ``settings.value_feedback``: its outcomes are valued, and every ``every_ms`` of event time
    it is told the weights that follow. That of ``SPARED``, if there is one, never sees what came by the channels ``left_out``.
    """
    compared = Comparison({arm: {} for arm in shops})
    listening = shops[WITH]
    books = Books(listening.settings)
    done = looked_ms = 0

    def changed(weights: Any) -> None:
        compared.weights.append((done, weights.below))
        listening.weigh(weights)

    feedback = Feedback(listening.settings, changed)
    kinds = frozenset(types)
    stream = iter(events)
    while chunk := list(islice(stream, batch)):
        for arm, shop in shops.items():
            taught = chunk if arm != SPARED else [event for event in chunk if _channel(event) not in left_out]
            told: list[Output] = []
            shop.learn(taught, max(1, len(taught)), told.extend)
            for outcome in item_outcomes(told):
                if outcome["type"] in kinds and outcome["list_size"]:
                    compared.ranks[arm][outcome["event_id"]] = outcome.get("rank") or 0
                    compared.channels[outcome["event_id"]] = outcome["channel"]
            if arm == WITH:
                books.take(told)
        done += len(chunk)
        progress(done)
        if books.watermark_ms - looked_ms >= every_ms:
            looked_ms = books.watermark_ms
            compared.registers = books.registers()
            feedback.take(compared.registers)
    return compared


def _channel(event: ReplayEvent) -> str:
    return str(orjson.loads(event.value)["channel"])


def _result(arm: str, group: str, ranks: Sequence[int], base: Sequence[int]) -> FeedbackResult:
    hits, reciprocal = _hits(ranks), _reciprocal(ranks)
    row: list[float | None] = [*_mean(hits), *_mean(reciprocal)]
    if arm != WITHOUT:
        row += _mean([one - other for one, other in zip(hits, _hits(base), strict=True)], -1.0)
        row += _mean([one - other for one, other in zip(reciprocal, _reciprocal(base), strict=True)], -1.0)
    return FeedbackResult(arm, group, len(ranks), *row)  # type: ignore[arg-type]


def _hits(ranks: Iterable[int]) -> list[float]:
    return [float(0 < rank <= _LENGTH) for rank in ranks]


def _reciprocal(ranks: Iterable[int]) -> list[float]:
    return [1.0 / rank if 0 < rank <= _LENGTH else 0.0 for rank in ranks]


def _mean(values: Sequence[float], least: float = 0.0) -> list[float]:
    low, high = batch_means(values, least)
    return [round(value, 4) for value in (sum(values) / max(1, len(values)), low, high)]
