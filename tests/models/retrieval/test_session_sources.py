"""Where sessions came from, and what their votes count: a function of the sessions and the weights, in whatever order both came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog.items import ItemTable
from models.retrieval import LiveSessions, SessionItems, Source
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_sources import SLOTS, SessionSources
from models.retrieval.session_votes import SessionParameters

CHANNELS = ("web", "app", "relay", "store", "kiosk", "call")
WEIGHTS = dict(zip(CHANNELS, (1.0, 0.5, 0.0, 0.25, 1.0, 0.75), strict=True))
#: Without IDF, which knows how many sessions hold an item, whatever they count.
PARAMETERS = SessionParameters(recent=256, neighbours=100, rarity=0.0)


def weight(source: Source) -> float:
    return WEIGHTS[source.channel]


@settings(deadline=None)  # the loops are compiled in the first example
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 5), st.sampled_from(CHANNELS)),
            st.tuples(st.sampled_from(["weigh", "forget"]), st.integers(0, 5), st.just("")),
        ),
        max_size=60,
    )
)
def test_a_session_counts_what_its_items_do_on_average(steps: list[tuple[str, int, str]]) -> None:
    sources = SessionSources()
    sources.reserve(6)
    held: dict[int, list[str]] = {}
    for kind, session, channel in steps:
        if kind == "add":
            sources.add(np.array([session]), [Source(channel)])
            known = held.setdefault(session, [])
            if channel in known or len(set(known)) < SLOTS:
                known.append(channel)
        elif kind == "forget":
            sources.forget(session)
            held.pop(session, None)
        else:
            sources.weigh(weight)
    sources.weigh(weight)
    expected = [np.mean([WEIGHTS[one] for one in held[session]]) if held.get(session) else 1.0 for session in range(6)]
    assert sources.votes[:6].tolist() == pytest.approx(expected, abs=1e-6)


def test_weights_hold_for_what_comes_later_too() -> None:
    sources = SessionSources()
    sources.weigh(weight)
    sources.reserve(5_000)
    sources.add(np.array([4_999, 4_998]), [Source("relay"), Source("web")])
    assert sources.votes[4_997:5_000].tolist() == [1.0, 1.0, 0.0]


@settings(deadline=None)  # the loops are compiled in the first example
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 11)), min_size=1, max_size=80), st.sets(st.integers(0, 9)))
def test_a_session_that_counts_nothing_is_as_if_it_had_never_been(clicks: list[tuple[int, int]], silent: set[int]) -> None:
    votes = np.ones(10, np.float32)
    votes[list(silent)] = 0.0
    anchors, weights = np.array([[0, 1, 2]], np.int32), np.array([[1.0, 0.7, 0.5]], np.float32)

    def ask(taught: list[tuple[int, int]], *counting: np.ndarray) -> dict[int, float]:
        index = SessionIndex(PARAMETERS)
        index.add(np.array([c[0] for c in taught], np.int64), np.array([c[1] for c in taught], np.int32), np.zeros(len(taught), np.int64))
        found = index.vote(anchors, weights, np.array([-1]), np.array([0]), 12, *counting)
        return dict(zip(found.rows[0, : found.sizes[0]].tolist(), found.scores[0, : found.sizes[0]].tolist(), strict=True))

    assert ask(clicks, votes) == pytest.approx(ask([click for click in clicks if click[0] not in silent]), rel=1e-5)
    assert ask(clicks, np.ones(10, np.float32)) == ask(clicks)


def test_a_session_that_counts_half_votes_half() -> None:
    index = SessionIndex(PARAMETERS)
    index.add(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2], np.int32), np.zeros(4, np.int64))
    asked = (np.array([[0]], np.int32), np.ones((1, 1), np.float32), np.array([-1]), np.array([0]), 3)
    found = index.vote(*asked, np.array([1.0, 0.5], np.float32))
    scores = dict(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True))
    assert scores[2] == pytest.approx(0.5 * scores[1])


# -- Live sessions ------------------------------------------------------------------------------------------------------


def live(**options: bool) -> LiveSessions:
    return LiveSessions(ItemTable(4).intern, half_life_ms=1e9, **options)


def delta(skus: str, session: str, start: int = 0, **source: str) -> SessionItems:
    shopper = session.partition("@")[0]
    return SessionItems(session, shopper, start, tuple(skus), (0,) * len(skus), ("click",) * len(skus), **source)


def counts(sessions: LiveSessions, session: str) -> float:
    return float(sessions.votes[sessions.newest_of(session.partition("@")[0])])


def test_live_sessions_count_by_where_their_items_came_from_and_by_the_items_that_are_new() -> None:
    sessions = live(with_sources=True)
    sessions.apply([delta("ab", "u@1", channel="web"), delta("c", "u@1", 2, channel="relay"), delta("ab", "v@1", channel="relay")])
    sessions.apply([delta("c", "u@1", 2, channel="relay")])  # repeated: nothing
    assert (counts(sessions, "u@1"), counts(sessions, "v@1")) == (1.0, 1.0)
    sessions.weigh(weight)
    assert (counts(sessions, "u@1"), counts(sessions, "v@1")) == (pytest.approx(2 / 3), 0.0)
    sessions.apply([delta("d", "v@1", 2, channel="web"), delta("a", "w@1", country="IE", channel="app")])
    assert (counts(sessions, "v@1"), counts(sessions, "w@1")) == (pytest.approx(1 / 3), 0.5)
    sessions.weigh(lambda _source: 1.0)
    assert (counts(sessions, "u@1"), counts(sessions, "v@1")) == (1.0, 1.0)


def test_the_number_of_a_session_that_went_counts_anew() -> None:
    sessions = live(with_sources=True)
    sessions.weigh(weight)
    sessions.apply([delta("ab", "u@1", channel="relay")])
    number = sessions.newest_of("u")
    sessions.erase("u")
    sessions.apply([delta("ab", "v@1", channel="web")])
    assert sessions.newest_of("v") == number
    assert counts(sessions, "v@1") == 1.0


def test_what_counts_nothing_is_no_part_of_the_audience() -> None:
    sessions = live(with_sources=True)
    sessions.apply([delta("ab", "u@1", channel="relay"), delta("cd", "v@1", channel="web"), delta("ce", "w@1", channel="app")])
    assert sessions.audience(10, 5).weights.tolist() == pytest.approx([1 / 3] * 3)
    sessions.weigh(weight)
    found = sessions.audience(10, 5)
    assert found.weights.tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])  # the newest first
    assert found.gains.tolist() == pytest.approx([0.0, 0.0, 1.0, 2 / 3, 1 / 3])


def test_sessions_that_do_not_keep_their_sources_all_count_alike() -> None:
    sessions = live()
    sessions.apply([delta("ab", "u@1", channel="relay")])
    assert len(sessions.votes) == 0
    with pytest.raises(ValueError, match="do not keep where their items came from"):
        sessions.weigh(weight)


def together(sessions: LiveSessions, row: int) -> set[int]:
    """What stood near ``row`` and counts."""
    view = sessions.cooccurrence.view(8)
    slot = view.slot[row]
    return {int(other) for other, weight in zip(view.rows[slot, : view.sizes[slot]], view.weights[slot], strict=False) if weight > 0}


def popular(sessions: LiveSessions) -> list[float]:
    return [round(float(share), 6) for share in sessions.popularity.relative(4)]


def test_pairs_and_what_is_popular_count_by_where_items_came_from_before_and_after() -> None:
    sessions = live(with_sources=True)
    sessions.apply([delta("ab", "u@1", channel="web"), delta("ac", "v@1", channel="relay"), delta("c", "w@1", channel="relay")])
    assert (together(sessions, 0), popular(sessions)) == ({1, 2}, [1.0, 0.5, 1.0, 0.0])
    sessions.weigh(weight)
    assert (together(sessions, 0), popular(sessions)) == ({1}, [1.0, 1.0, 0.0, 0.0])
    sessions.apply([delta("ad", "x@1", channel="app"), delta("bc", "y@1", channel="relay")])
    assert (together(sessions, 0), popular(sessions)) == ({1, 3}, [1.0, round(2 / 3, 6), 0.0, round(1 / 3, 6)])
    assert sessions.trending.relative(4).tolist() == pytest.approx([1.0, 2 / 3, 1.0, 1 / 3])  # what nobody weighs
    sessions.weigh(lambda _source: 1.0)
    assert (together(sessions, 0), popular(sessions)) == ({1, 2, 3}, [1.0, round(2 / 3, 6), 1.0, round(1 / 3, 6)])
    assert sessions.popularity is sessions.trending


def test_a_source_that_was_known_to_do_harm_before_it_came_counts_less_from_its_first_item_on() -> None:
    sessions = live(with_sources=True)
    sessions.weigh(weight)
    sessions.apply([delta("ab", "u@1", channel="web")])
    assert sessions.popularity is sessions.trending
    sessions.apply([delta("ac", "v@1", channel="relay")])
    assert (together(sessions, 0), popular(sessions)) == ({1}, [1.0, 1.0, 0.0, 0.0])
