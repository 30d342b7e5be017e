from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.session_index import SessionIndex
from models.retrieval.session_lines import POSTING_LIMIT, SESSION_LIMIT
from models.retrieval.session_votes import BLENDED, REACH, SessionParameters, Votes

Clicks = list[tuple[int, int, int]]  # session, row, time
PLAIN = SessionParameters(
    recent=100, neighbours=100, length=0.5, age_half_life=50_000.0, forward=2.0, backward=1.0, backward_weight=0.5, rarity=0.7, repeat=0.4
)


def taught(clicks: Clicks, parameters: SessionParameters = PLAIN) -> SessionIndex:
    index = SessionIndex(parameters)
    add(index, clicks)
    return index


def add(index: SessionIndex, clicks: Clicks) -> None:
    index.add(
        np.array([click[0] for click in clicks], np.int64),
        np.array([click[1] for click in clicks], np.int32),
        np.array([1_000 * click[2] for click in clicks], np.int64),
    )


def ask(index: SessionIndex, anchors: list[tuple[int, float]], *, own: int = -1, now: int = 100, limit: int = 50) -> Votes:
    return index.vote(
        np.array([[row for row, _ in anchors]], np.int32),
        np.array([[weight for _, weight in anchors]], np.float32),
        np.array([own], np.int64),
        np.array([1_000 * now], np.int64),
        limit,
    )


def listed(votes: Votes) -> dict[int, float]:
    size = int(votes.sizes[0])
    return dict(zip(votes.rows[0, :size].tolist(), votes.scores[0, :size].tolist(), strict=True))


def by_definition(clicks: Clicks, anchors: list[tuple[int, float]], own: int, now: int, parameters: SessionParameters) -> dict[int, float]:
    """Scores by the words of the docstrings, without an index. Times in seconds."""
    sessions: dict[int, list[int]] = defaultdict(list)
    newest: dict[int, int] = {}
    for session, row, at in clicks:
        sessions[session].append(row)
        newest[session] = max(newest.get(session, at), at)
    frequency = {row: sum(row in rows for rows in sessions.values()) for _, row, _ in clicks}
    scores: dict[int, float] = defaultdict(float)
    for session, rows in sessions.items():
        shared = [(row, weight) for row, weight in anchors if row in rows]
        if session == own or not shared:
            continue
        similarity = sum(weight for _, weight in shared) / len(rows) ** parameters.length
        similarity *= 2.0 ** (-max(0, now - newest[session]) * 1_000 / parameters.age_half_life)
        matched = max(place for place, row in enumerate(rows) if row == shared[0][0])
        for place, row in enumerate(rows):
            if abs(place - matched) > REACH:
                continue
            if place > matched:
                scores[row] += similarity * math.exp(-(place - matched) / parameters.forward)
            elif place < matched:
                scores[row] += similarity * parameters.backward_weight * math.exp(-(matched - place) / parameters.backward)
            else:
                scores[row] += similarity
    for row in scores:
        if row in dict(anchors):
            scores[row] *= parameters.repeat
        scores[row] /= frequency[row] ** parameters.rarity
    return scores


CLICK = st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(0, 90))
CLICKS = st.lists(CLICK, min_size=1, max_size=80)
ANCHORS = st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True).map(
    lambda rows: [(row, 1.0 / (place + 1)) for place, row in enumerate(rows)]
)


@settings(deadline=None)
@given(clicks=CLICKS, anchors=ANCHORS, own=st.integers(-1, 9))
def test_scores_are_those_of_the_definition(clicks: Clicks, anchors: list[tuple[int, float]], own: int) -> None:
    expected = by_definition(clicks, anchors, own, 100, PLAIN)
    found = listed(ask(taught(clicks), anchors, own=own))
    assert found == pytest.approx(expected, rel=1e-4)
    scores = list(found.values())
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None)
@given(steps=st.lists(CLICK | st.integers(0, 9), max_size=120), anchors=ANCHORS)
def test_a_session_taken_back_leaves_no_trace(steps: list[tuple[int, int, int] | int], anchors: list[tuple[int, float]]) -> None:
    index = SessionIndex(PLAIN)
    kept: Clicks = []
    for step in steps:
        if isinstance(step, int):
            held = [click for click in kept if click[0] == step]
            assert index.remove(step) == len(held)
            kept = [click for click in kept if click[0] != step]
        else:
            add(index, [step])
            kept.append(step)
    fresh = taught(kept)
    assert len(index) == len(fresh) == len({click[0] for click in kept})
    for number in range(12):
        assert index.items_of(number) == fresh.items_of(number)
        assert index.sessions_of(number) == fresh.sessions_of(number)
    assert listed(ask(index, anchors)) == listed(ask(fresh, anchors))


@settings(deadline=None)
@given(clicks=CLICKS, cut=st.integers(0, 80), anchors=ANCHORS)
def test_it_does_not_matter_how_the_stream_was_cut(clicks: Clicks, cut: int, anchors: list[tuple[int, float]]) -> None:
    whole, parts = taught(clicks), taught(clicks[:cut])
    add(parts, clicks[cut:])
    assert listed(ask(whole, anchors)) == listed(ask(parts, anchors))


def test_only_the_newest_sessions_of_an_item_are_looked_at() -> None:
    clicks = [(number, row, number) for number in range(30) for row in (0, 1 + number)]
    found = listed(ask(taught(clicks, PLAIN._replace(recent=5)), [(0, 1.0)]))
    assert set(found) == {0, *range(26, 31)}


def test_only_the_most_similar_sessions_vote() -> None:
    near = [(0, 0, 0), (0, 1, 0), (0, 7, 0)]
    far = [(number, row, 0) for number in range(1, 9) for row in (0, 10 + number, 20 + number)]
    found = listed(ask(taught(near + far, PLAIN._replace(neighbours=1)), [(0, 1.0), (1, 0.5)]))
    assert set(found) == {0, 1, 7}


def test_the_oldest_quarter_of_a_popular_items_sessions_gives_way() -> None:
    index = taught([(number, 0, number) for number in range(POSTING_LIMIT + 1)])
    assert index.sessions_of(0) == list(range(POSTING_LIMIT // 4, POSTING_LIMIT + 1))


def test_a_bot_teaches_no_more_than_a_long_session() -> None:
    index = taught([(0, row % 5_000, row) for row in range(10_000)] + [(1, 0, 5), (1, 6_000, 6)])
    assert len(index.items_of(0)) == SESSION_LIMIT
    assert index.sessions_of(SESSION_LIMIT) == []
    assert 6_000 in listed(ask(index, [(0, 1.0)]))
    assert index.remove(0) == SESSION_LIMIT
    assert index.sessions_of(0) == [1]


def test_votes_reach_so_far_and_no_farther() -> None:
    middle = SESSION_LIMIT // 2
    index = taught([(0, row, row) for row in range(SESSION_LIMIT)], PLAIN._replace(forward=50.0, backward=50.0))
    assert sorted(listed(ask(index, [(middle, 1.0)], limit=SESSION_LIMIT))) == list(range(middle - REACH, middle + REACH + 1))


def test_room_is_used_again() -> None:
    index = SessionIndex(PLAIN)
    for round_ in range(200):
        add(index, [(number, row, round_) for number in range(50) for row in range(number % 12, number % 12 + 6)])
        size = index.nbytes
        for number in range(50):
            index.remove(number)
        assert round_ < 2 or index.nbytes == size
    assert len(index) == 0
    assert index.nbytes < 2_000_000


def test_room_is_that_of_the_sessions_held_whatever_items_they_were_of() -> None:
    index = SessionIndex(PLAIN)
    ask(index, [(12_000, 1.0)])  # room for all the items themselves
    sizes = []
    for fashion in range(12):
        for number in range(400):  # 200 are held throughout
            index.remove((number + 200) % 400)
            add(index, [(number, 1_000 * fashion + row, number) for row in (0, 1 + number % 7, 10 + number % 40, 100 + number % 150)])
        sizes.append(index.nbytes)
    assert len(index) == 200
    assert sizes[2:] == sizes[2:3] * 10
    assert index.sessions_of(0) == []
    assert index.sessions_of(11_000) == list(range(200, 400))


@pytest.mark.parametrize("seed", range(3))
def test_lists_that_grew_and_shrank_are_those_of_the_sessions_held(seed: int) -> None:
    """Through all sizes that a list of sessions may have, up and down."""
    rng = np.random.default_rng(seed)
    index = SessionIndex(PLAIN)
    held: dict[int, list[int]] = {}
    for wanted in (240, 20, 90, 3, 0, 250, 60):
        while len(held) != wanted:
            number = int(rng.integers(0, 1_000))
            if len(held) > wanted:
                number = int(rng.choice(list(held)))
                index.remove(number)
                del held[number]
            elif number not in held:
                held[number] = sorted({0, int(rng.integers(1, 3)), int(rng.integers(3, 30))})
                add(index, [(number, row, 0) for row in held[number]])
        for row in range(30):
            assert index.sessions_of(row) == [number for number, rows in held.items() if row in rows]


def test_what_was_never_seen_has_no_neighbours() -> None:
    index = taught([(0, 0, 0), (0, 1, 0)])
    assert listed(ask(index, [(1_000_000, 1.0)])) == {}
    assert listed(ask(SessionIndex(), [(3, 1.0)])) == {}
    assert index.items_of(77) == index.sessions_of(5_000) == []


def test_the_reason_is_the_anchor_that_most_of_the_score_came_through() -> None:
    index = taught([(0, 0, 0), (0, 5, 0), (1, 1, 0), (1, 6, 0), (2, 1, 0), (2, 6, 0), (3, 9, 0)])
    votes = ask(index, [(0, 1.0), (1, 0.9)])
    why = dict(zip(votes.rows[0].tolist(), votes.because[0].tolist(), strict=True))
    assert (why[5], why[6]) == (0, 1)


def test_shoppers_do_not_see_each_other() -> None:
    """Scratch space is used from shopper to shopper; each must get what they would get alone."""
    index = taught([(number, row, 0) for number in range(40) for row in (number % 7, number % 5 + 7, number)])
    anchors = np.array([[row, (row + 3) % 40] for row in range(40)], np.int32)
    weights = np.tile(np.array([1.0, 0.5], np.float32), (40, 1))
    own, now = np.arange(40, dtype=np.int64), np.full(40, 10, np.int64)
    together = index.vote(anchors, weights, own, now, 10)
    for row in range(40):
        part = slice(row, row + 1)
        alone = index.vote(anchors[part], weights[part], own[part], now[part], 10)
        assert alone.rows.tolist() == together.rows[part].tolist()
        assert alone.scores.tolist() == together.scores[part].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_traced_votes_are_those_that_were_cast(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = SessionIndex(BLENDED._replace(neighbours=40, recent=30))
    sessions = np.sort(rng.integers(0, 200, 2_000))
    index.add(sessions, rng.integers(0, 60, 2_000).astype(np.int32), np.arange(2_000) * 1_000)
    anchors = np.stack([rng.permutation(60)[:4] for _ in range(5)]).astype(np.int32)
    weights = np.tile(np.array([1.0, 0.7, 0.49, 0.343], dtype=np.float32), (5, 1))
    own, now = np.array([-1, 3, 5, -1, 199]), np.full(5, 2_000_000)
    votes = index.vote(anchors, weights, own, now, 20)
    found = index.trace(anchors, weights, own, now, votes.rows, 60)
    rarity = index._rarity[votes.rows]
    np.testing.assert_allclose(found.totals * rarity, votes.scores, rtol=1e-4)
    np.testing.assert_allclose(found.values.sum(axis=2), found.totals, rtol=1e-4)
    assert (np.diff(found.values, axis=2) <= 0).all()
    for i in range(5):
        assert own[i] < 0 or own[i] not in found.sessions[i]
        for k, row in enumerate(votes.rows[i].tolist()):
            carriers = [number for number in found.sessions[i, k].tolist() if number >= 0]
            assert len(carriers) == len(set(carriers)) > 0
            assert all(row in index.items_of(number) for number in carriers)
    few = index.trace(anchors, weights, own, now, votes.rows, 2)
    np.testing.assert_array_equal(few.sessions, found.sessions[:, :, :2])
    np.testing.assert_allclose(few.totals, found.totals, rtol=1e-5)
