"""Neighbours of a test: the order of the model that serves, and what a window says does not depend on how it came about."""

from __future__ import annotations

import doctest
import importlib
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.session_index import SessionIndex
from models.retrieval.session_lines import SESSION_LIMIT
from models.retrieval.session_votes import SessionParameters
from models.valuation.neighbours import EmbeddingNeighbours, SessionNeighbours

#: Votes say no more than how similar the session is that casts them.
BARE = SessionParameters(
    recent=50, neighbours=1_000, length=0.5, age_half_life=50_000.0,
    forward=1e12, backward=1e12, backward_weight=1.0, rarity=0.0, repeat=1.0,
)  # fmt: skip
#: Of each session one item that no other holds, so that its votes can be told from others'.
MARK = 100

Step = tuple[int, int, int]  # session (negative: its shopper is erased), item, second
STEPS = st.lists(st.tuples(st.integers(-3, 11), st.integers(0, 8), st.integers(0, 90)), max_size=80)
ANCHORS = st.lists(st.integers(0, 8), min_size=1, max_size=5, unique=True)


def shopper_of(session: int) -> str:
    return f"u{session % 4}"


@dataclass
class Fed:
    """A window, and the steps that made what it must hold, in their order; ``held``: the sessions, in theirs."""

    window: SessionNeighbours
    parameters: SessionParameters
    capacity: int
    log: list[Step] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def take(self, step: Step) -> None:
        session, item, at = step
        if session < 0:
            shopper = f"u{-session}"
            gone = [one for one in self.held if shopper_of(one) == shopper]
            assert self.window.erase(shopper) == len(gone)
            self._drop(gone)
            return
        if not self.window.extend(f"s{session}", item, 1_000 * at):
            assert session not in self.held
            self.window.add(f"s{session}", shopper_of(session), [MARK + session, item], 1_000 * at, [session % 3])
            self.held.append(session)
            if len(self.held) > self.capacity:
                self._drop(self.held[:1])
        self.log.append(step)

    def _drop(self, gone: list[int]) -> None:
        self.held = [one for one in self.held if one not in gone]
        self.log = [step for step in self.log if step[0] not in gone]

    def ask(self, anchors: list[int], own: int, label: int) -> tuple[list[int], list[bool], list[int], list[int]]:
        """What the window says, by sessions instead of ids."""
        found = self.window.neighbours(None if own < 0 else f"s{own}", None if own < 0 else shopper_of(own), anchors, label, 100_000)
        session = dict(zip(self.window.ids.tolist(), self.held, strict=True))
        rows, beyond, out = ([session[row] for row in ids.tolist()] for ids in (found.rows, found.beyond, found.left_out))
        return rows, found.match.tolist(), beyond, out

    def similar(self, anchors: list[int], own: int) -> dict[int, float]:
        """Similarity by session, as the serving index has it."""
        index = SessionIndex(self.parameters)
        begun: set[int] = set()
        for session, item, at in self.log:
            items = [item] if session in begun else [MARK + session, item]
            begun.add(session)
            index.add(np.full(len(items), session), np.array(items, np.int32), np.full(len(items), 1_000 * at))
        weights = np.array([[0.7**place for place in range(len(anchors))]], np.float32)
        votes = index.vote(np.array([anchors], np.int32), weights, np.array([own]), np.array([100_000]), 300)
        return {row - MARK: score for row, score in zip(votes.rows[0].tolist(), votes.scores[0].tolist(), strict=True) if row >= MARK}


def fed(steps: list[Step], *, capacity: int = 100, head: int = 50, recent: int = 50) -> Fed:
    parameters = BARE._replace(recent=recent)
    made = Fed(SessionNeighbours(capacity, parameters, head=head, dimensions=1), parameters, capacity)
    for step in steps:
        made.take(step)
    assert len(made.window) == len(made.held)
    return made


@settings(deadline=None)
@given(STEPS, ANCHORS, st.integers(-1, 11), st.integers(0, 9), st.integers(1, 12), st.integers(1, 6), st.integers(1, 12))
def test_rows_are_the_serving_models_own_neighbours_in_its_own_order(
    steps: list[Step], anchors: list[int], own: int, label: int, head: int, recent: int, capacity: int
) -> None:
    made = fed(steps, head=head, recent=recent, capacity=capacity)
    out = [one for one in made.held if own >= 0 and shopper_of(one) == shopper_of(own)]
    similar = {one: value for one, value in made.similar(anchors, own).items() if one not in out}
    nearest = sorted(similar, key=lambda one: (-similar[one], made.held.index(one)))[:head]
    holds = {session for session, item, _ in made.log if item == label}
    rows, match, beyond, left_out = made.ask(anchors, own, label)
    assert rows == nearest
    assert match == [session in holds for session in nearest]
    assert beyond == [one for one in made.held if one in holds and one not in nearest and one not in out]
    assert left_out == out


@settings(deadline=None)
@given(STEPS, ANCHORS, st.integers(-1, 11), st.integers(0, 9), st.integers(1, 12))
def test_what_a_window_says_depends_on_what_it_holds_alone(
    steps: list[Step], anchors: list[int], own: int, label: int, capacity: int
) -> None:
    made = fed(steps, capacity=capacity)
    fresh = fed(made.log, capacity=capacity)
    assert fresh.held == made.held
    assert fresh.ask(anchors, own, label) == made.ask(anchors, own, label)
    # Asking leaves no trace either.
    assert fresh.ask(anchors, own, label) == made.ask(anchors, own, label)
    assert fresh.window.totals(0).tolist() == made.window.totals(0).tolist()
    assert made.window.assets(made.window.ids)[:, 0].tolist() == [one % 3 for one in made.held]


def test_memory_of_items_and_rows_that_are_gone_is_used_again() -> None:
    window = SessionNeighbours(50)
    for number in range(5_000):
        window.add(f"s{number}", f"u{number}", [f"a{number}", f"b{number % 7}"], 0)
    assert window.ids.tolist() == list(range(4_950, 5_000))
    assert len(window._item_names) <= 60
    assert len(window._nodes) < 400
    assert len(window._rows.slot_by_place) <= 256
    assert window.erase("u4999") == 1
    assert window.erase("u0") == 0
    assert "s4998" in window
    assert "s4999" not in window
    assert not window.extend("s4999", "a1", 0)


def test_of_a_long_session_as_many_items_count_as_the_index_holds() -> None:
    window = SessionNeighbours(2)
    window.add("s", "u", range(SESSION_LIMIT), 0)
    assert window.extend("s", 7, 5_000)
    assert window.extend("s", "late", 9_000)
    assert window.neighbours(None, None, [7], 11, 0).match.tolist() == [True]
    assert window.neighbours(None, None, [7], "late", 0).match.tolist() == [False]
    assert window.neighbours(None, None, ["late"], 7, 0).beyond.tolist() == [0]


def test_anchors_weigh_less_one_after_the_other_or_what_the_caller_says() -> None:
    window = SessionNeighbours(10)
    window.add("older", "a", ["x"], 0)
    window.add("newer", "b", ["y"], 0)
    assert window.neighbours(None, None, ["y", "y", "x"], "z", 0).rows.tolist() == [1, 0]
    assert window.neighbours(None, None, ["y", "x"], "z", 0, [0.5, 0.5]).rows.tolist() == [0, 1]
    assert window.neighbours(None, None, [*"abcdefghi", "x"], "z", 0).rows.tolist() == []
    with pytest.raises(ValueError, match="shorter"):
        window.neighbours(None, None, ["y", "x"], "z", 0, [0.5])


def unit(numbers: list[list[int]]) -> np.ndarray:
    vectors = np.array(numbers, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any), min_size=1, max_size=40)


@settings(deadline=None)
@given(VECTORS, st.data(), st.integers(1, 12), st.integers(1, 40))
def test_embeddings_are_ordered_by_inner_product_ties_by_id(
    numbers: list[list[int]], data: st.DataObject, head: int, capacity: int
) -> None:
    vectors = unit(numbers)
    labels = data.draw(st.lists(st.booleans(), min_size=len(vectors), max_size=len(vectors)))
    window = EmbeddingNeighbours(capacity, 3, head=head, asset_dimensions=1)
    for number, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
        window.add(f"s{number % 9}", f"u{number % 5}", vector, label, [number % 2])
    gone = set(range(len(vectors) - capacity)) | {number for number in range(len(vectors)) if number % 5 == 3}
    window.erase("u3")
    held = [number for number in range(len(vectors)) if number not in gone]
    assert window.ids.tolist() == held
    assert window.assets(window.ids)[:, 0].tolist() == [number % 2 for number in held]
    found = window.neighbours("s2", "u1", vectors[0], True)
    out = [number for number in held if number % 9 == 2 or number % 5 == 1]
    # What FAISS makes of an inner product may differ in the last bit, but not between equal vectors.
    near = found.rows.tolist()
    scores = vectors @ vectors[0]
    rest = [number for number in held if number not in out]
    assert len(near) == min(head, len(rest))
    assert sorted(scores[near])[::-1] == pytest.approx(sorted(scores[rest])[::-1][: len(near)], abs=1e-5)
    for first, second in pairwise(near):
        assert scores[first] >= scores[second] - 1e-5
        if numbers[first] == numbers[second]:
            assert first < second
    for number in rest:
        if number not in near and any(numbers[number] == numbers[other] for other in near):
            assert number > max(other for other in near if numbers[other] == numbers[number])
    assert found.match.tolist() == [labels[number] for number in near]
    assert found.beyond.tolist() == [number for number in rest if labels[number] and number not in near]
    assert found.left_out.tolist() == out


@pytest.mark.parametrize("dimensions", [3, 64, 384])
def test_rows_of_equal_vectors_keep_their_order_however_the_index_has_them(dimensions: int) -> None:
    chance = np.random.default_rng(dimensions)
    kinds = chance.standard_normal((9, dimensions)).astype(np.float16).astype(np.float32)
    queries = [*kinds[:3], *chance.standard_normal((3, dimensions)).astype(np.float16).astype(np.float32)]
    window = EmbeddingNeighbours(2_500, dimensions, head=700)
    held: list[tuple[int, str, int]] = []

    def add(target: EmbeddingNeighbours, number: int, shopper: str, kind: int) -> None:
        target.add(f"s{number}", shopper, kinds[kind], kind % 2 == 0)

    for number in range(9_000):
        row = number, f"u{number % 40}", int(chance.integers(len(kinds)))
        add(window, *row)
        held = [*held, row][-2_500:]
        if number % 300 == 299:
            gone = f"u{chance.integers(40)}"
            window.erase(gone)
            held = [one for one in held if one[1] != gone]
        if number % 1_800 != 1_799:
            continue
        # One that was filled anew has the same rows, numbered anew, in other parts of its index.
        again = EmbeddingNeighbours(2_500, dimensions, head=700)
        for one in held:
            add(again, *one)
        rest = [place for place, (_, shopper, _) in enumerate(held) if shopper != "u7"]
        for query in queries:
            near = {kind: float(vector @ query) for kind, vector in enumerate(kinds)}
            wanted = sorted(rest, key=lambda place: (-near[held[place][2]], place))[:700]
            for one in (window, again):
                found = one.neighbours(None, "u7", query, True)
                assert np.searchsorted(one.ids, found.rows).tolist() == wanted
                assert found.match.tolist() == [held[place][2] % 2 == 0 for place in wanted]
    assert window._index.generation > again._index.generation


def test_a_window_of_one_and_of_nothing() -> None:
    sessions = SessionNeighbours(1)
    nothing = sessions.neighbours("s", "u", ["a"], "a", 0)
    assert [column.tolist() for column in nothing] == [[], [], [], []]
    sessions.add("s", "u", ["a"], 0)
    sessions.add("t", "v", ["a"], 0)
    assert sessions.neighbours(None, None, ["a"], "a", 0).rows.tolist() == [1]
    embeddings = EmbeddingNeighbours(1, 2)
    assert [column.tolist() for column in embeddings.neighbours(None, None, np.ones(2, np.float32), True)] == [[], [], [], []]
    for name in "st":
        embeddings.add(name, name, np.array([1, 0], np.float32), False)
    assert embeddings.neighbours(None, None, np.ones(2, np.float32), True).match.tolist() == [False]
    with pytest.raises(ValueError, match="at least 1"):
        SessionNeighbours(0)
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddingNeighbours(1, 2, head=0)
    with pytest.raises(ValueError, match="1 assets, got 0"):
        SessionNeighbours(1, dimensions=1).add("s", "u", ["a"], 0)


@pytest.mark.parametrize("module", ["neighbours", "window_rows"])
def test_the_examples_in_the_documentation_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"models.valuation.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)
