"""Cold start: lists on items, and for shoppers, that come first in the newest part of a log, with text vectors and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from models.evaluation.intervals import batch_means
from models.metrics import MRR, HitRate, RankCounts
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.shop import InProcessShop
from streams.replay.record import Dataset, ReplayEvent
from streams.runtime.processor import Output

TEXT: Final = "with text"
NO_TEXT: Final = "without text"
POPULARITY: Final = "popularity"
NEW_ITEMS: Final = "new items"
FIRST_TOUCH: Final = "new items, first touch"
#: By the events that a new shopper's list rests on.
NEW_SHOPPERS: Final = ("new shoppers, after 1 event", "new shoppers, after 2 events", "new shoppers, after 3 events")
GROUPS: Final = (NEW_ITEMS, FIRST_TOUCH, *NEW_SHOPPERS)
_CUTOFF: Final = 20


@dataclass(frozen=True, slots=True)
class ColdResult:
    """Means over ``tests`` events, 0..1; ``low`` and ``high``: 95 % of the hit rate by batch means. ``gain``: the hit rate less that of the
    lists without text on the same events, -1..1, with its own interval.
    """

    method: str
    group: str
    tests: int
    hit_rate_at_20: float
    low: float
    high: float
    mrr_at_20: float
    gain: float
    gain_low: float
    gain_high: float


class ColdStart:
    """Judges one shop. ``types``: event types that are tests. ``ranks``: group -> event id -> (rank, rank by popularity), 0: not listed."""

    def __init__(self, types: Sequence[str]) -> None:
        self._types = frozenset(types)
        self._old_items: set[str] = set()
        self._old_shoppers: set[str] = set()
        self._touched: set[str] = set()
        self._events: Counter[str] = Counter()
        self.ranks: dict[str, dict[str, tuple[int, int]]] = {group: {} for group in GROUPS}

    def learned(self, outputs: Sequence[Output]) -> None:
        """Outputs of a micro-batch of the older part: its items and shoppers are not new."""
        for outcome in item_outcomes(outputs):
            self._old_items.add(outcome["sku"])
            self._old_shoppers.add(outcome["shopper"])

    def take(self, outputs: Sequence[Output]) -> None:
        """Outputs of the next event of the newest part, which was judged by the list made after the shopper's event before it."""
        for outcome in item_outcomes(outputs):
            if outcome["type"] in self._types and outcome["list_size"]:
                ranks = outcome.get("rank") or 0, outcome.get("popularity_rank") or 0
                for group in self._groups_of(outcome):
                    self.ranks[group][outcome["event_id"]] = ranks
            self._touched.add(outcome["sku"])
            self._events[outcome["shopper"]] += 1

    def _groups_of(self, outcome: Mapping[str, Any]) -> Iterator[str]:
        if outcome["sku"] not in self._old_items:
            yield NEW_ITEMS
            if outcome["sku"] not in self._touched:
                yield FIRST_TOUCH
        before = self._events[outcome["shopper"]]
        if outcome["shopper"] not in self._old_shoppers and 1 <= before <= len(NEW_SHOPPERS):
            yield NEW_SHOPPERS[before - 1]


def judge_cold(
    shops: Mapping[str, InProcessShop],
    log: Dataset,
    events: int,
    types: Sequence[str],
    *,
    share: float,
    progress: Callable[[str, int], None] = lambda method, done: None,
) -> list[ColdResult]:
    """Teach each of ``shops`` (method -> shop; ``NO_TEXT`` among them) all but the newest ``share`` of the ``events`` of ``log``; judge the
    rest event by event: an item, or a shopper, is new if its first event is there. One row a group and method, and popularity.
    """
    judged = {method: ColdStart(types) for method in shops}
    head = events - round(events * share)
    for method, shop in shops.items():
        stream = _counted(log.events(), method, progress)
        shop.learn(islice(stream, head), told=judged[method].learned)
        shop.learn(stream, 1, judged[method].take)
    return [result for group in GROUPS for result in _results(group, {method: cold.ranks[group] for method, cold in judged.items()})]


def _counted(events: Iterator[ReplayEvent], method: str, progress: Callable[[str, int], None]) -> Iterator[ReplayEvent]:
    number = 0
    for number, event in enumerate(events, 1):
        yield event
        if number % 1000 == 0:
            progress(method, number)
    progress(method, number)


def _results(group: str, judged: Mapping[str, Mapping[str, tuple[int, int]]]) -> Iterator[ColdResult]:
    # The shops may differ in which lists are empty: what one of them has no list for is no test.
    tests = [event for event in judged[NO_TEXT] if all(event in ranks for ranks in judged.values())]
    by_method = {method: [ranks[event][0] for event in tests] for method, ranks in judged.items()}
    by_method[POPULARITY] = [judged[NO_TEXT][event][1] for event in tests]
    for method, ranks in by_method.items():
        counts = RankCounts()
        for rank in ranks:
            counts.update(rank)
        hits = [float(1 <= rank <= _CUTOFF) for rank in ranks]
        gains = [hit - (1 <= rank <= _CUTOFF) for hit, rank in zip(hits, by_method[NO_TEXT], strict=True)]
        low, high = batch_means(hits)
        gain_low, gain_high = batch_means(gains, -1.0)
        yield ColdResult(
            method, group, len(tests), *(round(value, 4) for value in (
                HitRate(_CUTOFF, counts).get(), low, high, MRR(_CUTOFF, counts).get(), sum(gains) / max(1, len(gains)), gain_low, gain_high,
            )),
        )  # fmt: skip
