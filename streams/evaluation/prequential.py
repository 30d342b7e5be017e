"""Prequential: before an event is learned, was its item in the list that the shopper had been sent last?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from models.evaluation.novelty import Novelty
from models.evaluation.online_rules import OnlineRules
from models.evaluation.running import RunningRanks
from models.evaluation.running_lists import RunningLists
from models.metrics import DEPTH, MRR, NDCG, HitRate, RankMetric
from schemas.topics import RECOMMENDATIONS
from streams.agents.shoppers import Shopper
from streams.evaluation import splits
from streams.evaluation.outcomes import item_outcomes
from streams.evaluation.shop import InProcessShop
from streams.evaluation.splits import COLD, IN_VISIT, NEVER, WINDOW, Splits, Trail, age_of
from streams.replay.record import ReplayEvent
from streams.runtime.processor import Output

OURS: Final = "assay"
POPULARITY: Final = "popularity"
REPEAT: Final = "repeat-only"
LAST_ITEM: Final = "last-item co-occurrence"
SEQUENTIAL: Final = "sequential-rules"
METHODS: Final = (OURS, POPULARITY, REPEAT, LAST_ITEM, SEQUENTIAL)
ALL: Final = "all"
FRESH: Final = "without repeats"
ITEMS: Final = (ALL, FRESH, COLD)
#: Under which the groups of items are kept, beside the dimensions of splits.
_ITEMS: Final = "items"


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over ``tests`` events, 0..1. ``low`` and ``high``, ``mrr_low`` and ``mrr_high``: 95 % of hit rate and MRR at 20 by batch means,
    which allows for tests that depend on each other.
    """

    tests: int
    hit_rate_at_5: float
    hit_rate_at_10: float
    hit_rate_at_20: float
    low: float
    high: float
    mrr_at_5: float
    mrr_at_10: float
    mrr_at_20: float
    mrr_low: float
    mrr_high: float
    ndcg_at_5: float
    ndcg_at_10: float
    ndcg_at_20: float


@dataclass(frozen=True, slots=True)
class PrequentialResult(Scores):
    """``items``: ``all``; ``without repeats``, those that the visit had not touched yet; ``cold``, those that nobody had touched before.

    Of the lists that all tests were judged by (None in other rows): ``coverage``, the share of the catalogue that was in any; ``novelty``
    of their items in bits (see ``Novelty``); ``repeats``, the share of hits whose item the shopper had touched before.
    """

    method: str
    items: str
    coverage: float | None
    novelty: float | None
    repeats: float | None


@dataclass(frozen=True, slots=True)
class SplitResult(Scores):
    """``group``: the tests that are alike in ``dimension``, such as one event type."""

    method: str
    dimension: str
    group: str


class _Item(msgspec.Struct):
    sku: str


class _Sent(msgspec.Struct):
    """What is read of ``schemas.recommendation.Recommendations``."""

    items: list[_Item]


class _Touch(NamedTuple):
    """An outcome, the number of its item, and when it was."""

    outcome: Mapping[str, Any]
    item: int
    at_ms: int


class _Test(NamedTuple):
    """By each method: the item's rank, the list, and how novel it was."""

    ranks: bytes
    lists: Sequence[Sequence[int]]
    novelties: Sequence[float]


_read_sent: Final = msgspec.json.Decoder(_Sent).decode


class Prequential:
    """Judges the outcomes of a shop beside baselines that are fed the same events. ``types``: event types that are tests; ``gap_ms``: a
    pause that ends a visit; ``catalogue_size``: products that lists may hold.

    What is kept grows with shoppers (their last 128 items and last list) and items (each with the 128 to 256 that follow it most), not with
    the length of the log.
    """

    def __init__(self, types: Sequence[str], *, gap_ms: int, catalogue_size: int) -> None:
        self._types = frozenset(types)
        self._gap_ms = gap_ms
        self._numbers: dict[str, int] = {}
        self._first_ms: dict[int, int] = {}
        self._trails: dict[str, Trail] = defaultdict(Trail)
        self._sent: dict[str, tuple[int, ...]] = {}
        self._after, self._sequential = OnlineRules(1), OnlineRules(WINDOW)
        self._splits = Splits()
        self._ranks: dict[tuple[str, str], RunningRanks] = defaultdict(partial(RunningRanks, len(METHODS)))
        self._novelty = Novelty()
        self._lists = [RunningLists(catalogue_size) for _ in METHODS]

    def take(self, outputs: Sequence[Output], popular: Sequence[str] = ()) -> None:
        """The outputs of one micro-batch. All its outcomes are judged by what was known before it: by the baselines too, of which
        ``popular`` is the list of what was popular.
        """
        touches = [_Touch(outcome, self._number(outcome["sku"]), _ms(outcome)) for outcome in item_outcomes(outputs)]
        if touches:
            listed = self._items_of(popular)
            asked = [self._ask(touch, listed) for touch in touches]
            for touch, (age, test) in zip(touches, asked, strict=True):
                self._learn(touch, age, test)
        for output in outputs:
            if output.topic == RECOMMENDATIONS.name and output.key is not None:
                # Outcomes name a shopper by this key, unless it is very long.
                shopper = Shopper(output.key.decode(), False).name
                skus = [one.sku for one in _read_sent(output.value).items] if output.value is not None else ()
                self._sent[shopper] = self._items_of(skus)

    def _items_of(self, skus: Sequence[str]) -> tuple[int, ...]:
        numbers = self._numbers
        return tuple([numbers.setdefault(sku, len(numbers)) for sku in skus[:DEPTH]])

    def _number(self, sku: str) -> int:
        return self._numbers.setdefault(sku, len(self._numbers))

    def _ask(self, touch: _Touch, popular: Sequence[int]) -> tuple[str, _Test | None]:
        """The age of the item, and what every method said if it is a test."""
        outcome, item, at_ms = touch
        age = age_of(self._first_ms.get(item), at_ms)
        if outcome["type"] not in self._types or not outcome["list_size"]:
            return age, None
        trail = self._trails[outcome["shopper"]]
        last = trail.last()
        own = trail.last_items(DEPTH)
        after = [] if last is None else self._after.following(last, DEPTH)
        sequential = [] if last is None else self._sequential.following(last, DEPTH)
        places = outcome.get("rank") or 0, outcome.get("popularity_rank") or 0
        # Lists of more than 20 are sent where the setting ``k`` says so.
        given = [place if place <= DEPTH else 0 for place in places]
        ranks = bytes([*given, *(listed.index(item) + 1 if item in listed else 0 for listed in (own, after, sequential))])
        lists = self._sent.get(outcome["shopper"], ()), popular, own, after, sequential
        self._novelty.know(len(self._numbers))
        return age, _Test(ranks, lists, [self._novelty.of(listed) if listed else 0.0 for listed in lists])

    def _learn(self, touch: _Touch, age: str, test: _Test | None) -> None:
        outcome, item, at_ms = touch
        trail = self._trails[outcome["shopper"]]
        trail.move_on(at_ms, self._gap_ms)
        if test is not None:
            groups = self._splits.groups(outcome, item, age, trail)
            for key in zip(splits.DIMENSIONS, groups, strict=True):
                self._ranks[key].add(test.ranks)
            self._ranks[_ITEMS, ALL].add(test.ranks)
            if groups[-1] != IN_VISIT:
                self._ranks[_ITEMS, FRESH].add(test.ranks)
            repeat = groups[-1] != NEVER
            for running, rank, listed, novelty in zip(self._lists, test.ranks, test.lists, test.novelties, strict=True):
                running.add(listed, novelty=novelty, hit=rank > 0, repeat=repeat)
        last = trail.last()
        if last is not None:
            self._after.learn((last,), item)
        self._sequential.learn(trail.newest, item)
        self._novelty.touch(item)
        self._first_ms.setdefault(item, at_ms)
        trail.touch(item)

    def results(self) -> list[PrequentialResult]:
        """One row a method and group of items."""
        return [self._result(method, items) for items in ITEMS for method in range(len(METHODS))]

    def _result(self, method: int, items: str) -> PrequentialResult:
        lists = self._lists[method]
        about = (lists.coverage(), lists.novelty(), lists.repeats()) if items == ALL else (None, None, None)
        coverage, novelty, repeats = (None if value is None else round(value, 4) for value in about)
        return PrequentialResult(
            **_scores(self._of(items), method), method=METHODS[method], items=items, coverage=coverage, novelty=novelty, repeats=repeats
        )

    def splits(self) -> list[SplitResult]:
        """One row a dimension, group that has tests, and method; groups of a name of the log's own by their tests."""
        found = []
        for dimension, known in splits.DIMENSIONS.items():
            held = {group: ranks for (of, group), ranks in self._ranks.items() if of == dimension and ranks.tests}
            for group in known or sorted(held, key=lambda name: (-held[name].tests, name)):
                if group in held:
                    found += [
                        SplitResult(**_scores(held[group], number), method=method, dimension=dimension, group=group)
                        for number, method in enumerate(METHODS)
                    ]
        return found

    def curve(self, method: str, metric: type[RankMetric] = HitRate, points: int = 50) -> list[tuple[int, float]]:
        """(tests so far, ``metric`` at 20 of those since the point before) for running curves."""
        return self._of(ALL).curve(METHODS.index(method), metric, points)

    def lists(self, method: str) -> RunningLists:
        """What the lists of ``method`` held, with running curves."""
        return self._lists[METHODS.index(method)]

    def _of(self, items: str) -> RunningRanks:
        return self._ranks[splits.AGE, COLD] if items == COLD else self._ranks[_ITEMS, items]


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
    gap_ms = int(shop.settings.session_gap_s * 1000)
    judged = Prequential(types, gap_ms=gap_ms, catalogue_size=shop.catalogue.table.active_count)
    now_ms = 0

    def counted() -> Iterable[ReplayEvent]:
        nonlocal now_ms
        for number, event in enumerate(events, 1):
            now_ms = event.at_ms
            yield event
            if number % 1000 == 0:
                progress(number)

    # By the clock at which the shop just listed what is popular it is still the list that it judged by.
    shop.learn(counted(), batch, lambda outputs: judged.take(outputs, shop.popular(now_ms)), ticks=True)
    return judged


def _ms(outcome: Mapping[str, Any]) -> int:
    return round(datetime.fromisoformat(outcome["occurred_at"]).timestamp() * 1000)


def _scores(ranks: RunningRanks, method: int) -> dict[str, Any]:
    """The fields of ``Scores``."""
    counts = ranks.counts(method)
    found: dict[str, Any] = {"tests": counts.tests}
    for name, metric in (("hit_rate", HitRate), ("mrr", MRR), ("ndcg", NDCG)):
        found |= {f"{name}_at_{k}": round(metric(k, counts).get(), 4) for k in (5, 10, 20)}
    for name, metric in (("", HitRate), ("mrr_", MRR)):
        low, high = ranks.interval(method, metric)
        found |= {f"{name}low": round(low, 4), f"{name}high": round(high, 4)}
    return found
