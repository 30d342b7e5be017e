"""Events per second and CPU per event: ours (exactly once) beside stock Faust (at least once), same Kafka, same records, same run.

Two jobs. ``state-only``: decode JSON, keep {count, last 20 items} per user in RocksDB with a changelog, one output record an event.
``full``: decode and validate, deduplicate, profile, candidates, 20 explained items, emit. Stock Faust runs the full job by calling
the very same processor once per event, as an agent without the batch transport has to.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import orjson

from models.simulation import Storefront, StorefrontOptions
from schemas.topics import CATALOG, EMBEDDINGS, EVENTS, RECOMMENDATIONS
from streams.broker import RealKafka
from streams.settings import Settings
from streams.topics import TopicAdmin, plan
from tests.benchmarks.measure import (
    PARTITIONS,
    Row,
    as_dict,
    count_committed,
    create_topics,
    delete_topics,
    preload,
    row,
    watch_topic,
    worker,
)
from tests.benchmarks.report import Report, medians

USERS = 5_000
_STOCK_SHARE = 20  # stock Faust gets a twentieth of the events: it is that much slower, and its rate does not depend on the number


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

    def state_only(self, system: str, events: int) -> Row:
        """One run of the state-only job."""
        name = self._name()
        source, sink, log = f"{name}-in", f"{name}-out", self.folder / f"{name}.log"
        changelogs = [f"{name}-{name}-profiles-changelog", f"{name}-state-changelog"]
        create_topics(self.bootstrap, [source, sink], compacted=changelogs)
        preload(self.bootstrap, source, state_records(events))
        module = "tests.benchmarks.stock_faust" if system == "faust" else "tests.benchmarks.our_state_worker"
        flags = ["--broker", self.bootstrap, "--app-id", name, "--source", source, "--sink", sink, "--data-dir", str(self.folder / name)]
        with worker(module, *flags, log=log) as process:
            run = watch_topic(self.bootstrap, sink, events, process, timeout_s=300)
        found = count_committed(self.bootstrap, sink)
        if (system == "assay" and found != events) or found < events:
            raise RuntimeError(f"{system} wrote {found} records for {events} events; see {log}")
        delete_topics(self.bootstrap, [source, sink, *changelogs])
        return row(system, "state-only", "exactly once" if system == "assay" else "at least once", run)

    def full(self, system: str, events: int) -> Row:
        """One run of the full job: products are embedded first, then the clock runs over a backlog of events."""
        name = self._name()
        settings = Settings(bootstrap_servers=self.bootstrap, topic_prefix=f"{name}.", app_id=name)
        TopicAdmin(settings).create()
        products, records = storefront_records(events)
        preload(self.bootstrap, settings.topic(CATALOG.name), products)
        flags = ["--bootstrap-servers", self.bootstrap, "--topic-prefix", settings.topic_prefix, "--app-id", name]
        with worker(
            "streams.cli",
            "worker",
            "--roles",
            "embed",
            *flags,
            "--data-dir",
            str(self.folder / f"{name}-embed"),
            log=self.folder / f"{name}-embed.log",
        ):
            count_committed(self.bootstrap, settings.topic(EMBEDDINGS.name), at_least=len(products))
        preload(self.bootstrap, settings.topic(EVENTS.name), records)
        outcomes, log = settings.topic("outcomes"), self.folder / f"{name}.log"
        data = str(self.folder / name)
        if system == "assay":
            command = ("streams.cli", "worker", "--roles", "recommend", *flags, "--data-dir", data)
        else:
            command = ("tests.benchmarks.stock_faust_full", *flags, "--data-dir", data)
        with worker(*command, log=log) as process:
            # Every event has exactly one outcome, so outcomes tell how far the worker is.
            run = watch_topic(self.bootstrap, outcomes, events, process, timeout_s=600)
        lists = count_committed(self.bootstrap, settings.topic(RECOMMENDATIONS.name))
        if lists == 0:
            raise RuntimeError(f"{system} recommended nothing; see {log}")
        delete_topics(self.bootstrap, [topic.name for topic in plan(settings)])
        return row(system, "full", "exactly once" if system == "assay" else "at least once", run, lists / events)


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Run every job on every system, interleaved; medians over ``repetitions``. ``events`` is the size of our state-only run."""
    size = events or 600_000
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        if bootstrap_servers is None:
            bootstrap_servers = stack.enter_context(RealKafka(folder / "kafka")).bootstrap_servers
        bench = Bench(bootstrap_servers, folder)
        for _ in range(repetitions):
            rows.append(as_dict(bench.state_only("assay", size)))
            rows.append(as_dict(bench.state_only("faust", size // _STOCK_SHARE)))
            rows.append(as_dict(bench.full("assay", size // 6)))
            rows.append(as_dict(bench.full("faust", size // 200)))
    merged = medians(rows, ("system", "job", "guarantee"))
    rate = {(r["system"], r["job"]): float(str(r["events_per_second"])) for r in merged}
    remarks = [
        f"{job}: {rate['assay', job] / rate['faust', job]:.1f} x stock Faust (ours exactly once, stock Faust at least once)"
        for job in ("state-only", "full")
    ]
    remarks.append(f"{PARTITIONS} partitions, {USERS} users; one worker process each; broker and worker share this machine's cores")
    return Report("pipeline", merged, remarks)
