from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.profiles import Profile, encode_profile
from streams.agents.expiry import SLICE
from streams.agents.shoppers import CLOCK_KEY, TIMER_PREFIX, Shopper, decode_handed, decode_list, encode_time
from streams.runtime.overlay import Overlay, Pending
from streams.runtime.processor import Step
from streams.runtime.store import Store
from tests.agents.pipeline import Pipeline, event, messages, outcomes

DAY_MS = 86_400_000


def visit(session: str, number: int, **fields) -> tuple[bytes, bytes]:
    return event("click", number, None, session_id=session, **fields)


def kept(worker: Pipeline) -> set[bytes]:
    """Whose state there is, by key without its prefix; of a timer without its time."""
    return {key[10:] if key.startswith(TIMER_PREFIX) else key[2:] for key in worker.snapshot()}


def days_later(worker: Pipeline, days: float, number: int) -> None:
    """Another shopper's event moves the partition's clock on."""
    worker.now_ms += int(days * DAY_MS)
    worker.send(event("click", number, "other"))


def tombstones(step: Step | None) -> list[bytes | None]:
    return [] if step is None else [output.key for output in step.outputs if (output.topic, output.value) == ("recommendations", None)]


def swept(worker: Pipeline) -> list[bytes | None]:
    """Ticks until a pass is through; the sessions withdrawn."""
    found: list[bytes | None] = []
    while (step := worker.tick()) is not None:
        assert len(tombstones(step)) <= SLICE
        found += tombstones(step)
    return found


def test_a_session_that_does_not_come_back_is_forgotten_and_its_list_withdrawn() -> None:
    worker = Pipeline(anonymous_ttl_s=30 * 86_400)
    worker.send(visit("s", 0), event("click", 1, "u"))
    days_later(worker, 29.9, 2)
    assert swept(worker) == []
    days_later(worker, 0.2, 3)
    assert swept(worker) == [b"session:s"]
    assert kept(worker) == {b"u|u", b"u|other"}
    assert swept(worker) == []  # and stays so


def test_a_session_that_came_back_stays() -> None:
    worker = Pipeline()
    worker.send(visit("s", 0), visit("t", 1))
    days_later(worker, 29, 2)
    worker.send(visit("s", 3))
    days_later(worker, 2, 4)
    assert swept(worker) == [b"session:t"]
    assert worker.profile("s", anonymous=True) is not None
    assert outcomes(worker.send(visit("s", 5)))[0].list_size > 0


def test_a_backlog_keeps_the_sessions_whose_events_wait_in_it() -> None:
    worker = Pipeline()
    worker.send(visit("s", 0))
    worker.now_ms += 20 * DAY_MS
    backlog = worker.records([visit("s", 1)])
    worker.now_ms += 20 * DAY_MS  # the worker was away for as long
    assert swept(worker) == []
    worker.process(backlog)
    assert swept(worker) == []
    assert worker.profile("s", anonymous=True).events == 2


def test_merges_that_are_read_before_a_backlog_of_events_do_not_move_the_clock() -> None:
    worker = Pipeline()
    handed = worker.merges(worker.send(event("login", 0, session_id="t")))
    worker.send(visit("s", 1))
    worker.now_ms += 40 * DAY_MS
    worker.process(worker.records([(handed[0].key, handed[0].value)], handed[0].topic))
    assert swept(worker) == []


def test_a_producers_clock_that_runs_ahead_counts_no_further_than_ours() -> None:
    worker = Pipeline()
    worker.send(visit("s", 0))
    worker.state.data[CLOCK_KEY] = encode_time(worker.now_ms + 400 * DAY_MS)
    assert swept(worker) == []


def test_records_that_carry_an_old_time_count_from_when_they_were_read() -> None:
    worker = Pipeline()
    old = worker.records([visit("s", 0)])
    days_later(worker, 60, 1)
    worker.process(old)
    assert swept(worker) == []
    days_later(worker, 31, 2)
    assert swept(worker) == [b"session:s"]


def test_event_ids_handed_over_by_a_login_expire_too() -> None:
    worker = Pipeline()
    worker.send(visit("s", 0), event("login", 1, session_id="s"))
    (key,) = [key for key in worker.state.data if key.startswith(b"h|")]
    days_later(worker, 29, 2)
    worker.tick()
    assert worker.send(visit("s", 0)).outputs == []  # sent again, counts once
    days_later(worker, 2, 3)
    assert swept(worker) == []
    assert key not in worker.state.data


def test_with_no_time_to_live_nothing_expires() -> None:
    worker = Pipeline(anonymous_ttl_s=0)
    worker.send(visit("s", 0))
    days_later(worker, 10_000, 1)
    assert worker.tick() is None
    assert b"s|s" in kept(worker)


def test_each_tick_looks_at_one_slice_and_the_next_goes_on_behind_it() -> None:
    worker = Pipeline()
    count = 2 * SLICE + 5
    worker.send(*(visit(f"s{number:04}", number) for number in range(count)))
    days_later(worker, 31, count)
    slices = []
    while (step := worker.tick()) is not None:
        slices.append(len(tombstones(step)))
    assert slices == [SLICE, SLICE, 5]
    assert kept(worker) == {b"u|other"}


@pytest.mark.parametrize("reopened", [True, False])
def test_a_deletion_that_did_not_commit_is_met_again(reopened: bool) -> None:
    worker = Pipeline()
    worker.send(*(visit(f"s{number:04}", number) for number in range(SLICE + 1)))
    days_later(worker, 31, 1_000)
    lost = worker.processor.tick(worker.state, 2, worker.now_ms + DAY_MS)
    assert len(tombstones(lost)) == SLICE
    if reopened:
        worker.processor.opened(worker.state, 2)
    else:
        assert len(swept(worker)) == 1  # what was left of the pass
        days_later(worker, 0.2, 1_001)
    found = swept(worker)
    assert len(found) == SLICE + reopened
    assert kept(worker) == {b"u|other"}


def test_a_return_that_has_not_been_committed_yet_is_seen(tmp_path: Path) -> None:
    worker = Pipeline()
    worker.send(visit("s", 0), visit("t", 1))
    days_later(worker, 31, 2)
    (tmp_path / "task").mkdir()
    store = Store(tmp_path / "task" / "2")
    store.write(worker.state.data.items(), 1, 0)
    overlay = Overlay(store)
    overlay.pending = Pending(writes=worker.attempt(worker.records([visit("s", 3)])).writes)
    step = worker.processor.tick(overlay, 2, worker.now_ms + DAY_MS)
    assert tombstones(step) == [b"session:t"]
    store.close()


def test_what_an_earlier_version_wrote_has_its_time_from_now_on() -> None:
    worker = Pipeline()
    session = Shopper("s", True)
    ids = bytes(range(16))
    worker.state.data |= {
        session.profile_key: encode_profile(Profile(events=1)),
        session.list_key: msgspec.msgpack.encode(["list-9", ["a"]]),
        session.handed_key: ids,
    }
    days_later(worker, 31, 0)
    assert swept(worker) == []
    assert decode_list(worker.state.data[session.list_key]).skus == ["a"]
    assert decode_handed(worker.state.data[session.handed_key]).event_ids == ids
    days_later(worker, 31, 1)
    assert swept(worker) == [b"session:s"]
    assert kept(worker) == {b"u|other"}


def test_equal_states_expire_alike() -> None:
    steps = []
    for _ in range(2):
        worker = Pipeline()
        worker.send(*(visit(f"s{number}", number) for number in range(3)))
        days_later(worker, 31, 4)
        steps.append(worker.tick())
    assert steps[0] == steps[1]
    assert steps[0] is not None
    assert messages(worker, "events.dead-letter") == []
