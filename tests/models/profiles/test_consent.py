from __future__ import annotations

import pytest

from models.profiles import Profile, apply, decode_profile, describe, encode_profile, merge
from models.profiles.description import from_description
from models.profiles.profile import FLAG_ITEM_ONLY
from tests.models.profiles.events import event


def after(*steps: tuple[str, dict]) -> Profile:
    profile = Profile()
    for number, (kind, fields) in enumerate(steps):
        apply(profile, event(kind, number, minute=number, **fields))
    return profile


def test_without_consent_only_the_item_at_hand_stays() -> None:
    before = after(("click", {"sku": "a"}), ("purchase", {"sku": "b"}), ("browse", {"category": "Mugs"}))
    assert before.bought_skus == ["b"]
    profile = after(
        ("click", {"sku": "a"}), ("purchase", {"sku": "b"}), ("browse", {"category": "Mugs"}), ("search", {"query": "mug"}),
        ("click", {"sku": "c", "consent": False}), ("search", {"query": "hat"}),
        ("click", {"sku": "d"}), ("purchase", {"sku": "e"}),
    )  # fmt: skip
    assert (profile.recent_skus, profile.bought_skus, profile.seen_skus, profile.categories) == (["e"], [], [], [])
    assert (len(profile.recent), profile.bought, profile.seen, profile.session_length) == (8, b"", b"", 0)
    assert profile.events == 8
    assert (profile.query, profile.query_ms) == ("", 0)
    assert describe(profile)["item_only"] is True


def test_who_agrees_again_has_a_history_from_then_on() -> None:
    profile = after(
        ("purchase", {"sku": "a", "consent": False}),
        ("purchase", {"sku": "b"}),
        ("click", {"sku": "c", "consent": True}),
        ("click", {"sku": "d"}),
    )
    assert (profile.recent_skus, profile.bought_skus, profile.session_length) == (["b", "c", "d"], [], 2)


def test_an_event_that_comes_late_does_not_change_what_was_said_since() -> None:
    profile = after(("click", {"sku": "a"}), ("click", {"sku": "b", "consent": True}))
    apply(profile, event("click", 9, minute=0.5, sku="c", consent=False))
    assert not profile.flags & FLAG_ITEM_ONLY
    assert profile.recent_skus == ["a", "b", "c"]


def test_a_copy_of_an_event_says_nothing_again() -> None:
    profile = after(("click", {"sku": "a", "consent": False}), ("click", {"sku": "b", "consent": True}))
    apply(profile, event("click", 0, minute=0, sku="a", consent=False))
    assert not profile.flags & FLAG_ITEM_ONLY


@pytest.mark.parametrize("session_agrees", [True, False])
def test_of_two_that_become_one_the_last_word_holds(session_agrees: bool) -> None:
    user = after(("purchase", {"sku": "a", "consent": not session_agrees}))
    session = Profile()
    apply(session, event("click", 9, minute=60, sku="b", consent=session_agrees))
    merged = merge(user, session, "s")
    assert bool(merged.flags & FLAG_ITEM_ONLY) is not session_agrees
    assert merged.recent_skus == (["a", "b"] if session_agrees else ["b"])
    assert merged.aliases == ["s"]


def test_the_profile_comes_back_from_bytes_and_words() -> None:
    profile = after(("click", {"sku": "a", "consent": False}))
    assert decode_profile(encode_profile(profile)) == profile
    assert from_description(describe(profile)) == profile
