"""How the full recommend job grows: with workers, and with users, products and history.

``workers``: one, two and three workers work off the same backlog on one Kafka; events/s in all and CPU of all workers. One machine
carries broker and workers, so beyond its cores more workers only show what they cost.

``rebalance``: a steady feed at a fraction of what one worker does; a second worker joins, a third, and one leaves in good order.
``pause_s`` is the longest time in which some partition answered nothing (committed), from the order to a second after all is well again.

``shape``: the processor alone, no broker: CPU microseconds an event while users, products and history grow tenfold, one at a time.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Message

from schemas.topics import EVENTS, OUTCOMES, RECOMMENDATIONS
from streams.runtime.names import group_id
from streams.worker import relax_collector
from tests.benchmarks.failover import expendable, wait_for_members
from tests.benchmarks.load import cause_of, valid_events
from tests.benchmarks.measure import broker, cpu_seconds, end_offsets, preload
from tests.benchmarks.pipeline import EXACTLY_ONCE
from tests.benchmarks.recommend_processor import Bench, SyntheticShop
from tests.benchmarks.report import Report, medians
from tests.benchmarks.shop import Shop
from tests.benchmarks.steady import SteadyFeed

WORKERS = (1, 2, 3)
BACKLOG = 60_000
#: The steady feed of ``rebalance``, events/s.
RATE = 200.0
_PATIENCE_S = 300.0
#: (what grew, users, products, events of each user before the clock runs). The first is what the others are compared with.
SHAPES = (
    ("base", 5_000, 10_000, 12),
    ("users x 10", 50_000, 10_000, 12),
    ("products / 10", 5_000, 1_000, 12),
    ("products x 10", 5_000, 100_000, 12),
    ("history x 10", 5_000, 10_000, 120),
)
_BATCH = 2_000
_TIMED = 20_000


class BusyShop(Shop):
    """A shop with an endless stream of events, and recommend workers that may join and leave."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        products, self.events = valid_events(seed=11)
        super().__init__(bootstrap, folder, products)

    def start(self, stack: ExitStack, which: str) -> psutil.Process:
        """Start a recommend worker that ends with ``stack``."""
        return psutil.Process(stack.enter_context(expendable(self.command("recommend", which), self.log(f"recommend{which}"))).pid)

    def wait_for(self, members: int) -> None:
        """Until so many workers have partitions."""
        wait_for_members(self.settings.bootstrap_servers, group_id(self.settings, "recommend"), members)


def workers(bootstrap: str, folder: Path, count: int, events: int) -> dict[str, object]:
    """``count`` workers and a backlog: events/s of all, from a tenth to nine tenths of it, and CPU of all workers."""
    shop = BusyShop(bootstrap, folder)
    outcomes = shop.settings.topic(OUTCOMES.name)
    observer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{shop.settings.app_id}-watch"})
    with ExitStack() as stack:
        processes = [shop.start(stack, str(number)) for number in range(count)]
        shop.wait_for(count)
        preload(bootstrap, shop.settings.topic(EVENTS.name), (next(shop.events) for _ in range(events)))
        # Every event has exactly one outcome, so outcomes tell how far the workers are.
        marks: list[tuple[float, int, float]] = []
        deadline = time.monotonic() + _PATIENCE_S
        for share in (0.1, 0.9):
            while (held := end_offsets(observer, outcomes)) < share * events:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{count} workers did {held} of {events} events in {_PATIENCE_S:.0f} s; see {folder}")
                time.sleep(0.02)
            marks.append((time.perf_counter(), held, sum(cpu_seconds(process) for process in processes)))
    observer.close()
    shop.close()
    (began, first, cpu_before), (ended, last, cpu_after) = marks
    return _row(
        "workers", f"{count} worker{'s' * (count > 1)}", "events/s",
        value=(last - first) / (ended - began), cpu_us_per_event=1e6 * (cpu_after - cpu_before) / (last - first),
    )  # fmt: skip


def rebalances(bootstrap: str, folder: Path) -> Iterator[dict[str, object]]:
    """A second worker joins, a third, and the third leaves: the longest silence of a partition each time."""
    shop = BusyShop(bootstrap, folder)

    def answer(message: Message) -> tuple[int, int]:
        cause = cause_of(message.value() or b"")
        return int(cause["partition"]), int(cause["last_offset"])

    with ExitStack() as stack:
        shop.start(stack, "0")
        shop.wait_for(1)
        preload(bootstrap, shop.settings.topic(EVENTS.name), (next(shop.events) for _ in range(4_000)))
        source, lists = shop.settings.topic(EVENTS.name), shop.settings.topic(RECOMMENDATIONS.name)
        feed = stack.enter_context(SteadyFeed(bootstrap, source, lists, events=shop.events, rate=RATE, answer=answer))
        feed.wait_all(0, _PATIENCE_S)
        time.sleep(5.0)
        calm = time.perf_counter()
        time.sleep(5.0)
        yield _row("rebalance", "none (for comparison)", "s", value=feed.longest_gap(calm, time.perf_counter()))
        last: psutil.Process | None = None
        for count, name in ((2, "the second joins"), (3, "the third joins"), (2, "the third leaves")):
            ordered = time.perf_counter()
            if count == 2 and last is not None and name.endswith("leaves"):
                last.terminate()
            else:
                last = shop.start(stack, str(count - 1))
            shop.wait_for(count)
            feed.settled(since=time.perf_counter(), timeout_s=_PATIENCE_S)
            time.sleep(1.0)
            yield _row("rebalance", name, "s", value=feed.longest_gap(ordered, time.perf_counter()))
    shop.close()


def shape(what: str, users: int, products: int, history: int, timed: int, repetitions: int) -> dict[str, object]:
    """CPU microseconds an event of the processor alone, after ``history`` events of each user (fewer where ``timed`` is small)."""
    warm = max(_BATCH, int(users * history * min(1.0, timed / _TIMED)))
    bench = Bench(SyntheticShop(products=products, shoppers=users), index="auto")
    for _ in range(0, warm, 60_000):
        bench.run(min(60_000, warm), _BATCH)
    costs = sorted(bench.run(timed, _BATCH) / timed * 1e6 for _ in range(repetitions))
    row = _row("shape", what, "us an event", value=costs[len(costs) // 2], cpu_us_per_event=costs[len(costs) // 2])
    del bench
    gc.collect()
    return row | {"users": users, "products": products, "warm_events": warm}


def _row(job: str, what: str, unit: str, *, value: float, cpu_us_per_event: float | None = None) -> dict[str, object]:
    return {
        "system": "assay", "job": job, "what": what, "guarantee": EXACTLY_ONCE if job != "shape" else "", "unit": unit,
        "value": round(value, 3), "cpu_us_per_event": None if cpu_us_per_event is None else round(cpu_us_per_event, 1),
        "users": None, "products": None, "warm_events": None,
    }  # fmt: skip


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """The shapes; then workers and rebalances interleaved, medians of ``repetitions``. ``events`` is the backlog (default 60,000)."""
    backlog = events or BACKLOG
    relax_collector()
    timed = max(_BATCH, backlog * _TIMED // BACKLOG)
    shapes = [shape(*of, timed, repetitions) | {"repetitions": repetitions} for of in SHAPES]
    rows: list[dict[str, object]] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        for _ in range(repetitions):
            rows += [workers(bootstrap, folder, count, backlog) for count in WORKERS]
            rows += rebalances(bootstrap, folder)
    merged = medians(rows, ("job", "what"))
    base = float(str(shapes[0]["value"]))
    remarks = [f"{row['what']}: {float(str(row['value'])) / base:.2f} x the cost of an event" for row in shapes[1:]]
    remarks.append(
        f"{os.cpu_count()} cores carry broker, feed and workers; steady feed {RATE:.0f} events/s; shapes are one thread, no broker"
    )
    return Report("scale", [*merged, *shapes], remarks)
