"""The one compiled pass beside the functions whose arithmetic it is: equal to the last bit, on windows of any shape."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import digamma

from models.valuation.asset_game import PLAYER_LIMIT, asset_game, leave_one_out
from models.valuation.games import COLUMNS, play
from models.valuation.row_table import RowTable, share_out
from models.valuation.truncation import truncated, vote
from models.valuation.worth import QUANTUM, ROW_QUANTUM

DIMENSIONS = 2
BOUNDS_MS = np.array([1_000, 60_000], np.int64)
#: Assets by number: all rows, three ages, then of each dimension the one that stands for others, and its own.
EVERYTHING, FIRST_AGE, OTHERS = 0, 1, (4, 5)


class Window:
    """Rows of one to four events each. ``names``: the dimension of each asset, -1, 0, 1 or (age) 2."""

    def __init__(self, seed: int, rows: int, assets: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.dimension_of = np.array([-1, 2, 2, 2, 0, 1, *self.chance.integers(0, DIMENSIONS, assets)], np.int64)
        self.place_of = self.chance.permutation(len(self.dimension_of)).astype(np.int64)
        self.table = RowTable(DIMENSIONS)
        self.table.reserve(len(self.dimension_of))
        self.now_ms = 200_000
        for _ in range(rows):
            slot = self.table.new()
            for _ in range(int(self.chance.integers(1, 5))):
                event = [int(self.chance.choice(np.flatnonzero(self.dimension_of == d))) for d in range(DIMENSIONS)]
                self.table.append(slot, int(self.chance.integers(6)), event, int(self.now_ms - self.chance.integers(0, 100_000)))
        size = len(self.dimension_of)
        self.table.weights, self.table.rows = self.table.weights[:size], self.table.rows[:size]

    def parts(self, own: NDArray[np.int64]) -> list[Fraction]:
        """Of each asset, what it has of the rows that are not ``own``."""
        parts = [Fraction(0)] * len(self.dimension_of)
        for slot in set(np.flatnonzero(self.table.counts).tolist()) - set(own.tolist()):
            count = int(self.table.counts[slot])
            for asset in self.table.assets[slot, :count].ravel().tolist():
                parts[asset] += Fraction(1, count)
        return parts

    def age(self, slot: int) -> int:
        return FIRST_AGE + int(np.searchsorted(BOUNDS_MS, self.now_ms - self.table.newest_ms[slot], side="right"))


def step_by_step(
    window: Window, head: NDArray[np.int64], matched: NDArray[np.int64], own: NDArray[np.int64], others: int, k: int, label: int
) -> list[NDArray[np.int64]]:
    table, size = window.table, len(window.dimension_of)
    match = np.array([label in table.skus[slot, : table.counts[slot]] for slot in head], np.float64)
    beyond = others - len(head)
    share, (utility, baseline) = truncated(match, len(matched), beyond, k), vote(match, len(matched), beyond, k)
    earned = match / (np.maximum(np.arange(1, len(head) + 1), k) if others > k else float(k))
    bears, rest = share.head - earned - baseline / others, share.unmatched - baseline / others
    points, rows = np.zeros(size), table.rows.copy()
    gain = share.matched - share.unmatched
    share_out(table.skus, table.assets, table.counts, table.weights, label, head, earned, bears, matched, gain, own, rest, points)
    np.subtract.at(rows, table.owners[own].ravel(), 1)
    ages = {slot: window.age(slot) for slot in np.flatnonzero(table.counts).tolist()}
    for slot in set(ages) - set(own.tolist()):
        rows[ages[slot]] += 1
    points[FIRST_AGE : FIRST_AGE + 3] = rest * rows[FIRST_AGE : FIRST_AGE + 3]
    np.add.at(points, [ages[slot] for slot in head.tolist()], earned + bears - rest)
    np.add.at(points, [ages[slot] for slot in matched.tolist()], gain)
    rows[EVERYTHING], points[EVERYTHING] = others, utility - baseline
    player, without = np.zeros(size), np.zeros(size)
    player[EVERYTHING] = without[EVERYTHING] = points[EVERYTHING]
    for d in range(DIMENSIONS + 1):
        owners = {slot: ages[slot] if d == DIMENSIONS else int(table.owners[slot, d]) for slot in ages}
        numbers = [a for a in range(size) if window.dimension_of[a] == d and rows[a] > 0]
        seat = {asset: number for number, asset in enumerate(numbers)}
        owner = np.array([seat[owners[slot]] for slot in head.tolist()], np.int64)
        holders = np.bincount([seat[owners[slot]] for slot in matched.tolist()], minlength=len(numbers))
        outside = rows[numbers] - np.bincount(owner, minlength=len(numbers))
        without[numbers] = leave_one_out(owner, match, k, outside, holders, len(numbers))
        if len(numbers) > PLAYER_LIMIT:
            order = sorted(range(len(numbers)), key=lambda p: (-rows[numbers[p]], window.place_of[numbers[p]]))[: PLAYER_LIMIT - 1]
            fold = np.full(len(numbers), PLAYER_LIMIT - 1)
            fold[order] = np.arange(PLAYER_LIMIT - 1)
            outside, holders = (np.bincount(fold, counts, PLAYER_LIMIT).astype(np.int64) for counts in (outside, holders))
            owner, numbers = fold[owner], [*(numbers[p] for p in order), OTHERS[d]]
        np.add.at(player, numbers, asset_game(owner, match, k, outside, holders, len(numbers)))
    in_quanta = [np.rint(values * QUANTUM).astype(np.int64) for values in (points, player, without)]
    parts = np.array([round(part * ROW_QUANTUM) for part in window.parts(own)], np.int64)
    parts[: FIRST_AGE + 3] = rows[: FIRST_AGE + 3] * ROW_QUANTUM
    takes_part = (parts > 0) | (in_quanta[0] != 0) | (in_quanta[1] != 0)
    sums = np.column_stack([np.ones(size, np.int64), parts, rows, *in_quanta]) * takes_part[:, None]
    return [np.array([round(utility * QUANTUM), round(baseline * QUANTUM)]), in_quanta[0], sums]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(2, 60), assets=st.integers(2, 40), k=st.integers(1, 12), head=st.integers(0, 30))
def test_the_pass_is_the_functions_one_after_the_other_to_the_last_bit(seed: int, rows: int, assets: int, k: int, head: int) -> None:
    window = Window(seed, rows, assets)
    table, chance = window.table, window.chance
    slots = chance.permutation(np.flatnonzero(table.counts))
    own, rest = np.split(slots, [int(chance.integers(0, 2))])
    near, label = rest[:head], int(chance.integers(6))
    holds = np.array([label in table.skus[slot, : table.counts[slot]] for slot in rest], np.bool_)
    matched = np.sort(rest[head:][holds[head:]])
    # Ids that a window of neighbours might have given to the rows.
    place = chance.permutation(len(table.counts)).astype(np.int32)
    ids = np.argsort(place)
    sums = np.zeros((len(window.dimension_of), COLUMNS), np.int64)
    utility, baseline, points = play(
        ids[near] + 7, holds[:head], ids[matched] + 7, 7, place, np.arange(len(table.counts))[:, None], own, len(rest), k,
        digamma(np.arange(100) + 1.0), label, window.now_ms, table.skus, table.assets, table.counts, table.owners, table.newest_ms,
        table.weights, table.rows, BOUNDS_MS, FIRST_AGE, window.dimension_of, window.place_of, np.array([*OTHERS, FIRST_AGE]), EVERYTHING,
        sums,
    )  # fmt: skip
    wanted = step_by_step(window, near, matched, own, len(rest), k, label)
    assert np.array_equal(wanted[0], [utility, baseline])
    assert np.array_equal(wanted[1], points)
    assert np.array_equal(wanted[2], sums)
    assert abs(int(points[window.dimension_of == 0].sum()) - (utility - baseline)) < 1_000


def test_a_row_is_that_of_most_of_its_events_the_earliest_where_there_are_as_many() -> None:
    chance, table = np.random.default_rng(3), RowTable(1)
    table.reserve(4)
    for _ in range(300):
        slot, events = table.new(), chance.integers(0, 4, int(chance.integers(1, 9))).tolist()
        for event in events:
            table.append(slot, 0, [event], 0)
        assert table.owners[slot, 0] == max(dict.fromkeys(events), key=events.count)
        if chance.random() < 0.5:
            table.drop(slot)
    live = np.flatnonzero(table.counts)
    assert np.array_equal(np.bincount(table.owners[live, 0], minlength=4), table.rows[:4])
