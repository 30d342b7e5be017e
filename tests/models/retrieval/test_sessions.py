from __future__ import annotations

import numpy as np
import pytest

from models.catalog.items import ItemTable
from models.retrieval.sessions import LiveSessions, SessionItems


@pytest.fixture
def table() -> ItemTable:
    return ItemTable(4)


@pytest.fixture
def sessions(table: ItemTable) -> LiveSessions:
    return LiveSessions(table.intern, half_life_ms=1e9)


def delta(skus: str, start: int = 0, session: str = "u@1", shopper: str = "u", **fields) -> SessionItems:
    return SessionItems(session, shopper, start, tuple(skus), (0,) * len(skus), ("click",) * len(skus), **fields)


def neighbours(sessions: LiveSessions, table: ItemTable, sku: str) -> dict[str, float]:
    return {table.skus[row]: weight for row, weight in sessions.cooccurrence.neighbours_of(table.row(sku))}


def popular(sessions: LiveSessions, table: ItemTable) -> dict[str, float]:
    size = len(table)
    found = sessions.trending.lists(np.ones(size, np.bool_), np.full(size, -1, np.int32), 0, 0)
    return {table.skus[row]: value for row, value in zip(found.overall.tolist(), found.overall_values.tolist(), strict=True)}


def test_deltas_of_a_session_join_by_position(sessions: LiveSessions, table: ItemTable) -> None:
    sessions.apply([delta("a"), delta("b", start=1)])
    assert neighbours(sessions, table, "a") == {"b": 1.0}


def test_a_repeated_delta_adds_nothing(sessions: LiveSessions, table: ItemTable) -> None:
    sessions.apply([delta("ab")])
    sessions.apply([delta("ab"), delta("b", start=1), delta("abc")])  # the last repeats two and adds one
    assert neighbours(sessions, table, "a") == pytest.approx({"b": 1.0, "c": 1 / 1.15})
    assert popular(sessions, table) == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_a_gap_is_passed_over(sessions: LiveSessions, table: ItemTable) -> None:
    sessions.apply([delta("a"), delta("c", start=5)])
    assert neighbours(sessions, table, "a") == {"c": 1.0}
    sessions.apply([delta("b", start=1)])  # the gap's items come late: too late
    assert neighbours(sessions, table, "a") == {"c": 1.0}


def test_an_erased_shopper_leaves_nothing_in_the_neighbours(sessions: LiveSessions, table: ItemTable) -> None:
    sessions.apply([delta("ab"), delta("ac", session="u@2"), delta("ab", session="v@1", shopper="v")])
    assert sessions.sessions_of("u") == 2
    sessions.apply([delta("", session="u@erased", erased=True)])
    assert sessions.sessions_of("u") == 0
    assert neighbours(sessions, table, "a") == {"b": pytest.approx(1.0)}
    assert neighbours(sessions, table, "c") == {}
    assert len(sessions) == 1


def test_a_batch_is_applied_in_its_order_around_an_erasure(sessions: LiveSessions, table: ItemTable) -> None:
    sessions.apply([delta("ab"), delta("", session="u@erased", erased=True), delta("ac", session="u@9")])
    assert neighbours(sessions, table, "a") == {"c": 1.0}
    assert sessions.sessions_of("u") == 1


def test_sessions_whose_items_have_left_the_log_are_let_go(table: ItemTable) -> None:
    sessions = LiveSessions(table.intern, half_life_ms=1e9, session_limit=256)
    for number in range(3000):
        sessions.apply([delta("ab", session=f"s{number}", shopper=f"u{number}")])
    assert len(sessions) == 256
    assert sessions.sessions_of("u2999") == 1
    assert sessions.sessions_of("u0") == 0


def test_the_session_index_holds_what_the_log_holds(table: ItemTable) -> None:
    sessions = LiveSessions(table.intern, half_life_ms=1e9, session_limit=256)
    for number in range(3000):
        sessions.apply([delta("ab", session=f"s{number}", shopper=f"u{number}")])
    assert len(sessions.index) == len(sessions)
    assert sessions.newest_of("u0") == -1
    assert sessions.index.items_of(sessions.newest_of("u2999")) == [table.row("a"), table.row("b")]
    sessions.apply([delta("ba", session="again", shopper="u2999")])
    assert sessions.index.items_of(sessions.newest_of("u2999")) == [table.row("b"), table.row("a")]
    assert sessions.erase("u2999") == 2
    assert sessions.newest_of("u2999") == -1
    assert len(sessions.index) == len(sessions)


def test_a_session_that_grew_lately_is_held_longer_than_one_that_began_later(table: ItemTable) -> None:
    sessions = LiveSessions(table.intern, half_life_ms=1e9, session_limit=2)
    sessions.apply(
        [delta("a", session="s1", shopper="u"), delta("b", session="s2", shopper="v"), delta("c", start=1, session="s1", shopper="u")]
    )
    sessions.apply([delta("d", session="s3", shopper="w")])
    assert [sessions.sessions_of(shopper) for shopper in "uvw"] == [1, 0, 1]
    assert len(sessions.index) == 2
    sessions.apply([delta("b", session="s2", shopper="v")])  # as if it were new
    assert [sessions.sessions_of(shopper) for shopper in "uvw"] == [0, 1, 1]


def test_long_sessions_are_let_go_when_their_items_have_left_the_log(table: ItemTable) -> None:
    sessions = LiveSessions(table.intern, half_life_ms=1e9, session_limit=256)
    for number in range(100):
        sessions.apply([delta("ab" * 20, session=f"s{number}", shopper=f"u{number}")])
    assert len(sessions) == len(sessions.index) == 26  # 1,024 items: the oldest of these has lost some
    assert sessions.sessions_of("u74") == 1
    assert sessions.sessions_of("u73") == 0
