from __future__ import annotations

import numpy as np
import pytest

from models.retrieval.past_sessions import LEADERS, audience
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_lines import SESSION_LIMIT


def filled(seed: int, sessions: int = 60, items: int = 30, longest: int = 45) -> tuple[SessionIndex, list[list[int]]]:
    """An index whose sessions grew in turns, and what they hold."""
    chance = np.random.default_rng(seed)
    index, held = SessionIndex(), [[] for _ in range(sessions)]
    for second in range(sessions * longest // 2):
        session, row = int(chance.integers(sessions)), int(chance.integers(items))
        index.add(np.array([session]), np.array([row], dtype=np.int32), np.array([1000 * second]))
        held[session].append(row)
    return index, held


@pytest.mark.parametrize("seed", range(5))
def test_sessions_come_out_with_each_item_once(seed: int) -> None:
    index, held = filled(seed)
    index.remove(3)
    numbers = [number for number in (7, 0, 59, 12, 7) if held[number]]
    found = index.gather(np.array(numbers))
    assert [found.rows[a:b].tolist() for a, b in zip(found.starts, found.starts[1:], strict=False)] == [
        list(dict.fromkeys(held[number])) for number in numbers
    ]
    again = index.gather(np.array(numbers))  # nothing of the first call is left over
    np.testing.assert_array_equal(again.rows, found.rows)


def test_of_an_endless_session_come_its_first_items() -> None:
    index = SessionIndex()
    rows = np.arange(SESSION_LIMIT + 50, dtype=np.int32)
    index.add(np.zeros(len(rows), dtype=np.int64), rows, np.arange(len(rows)) * 1000)
    assert index.gather(np.array([0])).rows.tolist() == rows[:SESSION_LIMIT].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_an_item_gains_the_weight_of_the_sessions_that_hold_it(seed: int) -> None:
    index, held = filled(seed)
    numbers = [number for number in range(60) if held[number]]
    found = audience(index.gather(np.array(numbers)), half_life_s=100.0, items=40)
    newest = found.sessions.seconds.max()
    weights = 2.0 ** (-(newest - found.sessions.seconds) / 100.0)
    weights /= weights.sum()
    np.testing.assert_allclose(found.weights, weights, rtol=1e-5)
    for row in range(40):
        holding = [place for place, number in enumerate(numbers) if row in held[number]]
        assert sorted(found.row_sessions[found.row_starts[row] : found.row_starts[row + 1]].tolist()) == holding
        assert found.gains[row] == pytest.approx(weights[holding].sum(), rel=1e-5)
    assert found.leaders.tolist() == sorted(np.flatnonzero(found.gains).tolist(), key=lambda row: -found.gains[row])


def test_no_sessions_at_all_lead_to_nothing() -> None:
    found = audience(SessionIndex().gather(np.empty(0, dtype=np.int64)), 100.0, items=5)
    assert (found.gains.tolist(), len(found.leaders), len(found.weights)) == ([0.0] * 5, 0, 0)


def test_leaders_are_bounded() -> None:
    index = SessionIndex()
    rows = np.arange(3 * LEADERS, dtype=np.int32)
    index.add(rows.astype(np.int64), rows, rows * 1000)
    found = audience(index.gather(rows.astype(np.int64)), 1000.0, items=len(rows))
    assert found.leaders.tolist() == rows[::-1][:LEADERS].tolist()
