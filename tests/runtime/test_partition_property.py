"""Any interleaving of batches, redeliveries, crashes, wiped disks, zombies and restarts gives what one clean pass gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.runtime import seams
from streams.runtime.errors import Fenced
from streams.runtime.partition import Fetched, PartitionState
from streams.runtime.processor import Batch, SourceRecord
from streams.runtime.store import Store
from streams.runtime.task import CatchUpNeeded
from tests.runtime.brokerlog import Crash, MemoryLog, SharedLog
from tests.runtime.processors import OTHER, SOURCE, Counter, record

TOPICS = {SOURCE: "events", OTHER: "merges"}
POISON = "poison"
UNKNOWN = "unknown"


class Picky(Counter):
    """Refuses poison, and wants to catch up with what it does not know."""

    def __init__(self) -> None:
        super().__init__(self.look)
        self.asked: set[tuple[str, int]] = set()

    def look(self, batch: Batch) -> None:
        places = {(r.topic, r.offset) for r in batch.records}
        assert not batch.caught_up or places <= self.asked, "caught up before it was fetched"
        if any(r.value == POISON.encode() for r in batch.records):
            raise ValueError("poison")
        if not batch.caught_up and any(r.value == UNKNOWN.encode() for r in batch.records):
            self.asked = places
            raise CatchUpNeeded("known")


class Owners(RuleBasedStateMachine):
    """One partition's input logs, its broker side, a disk, and the workers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="assay-property-"))
        self.shared = SharedLog()
        self.logs: dict[str, list[SourceRecord]] = {SOURCE: [], OTHER: []}
        self.owner: PartitionState | None = None
        self.owner_log: MemoryLog
        self.read_to: dict[str, int] = {}
        self.disk = 0
        self.zombie: PartitionState | None = None
        self.now_ms = 0

    def teardown(self) -> None:
        if self.owner is not None:
            self.drain()
            self.check_against_one_clean_pass()
        for state in (self.owner, self.zombie):
            if state is not None:
                state.close()
        shutil.rmtree(self.folder)

    # -- What the world does

    @rule(
        keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
        topic=st.sampled_from([SOURCE, OTHER]),
        value=st.sampled_from(["1", "1", "1", "erase", POISON, UNKNOWN]),
        gap=st.integers(0, 2),
    )
    def produce(self, keys: list[str], topic: str, value: str, gap: int) -> None:
        log = self.logs[topic]
        for key in keys:
            # Offsets have gaps where transaction markers or compacted records were.
            log.append(record((log[-1].offset + 1 + gap) if log else gap, key, value, topic))

    @precondition(lambda self: self.owner is None)
    @rule()
    def open(self) -> None:
        self.owner_log = MemoryLog(self.shared)
        store = Store.open_or_rebuild(self.folder / f"disk-{self.disk}")
        bounds = {"max_records": 4, "max_bytes": 7}
        self.owner = PartitionState(0, store, self.owner_log, Picky(), TOPICS, clock=lambda: self.now_ms, **bounds)
        self.owner.open()
        self.owner.opened()
        for topic in TOPICS:
            self.place(topic, self.owner.resume_offset(topic) or 0)

    def place(self, topic: str, offset: int) -> None:
        assert self.owner is not None
        self.owner.start_reading(topic, offset)
        self.read_to[topic] = offset

    # -- What a worker does

    @precondition(lambda self: self.owner is not None)
    @rule(topic=st.sampled_from([SOURCE, OTHER]), count=st.integers(1, 5))
    def fetch(self, topic: str, count: int) -> None:
        assert self.owner is not None
        records = [r for r in self.logs[topic] if r.offset >= self.read_to[topic]][:count]
        if records:
            self.owner.accept(Fetched(topic, records, self.read_to[topic] - 1))
            self.read_to[topic] = records[-1].offset + 1

    @precondition(lambda self: self.owner is not None)
    @rule(topic=st.sampled_from([SOURCE, OTHER]), back=st.integers(0, 6))
    def redeliver(self, topic: str, back: int) -> None:
        """The group's offset was behind: reading starts again at an earlier record."""
        self.place(topic, max(0, self.read_to[topic] - back))

    @precondition(lambda self: self.owner is not None and self.owner.waits_for is None)
    @rule()
    def step(self) -> None:
        assert self.owner is not None
        self.owner.step()

    @precondition(lambda self: self.owner is not None and self.owner.waits_for is not None)
    @rule()
    def catch_up(self) -> None:
        assert self.owner is not None
        self.owner.caught_up()

    @precondition(lambda self: self.owner is not None)
    @rule()
    def commit(self) -> None:
        assert self.owner is not None
        pending = self.owner.take()
        if pending is not None:
            self.owner.commit(pending)

    @precondition(lambda self: self.owner is not None)
    @rule()
    def step_while_a_commit_is_in_flight(self) -> None:
        assert self.owner is not None
        pending = self.owner.take()
        self.step_on(self.owner)
        if pending is not None:
            self.owner.commit(pending)

    # -- What goes wrong

    @precondition(lambda self: self.owner is not None)
    @rule(seam=st.sampled_from(["decoded", "committed", "stored", "before", "after"]), wipe=st.booleans())
    def crash(self, seam: str, wipe: bool) -> None:
        """The process dies at a seam (or, if the seam is not passed now, where it stands); its disk may die with it."""
        assert self.owner is not None

        def strike() -> None:
            raise Crash

        if seam in ("before", "after"):
            self.owner_log.crash_in_commit = seam
            reached = seams.armed(None)
        else:
            reached = seams.armed(f"{seam}:1", strike)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seams, "reached", reached)
            try:
                self.step_on(self.owner)
                pending = self.owner.take()
                if pending is not None:
                    self.owner.commit(pending)
            except Crash:
                pass
        self.die(wipe)

    def die(self, wipe: bool) -> None:
        assert self.owner is not None
        self.owner.overlay.store.close()
        self.owner = None
        if wipe:
            self.disk += 1

    @precondition(lambda self: self.owner is not None and self.zombie is None)
    @rule()
    def stall(self) -> None:
        """The owner stops without dying; another worker, with another disk, will take over."""
        self.zombie, self.owner = self.owner, None
        self.disk += 1

    @precondition(lambda self: self.zombie is not None and self.owner is not None)
    @rule()
    def the_zombie_wakes(self) -> None:
        assert self.zombie is not None
        self.step_on(self.zombie)
        pending = self.zombie.take()
        if pending is not None:
            with pytest.raises(Fenced):
                self.zombie.commit(pending)
        self.zombie.close()
        self.zombie = None

    @precondition(lambda self: self.owner is not None)
    @rule()
    def rebalance_without_loss(self) -> None:
        """The group reshuffles, the partition stays: what was not committed is dropped and read again."""
        assert self.owner is not None
        self.owner.open()
        for topic in TOPICS:
            self.place(topic, self.owner.resume_offset(topic) or 0)

    @rule()
    def a_long_time_passes(self) -> None:
        """So long that a local copy may have missed tombstones."""
        self.now_ms += 100 * 3_600_000

    # -- What must hold

    def drain(self) -> None:
        assert self.owner is not None
        for topic in TOPICS:
            self.fetch(topic, 10_000)
        while self.owner.has_work:
            self.step_on(self.owner)
        self.commit()

    def step_on(self, state: PartitionState) -> None:
        if state.waits_for is not None:
            state.caught_up()
        state.step()

    @precondition(lambda self: self.owner is not None)
    @rule()
    def everything_is_read_and_committed(self) -> None:
        self.drain()
        self.check_against_one_clean_pass()

    def check_against_one_clean_pass(self) -> None:
        assert self.owner is not None
        records = [r for log in self.logs.values() for r in log]
        good = [r for r in records if r.value != POISON.encode()]
        places = sorted(o.value.decode().partition("@")[2] for o in self.shared.outputs if o.topic == "out" and o.value is not None)
        assert places == sorted(f"{r.topic}:{r.offset}" for r in good)
        refused = sorted(o.key.decode() for o in self.shared.outputs if o.topic == "events.dead-letter" and o.key is not None)
        assert refused == sorted(f"{r.topic}-0-{r.offset}" for r in records if r not in good)
        # The two topics interleave as they were read; within that order the counts must be those of one pass.
        counts: dict[bytes, int] = {}
        by_place = {f"{r.topic}:{r.offset}": r for r in good}
        for output in self.shared.outputs:
            if output.topic != "out" or output.value is None:
                continue
            count, _, place = output.value.decode().partition("@")
            r = by_place[place]
            assert r.key is not None
            counts[r.key] = 0 if r.value == b"erase" else counts.get(r.key, 0) + 1
            assert int(count) == counts[r.key]
        expected = {key: str(count).encode() for key, count in counts.items() if count}
        assert dict(self.owner.overlay.scan(b"")) == expected
        rebuilt: dict[bytes, bytes] = {}
        for pair in self.shared.changelog:
            if pair is not None and not pair[0].startswith(b"\x00"):
                if pair[1] is None:
                    rebuilt.pop(pair[0], None)
                else:
                    rebuilt[pair[0]] = pair[1]
        assert rebuilt == expected

    @invariant()
    def the_local_store_is_never_ahead_of_the_changelog(self) -> None:
        if self.owner is not None:
            assert self.owner.overlay.store.checkpoint(self.now_ms) <= len(self.shared.changelog)


Owners.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOwners = Owners.TestCase
