from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.index.factory import create_index
from models.retrieval import similar
from models.retrieval.similar import TextNeighbours

DIMENSIONS = 8


class Shelf:
    """Vectors, an index over them, and neighbour lists that hear of every change."""

    def __init__(self, count: int, **limits: int) -> None:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((count, DIMENSIONS)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.has_vector = np.zeros(count, dtype=np.bool_)
        self.present = np.zeros(count, dtype=np.bool_)
        self.index = create_index("flat", DIMENSIONS, "cpu", 1)
        self.neighbours = TextNeighbours(self.index, **limits)

    def arrive(self, *rows: int) -> None:
        self.present[list(rows)] = self.has_vector[list(rows)] = True
        self.index.upsert(np.array(rows, dtype=np.int64), self.vectors[list(rows)])
        for row in rows:
            self.neighbours.note(row)

    def leave(self, row: int) -> None:
        self.present[row] = False
        self.index.delete(np.array([row]))
        self.neighbours.note(row)

    def sell_out(self, *rows: int) -> None:
        """They keep their vectors, and nobody is told."""
        self.present[list(rows)] = False

    def ensure(self, *anchors: int) -> None:
        self.neighbours.ensure(np.array(anchors, dtype=np.int32), self.vectors, self.has_vector, self.present)

    def listed(self, anchor: int) -> list[int]:
        view = self.neighbours.view(len(self.present))
        slot = view.slot[anchor]
        return [] if slot < 0 else [row for row in view.rows[slot].tolist() if row >= 0]

    def shown(self, anchor: int) -> list[int]:
        return [row for row in self.listed(anchor) if self.present[row]]

    def nearest(self, anchor: int, limit: int) -> list[int]:
        cosines = self.vectors @ self.vectors[anchor]
        cosines[~self.present] = -np.inf
        cosines[anchor] = -np.inf
        return [int(row) for row in np.argsort(-cosines)[:limit] if np.isfinite(cosines[row])]


def test_lists_hold_the_nearest_products_without_the_anchor_itself() -> None:
    shelf = Shelf(50, limit=5)
    shelf.arrive(*range(50))
    shelf.ensure(3, 7)
    assert shelf.listed(3) == shelf.nearest(3, 5)
    assert shelf.listed(7) == shelf.nearest(7, 5)
    assert shelf.listed(4) == []


def test_a_new_product_enters_the_lists_of_its_neighbours_before_any_merge() -> None:
    shelf = Shelf(6, limit=5)
    shelf.arrive(0, 1, 2, 3, 4)
    shelf.index.merge()
    shelf.ensure(0, 1)
    shelf.arrive(5)
    shelf.ensure(0, 1)
    assert shelf.listed(0) == shelf.nearest(0, 5)
    assert shelf.listed(1) == shelf.nearest(1, 5)


def test_a_changed_vector_moves_its_product_between_lists() -> None:
    shelf = Shelf(30, limit=29)
    shelf.arrive(*range(30))
    shelf.ensure(0)
    shelf.vectors[9] = shelf.vectors[0]
    shelf.arrive(9)
    shelf.ensure(0, 9)
    assert shelf.listed(0)[0] == 9
    assert shelf.listed(0).count(9) == 1
    assert shelf.listed(9)[0] == 0


def test_lists_older_than_the_main_part_are_searched_again_as_they_are_asked_for() -> None:
    shelf = Shelf(40, limit=5)
    shelf.arrive(*range(20))
    shelf.ensure(0)
    shelf.index.upsert(np.arange(20, 40), shelf.vectors[20:])  # nobody tells the lists
    shelf.present[:] = shelf.has_vector[:] = True
    shelf.index.merge()
    shelf.ensure(0)
    assert shelf.listed(0) == shelf.nearest(0, 5)


def test_one_batch_searches_no_more_than_its_budget_and_the_most_wanted_first() -> None:
    shelf = Shelf(40, limit=5, search_limit=8)
    shelf.arrive(*range(40))
    shelf.ensure(0)
    shelf.ensure(*range(1, 31))
    assert [anchor for anchor in range(31) if shelf.listed(anchor)] == list(range(9))
    shelf.ensure(*range(1, 31))
    assert [anchor for anchor in range(31) if shelf.listed(anchor)] == list(range(17))


def test_a_deleted_product_leaves_the_lists_of_anchors_that_are_asked_for() -> None:
    shelf = Shelf(10, limit=9)
    shelf.arrive(*range(10))
    shelf.ensure(0)
    shelf.leave(4)
    shelf.ensure(0)
    assert 4 not in shelf.listed(0)
    assert shelf.listed(0) == shelf.nearest(0, 9)


def test_a_list_that_sold_out_is_made_anew_from_what_may_be_shown() -> None:
    shelf = Shelf(60, limit=6)
    shelf.arrive(*range(60))
    shelf.ensure(0)
    for _ in range(8):
        shelf.sell_out(*shelf.shown(0))
        shelf.ensure(0)
        assert shelf.shown(0) == shelf.nearest(0, 6)


def test_a_list_that_lost_its_products_for_good_is_made_anew() -> None:
    shelf = Shelf(60, limit=6)
    shelf.arrive(*range(60))
    shelf.ensure(0)
    for row in shelf.nearest(0, 6):
        shelf.leave(row)
    shelf.ensure(0)
    assert shelf.shown(0) == shelf.nearest(0, 6)


def test_a_first_search_among_much_that_is_sold_out_finds_what_is_not() -> None:
    shelf = Shelf(60, limit=6)
    shelf.arrive(*range(60))
    shelf.sell_out(*shelf.nearest(0, 50))
    shelf.ensure(0)
    assert shelf.shown(0) == shelf.nearest(0, 6)


def test_what_cannot_be_filled_is_not_made_anew_in_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(20, limit=6)
    shelf.arrive(*range(20))
    shelf.ensure(0)
    shelf.sell_out(*range(2, 20))
    shelf.ensure(0)
    assert shelf.shown(0) == [1]
    monkeypatch.setattr(TextNeighbours, "_refill", lambda *_: pytest.fail("compared again with nothing to gain"))
    shelf.ensure(0)
    shelf.sell_out(1)
    shelf.ensure(0)
    assert shelf.shown(0) == []


def test_one_batch_makes_no_more_lists_anew_than_its_budget_and_the_most_wanted_first() -> None:
    shelf = Shelf(40, limit=5, pair_limit=80)
    shelf.arrive(*range(40))
    shelf.ensure(0, 1, 2, 3)
    shelf.sell_out(*range(4, 30))
    for row in range(4):
        shelf.sell_out(*shelf.shown(row))
    before = [anchor for anchor in range(4) if shelf.shown(anchor) != shelf.nearest(anchor, 5)]
    assert before == [0, 1, 2, 3]
    shelf.ensure(0, 1, 2, 3)
    assert [anchor for anchor in range(4) if shelf.shown(anchor) == shelf.nearest(anchor, 5)] == [0, 1]
    shelf.ensure(0, 1, 2, 3)
    assert [anchor for anchor in range(4) if shelf.shown(anchor) == shelf.nearest(anchor, 5)] == [0, 1, 2, 3]


def test_one_batch_compares_no_more_pairs_than_its_budget() -> None:
    shelf = Shelf(40, limit=5, pair_limit=20)
    shelf.arrive(*range(30))
    shelf.ensure(0, 1, 2, 3)
    shelf.arrive(*range(30, 40))
    shelf.ensure(0, 1, 2, 3)
    late = [anchor for anchor in range(4) if shelf.listed(anchor) != shelf.nearest(anchor, 5)]
    assert set(late) <= {2, 3}
    shelf.ensure(0, 1, 2, 3)
    assert [shelf.listed(anchor) for anchor in range(4)] == [shelf.nearest(anchor, 5) for anchor in range(4)]


def test_an_anchor_that_missed_too_much_is_searched_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "CHANGE_LIMIT", 4)
    shelf = Shelf(40, limit=5)
    shelf.arrive(*range(5))
    shelf.ensure(0)
    shelf.arrive(*range(5, 40))
    shelf.ensure(0)
    assert shelf.listed(0) == shelf.nearest(0, 5)


@given(st.lists(st.tuples(st.sampled_from(["arrive", "move", "leave", "sell out", "ask", "merge"]), st.integers(0, 14)), max_size=40))
@settings(deadline=None)
def test_lists_equal_an_exact_search_after_any_history(steps: list[tuple[str, int]]) -> None:
    shelf = Shelf(15, limit=14)
    random = np.random.default_rng(1)
    for step, row in steps:
        if step == "arrive":
            shelf.arrive(row)
        elif step == "move":
            vector = random.standard_normal(DIMENSIONS).astype(np.float32)
            shelf.vectors[row] = vector / np.linalg.norm(vector)
            shelf.arrive(row)
        elif step == "leave":
            shelf.leave(row)
        elif step == "sell out":
            shelf.sell_out(row)
        elif step == "merge":
            shelf.index.merge()
        elif shelf.has_vector[row]:
            shelf.ensure(row)
            assert shelf.shown(row) == shelf.nearest(row, 14)


def test_an_anchor_without_a_vector_has_no_list() -> None:
    shelf = Shelf(3)
    shelf.arrive(0, 1)
    shelf.ensure(2)
    assert shelf.listed(2) == []
