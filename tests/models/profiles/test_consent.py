from __future__ import annotations

import msgspec
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


def test_a_word_holds_though_an_event_that_says_nothing_is_newer() -> None:
    profile = after(("purchase", {"sku": "a"}))
    apply(profile, event("click", 8, minute=23 * 60, sku="b"))
    apply(profile, event("click", 9, minute=1, sku="c", consent=False))
    assert profile.flags & FLAG_ITEM_ONLY
    assert (profile.recent_skus, profile.bought_skus) == (["c"], [])
    apply(profile, event("click", 10, minute=2, sku="d", consent=True))
    assert not profile.flags & FLAG_ITEM_ONLY


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


@pytest.mark.parametrize("silent_last", [True, False])
def test_silence_takes_nothing_back_when_two_become_one(silent_last: bool) -> None:
    silent, told = (90, 60) if silent_last else (60, 90)
    withdrew, other = Profile(), Profile()
    apply(withdrew, event("click", 1, minute=told, sku="a", consent=False))
    apply(other, event("click", 2, minute=silent, sku="b"))
    for merged in (merge(withdrew, other, "s"), merge(other, withdrew, "s")):
        assert merged.flags & FLAG_ITEM_ONLY
        assert merged.recent_skus == ["b" if silent_last else "a"]
        again = merge(merged, after(("click", {"sku": "c"})))  # it goes on being the last word
        assert again.flags & FLAG_ITEM_ONLY
    agrees = Profile()
    apply(agrees, event("click", 3, minute=100, sku="c", consent=True))
    assert not merge(withdrew, agrees).flags & FLAG_ITEM_ONLY


def test_what_is_said_both_ways_at_once_is_a_withdrawal() -> None:
    said_no, said_yes = (after(("click", {"sku": "a", "consent": consent})) for consent in (False, True))
    assert merge(said_no, said_yes).flags & merge(said_yes, said_no).flags & FLAG_ITEM_ONLY


@pytest.mark.parametrize("consent", [False, None])
def test_a_withdrawal_that_an_older_version_kept_stands_from_the_newest_event_on(consent: bool | None) -> None:
    profile = after(("click", {"sku": "a", "consent": consent}), ("click", {"sku": "b"}))
    described = describe(profile)
    del described["consent_said"]
    stored = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_profile(profile))[:-1])
    for older in (decode_profile(stored), from_description(described)):
        assert bool(older.flags & FLAG_ITEM_ONLY) is (consent is False)
        assert older.consent_ms == (profile.last_ms if consent is False else 0)


def test_the_profile_comes_back_from_bytes_and_words() -> None:
    profile = after(("click", {"sku": "a", "consent": False}))
    assert decode_profile(encode_profile(profile)) == profile
    assert from_description(describe(profile)) == profile
