"""Prequential: before an event is learned, was its item in the list that the shopper had been sent last?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.evaluation.intervals import batch_means
from models.metrics import MRR, NDCG, HitRate, RankCounts
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent
from streams.runtime.processor import Output

OURS: Final = "assay"
POPULARITY: Final = "popularity"
REPEAT: Final = "repeat-only"
LAST_ITEM: Final = "last-item co-occurrence"
METHODS: Final = (OURS, POPULARITY, REPEAT, LAST_ITEM)
_LENGTH: Final = 20


@dataclass(frozen=True, slots=True)
class PrequentialResult:
    """Means over ``tests`` events, 0..1; ``low`` and ``high``: 95 % of the hit rate at 20 by batch means, which allows for tests that
    depend on each other. ``items``: ``all``; ``cold``, those that nobody had touched before.
    """

    method: str
    items: str
    tests: int
    hit_rate_at_5: float
    hit_rate_at_10: float
    hit_rate_at_20: float
    low: float
    high: float
    mrr_at_20: float
    ndcg_at_20: float


class Prequential:
    """Judges the outcomes of a shop beside baselines that are fed the same events. ``types``: event types that are tests."""

    def __init__(self, types: Sequence[str]) -> None:
        self._types = frozenset(types)
        self._ranks: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._recent: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=2 * _LENGTH))
        self._followed: dict[str, Counter[str]] = defaultdict(Counter)
        self._touched: set[str] = set()

    def take(self, outputs: Sequence[Output]) -> None:
        """The outputs of one micro-batch. All its outcomes are judged by what was known before it: by the baselines too."""
        outcomes = item_outcomes(outputs)
        for outcome in outcomes:
            self._judge(outcome)
        for outcome in outcomes:
            recent = self._recent[outcome["shopper"]]
            if recent:
                self._followed[recent[-1]][outcome["sku"]] += 1
            recent.append(outcome["sku"])
            self._touched.add(outcome["sku"])

    def _judge(self, outcome: dict[str, Any]) -> None:
        sku, recent = outcome["sku"], self._recent[outcome["shopper"]]
        if outcome["type"] in self._types and outcome["list_size"]:
            own = list(dict.fromkeys(reversed(recent)))[:_LENGTH]
            after = [other for other, _ in self._followed[recent[-1]].most_common(_LENGTH)] if recent else []
            ranks = {
                OURS: outcome.get("rank") or 0, POPULARITY: outcome.get("popularity_rank") or 0,
                REPEAT: own.index(sku) + 1 if sku in own else 0, LAST_ITEM: after.index(sku) + 1 if sku in after else 0,
            }  # fmt: skip
            for method, rank in ranks.items():
                self._ranks[method, "all"].append(rank)
                if sku not in self._touched:
                    self._ranks[method, "cold"].append(rank)

    def results(self) -> list[PrequentialResult]:
        """One row a method and group."""
        return [_result(method, items, self._ranks[method, items]) for items in ("all", "cold") for method in METHODS]

    def curve(self, method: str, points: int = 50) -> list[tuple[int, float]]:
        """(tests so far, hit rate at 20 of those since the point before) for running curves."""
        ranks = self._ranks[method, "all"]
        step = max(1, math.ceil(len(ranks) / points))
        parts = [ranks[first : first + step] for first in range(0, len(ranks), step)]
        return [(min((n + 1) * step, len(ranks)), sum(map(_hit, part)) / len(part)) for n, part in enumerate(parts)]


def judge_log(
    shop: InProcessShop,
    events: Iterable[ReplayEvent],
    types: Sequence[str],
    *,
    batch: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Prequential:
    """Feed ``shop`` a log in micro-batches of ``batch`` events: each is judged by the list that the batch before left behind, or by the
    one for the next visit, where the shopper's last one was over by the end of that batch.
    """
    judged = Prequential(types)

    def counted() -> Iterable[ReplayEvent]:
        for number, event in enumerate(events, 1):
            yield event
            if number % 1000 == 0:
                progress(number)

    shop.learn(counted(), batch, judged.take, ticks=True)
    return judged


def _hit(rank: int) -> bool:
    # Lists of more than 20 are sent where the setting ``k`` says so.
    return 1 <= rank <= _LENGTH


def _result(method: str, items: str, ranks: Sequence[int]) -> PrequentialResult:
    counts = RankCounts()
    for rank in ranks:
        counts.update(rank)
    low, high = batch_means([float(_hit(rank)) for rank in ranks])
    at_5, at_10, at_20 = (round(HitRate(k, counts).get(), 4) for k in (5, 10, 20))
    return PrequentialResult(
        method, items, len(ranks), at_5, at_10, at_20, round(low, 4), round(high, 4),
        round(MRR(20, counts).get(), 4), round(NDCG(20, counts).get(), 4),
    )  # fmt: skip
