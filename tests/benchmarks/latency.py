"""How long from an event to the record that answers it: produced -> consumed (read committed), at steady rates.

Two jobs on one Kafka, in one run. ``state-only`` (one output an event) on ours and, beside it, on Kafka Streams ``exactly_once_v2`` as it
comes (a commit every 100 ms) and told to commit every 10;
``full`` (a fresh list of 20 explained items) on ours, also at 25, 50 and 75 % of what it was just measured to sustain. Sender, reader
(a process of its own), worker and broker share the machine; latencies count from when an event was due (``load``).
"""

from __future__ import annotations

import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.load import Answers, PacedSender, backlog_rate, covered, keep_pace, offer, percentiles, sustained, valid_events
from tests.benchmarks.measure import broker, count_committed, create_topics, delete_topics, preload, worker
from tests.benchmarks.pipeline import EXACTLY_ONCE, Bench, state_records
from tests.benchmarks.report import Report, medians
from tests.benchmarks.shop import Shop

#: Rates of both jobs, events/s: a small shop, a busy one, and more than a sender in Python should be asked for beside all else.
RATES = (100, 1_000, 5_000)
#: Of what the full job sustains.
SHARES = (0.25, 0.5, 0.75)
_SECONDS = 12.0
#: Of the first seconds nothing is kept: classes load, code compiles, caches fill.
_WARM_S = 4.0
_WARM_EVENTS = 20_000
_BACKLOG = 30_000
#: How long an answer may take before it counts as missing.
_PATIENCE_S = 60.0

#: The systems of the state-only job, and what each is told beside what it is told in ``pipeline``.
_SYSTEMS = {"assay": (), "kafka-streams": (), "kafka-streams, commit.interval.ms=10": ("commit.interval.ms=10",)}

Latencies = list[float]


class StateJob:
    """The state-only job of one system, under load."""

    def __init__(self, bench: Bench, system: str) -> None:
        self._bench = bench
        self.system = system
        self.name = f"lat{uuid.uuid4().hex[:6]}"
        self.source, self.sink = f"{self.name}-in", f"{self.name}-out"
        self.changelog = f"{self.name}-state-changelog" if system == "assay" else f"{self.name}-profiles-changelog"

    def measure(self) -> Iterator[tuple[float, Latencies, int]]:
        """(rate, latencies in s, missing answers) of each rate."""
        bench = self._bench
        create_topics(bench.bootstrap, [self.source, self.sink], compacted=[self.changelog])
        records = state_records(_WARM_EVENTS + int(sum(RATES) * (_SECONDS + _WARM_S)) + 10)
        command = bench.state_command(self.system.split(",")[0], EXACTLY_ONCE, self.name, self.source, self.sink)
        counts: dict[str, int] = defaultdict(int)
        with worker([*command, *_SYSTEMS[self.system]], bench.folder / f"{self.name}.log"):
            warm = [next(records) for _ in range(_WARM_EVENTS)]
            for key, _ in warm:
                counts[key.decode()] += 1
            preload(bench.bootstrap, self.source, warm)
            count_committed(bench.bootstrap, self.sink, at_least=_WARM_EVENTS)
            for rate in RATES:
                yield (rate, *self._load(records, rate, counts))
        delete_topics(bench.bootstrap, [self.source, self.sink, self.changelog])

    def _load(self, records: Iterator[tuple[bytes, bytes]], rate: float, counts: dict[str, int]) -> tuple[Latencies, int]:
        answers = Answers(self._bench.bootstrap, self.sink, "count")
        sender = PacedSender(self._bench.bootstrap, self.source)
        due_at: dict[tuple[str, int], float] = {}
        for number, due in keep_pace(int(rate * (_WARM_S + _SECONDS)), rate):
            key, value = next(records)
            user = key.decode()
            counts[user] += 1
            sender.send(key, value, due, user)
            if number >= rate * _WARM_S:
                due_at[user, counts[user]] = due
        sender.flush()
        answered = dict(answers.finish(_PATIENCE_S))
        return [answered[place] - due for place, due in due_at.items() if place in answered], len(due_at.keys() - answered.keys())


class FullJob:
    """The full job of ours, under load."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        products, self._events = valid_events(seed=11)
        self._shop = Shop(bootstrap, folder, products)
        self.sustainable = 0.0

    def measure(self) -> Iterator[tuple[float, Latencies, int]]:
        """(rate, latencies in s, missing answers) of each rate."""
        shop = self._shop
        with worker(shop.command("recommend"), shop.log("recommend")) as process:
            self.sustainable = sustained(shop, self._events, backlog_rate(shop, self._events, _BACKLOG, process))
            for rate in [*RATES[:2], *(share * self.sustainable for share in SHARES)]:
                due, found = offer(shop, self._events, rate, _WARM_S + _SECONDS)
                begins = min(due.values()) + _WARM_S
                yield (rate, *covered({place: at for place, at in due.items() if at >= begins}, found))
        shop.close()


def _row(system: str, job: str, load: str, rate: float, latencies: Latencies, missing: int) -> dict[str, object]:
    if missing:
        raise RuntimeError(f"{system}, {job}, {rate:.0f}/s: {missing} of {missing + len(latencies)} events were not answered in time")
    row: dict[str, object] = {"system": system, "job": job, "guarantee": EXACTLY_ONCE, "unit": "ms", "load": load, "rate": round(rate)}
    return row | percentiles(latencies)


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; medians over ``repetitions``. ``events`` is not used: the rates and seconds are set."""
    rows: list[dict[str, object]] = []
    sustainable: list[float] = []
    with broker(bootstrap_servers) as (bootstrap, folder):
        bench = Bench(bootstrap, folder)
        # The broker's JVM compiles for the better part of a minute, which would be counted against whoever comes first.
        for _ in StateJob(bench, "assay").measure():
            pass
        for _ in range(repetitions):
            for system in _SYSTEMS:
                for rate, latencies, missing in StateJob(bench, system).measure():
                    rows.append(_row(system, "state-only", f"{rate:.0f}/s", rate, latencies, missing))
            job = FullJob(bootstrap, folder)
            for rate, latencies, missing in job.measure():
                load = f"{rate:.0f}/s" if rate in RATES else f"{rate / job.sustainable:.0%} of sustainable"
                rows.append(_row("assay", "full", load, rate, latencies, missing))
            sustainable.append(job.sustainable)
    remark = f"the full job sustained {statistics.median(sustainable):,.0f} events/s; broker, worker, sender and reader share this machine"
    return Report("latency", medians(rows, ("system", "job", "load")), [remark])
