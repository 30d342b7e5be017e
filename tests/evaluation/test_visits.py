from __future__ import annotations

from streams.evaluation.visits import visits_of
from streams.replay.record import ReplayEvent
from tests.evaluation.test_prequential import clicks

GAP_MS = 1_800_000


def names(events: list[ReplayEvent]) -> list[list[str]]:
    skus, visits = visits_of(events, GAP_MS)
    return [[skus[row] for row in visits[number]] for number in range(len(visits))]


def later(event: ReplayEvent, minutes: float) -> ReplayEvent:
    return ReplayEvent(event.key, event.value, event.at_ms + int(minutes * 60_000), event.kind)


def test_visits_begin_with_a_shopper_or_after_a_pause_and_keep_their_order() -> None:
    first, other, again, after = clicks(("u", "a"), ("v", "b"), ("u", "c"), ("u", "a"))
    assert names([first, other, again, later(after, 31)]) == [["a", "c"], ["b"], ["a"]]
    assert names([first, other, again, later(after, 29)]) == [["a", "c", "a"], ["b"]]


def test_an_item_touched_twice_in_a_row_counts_once() -> None:
    assert names(clicks(("u", "a"), ("u", "a"), ("u", "b"), ("u", "a"))) == [["a", "b", "a"]]


def test_what_is_no_touch_of_an_item_is_passed_over() -> None:
    (good,) = clicks(("u", "a"))
    broken = [ReplayEvent(b"u", value, good.at_ms, "click") for value in (b"{", b"[]", b'{"type":"click","sku":"a"}', b'{"type":"search"}')]
    assert names([*broken, good]) == [["a"]]
    assert names([]) == []
