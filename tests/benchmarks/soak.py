"""Two workers under a steady feed, a random fault a minute, for an hour or a night: nothing lost, nothing twice, nothing that only grows.

A seed draws the feed and the faults: kill -9, a stop past the session timeout (a zombie wakes up), SIGTERM, kill -9 with the disk lost.
Whoever dies by them is started again at once, whoever ends by itself as `assay worker --supervise` would do it. At the end all that was
put out, and the state, are held against one clean pass over the input.
"""

from __future__ import annotations

import math
import random
import signal
import statistics
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks.measure import broker
from tests.benchmarks.pipeline import EXACTLY_ONCE
from tests.benchmarks.report import Report
from tests.faults.excuses import REASONS, Excuses
from tests.faults.execution import told
from tests.faults.failovers import Failovers
from tests.faults.fleet import Fleet, Worker
from tests.faults.schedule import ZOMBIE_S
from tests.faults.supervision import Supervision, ending
from tests.faults.verdict import Verdict

MINUTES = 60.0
SEED = 4
#: Events a second.
RATE = 100
FAULT_EVERY_S = 60.0
_SAMPLE_S = 2.0
#: Fed at the end until every failover is over.
_PROBE = 25
#: A process younger than this is still growing into its caches.
_YOUNG_S = 20.0
#: Long beside the noise, short beside a life; and half a minute's leak of a file a minute is one in every second window.
_WINDOW_S = 30.0
#: Minutes from which on a run says whether something grows.
LONG_MINUTES: Final = 10.0
#: What may, though shoppers and their state are bounded: write buffers fill through all of a life as short as faults make it (about
#: 1 MB/min in 6 minutes of seed 4). The disk is not judged: between two flushes the write-ahead log only grows.
BOUNDS: Final[Mapping[str, float]] = {"memory slope": 5.0, "open files slope": 1.0}


@dataclass(frozen=True, slots=True)
class Sample:
    """One worker at one moment: resident bytes, open file descriptors, bytes of RocksDB; ``age_s`` of its process."""

    seconds: float
    age_s: float
    rss: int
    files: int
    stored: int


class Soak:
    """A fleet, its clock and what it went through."""

    def __init__(self, fleet: Fleet, supervision: Supervision, seed: int) -> None:
        self._fleet = fleet
        self._supervision = supervision
        self._excuses = Excuses()
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self._thaw: list[tuple[float, Worker]] = []
        self.faults: Counter[str] = Counter()
        self.failovers = Failovers(fleet)
        #: Those that ended by themselves, by worker and by reason; and how many no sleep accounts for.
        self.died: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.unexplained = 0
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def run(self, minutes: float) -> None:
        """Feed, hurt, watch and restart for so long; then until every event has its output."""
        fault_due, sample_due = FAULT_EVERY_S / 2, 0.0
        while self.seconds < minutes * 60:
            owed = int(self.seconds * RATE) - self._fleet.sent
            if owed > 0:
                self._fleet.feed(owed)
            if self.seconds >= fault_due:
                fault_due += FAULT_EVERY_S
                self._hurt()
            if self.seconds >= sample_due:
                sample_due = self.seconds + _SAMPLE_S
                self._look()
            self._tend()
            self._fleet.read()
            self.failovers.look()
        self._fleet.until(self._recovered, "the last failover", 300.0, feed=_PROBE)
        self._fleet.until(self._settled, "every event has its output", 300.0)

    def _recovered(self) -> bool:
        self._tend()
        return self.failovers.finished()

    def _settled(self) -> bool:
        self._tend()
        self.failovers.look()
        return not self._thaw and self._fleet.complete

    def _hurt(self) -> None:
        worker = self._chance.choice(self._fleet.workers)
        faults: dict[str, Callable[[Worker], None]] = {"kill": self._kill, "zombie": self._freeze, "term": self._term, "wipe": self._wipe}
        name = self._chance.choice(sorted(faults))
        if worker.alive and all(frozen is not worker for _, frozen in self._thaw):
            self.faults[name] += 1
            self.failovers.begin()
            faults[name](worker)

    def _kill(self, worker: Worker) -> None:
        worker.signal(signal.SIGKILL)
        worker.process.wait()
        self._start(worker)

    def _wipe(self, worker: Worker) -> None:
        worker.signal(signal.SIGKILL)
        worker.process.wait()
        worker.wipe()
        self._start(worker)

    def _term(self, worker: Worker) -> None:
        worker.signal(signal.SIGTERM)
        worker.process.wait(30)
        self._start(worker)

    def _start(self, worker: Worker) -> None:
        self._supervision.start(worker)
        self._excuses.starts(worker)

    def _freeze(self, worker: Worker) -> None:
        worker.signal(signal.SIGSTOP)
        self._excuses.falls_asleep(worker)
        self._thaw.append((self.seconds + ZOMBIE_S, worker))

    def _tend(self) -> None:
        """What a supervisor does: start who is dead. And wake who has slept long enough."""
        for due, worker in list(self._thaw):
            if self.seconds >= due:
                self._thaw.remove((due, worker))
                worker.signal(signal.SIGCONT)
                self._excuses.wakes(worker)
        for worker in self._fleet.workers:
            if self._supervision.tend(worker):
                self.died[worker.name] += 1
                self.reasons[ending(worker)] += 1
                # A sleeper that finds its place taken may prefer to begin anew.
                self.unexplained += not self._excuses.cover(worker)

    def _look(self) -> None:
        for worker in self._fleet.workers:
            try:
                process = psutil.Process(worker.process.pid)
                age_s, rss, files = time.time() - process.create_time(), process.memory_info().rss, process.num_fds()
            except psutil.Error:
                continue
            self.samples[worker.name].append(Sample(self.seconds, age_s, rss, files, _size(worker.data_dir)))


def _size(folder: Path) -> int:
    """Bytes of all files below ``folder``; those that RocksDB deletes meanwhile count for nothing."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return size


def _measure(name: str, unit: str, value: float, worker: str = "both") -> dict[str, object]:
    return {
        "system": "assay", "job": "state-only", "guarantee": EXACTLY_ONCE, "worker": worker, "measure": name, "unit": unit, "value": value,
    }  # fmt: skip


def _slope(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """Growth a minute: the median over all windows of ``_WINDOW_S`` within the lives of a worker's processes.

    No restart lies in one of them, and few hold the step that partitions taken over from the other worker make; a leak is in all.
    """
    lives: list[list[Sample]] = []
    for sample in samples:
        if not lives or sample.age_s < lives[-1][-1].age_s:
            lives.append([])
        lives[-1].append(sample)
    slopes: list[float] = []
    for life in lives:
        first = 0
        for last in life:
            while (seconds := last.age_s - life[first].age_s) >= _WINDOW_S:
                slopes.append(60 * (of(last) - of(life[first])) / seconds)
                first += 1
    return round(statistics.median(slopes), 4) if slopes else 0.0


def worker_rows(name: str, samples: Sequence[Sample], died: int) -> list[dict[str, object]]:
    """What ``samples`` of worker ``name`` come to: at most, in the end, and a minute."""
    settled = [sample for sample in samples if sample.age_s >= _YOUNG_S] or list(samples)
    memory, files, disk = [s.rss / 2**20 for s in settled], [s.files for s in settled], [s.stored / 2**20 for s in settled]
    return [
        _measure("memory at most", "MB", round(max(memory), 1), name),
        _measure("memory slope", "MB/min", _slope(settled, lambda sample: sample.rss / 2**20), name),
        _measure("open files at most", "files", max(files), name),
        _measure("open files slope", "files/min", _slope(settled, lambda sample: sample.files), name),
        _measure("RocksDB at most", "MB", round(max(disk), 2), name),
        _measure("RocksDB in the end", "MB", round(disk[-1], 2), name),
        _measure("RocksDB slope", "MB/min", _slope(settled, lambda sample: sample.stored / 2**20), name),
        _measure("ended by itself", "times", died, name),
    ]


def grown(rows: Iterable[Mapping[str, object]], minutes: float) -> list[str]:
    """What grew beyond ``BOUNDS`` in a run of ``minutes``, in words; nothing where that is too short to say."""
    if minutes < LONG_MINUTES:
        return []
    return [
        f"{row['measure']} of {row['worker']}: {row['value']} {row['unit']}, more than {BOUNDS[str(row['measure'])]:g}"
        for row in rows
        if float(str(row["value"])) > BOUNDS.get(str(row["measure"]), math.inf)
    ]


def run(
    *, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None, minutes: float = MINUTES, seed: int = SEED
) -> Report:
    """Soak for ``minutes``, once. ``events`` is not used: the rate is set."""
    with ExitStack() as stack:
        bootstrap, folder = stack.enter_context(broker(bootstrap_servers))
        fleet = Fleet(bootstrap, f"soak{uuid.uuid4().hex[:6]}", folder, workers=2, seed=seed)
        stack.callback(fleet.end)
        supervision = Supervision()
        for worker in fleet.workers:
            supervision.start(worker)
        fleet.feed(RATE)
        fleet.until(lambda: fleet.complete, "the workers read")
        soak = Soak(fleet, supervision, seed)
        soak.run(minutes)
        still_open = soak.failovers.open_ms
        # One that has just slept may end for that instead of stopping.
        found = fleet.judge(lambda: fleet.stop(REASONS["sleep"]))
        before = fleet.outputs()
        for worker in fleet.workers:
            found["state_differences"] += fleet.local_differences(worker)
        worker.wipe()
        found["state_differences"] += fleet.local_differences(worker)
        # What was put out while disks were opened and rebuilt was put out before.
        found["duplicated"] += fleet.outputs() - before
    verdict = Verdict(
        f"soak of {minutes:g} min, seed {seed}", found["inputs"], found["missing"], found["duplicated"], found["reordered"], 0,
        found["wrong"] + found["strange"], found["state_differences"], fleet.max_lag, soak.failovers.taken_ms,
        notes={"faults": soak.faults.total(), "ended-by-themselves": told(soak.reasons)}, unexplained_restarts=soak.unexplained,
        open_failovers_ms=still_open,
    )  # fmt: skip
    rows = [_measure(name.replace("_", " "), "events" if name != "state_differences" else "users", n) for name, n in found.items()]
    rows += [_measure(f"fault: {name}", "times", count) for name, count in sorted(soak.faults.items())]
    if taken := sorted(soak.failovers.taken_ms):
        rows += [_measure("failover, median", "ms", statistics.median(taken)), _measure("failover at most", "ms", taken[-1])]
    rows.append(_measure("failovers without an end", "faults", len(still_open)))
    for name, samples in sorted(soak.samples.items()):
        rows += worker_rows(name, samples, soak.died[name])
    remark = (
        f"seed {seed}; {RATE} events/s, a fault every {FAULT_EVERY_S:.0f} s; memory, files and disk of processes older than {_YOUNG_S:.0f} "
        "s, each restart begins anew; 'ended by itself': zombies, which may prefer to start afresh, among them"
    )
    failed = [] if verdict.clean else [f"the soak is not clean: {verdict}"]
    if growing := grown(rows, minutes):
        failed.append(f"what is bounded grew: {'; '.join(growing)}")
    return Report("soak", rows, [str(verdict), remark], "; ".join(failed))
