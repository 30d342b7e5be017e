from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

import streams.runtime.partition
from schemas.operations import DeadLetter
from streams.runtime.errors import (
    OutOfMemory,
    RecordsLost,
    ResetUnfinished,
    RuntimeFault,
    SourceRecreated,
    SourceTruncated,
    StoreDamaged,
)
from streams.runtime.marker import MARKER_KEY, Marker, SourceExtent
from streams.runtime.partition import MEMORY_ATTEMPTS, MEMORY_SUSPECTS, Fetched, PartitionState
from streams.runtime.processor import Batch, Output, Step
from streams.runtime.store import Store
from streams.runtime.task import CatchUpNeeded
from tests.runtime.brokerlog import MemoryLog, SharedLog
from tests.runtime.processors import OTHER, SOURCE, Counter, record

TOPICS = {SOURCE: "events", OTHER: "merges"}


@pytest.fixture
def shared() -> SharedLog:
    return SharedLog()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "0")
    yield store
    store.close()


def partition(store: Store, shared: SharedLog, processor: Counter, **options: object) -> PartitionState:
    state = PartitionState(0, store, MemoryLog(shared), processor, TOPICS, clock=lambda: 1_000, **options)  # type: ignore[arg-type]
    state.open()
    state.opened()
    for topic in TOPICS:
        state.start_reading(topic, state.resume_offset(topic) or 0)
    return state


def run(state: PartitionState, *offsets: int, value: str = "1", topic: str = SOURCE) -> None:
    state.accept(Fetched(topic, [record(offset, "a", value, topic) for offset in offsets], offsets[0] - 1))
    state.step()


def commit(state: PartitionState) -> None:
    pending = state.take()
    assert pending is not None
    state.commit(pending)


def values(shared: SharedLog) -> list[bytes | None]:
    return [output.value for output in shared.outputs if output.topic == "out"]


def test_state_outputs_and_position_become_true_together(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, 0, 1)
    assert not shared.outputs
    assert store.get_many([b"a"]) == [None]
    commit(state)
    assert values(shared) == [b"1@t.events:0", b"2@t.events:1"]
    assert store.get_many([b"a"]) == [b"2"]
    assert store.marker().offsets == {SOURCE: 1}
    assert shared.changelog[-2] == (MARKER_KEY, Marker({SOURCE: 1}).encode())
    assert state.applied() == {SOURCE: 1}


def test_what_arrives_during_a_commit_builds_on_it_and_goes_into_the_next_transaction(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, 0)
    first = state.take()
    assert first is not None
    run(state, 1)
    run(state, 2)
    assert state.overlay.pending.records == 2
    state.commit(first)
    commit(state)
    assert values(shared) == [b"1@t.events:0", b"2@t.events:1", b"3@t.events:2"]
    assert [key for pair in shared.changelog if pair is not None for key in [pair[0]]].count(b"a") == 2


def test_redelivered_records_are_dropped_by_position_not_by_what_was_committed_last(store: Store, shared: SharedLog) -> None:
    processor = Counter()
    state = partition(store, shared, processor)
    run(state, 0, 1, 2)
    state.start_reading(SOURCE, 1)
    run(state, 1, 2, 3)
    assert processor.batches == [[0, 1, 2], [3]]


def test_a_batch_is_no_larger_than_asked_for_unless_one_fetch_was(store: Store, shared: SharedLog) -> None:
    processor = Counter()
    state = partition(store, shared, processor, max_records=3)
    for offset in range(0, 8, 2):
        state.accept(Fetched(SOURCE, [record(offset, "a"), record(offset + 1, "a")], offset - 1))
    assert (state.step(), state.step()) == (4, 4)
    assert processor.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert state.queued == 0


def test_a_batch_is_bounded_by_bytes_too_but_holds_at_least_one_record(store: Store, shared: SharedLog) -> None:
    processor = Counter()
    state = partition(store, shared, processor, max_bytes=10)
    sizes = [3, 3, 5, 12, 1]  # with a key of one byte: 4, 4, 6, 13, 2
    state.accept(Fetched(SOURCE, [record(offset, "a", "1" * size) for offset, size in enumerate(sizes)], -1))
    assert (state.queued, state.queued_bytes) == (5, 29)
    assert [state.step() for _ in range(4)] == [2, 1, 1, 1]
    assert processor.batches == [[0, 1], [2], [3], [4]]
    assert (state.queued, state.queued_bytes) == (0, 0)
    commit(state)
    assert state.applied() == {SOURCE: 4}


def test_a_transaction_is_full_by_its_records_or_by_the_bytes_of_its_outputs(
    store: Store, shared: SharedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = partition(store, shared, Counter(), max_records=2)
    run(state, 0)
    assert not state.full
    run(state, 1)
    assert state.full
    commit(state)
    assert not state.full
    monkeypatch.setattr(streams.runtime.partition, "TRANSACTION_BYTES", len(b"3@t.events:2"))
    run(state, 2)
    assert state.full


def test_records_that_do_not_connect_to_those_before_stop_the_worker(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, 0, 1)
    state.accept(Fetched(SOURCE, [record(9, "a")], 1))  # a gap in offsets is no gap in what was fetched
    with pytest.raises(RecordsLost, match=r"records after 12 arrived, but only those to 9"):
        state.accept(Fetched(SOURCE, [record(13, "a")], 12))


def test_a_record_that_makes_the_processor_raise_is_dead_lettered_alone_and_the_others_count_once(store: Store, shared: SharedLog) -> None:
    def refuse(batch: Batch) -> None:
        if any(r.offset in (3, 4) for r in batch.records):
            raise KeyError("no such thing")

    state = partition(store, shared, Counter(refuse))
    run(state, *range(8))
    commit(state)
    assert values(shared) == [b"%d@t.events:%d" % (i + 1, offset) for i, offset in enumerate([0, 1, 2, 5, 6, 7])]
    letters = [DeadLetter.model_validate_json(o.value) for o in shared.outputs if o.topic == "events.dead-letter" and o.value]
    assert [(letter.code, letter.offset, letter.message) for letter in letters] == [
        ("processing_failed", 3, "KeyError: 'no such thing'"),
        ("processing_failed", 4, "KeyError: 'no such thing'"),
    ]
    assert store.marker().offsets == {SOURCE: 7}


@pytest.mark.parametrize("fault", [StoreDamaged("disk"), OutOfMemory("elsewhere")])
def test_faults_of_the_worker_itself_are_not_blamed_on_records(store: Store, shared: SharedLog, fault: Exception) -> None:
    def fail(_batch: Batch) -> None:
        raise fault

    state = partition(store, shared, Counter(fail))
    with pytest.raises(type(fault)):
        run(state, 0, 1)
    assert state.take() is None


def starved(*offsets: int, times: int = 1_000) -> Callable[[Batch], None]:
    """Runs out of memory on each of ``offsets``, so many times."""
    left = dict.fromkeys(offsets, times)

    def fail(batch: Batch) -> None:
        for found in batch.records:
            if left.get(found.offset, 0) > 0:
                left[found.offset] -= 1
                raise MemoryError("no room")

    return fail


def letters(shared: SharedLog) -> list[tuple[str, int]]:
    found = [DeadLetter.model_validate_json(o.value) for o in shared.outputs if o.topic == "events.dead-letter" and o.value]
    return [(letter.code, letter.offset) for letter in found]


def test_a_record_that_takes_all_memory_alone_is_tried_again_and_then_refused_and_the_others_count_once(
    store: Store, shared: SharedLog
) -> None:
    pauses: list[float] = []
    processor = Counter(starved(3))
    state = partition(store, shared, processor, pause=pauses.append)
    run(state, *range(6))
    commit(state)
    assert values(shared) == [b"%d@t.events:%d" % (i + 1, offset) for i, offset in enumerate([0, 1, 2, 4, 5])]
    assert letters(shared) == [("memory_exhausted", 3)]
    assert processor.batches.count([3]) == MEMORY_ATTEMPTS
    assert len(pauses) == MEMORY_ATTEMPTS - 1
    assert store.marker().offsets == {SOURCE: 5}


def test_memory_that_was_short_for_a_moment_costs_no_record(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter(starved(0, times=MEMORY_ATTEMPTS - 1)), pause=lambda _: None)
    run(state, 0)
    commit(state)
    assert values(shared) == [b"1@t.events:0"]
    assert letters(shared) == []


def test_a_record_that_fails_otherwise_at_a_later_attempt_is_refused_for_that(store: Store, shared: SharedLog) -> None:
    errors: list[Exception] = [KeyError("no such thing"), MemoryError()]

    def fail(_batch: Batch) -> None:
        raise errors.pop() if errors else AssertionError("one attempt too many")

    state = partition(store, shared, Counter(fail), pause=lambda _: None)
    run(state, 0)
    commit(state)
    assert letters(shared) == [("processing_failed", 0)]


def test_a_worker_without_memory_for_any_record_stops_and_has_got_on_by_a_few(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter(starved(*range(100))), pause=lambda _: None)
    with pytest.raises(OutOfMemory, match=rf"t.events/0@{MEMORY_SUSPECTS - 1}: .* the worker is short of memory"):
        run(state, *range(10))
    # What was refused by then is committed while the worker stops, so that the next start gets further.
    commit(state)
    assert letters(shared) == [("memory_exhausted", offset) for offset in range(MEMORY_SUSPECTS - 1)]
    assert store.marker().offsets == {SOURCE: MEMORY_SUSPECTS - 2}


def test_records_that_take_all_memory_among_others_that_do_not_never_stop_the_worker(store: Store, shared: SharedLog) -> None:
    greedy = range(0, 4 * MEMORY_SUSPECTS, 2)
    state = partition(store, shared, Counter(starved(*greedy)), pause=lambda _: None)
    run(state, *range(4 * MEMORY_SUSPECTS))
    commit(state)
    assert letters(shared) == [("memory_exhausted", offset) for offset in greedy]
    assert len(values(shared)) == 2 * MEMORY_SUSPECTS


def test_what_a_failed_attempt_made_is_let_go_before_the_next(store: Store, shared: SharedLog) -> None:
    alive: list[weakref.ref[Thing]] = []

    class Thing:
        pass

    def fail(batch: Batch) -> None:
        assert not [made for made in alive if made() is not None]
        thing = Thing()
        alive.append(weakref.ref(thing))
        if len(batch.records) > 1:
            raise MemoryError

    state = partition(store, shared, Counter(fail))
    run(state, *range(4))
    commit(state)
    assert len(alive) == 7
    assert len(values(shared)) == 4


def test_a_batch_too_large_for_memory_is_done_in_parts(store: Store, shared: SharedLog) -> None:
    def fail(batch: Batch) -> None:
        if len(batch.records) > 2:
            raise MemoryError

    state = partition(store, shared, Counter(fail))
    run(state, *range(7))
    commit(state)
    assert len(values(shared)) == 7
    assert not any(output.topic == "events.dead-letter" for output in shared.outputs)


def test_catching_up_happens_once_and_the_batch_knows(store: Store, shared: SharedLog) -> None:
    calls: list[str] = []

    def unknown(batch: Batch) -> None:
        calls.append("caught up" if batch.caught_up else "unknown")
        if not batch.caught_up:
            raise CatchUpNeeded("known")

    state = partition(store, shared, Counter(unknown))
    run(state, 0, 1)
    assert state.waits_for == "known"
    assert state.take() is None
    state.caught_up()
    assert state.step() == 0
    assert calls == ["unknown", "caught up"]
    commit(state)
    assert len(values(shared)) == 2
    assert not state.has_work


def test_what_arrives_while_a_batch_waits_knows_of_no_catching_up(store: Store, shared: SharedLog) -> None:
    def unknown(batch: Batch) -> None:
        if not batch.caught_up:
            raise CatchUpNeeded("known")

    processor = Counter(unknown)
    state = partition(store, shared, processor)
    run(state, 0, 1)
    state.accept(Fetched(SOURCE, [record(2, "a")], 1))
    state.caught_up()
    state.step()
    assert (state.waits_for, state.has_work) == (None, True)
    state.step()
    assert state.waits_for == "known"
    assert processor.batches == [[0, 1], [0, 1], [2]]


def test_a_batch_that_waits_keeps_what_was_done_of_it_and_a_rebalance_forgets_the_rest(store: Store, shared: SharedLog) -> None:
    def unknown(batch: Batch) -> None:
        if any(r.value == b"bad" for r in batch.records):
            raise ValueError("bad")
        if not batch.caught_up and any(r.value == b"new" for r in batch.records):
            raise CatchUpNeeded("known")

    def feed(state: PartitionState, first: int) -> None:
        records = [record(0, "a"), record(1, "a", "bad"), record(2, "a", "new"), record(3, "a")][first:]
        state.accept(Fetched(SOURCE, records, first - 1))
        state.step()

    state = partition(store, shared, Counter(unknown))
    feed(state, 0)
    assert state.waits_for == "known"
    commit(state)
    assert (len(values(shared)), state.applied()[SOURCE]) == (1, 1)
    state.open()
    assert (state.waits_for, state.has_work) == (None, False)
    state.start_reading(SOURCE, 2)
    feed(state, 2)
    state.caught_up()
    state.step()
    commit(state)
    assert (len(values(shared)), state.applied()[SOURCE]) == (3, 3)


def test_a_processor_that_is_never_satisfied_loses_the_record_to_the_dead_letters_not_the_worker(store: Store, shared: SharedLog) -> None:
    def insatiable(_batch: Batch) -> None:
        raise CatchUpNeeded("known")

    state = partition(store, shared, Counter(insatiable))
    run(state, 0)
    state.caught_up()
    state.step()
    commit(state)
    assert orjson.loads(shared.outputs[0].value or b"")["code"] == "processing_failed"


def test_a_tick_that_fails_is_said_and_stops_nothing(store: Store, shared: SharedLog, caplog: pytest.LogCaptureFixture) -> None:
    processor = Counter()
    state = partition(store, shared, processor)

    def broken(*_: object) -> Step | None:
        raise ValueError("one profile")

    def fault(*_: object) -> Step | None:
        raise OutOfMemory("elsewhere")

    processor.tick = broken  # type: ignore[method-assign]
    state.tick()
    assert "partition 0: what falls due by time could not be done" in caplog.text
    assert "one profile" in caplog.text
    run(state, 0)
    commit(state)
    assert values(shared)[-1].startswith(b"1@")
    processor.tick = fault  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory):
        state.tick()


def test_a_tick_commits_without_records_and_leaves_the_position(store: Store, shared: SharedLog) -> None:
    processor = Counter()
    state = partition(store, shared, processor)
    run(state, 0)
    commit(state)
    state.tick()
    assert state.take() is None
    processor.ticks = [Step([Output("out", b"a", b"tick")], {b"t": b"1"})]
    state.tick()
    commit(state)
    assert values(shared)[-1] == b"tick"
    assert store.marker().offsets == {SOURCE: 0}


def test_keys_of_the_runtime_are_closed_to_processors(store: Store, shared: SharedLog) -> None:
    processor = Counter()
    state = partition(store, shared, processor)
    processor.ticks = [Step([], {MARKER_KEY: b"{}"})]
    with pytest.raises(RuntimeFault, match="reserved"):
        state.tick()


def test_a_second_open_tells_the_processor_only_if_somebody_else_wrote_meanwhile(store: Store, shared: SharedLog, tmp_path: Path) -> None:
    processor = Counter()
    state = partition(store, shared, processor)
    run(state, 0)
    commit(state)
    state.open()
    state.opened()
    assert (len(processor.opened_with), processor.lost_partitions) == (1, [])
    elsewhere = Store(tmp_path / "elsewhere")
    other = partition(elsewhere, shared, Counter())
    run(other, 1)
    commit(other)
    elsewhere.close()
    assert state.open().records == 2
    state.opened()
    assert processor.opened_with == [{}, {b"a": b"2"}]
    assert processor.lost_partitions == [0]
    assert state.resume_offset(SOURCE) == 2


@pytest.mark.parametrize("in_flight", [True, False])
def test_a_second_open_tells_the_processor_if_a_step_that_it_made_was_dropped(store: Store, shared: SharedLog, *, in_flight: bool) -> None:
    processor = Counter()
    state = partition(store, shared, processor)
    run(state, 0)
    if in_flight:
        assert state.take() is not None
    state.open()
    state.opened()
    assert (processor.opened_with, processor.lost_partitions) == ([{}, {}], [0])
    state.open()
    state.opened()
    assert len(processor.opened_with) == 2


def test_a_source_that_is_shorter_than_the_position_was_recreated(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, 0, 1, 2)
    commit(state)
    shared.sources[SOURCE] = SourceExtent(0, 2)
    with pytest.raises(SourceRecreated, match="assay reset"):
        state.open()


def test_a_source_with_another_id_was_recreated_even_if_it_is_long_enough(store: Store, shared: SharedLog) -> None:
    shared.sources[SOURCE] = SourceExtent(0, 100, "first")
    state = partition(store, shared, Counter())
    run(state, 0)
    commit(state)
    shared.sources[SOURCE] = SourceExtent(0, 100, "second")
    with pytest.raises(SourceRecreated, match="was first, now second"):
        state.open()


def test_a_source_with_the_same_id_that_is_shorter_than_the_position_lost_its_newest_records(store: Store, shared: SharedLog) -> None:
    shared.sources[SOURCE] = SourceExtent(0, 100, "same")
    state = partition(store, shared, Counter())
    run(state, *range(100))
    commit(state)
    shared.sources[SOURCE] = SourceExtent(0, 90, "same")
    with pytest.raises(SourceTruncated, match=r"offset 99 .* ends at 90.* lost its newest records \(10 offsets.*assay reset") as loss:
        state.open()
    assert loss.value.exit_code == 6
    assert "deleted" not in str(loss.value)


def test_what_an_interrupted_reset_left_is_not_gone_on_with(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, 0)
    commit(state)
    reset = MemoryLog(shared)
    reset.fence()
    reset.commit([], [(MARKER_KEY, Marker(resetting="assay reset --roles value --from end").encode())])
    with pytest.raises(ResetUnfinished, match="run `assay reset --roles value --from end` again"):
        state.open()
    shared.sources[SOURCE] = SourceExtent(0, 10)
    reset.fence()
    reset.commit([], [(b"a", None), (MARKER_KEY, Marker({SOURCE: 7}).encode())])
    state.open()
    assert state.resume_offset(SOURCE) == 8


def test_offsets_that_begin_anew_while_reading_are_those_of_a_recreated_source(store: Store, shared: SharedLog) -> None:
    state = partition(store, shared, Counter())
    run(state, *range(100))
    with pytest.raises(SourceRecreated, match=r"offset 0 arrived after 99: .* created again while it was read, or lost its newest records"):
        state.accept(Fetched(SOURCE, [record(0, "new")], 99))


def test_records_that_retention_removed_unread_are_reported_and_work_goes_on(
    store: Store, shared: SharedLog, caplog: pytest.LogCaptureFixture
) -> None:
    state = partition(store, shared, Counter())
    run(state, 0)
    commit(state)
    shared.sources[SOURCE] = SourceExtent(5, 100)
    with caplog.at_level(logging.ERROR):
        state.open()
    assert "records 1..4 were removed by retention" in caplog.text


def test_records_that_retention_removes_while_a_worker_runs_are_reported(
    store: Store, shared: SharedLog, caplog: pytest.LogCaptureFixture
) -> None:
    removed: list[tuple[str, int]] = []
    state = partition(store, shared, Counter(), removed=lambda topic, offsets: removed.append((topic, offsets)))
    run(state, 0, 1)
    commit(state)
    state.accept(Fetched(SOURCE, [record(offset, "a") for offset in (2, 3, 50, 51)], 1))
    state.log_starts_at(OTHER, 40)
    state.log_starts_at(SOURCE, 0)
    assert not removed
    state.accept(Fetched(SOURCE, [record(100, "a")], 51))
    state.log_starts_at(SOURCE, 100)
    state.log_starts_at(SOURCE, 100)
    assert removed == [(SOURCE, 48)]
    assert "t.events/0: records 52..99 were removed by retention before they were read; raise retention.ms" in caplog.text
    state.accept(Fetched(SOURCE, [record(offset, "a") for offset in (101, 200)], 100))
    state.log_starts_at(SOURCE, 150)
    assert removed == [(SOURCE, 48), (SOURCE, 48)]


def test_a_gap_met_after_it_was_asked_where_the_log_begins_is_reported_at_the_next_look(store: Store, shared: SharedLog) -> None:
    removed: list[tuple[str, int]] = []
    state = partition(store, shared, Counter(), removed=lambda topic, offsets: removed.append((topic, offsets)))
    run(state, 0, 1)
    state.accept(Fetched(SOURCE, [record(100, "a")], 1))
    for told in (0, 100, 100):
        state.log_starts_at(SOURCE, told)
    assert removed == [(SOURCE, 98)]
    # The beginning that is told may also lie within the gap already, and the rest of it be removed by then.
    state.accept(Fetched(SOURCE, [record(200, "a")], 100))
    for told in (150, 200, 200):
        state.log_starts_at(SOURCE, told)
    assert removed == [(SOURCE, 98), (SOURCE, 49), (SOURCE, 50)]
    # What was there at two looks was read over for another reason.
    state.accept(Fetched(SOURCE, [record(300, "a")], 200))
    for told in (200, 200, 300):
        state.log_starts_at(SOURCE, told)
    assert len(removed) == 3


def test_markers_of_transactions_and_compacted_records_are_not_taken_for_removed_ones(store: Store, shared: SharedLog) -> None:
    removed: list[tuple[str, int]] = []
    state = partition(store, shared, Counter(), removed=lambda topic, offsets: removed.append((topic, offsets)))
    for offset in range(0, 20, 2):
        state.accept(Fetched(SOURCE, [record(offset, "a")], offset - 2))
    state.log_starts_at(SOURCE, 0)
    # The records around these gaps were read, and only then removed.
    state.accept(Fetched(SOURCE, [record(offset, "a") for offset in (20, 22)], 18))
    state.log_starts_at(SOURCE, 100)
    assert not removed


def test_what_was_reported_at_the_opening_is_not_reported_again(store: Store, shared: SharedLog) -> None:
    removed: list[tuple[str, int]] = []
    first = partition(store, shared, Counter())
    run(first, 0)
    commit(first)
    shared.sources[SOURCE] = SourceExtent(5, 100)
    again = partition(store, shared, Counter(), removed=lambda topic, offsets: removed.append((topic, offsets)))
    again.accept(Fetched(SOURCE, [record(5, "a")], 0))
    again.log_starts_at(SOURCE, 5)
    assert removed == [(SOURCE, 4)]


def test_a_copy_of_a_changelog_that_is_no_more_is_rebuilt_not_mixed_with_the_new_one(store: Store, shared: SharedLog) -> None:
    store.write([(b"ghost", b"1"), (MARKER_KEY, Marker({SOURCE: 50}).encode())], 400, 1_000)
    state = partition(store, shared, Counter())
    assert list(state.overlay.scan(b"")) == []
    assert state.resume_offset(SOURCE) is None


def test_a_copy_of_a_recreated_changelog_is_rebuilt_even_if_the_new_one_is_longer(shared: SharedLog, tmp_path: Path) -> None:
    def worker(log: SharedLog, name: str, changelog_id: str) -> PartitionState:
        return partition(Store.open_or_rebuild(tmp_path / name, changelog_id=changelog_id), log, Counter())

    kept = worker(shared, "kept", "first")
    run(kept, 0, 1)
    commit(kept)
    kept.overlay.store.write([(b"ghost", b"1")], len(shared.changelog), 1_000)
    kept.close()
    recreated = SharedLog()
    other = worker(recreated, "other", "second")
    for offset in range(6):
        run(other, offset)
        commit(other)
    other.close()
    again = worker(shared, "kept", "first")
    assert dict(again.overlay.scan(b"")) == {b"a": b"2", b"ghost": b"1"}
    again.close()
    kept = worker(recreated, "kept", "second")
    assert dict(kept.overlay.scan(b"")) == {b"a": b"6"}
    kept.close()
