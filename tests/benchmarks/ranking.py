"""What a list costs as the catalogue grows to a million products, for a million users: the recommend processor alone, no broker.

Every user has a history: those of a few thousand warmed shoppers, under a million names. Each event is of another one, so nothing of the
last event helps the next. Timed is CPU inside ``process``, after the neighbours of the items that events speak of were found once.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

from streams.agents.shoppers import Shopper
from streams.worker import relax_collector
from tests.benchmarks.recommend_processor import Bench, SyntheticShop
from tests.benchmarks.report import Report, medians

SIZES = (10_000, 100_000, 1_000_000)
USERS = 1_000_000
_WARM_SHOPPERS = 5_000
_WARM_EVENTS = 60_000
_EVENTS = 20_000
BATCHES = (1, 100, 2_000)


def _measure(products: int, repetitions: int) -> Iterator[dict[str, object]]:
    shop = SyntheticShop(products=products, shoppers=_WARM_SHOPPERS)
    bench = Bench(shop, index="auto")
    bench.run(_WARM_EVENTS, 2_000)
    _spread(bench, USERS)
    shop.settle(USERS)
    bench.run(_EVENTS, 2_000)
    for repetition in range(repetitions):
        for batch in BATCHES:
            count = _EVENTS if batch > 1 else _EVENTS // 20
            bench.feed_s = 0.0
            spent = bench.run(count, batch)
            yield {
                "system": "assay", "job": "ranking", "products": products, "users": USERS, "batch": batch, "repetition": repetition,
                "unit": "us an event", "cpu_us_per_event": round(spent / count * 1e6, 1),
                "feed_us_per_event": round(bench.feed_s / count * 1e6, 1),
                "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }  # fmt: skip


def _spread(bench: Bench, users: int) -> None:
    """Give ``users`` names the histories and lists of the warmed shoppers, which they share in memory."""
    data = bench.state.data
    for number in range(_WARM_SHOPPERS, users):
        one, other = Shopper(f"user-{number}", False), Shopper(f"user-{number % _WARM_SHOPPERS}", False)
        if other.profile_key in data:
            data[one.profile_key], data[one.list_key] = data[other.profile_key], data[other.list_key]


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; ``events`` is the size of the largest catalogue. Needs no broker."""
    relax_collector()
    largest = events or SIZES[-1]
    rows = [row for products in SIZES if products <= largest for row in _measure(products, repetitions)]
    return Report("ranking", medians(rows, ("system", "job", "products", "batch")), ("one thread; memory is the process's highest so far",))
