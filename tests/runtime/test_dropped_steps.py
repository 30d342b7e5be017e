"""A processor that trusts its memory is told of every step that was dropped, however steps, commits, fences and rebalances interleave."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.runtime.errors import Fenced
from streams.runtime.partition import Fetched, PartitionState
from streams.runtime.store import Store
from tests.runtime.brokerlog import MemoryLog, SharedLog
from tests.runtime.processors import SOURCE, CachingCounter, record

#: ``open``: a rebalance in which the partition stays, or the second opening after a fence. ``fence``: the broker ends the epoch.
ACTIONS = st.lists(st.sampled_from(["step", "step", "take", "commit", "open", "fence"]), max_size=25)


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS)
def test_a_cache_holds_what_the_state_holds_whatever_was_dropped(tmp_path_factory: pytest.TempPathFactory, actions: list[str]) -> None:
    shared, processor = SharedLog(), CachingCounter()
    store = Store(tmp_path_factory.mktemp("dropped") / "0")
    state = PartitionState(0, store, MemoryLog(shared), processor, {SOURCE: "events"}, clock=lambda: 1_000)
    in_flight = None

    def open_again() -> None:
        state.open()
        state.opened()
        state.start_reading(SOURCE, state.resume_offset(SOURCE) or 0)

    open_again()
    for action in [*actions, "open", "step", "take", "commit"]:
        if action == "step":
            offset = state._position.get(SOURCE, -1) + 1
            state.accept(Fetched(SOURCE, [record(offset, "a")], offset - 1))
            state.step()
        elif action == "take" and in_flight is None:
            in_flight = state.take()
        elif action == "commit" and in_flight is not None:
            try:
                state.commit(in_flight)
            except Fenced:
                open_again()
            in_flight = None
        elif action == "open":
            open_again()
            in_flight = None
        elif action == "fence":
            shared.epoch += 1
        assert processor.cache == dict(state.overlay.scan(b""))
    counts = [int(output.value.partition(b"@")[0]) for output in shared.outputs if output.value is not None]
    assert counts == list(range(1, len(counts) + 1))
    store.close()
