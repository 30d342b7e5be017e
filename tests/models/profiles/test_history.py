from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.profiles import Profile, ProfileError, apply, decode_profile, encode_profile
from models.profiles.history import AFFINITY_HALF_LIFE_MS, SESSION_LIMIT
from models.profiles.profile import (
    AFFINITY_LIMIT,
    BOUGHT_LIMIT,
    FLAG_LONG_SESSION,
    QUERY_LIMIT,
    RECENT_LIMIT,
    SEEN_LIMIT,
    bought_entries,
    recent_entries,
    seen_entries,
)
from tests.models.profiles.events import MINUTE_MS, START_MS, event, histories


def profile_of(*events) -> Profile:
    profile = Profile()
    for one in events:
        apply(profile, one)
    return profile


def test_an_item_event_enters_the_recent_items_with_its_time_and_type() -> None:
    profile = profile_of(event("click", 1, minute=1, sku="a"), event("purchase", 2, minute=2, sku="b"))
    assert recent_entries(profile) == [("a", START_MS + MINUTE_MS, "click"), ("b", START_MS + 2 * MINUTE_MS, "purchase")]
    assert (profile.events, profile.first_ms, profile.last_ms) == (2, START_MS + MINUTE_MS, START_MS + 2 * MINUTE_MS)


def test_the_same_event_id_counts_once() -> None:
    profile = profile_of(event("purchase", 1, quantity=2))
    before = encode_profile(profile)
    assert apply(profile, event("purchase", 1, quantity=2)) is False
    assert encode_profile(profile) == before


def test_an_event_id_is_remembered_for_256_events_and_no_longer() -> None:
    profile = profile_of(*(event("search", number) for number in range(256)))
    assert apply(profile, event("search", 0)) is False
    assert apply(profile, event("search", 256)) is True
    assert apply(profile, event("search", 0)) is True
    assert apply(profile, event("search", 2)) is False


def test_purchases_add_up_and_a_full_return_undoes_them() -> None:
    profile = profile_of(event("purchase", 1, quantity=2), event("purchase", 2, minute=5, quantity=3))
    assert bought_entries(profile) == [("a", 2, 5, START_MS + 5 * MINUTE_MS)]
    apply(profile, event("refund", 3, minute=9, quantity=1))
    assert bought_entries(profile) == [("a", 2, 4, START_MS + 5 * MINUTE_MS)]
    apply(profile, event("refund", 4, minute=9, quantity=4))
    assert bought_entries(profile) == []
    assert apply(profile, event("refund", 5, minute=9)) is True  # of something never bought here: counted, no more


def test_views_are_seen_and_purchases_are_bought() -> None:
    steps = [("click", "a"), ("purchase", "b"), ("browse", "c"), ("click", "a")]
    profile = profile_of(*(event(kind, number, sku=sku) for number, (kind, sku) in enumerate(steps)))
    assert [sku for sku, _ in seen_entries(profile)] == ["c", "a"]
    assert [sku for sku, *_ in bought_entries(profile)] == ["b"]


def test_events_without_an_item_of_interest_only_count() -> None:
    profile = profile_of(event("search", 1), event("impression", 2), event("login", 3))
    assert profile.events == 3
    assert (profile.recent_skus, profile.seen_skus, profile.session_length) == ([], [], 0)


def test_a_pause_longer_than_half_an_hour_begins_a_session() -> None:
    profile = profile_of(event("click", 1, minute=0), event("click", 2, minute=30))
    assert (profile.session_start_ms, profile.session_length) == (START_MS, 2)
    apply(profile, event("click", 3, minute=61))
    assert (profile.session_start_ms, profile.session_length) == (START_MS + 61 * MINUTE_MS, 1)


def test_an_event_far_older_than_the_session_joins_no_session() -> None:
    profile = profile_of(event("click", 1, minute=100), event("click", 2, minute=10))
    assert (profile.session_start_ms, profile.session_length) == (START_MS + 100 * MINUTE_MS, 1)
    assert len(profile.recent_skus) == 2
    apply(profile, event("click", 3, minute=80))  # a little late: still this session
    assert (profile.session_start_ms, profile.session_length) == (START_MS + 100 * MINUTE_MS, 2)


def test_an_endless_session_is_flagged() -> None:
    profile = profile_of(*(event("click", number) for number in range(SESSION_LIMIT)))
    assert not profile.flags & FLAG_LONG_SESSION
    apply(profile, event("click", SESSION_LIMIT))
    assert profile.flags & FLAG_LONG_SESSION


def test_the_country_is_the_last_that_a_newest_event_named() -> None:
    profile = profile_of(event("search", 1, minute=5))
    assert profile.country == ""
    for number, (minute, named, known) in enumerate([(3, "GB", "GB"), (4, "FR", "GB"), (9, "DE", "DE"), (10, None, "DE"), (8, "GB", "DE")]):
        apply(profile, event("search", 10 + number, minute=minute, country=named))
        assert profile.country == known


def test_a_profile_from_before_there_was_a_search_a_channel_or_a_country_has_none() -> None:
    profile = profile_of(event("click", 1, country="GB"), event("search", 2))
    fields = msgspec.msgpack.decode(encode_profile(profile))
    assert (fields.pop(), fields.pop(), fields.pop()) == (0, START_MS, "mug")
    earlier = decode_profile(msgspec.msgpack.encode(fields))
    assert (earlier.query, earlier.query_ms, earlier.country) == ("", 0, "GB")
    fields = fields[:-2]
    assert fields.pop() == "GB"
    bare = msgspec.structs.replace(profile, country="", channels=[], recent_channels=b"", query="", query_ms=0)
    assert decode_profile(msgspec.msgpack.encode(fields)) == bare


def test_category_pages_fade_by_half_in_a_half_life() -> None:
    half_life = AFFINITY_HALF_LIFE_MS / MINUTE_MS
    profile = profile_of(event("browse", 1, category="Mugs"), event("browse", 2, minute=half_life, category="Bags"))
    assert dict(zip(profile.categories, profile.affinities, strict=True)) == {"Mugs": 0.5, "Bags": 1.0}
    apply(profile, event("browse", 3, category="Mugs"))  # late by a half-life
    assert dict(zip(profile.categories, profile.affinities, strict=True)) == {"Mugs": 1.0, "Bags": 1.0}


def test_every_part_of_a_profile_is_bounded() -> None:
    profile = Profile()
    for number in range(700):
        apply(profile, event("purchase", 3 * number, minute=number, sku=f"p{number}"))
        apply(profile, event("click", 3 * number + 1, minute=number, sku=f"c{number}"))
        apply(profile, event("browse", 3 * number + 2, minute=number, category=f"k{number}"))
    assert (len(profile.recent_skus), len(profile.bought_skus), len(profile.seen_skus)) == (RECENT_LIMIT, BOUGHT_LIMIT, SEEN_LIMIT)
    assert len(profile.categories) == AFFINITY_LIMIT
    assert profile.bought_skus[-1] == "p699"
    assert profile.bought_skus[0] == "p200"
    assert len(encode_profile(profile)) < 25_000


@given(histories(), st.data())
def test_any_split_into_batches_gives_the_same_bytes(events: list, data: st.DataObject) -> None:
    whole = profile_of(*events)
    split = Profile()
    for one in events:
        apply(split, one)
        if data.draw(st.booleans()):  # a batch ends here: state goes out and comes back
            split = decode_profile(encode_profile(split))
    assert encode_profile(split) == encode_profile(whole)


@given(histories(longest=30), st.data())
def test_events_sent_again_change_nothing(events: list, data: st.DataObject) -> None:
    profile = profile_of(*events)
    before = encode_profile(profile)
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    assert [apply(profile, one) for one in again] == [False] * len(again)
    assert encode_profile(profile) == before


def test_damaged_or_newer_state_is_refused_with_what_mends_it() -> None:
    with pytest.raises(ProfileError, match="assay reset"):
        decode_profile(b"\xc1\x00garbage")
    with pytest.raises(ProfileError, match="format 99"):
        decode_profile(encode_profile(Profile(format=99)))


def test_the_last_search_that_holds_a_word_is_kept_as_it_was_understood() -> None:
    profile = Profile()
    apply(profile, event("search", 1, minute=1, query="  Réd\u3000MUG "))
    apply(profile, event("search", 2, minute=2, query="!?"))
    apply(profile, event("search", 3, minute=0, query="late"))
    assert (profile.query, profile.query_ms) == ("réd mug", START_MS + MINUTE_MS)
    apply(profile, event("search", 4, minute=3, query="x" * 512))
    assert profile.query == "x" * QUERY_LIMIT
