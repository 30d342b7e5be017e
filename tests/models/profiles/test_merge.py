from __future__ import annotations

import pytest
from hypothesis import given

from models.profiles import Profile, ProfileError, apply, describe, encode_profile, from_description, merge
from models.profiles.profile import RECENT_LIMIT, bought_entries, recent_entries
from tests.models.profiles.events import MINUTE_MS, START_MS, event, histories
from tests.models.profiles.test_history import profile_of


def test_histories_interleave_by_time_and_purchases_add_up() -> None:
    user = profile_of(event("purchase", 1, minute=0, sku="a", quantity=2), event("click", 2, minute=20, sku="b"))
    session = profile_of(event("click", 3, minute=10, sku="c"), event("purchase", 4, minute=30, sku="a", quantity=1))
    merged = merge(user, session, "s1")
    assert [sku for sku, _, _ in recent_entries(merged)] == ["a", "c", "b", "a"]
    assert bought_entries(merged) == [("a", 2, 3, START_MS + 30 * MINUTE_MS)]
    assert (merged.events, merged.first_ms, merged.last_ms) == (4, START_MS, START_MS + 30 * MINUTE_MS)
    assert (merged.session_start_ms, merged.session_length) == (START_MS + 10 * MINUTE_MS, 2)
    assert merged.aliases == ["s1"]


def test_merging_changes_neither_argument() -> None:
    user, session = profile_of(event("click", 1)), profile_of(event("purchase", 2))
    before = encode_profile(user), encode_profile(session)
    merge(user, session, "s1")
    assert (encode_profile(user), encode_profile(session)) == before


def test_the_country_is_that_of_whichever_side_was_seen_last_and_named_one() -> None:
    early, late = event("search", 1, minute=1, country="GB"), event("search", 2, minute=2, country="DE")
    assert merge(profile_of(early), profile_of(late)).country == "DE"
    assert merge(profile_of(late), profile_of(early)).country == "DE"
    assert merge(profile_of(early), profile_of(event("search", 3, minute=3))).country == "GB"
    assert from_description(describe(profile_of(early))).country == "GB"
    assert from_description({name: value for name, value in describe(profile_of(early)).items() if name != "country"}).country == ""


def test_the_search_is_the_newer_of_the_two() -> None:
    early, late = profile_of(event("search", 1, minute=1, query="mug")), profile_of(event("search", 2, minute=2, query="hat"))
    assert merge(early, late).query == merge(late, early).query == "hat"
    assert merge(early, profile_of(event("click", 3, minute=3))).query == "mug"
    assert from_description(describe(late)) == late
    assert from_description({name: value for name, value in describe(late).items() if name != "search"}).query == ""


def test_an_event_of_the_session_sent_again_under_the_user_counts_once() -> None:
    merged = merge(profile_of(event("click", 1)), profile_of(event("click", 2)))
    assert apply(merged, event("click", 1)) is False
    assert apply(merged, event("click", 2)) is False
    assert apply(merged, event("click", 3)) is True


def test_neither_side_crowds_out_the_others_event_ids() -> None:
    user = profile_of(*(event("search", number) for number in range(256)))
    session = profile_of(*(event("search", number) for number in range(1000, 1256)))
    merged = merge(user, session)
    assert len(merged.event_ids) == 256 * 8
    assert apply(merged, event("search", 255)) is False
    assert apply(merged, event("search", 1255)) is False


@given(histories(), histories())
def test_a_merge_with_nothing_is_the_other_and_limits_hold(one: list, other: list) -> None:
    left, right = profile_of(*one), profile_of(*other)
    assert merge(left, Profile()).events == left.events
    assert recent_entries(merge(Profile(), right)) == sorted(recent_entries(right), key=lambda entry: entry[1])
    both = merge(left, right)
    assert both.events == left.events + right.events
    assert len(both.recent_skus) == min(RECENT_LIMIT, len(left.recent_skus) + len(right.recent_skus))


@given(histories())
def test_a_description_is_readable_and_loses_nothing(events: list) -> None:
    import json

    profile = merge(profile_of(*events), profile_of(event("click", 999)), "session-9")
    description = json.loads(json.dumps(describe(profile)))
    assert encode_profile(from_description(description)) == encode_profile(profile)
    assert description["sessions_joined"] == ["session-9"]


@pytest.mark.parametrize("broken", [{}, {"format": 1}, {"format": 2}, {**describe(Profile()), "recent": [{"sku": "a"}]}])
def test_a_malformed_description_is_refused(broken: dict) -> None:
    with pytest.raises(ProfileError):
        from_description(broken)
