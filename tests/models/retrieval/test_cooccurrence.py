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


def test_the_room_of_items_without_neighbours_is_used_again() -> None:
    index = Cooccurrence(HALF_LIFE)
    for turn in range(30):
        rows = [100 * turn + row for row in range(100)]
        add(index, *((0, row, 0) for row in rows))
        assert len(index.neighbours_of(rows[50])) == 40  # 20 on each side
        if turn % 2:
            assert index.remove(0) == 200
        else:
            add(index, *((1 + row, 50_000 + row, 0) for row in rows))  # alone in their sessions
    assert len(index.view(1).sizes) == 1024
    add(index, (0, 1, 0), (0, 2, 0))
    assert index.neighbours_of(1) == [(2, 1.0)]


def test_a_batch_of_more_items_than_there_is_room_for_is_learned_whole() -> None:
    index = Cooccurrence(HALF_LIFE)
    add(index, *((row // 2, row, 0) for row in range(5_000)))
    assert [index.neighbours_of(row) for row in (0, 2_500, 4_998)] == [[(1, 1.0)], [(2_501, 1.0)], [(4_999, 1.0)]]


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


# -- Sources that count less ---------------------------------------------------------------------------------------------

#: What three sources count, at one time and at another.
WEIGHTS = [np.array(weights, np.float32) for weights in ([1, 1, 1], [1, 0.5, 0], [0.25, 1, 0], [0, 0, 0])]


def say(index: Cooccurrence, weights: np.ndarray, *items: tuple[int, int, int]) -> None:
    """(session, row, source) triples, all at one time."""
    sessions, rows, sources = (np.array(column) for column in zip(*items, strict=True))
    index.add(sessions.astype(np.int64), rows.astype(np.int32), np.zeros(len(rows), np.int64), sources.astype(np.int32), weights)


def shown(index: Cooccurrence, rows: int) -> tuple[dict[tuple[int, int], float], list[float]]:
    """What the ranking loop sees: the weights of pairs above 0, and what each item counts."""
    view = index.view(rows)
    pairs = {}
    for row in range(rows):
        slot = view.slot[row]
        for place in range(view.sizes[slot] if slot >= 0 else 0):
            if view.weights[slot, place] > 0:
                pairs[row, int(view.rows[slot, place])] = float(view.weights[slot, place])
    return pairs, [float(rarity) ** -2 if rarity > 0 else 0.0 for rarity in view.rarity[:rows]]


def counted_by_hand(
    held: dict[int, list[tuple[int, int]]], weights: np.ndarray, rows: int
) -> tuple[dict[tuple[int, int], float], list[float]]:
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    counts = [0.0] * rows
    for items in held.values():
        for place, (row, source) in enumerate(items):
            counts[row] += float(weights[source])
            for distance, (other, other_source) in enumerate(reversed(items[max(0, place - WINDOW) : place])):
                if other != row:
                    met = min(float(weights[source]), float(weights[other_source])) / (1 + DISTANCE_DECAY * distance)
                    pairs[other, row] += met
                    pairs[row, other] += met * BACKWARD
    return {pair: weight for pair, weight in pairs.items() if weight > 0}, counts


@settings(deadline=None)  # the loops are compiled in the first example
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 3), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=5)),
            st.tuples(st.just("weigh"), st.integers(0, 3), st.just([])),
            st.tuples(st.just("remove"), st.integers(0, 3), st.just([])),
        ),
        max_size=25,
    ),
    st.integers(0, 3),
)
def test_what_items_count_is_a_function_of_the_log_and_of_the_weights_of_the_moment(steps, last) -> None:
    index, never = Cooccurrence(HALF_LIFE, with_sources=True), Cooccurrence(HALF_LIFE)
    weights, held = WEIGHTS[0], defaultdict(list)
    for step, number, items in [*steps, ("weigh", last, [])]:
        if step == "add":
            say(index, weights, *((number, row, source) for row, source in items))
            add(never, *((number, row, 0) for row, _ in items))
            held[number] += items
        elif step == "remove":
            assert index.remove(number) == never.remove(number) == len(held.pop(number, []))
        else:
            weights = WEIGHTS[number]
            index.weigh(weights)
        pairs, counts = counted_by_hand(held, weights, 6)
        found, found_counts = shown(index, 6)
        assert found == pytest.approx(pairs, rel=1e-3)
        assert found_counts == pytest.approx(counts, rel=1e-3)
        # What is kept of the log does not know of weights.
        assert [index.neighbours_of(row) for row in range(6)] == [never.neighbours_of(row) for row in range(6)]
    if last == 0:
        assert shown(index, 6) == shown(never, 6)


def test_which_neighbours_are_kept_does_not_depend_on_what_sources_count() -> None:
    lists = []
    for weights in WEIGHTS[:2]:
        index = Cooccurrence(HALF_LIFE, neighbour_limit=2, with_sources=True)
        index.weigh(weights)
        say(index, weights, (0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2), (2, 1, 1), (2, 3, 1), (3, 1, 0), (3, 4, 0))
        lists.append([row for row, _ in index.neighbours_of(1)])
        found = {pair: weight for pair, weight in shown(index, 5)[0].items() if pair[0] == 1}
    assert lists[0] == lists[1] == [2, 4]
    assert found == {(1, 4): 1.0}


def test_a_source_is_discounted_on_the_scale_of_the_moment() -> None:
    """After years the scale is another one, and what is no longer in the log counts in full."""
    index = Cooccurrence(HALF_LIFE, log_limit=2_048, with_sources=True)
    weights = WEIGHTS[1]
    for turn, at in enumerate((0, 50_000)):
        items = np.array([1, 2, 1, 3], np.int32)
        sources = np.array([0, 0, 2, 2], np.int32)
        index.add(np.array([0, 0, 1, 1]) + 2 * turn, items, np.full(4, at), sources, weights)
        index.weigh(weights)
    pairs, counts = shown(index, 4)
    assert pairs == {(1, 2): pytest.approx(1.0), (2, 1): pytest.approx(BACKWARD)}
    assert counts == pytest.approx([0.0, 1.0, 1.0, 0.0])
    rows, at_ms, sources = index.held()
    assert rows.tolist() == [1, 2, 1, 3] * 2
    assert at_ms.tolist() == pytest.approx([0.0] * 4 + [50_000.0] * 4)
    assert sources.tolist() == [0, 0, 2, 2] * 2
    for session in range(600):
        say_at = np.full(4, 50_000)
        index.add(np.full(4, 10 + session), np.array([7, 8, 7, 8], np.int32), say_at, np.zeros(4, np.int32), weights)
    index.weigh(weights)
    assert shown(index, 4)[0] == {
        (1, 2): pytest.approx(1.0), (2, 1): pytest.approx(BACKWARD), (1, 3): pytest.approx(1.0), (3, 1): pytest.approx(BACKWARD),
    }  # fmt: skip
