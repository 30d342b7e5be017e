from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.cooccurrence import BACKWARD, DISTANCE_DECAY, WINDOW, Cooccurrence

HALF_LIFE = 1000.0


def add(index: Cooccurrence, *items: tuple[int, int, int]) -> None:
    """(session, row, time) triples."""
    sessions, rows, times = (np.array(column) for column in zip(*items, strict=True))
    index.add(sessions.astype(np.int64), rows.astype(np.int32), times.astype(np.int64))


def brute_force(items: list[tuple[int, int, int]]) -> dict[int, dict[int, float]]:
    """What the docstring says, over plain lists."""
    origin = items[0][2] if items else 0
    origin = min((at for _, _, at in items), default=origin)
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    seen: dict[int, list[int]] = defaultdict(list)
    for session, row, at in items:
        for distance, other in enumerate(reversed(seen[session][-WINDOW:])):
            if other != row:
                met = 2.0 ** ((at - origin) / HALF_LIFE) / (1 + DISTANCE_DECAY * distance)
                counts[other][row] += met
                counts[row][other] += met * BACKWARD
        seen[session].append(row)
    return counts


def test_what_came_after_counts_more_than_what_came_before() -> None:
    index = Cooccurrence(HALF_LIFE)
    add(index, (0, 1, 0), (0, 2, 0))
    assert index.neighbours_of(1) == [(2, 1.0)]
    assert index.neighbours_of(2) == [(1, pytest.approx(BACKWARD))]


def test_items_of_different_sessions_do_not_meet() -> None:
    index = Cooccurrence(HALF_LIFE)
    add(index, (0, 1, 0), (1, 2, 0))
    assert index.neighbours_of(1) == []


def test_a_meeting_a_half_life_later_counts_twice_as_much() -> None:
    index = Cooccurrence(HALF_LIFE)
    add(index, (0, 1, 0), (0, 2, 0), (1, 1, 1000), (1, 3, 1000))
    assert index.neighbours_of(1) == [(3, 2.0), (2, 1.0)]


def test_the_weakest_neighbour_gives_way() -> None:
    index = Cooccurrence(HALF_LIFE, neighbour_limit=2)
    add(index, (0, 1, 0), (0, 2, 0), (1, 1, 1000), (1, 3, 1000), (2, 1, 2000), (2, 4, 2000))
    assert [row for row, _ in index.neighbours_of(1)] == [4, 3]


def test_years_of_event_time_do_not_overflow() -> None:
    index = Cooccurrence(HALF_LIFE)
    for step in range(40):
        add(index, (step, 1, step * 30_000), (step, 2, step * 30_000))
    ((row, weight),) = index.neighbours_of(1)
    assert row == 2
    assert np.isfinite(weight)
    rarity = index.view(3).rarity
    assert weight * rarity[1] * rarity[2] == pytest.approx(1.0, rel=1e-3)  # together whenever at all: cosine 1


items = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 5000)), max_size=60)


@given(items, st.data())
@settings(deadline=None)
def test_counts_equal_brute_force_for_any_split_into_batches(triples: list[tuple[int, int, int]], data: st.DataObject) -> None:
    index = Cooccurrence(HALF_LIFE)
    rest = triples
    # The origin is the earliest time of the first batch: keep it the same as the oracle's.
    rest = sorted(rest, key=lambda triple: triple[2])
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        add(index, *rest[:size])
        rest = rest[size:]
    expected = brute_force(sorted(triples, key=lambda triple: triple[2]))
    for row in range(7):
        assert dict(index.neighbours_of(row)) == pytest.approx(dict(expected[row]), rel=1e-4)


@given(items, st.integers(0, 3))
@settings(deadline=None)
def test_removing_a_session_leaves_what_the_others_taught(triples: list[tuple[int, int, int]], gone: int) -> None:
    if not triples:
        return
    index = Cooccurrence(HALF_LIFE)
    add(index, *triples)
    index.remove(gone)
    kept = [triple for triple in triples if triple[0] != gone]
    origin_shift = 2.0 ** ((min(at for _, _, at in kept) - min(at for _, _, at in triples)) / HALF_LIFE) if kept else 1.0
    expected = brute_force(kept)
    for row in range(7):
        want = {other: weight * origin_shift for other, weight in expected[row].items()}
        assert dict(index.neighbours_of(row)) == pytest.approx(want, rel=1e-2, abs=1e-3)
    if not kept:
        assert (index.view(7).rarity[:7] == 0).all()


def test_removing_a_session_takes_nothing_from_what_came_after_its_neighbour_gave_way() -> None:
    index = Cooccurrence(HALF_LIFE, neighbour_limit=2)
    add(index, (0, 1, 0), (0, 2, 0))
    add(index, (1, 1, 500), (1, 3, 500), (2, 1, 600), (2, 4, 600))  # stronger: 2 gives way among the neighbours of 1
    assert {row for row, _ in index.neighbours_of(1)} == {3, 4}
    add(index, (3, 1, 700), (3, 2, 700))
    others = dict(index.neighbours_of(1))
    assert 2 in others
    index.remove(0)
    assert dict(index.neighbours_of(1)) == others
    assert dict(index.neighbours_of(2)) == pytest.approx({1: 0.7 * others[2]})  # there nothing gave way
    index.remove(3)
    assert 2 not in dict(index.neighbours_of(1))
    assert index.neighbours_of(2) == []


def test_a_full_log_forgets_the_oldest_items_but_keeps_their_counts() -> None:
    index = Cooccurrence(HALF_LIFE, log_limit=1024)
    add(index, (0, 1, 0), (0, 2, 0))
    add(index, *((1, 3 + n % 5, 0) for n in range(1024)))
    assert index.oldest == 2
    assert index.last_position(0) < index.oldest
    assert (2, 1.0) in index.neighbours_of(1)
    assert index.remove(0) == 0
    add(index, (0, 9, 0))  # the session's items have left the log: it begins anew
    assert index.neighbours_of(9) == []


@settings(max_examples=60, deadline=None)
@given(gaps=st.lists(st.sampled_from([0, 1, 900, 50_000, 1_000_000, 400_000_000, -300_000]), min_size=1, max_size=12))
def test_whatever_the_clock_does_weights_stay_finite_and_positive(gaps: list[int]) -> None:
    index = Cooccurrence(HALF_LIFE)
    at = 0
    for session, gap in enumerate(gaps):
        at += gap
        add(index, (session, 1, at), (session, 2, at), (session, 3, at))
    view = index.view(4)
    for row in (1, 2, 3):
        weights = [weight for _, weight in index.neighbours_of(row)]
        assert len(weights) == 2
        assert all(np.isfinite(weight) and weight > 0 for weight in weights)
        assert np.isfinite(view.rarity[row])
        assert view.rarity[row] > 0
        cosines = [weight * view.rarity[row] * view.rarity[other] for other, weight in index.neighbours_of(row)]
        assert all(np.isfinite(cosine) for cosine in cosines)


def test_what_was_learned_years_ago_keeps_its_order() -> None:
    index = Cooccurrence(HALF_LIFE)
    add(index, (0, 1, 0), (0, 2, 0), (1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 3, 0))
    add(index, (9, 8, 400_000_000), (9, 9, 400_000_000))
    assert [row for row, _ in index.neighbours_of(1)] == [2, 3]
