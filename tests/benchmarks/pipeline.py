"""Events per second and CPU per event: ours (exactly once) beside Kafka Streams, Quix Streams and stock Faust, same Kafka, records, run.

Two jobs. ``state-only``: decode JSON, keep {count, last 20 items} per user in RocksDB with a changelog, one output record an event.
``full``: decode and validate, deduplicate, profile, candidates, 20 explained items, emit, follow what becomes of each list; beside it
the same without that (``--no-resolutions``), which tells what it costs. Stock Faust runs the full job by calling
the very same processor once per event, as an agent without the batch transport has to.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

from models.simulation import Storefront, StorefrontOptions
from schemas.topics import EVENTS, OUTCOMES, RECOMMENDATIONS
from tests.benchmarks.measure import (
    PARTITIONS,
    Row,
    as_dict,
    broker,
    count_committed,
    create_topics,
    delete_topics,
    preload,
    python_module,
    row,
    watch_topic,
    worker,
)
from tests.benchmarks.peers import kafka_streams_command, quix_command
from tests.benchmarks.report import Report, medians
from tests.benchmarks.shop import Shop
from tests.committed import read_settled

USERS = 5_000
EXACTLY_ONCE, AT_LEAST_ONCE = "exactly once", "at least once"
FULL, NOT_FOLLOWED = "full", "full, lists not followed"
#: Of the state-only job: system, guarantee, and which share of the events it gets (1/n), so that all runs last about as long.
STATE_RUNS = (
    ("assay", EXACTLY_ONCE, 1),
    ("kafka-streams", EXACTLY_ONCE, 1),
    ("kafka-streams", AT_LEAST_ONCE, 1),
    ("quix-streams", EXACTLY_ONCE, 2),
    ("quix-streams", AT_LEAST_ONCE, 2),
    ("faust", AT_LEAST_ONCE, 20),
)


def state_records(count: int, seed: int = 7) -> Iterator[tuple[bytes, bytes]]:
    """Events of the state-only job: 5,000 users, 10,000 items."""
    generator = np.random.default_rng(seed)
    users, items = generator.integers(0, USERS, count), generator.integers(0, 10_000, count)
    for number, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        document = {"event_id": f"e{number}", "type": "click", "user_id": f"u{user}", "sku": f"sku-{item}", "channel": "web"}
        yield document["user_id"].encode(), orjson.dumps(document)


def storefront_records(count: int, seed: int = 7) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """A catalogue of 1,000 products with text, and valid events of a busy storefront: thousands of shoppers at once, so that a
    micro-batch holds few events of each and nearly every event costs a list of its own."""
    store = Storefront(seed, StorefrontOptions(products=1_000, users=4 * USERS, visit_interval_s=0.1, fault_share=0.0, login_share=0.0))
    products = [(p.sku.encode(), p.to_json()) for p in store.catalogue.products]
    events = []
    for record in store.records():
        if record.key is not None and record.value is not None:
            events.append((record.key, record.value))
        if len(events) == count:
            break
    return products, events


class Bench:
    """One broker, many short runs."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self._runs = 0

    def _name(self) -> str:
        self._runs += 1
        return f"bench{uuid.uuid4().hex[:6]}"

    def state_only(self, system: str, guarantee: str, events: int) -> Row:
        """One run of the state-only job."""
        name = self._name()
        source, sink, log = f"{name}-in", f"{name}-out", self.folder / f"{name}.log"
        changelogs = {
            "assay": [f"{name}-state-changelog"],
            "faust": [f"{name}-{name}-profiles-changelog"],
            "kafka-streams": [f"{name}-profiles-changelog"],
            "quix-streams": [f"changelog__{name}--{source}--default"],
        }[system]
        # Quix Streams insists on making its own.
        create_topics(self.bootstrap, [source, sink], compacted=[] if system == "quix-streams" else changelogs)
        preload(self.bootstrap, source, state_records(events))
        with worker(self.state_command(system, guarantee, name, source, sink), log) as process:
            run = watch_topic(self.bootstrap, sink, events, process, timeout_s=300)
        found = count_committed(self.bootstrap, sink)
        if found < events or (guarantee == EXACTLY_ONCE and found != events):
            raise RuntimeError(f"{system} wrote {found} records for {events} events; see {log}")
        delete_topics(self.bootstrap, [source, sink, *changelogs])
        return row(system, "state-only", guarantee, run)

    def state_command(self, system: str, guarantee: str, name: str, source: str, sink: str, which: str = "") -> list[str]:
        """The command of a worker that does the state-only job; ``which`` tells several of them apart."""
        folder = str(self.folder / f"{name}{which}")
        if system == "quix-streams":
            return quix_command("quix_state.py", self.bootstrap, name, source, sink, folder, guarantee.replace(" ", "-"))
        if system == "kafka-streams":
            level = "exactly_once_v2" if guarantee == EXACTLY_ONCE else "at_least_once"
            return kafka_streams_command(self.bootstrap, name, source, sink, folder, level)
        module = "tests.benchmarks.stock_faust" if system == "faust" else "tests.benchmarks.our_state_worker"
        flags = ["--broker", self.bootstrap, "--app-id", name, "--source", source, "--sink", sink, "--data-dir", folder]
        return python_module(module, *flags)

    def full(self, system: str, events: int, job: str = FULL) -> Row:
        """One run of the full job: products are embedded first, then the clock runs over a backlog of events."""
        products, records = storefront_records(events)
        shop = Shop(self.bootstrap, self.folder, products)
        preload(self.bootstrap, shop.topic(EVENTS.name), records)
        log = shop.log("recommend")
        if system == "assay":
            command = shop.command("recommend") + (["--no-resolutions"] if job == NOT_FOLLOWED else [])
        else:
            command = python_module("tests.benchmarks.stock_faust_full", *shop.flags, "--data-dir", str(shop.data("stock")))
        with worker(command, log) as process:
            # Every event has exactly one outcome, so outcomes tell how far the worker is.
            run = watch_topic(self.bootstrap, shop.topic(OUTCOMES.name), events, process, timeout_s=600)
        lists = count_committed(self.bootstrap, shop.topic(RECOMMENDATIONS.name))
        if lists == 0:
            raise RuntimeError(f"{system} recommended nothing; see {log}")
        # End offsets also count markers and records of other kinds.
        outcomes = sum(
            b'"kind":"outcome"' in (message.value() or b"")
            for message in read_settled(self.bootstrap, shop.topic(OUTCOMES.name), PARTITIONS)
        )
        if outcomes < events or (system == "assay" and outcomes > events):
            raise RuntimeError(f"{system} was sent {events} events and committed {outcomes} outcomes; see {log}")
        shop.close()
        return row(system, job, EXACTLY_ONCE if system == "assay" else AT_LEAST_ONCE, run, lists / events)


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Run every job on every system, interleaved; medians over ``repetitions``. ``events`` is the size of our state-only run."""
    size = events or 600_000
    rows: list[dict[str, object]] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        bench = Bench(bootstrap, folder)
        for _ in range(repetitions):
            for system, guarantee, share in STATE_RUNS:
                rows.append(as_dict(bench.state_only(system, guarantee, size // share)))
            rows.append(as_dict(bench.full("assay", size // 6)))
            rows.append(as_dict(bench.full("assay", size // 6, NOT_FOLLOWED)))
            rows.append(as_dict(bench.full("faust", size // 200)))
    merged = medians(rows, ("system", "job", "guarantee"))
    rate = {(r["system"], r["job"], r["guarantee"]): float(str(r["events_per_second"])) for r in merged}
    remarks = [
        f"{job}: assay, {EXACTLY_ONCE}, has {rate['assay', job, EXACTLY_ONCE] / other:.2f} x the rate of {system}, {guarantee}"
        for (system, job, guarantee), other in rate.items()
        if system != "assay"
    ]
    followed, not_followed = rate["assay", FULL, EXACTLY_ONCE], rate["assay", NOT_FOLLOWED, EXACTLY_ONCE]
    remarks.append(f"full: with lists followed to their end {followed / not_followed:.2f} x the rate of without")
    remarks.append(f"{PARTITIONS} partitions, {USERS} users; one worker process each; broker and worker share this machine's cores")
    return Report("pipeline", merged, remarks)
