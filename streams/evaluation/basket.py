"""The next basket: one list for each later basket of a shopper, hit if any of its items is in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.evaluation.intervals import wilson
from schemas.decoding import InvalidRecord, decode_event
from schemas.events import Purchase
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent

OURS: Final = "assay"
POPULARITY: Final = "popularity"
HISTORY: Final = "own history, then popularity"


@dataclass(frozen=True, slots=True)
class Basket:
    """What one order of one user holds, at the time of its first line."""

    user: str
    order: str
    at_ms: int
    items: frozenset[str]
    events: tuple[ReplayEvent, ...]


@dataclass(frozen=True, slots=True)
class BasketResult:
    """Shares of baskets that a list hit, 0..1. ``known``: users who had bought before the cut; ``discovery``: lists without what those
    had bought, judged by items that were new to them.
    """

    method: str
    state: str
    baskets: str
    tests: int
    hit_rate: float
    low: float
    high: float


def purchases(events: Iterable[ReplayEvent]) -> list[tuple[str, str, str, ReplayEvent]]:
    """(user, order, SKU, event) of every valid purchase of a known user, in order: no refunds, no quantity below 1, nobody anonymous."""
    found = []
    for event in events:
        if event.kind != "purchase":
            continue
        try:
            bought = decode_event(event.key, event.value, received_ms=event.at_ms)
        except InvalidRecord:  # a log may hold anything; the shop refuses it too
            continue
        if isinstance(bought, Purchase) and bought.user_id:
            found.append((bought.user_id, bought.order_id, bought.sku, event))
    return found


def baskets_of(bought: Sequence[tuple[str, str, str, ReplayEvent]]) -> list[Basket]:
    """By user and order, in the order of their first lines."""
    lines: dict[tuple[str, str], list[tuple[str, ReplayEvent]]] = {}
    for user, order, sku, event in bought:
        lines.setdefault((user, order), []).append((sku, event))
    return [
        Basket(user, order, held[0][1].at_ms, frozenset(sku for sku, _ in held), tuple(event for _, event in held))
        for (user, order), held in lines.items()
    ]


def judge_baskets(
    shop: InProcessShop,
    bought: Sequence[tuple[str, str, str, ReplayEvent]],
    cut_ms: int,
    *,
    live: bool,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[BasketResult]:
    """Teach ``shop`` what lies at or before ``cut_ms``, and judge every later basket: ``frozen``, by lists made at the cut, and, if
    ``live``, by lists made before each basket while the shop goes on learning. Baselines know the same.
    """
    head = [line for line in bought if line[3].at_ms <= cut_ms]
    later = baskets_of([line for line in bought if line[3].at_ms > cut_ms])
    shop.learn(line[3] for line in head)
    progress("learned", len(head), len(bought))
    history: dict[str, Counter[str]] = defaultdict(Counter)
    for user, _, sku, _ in head:
        history[user][sku] += 1
    known = {user: frozenset(counts) for user, counts in history.items()}
    users = sorted({basket.user for basket in later})
    at_cut = dict(zip(users, zip(shop.lists(users, cut_ms), shop.lists(users, cut_ms, "drop_bought"), strict=True), strict=True))
    tally = _Tally(known)
    popular = shop.popular(cut_ms)
    for basket in later:
        tally.judge(OURS, "frozen", basket, *at_cut[basket.user])
        tally.judge(POPULARITY, "frozen", basket, popular, popular)
        tally.judge(HISTORY, "frozen", basket, *_by_history(history[basket.user], popular))
    if live:
        for number, basket in enumerate(later):
            lists = shop.lists([basket.user], basket.at_ms)[0], shop.lists([basket.user], basket.at_ms, "drop_bought")[0]
            popular = shop.popular(basket.at_ms)
            tally.judge(OURS, "live", basket, *lists)
            tally.judge(POPULARITY, "live", basket, popular, popular)
            tally.judge(HISTORY, "live", basket, *_by_history(history[basket.user], popular))
            shop.learn(basket.events)
            history[basket.user].update(sorted(basket.items))  # of equal counts the first stays ahead, and a set has no order
            progress("live", number + 1, len(later))
    return tally.results()


def _by_history(counts: Counter[str], popular: Sequence[str]) -> tuple[list[str], list[str]]:
    """(what was bought most often, filled up with what is popular; what is popular and was not bought), as long as ``popular``."""
    own = [sku for sku, _ in counts.most_common(len(popular))]
    fresh = [sku for sku in popular if sku not in counts]
    return [*own, *(sku for sku in fresh if sku not in own)][: len(popular)], fresh


class _Tally:
    def __init__(self, known: Mapping[str, frozenset[str]]) -> None:
        self._known = known
        self._hits: Counter[tuple[str, str, str]] = Counter()
        self._tests: Counter[tuple[str, str, str]] = Counter()

    def judge(self, method: str, state: str, basket: Basket, listed: Sequence[str], fresh: Sequence[str]) -> None:
        hit = not basket.items.isdisjoint(listed)
        groups = [("known" if basket.user in self._known else "new", hit), ("all", hit)]
        unseen = basket.items - self._known.get(basket.user, frozenset())
        if basket.user in self._known and unseen:
            groups.append(("discovery", not unseen.isdisjoint(fresh)))
        for group, found in groups:
            self._tests[method, state, group] += 1
            self._hits[method, state, group] += found

    def results(self) -> list[BasketResult]:
        found = []
        for key, tests in self._tests.items():
            share = self._hits[key] / tests
            low, high = wilson(share, tests)
            found.append(BasketResult(*key, tests, round(share, 4), round(low, 4), round(high, 4)))
        return found
