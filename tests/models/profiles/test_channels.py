"""By what channel each recent item came: kept with the profile, and what that does to interest where channels count differently."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.profiles import Profile, apply, decode_profile, describe, encode_profile, from_description, merge
from models.profiles.columns import columns_of
from models.profiles.interest import POSITION_DECAY, TYPE_WEIGHTS, Anchors, anchors_of
from models.profiles.profile import CHANNEL_LIMIT, RECENT_LIMIT, UNTOLD, channels_of_recent
from tests.models.profiles.events import event
from tests.models.profiles.test_history import profile_of

SKUS = "abcdefghijklmnop"
TRUST = {"": 1.0, "web": 1.0, "app": 0.5, "relay": 0.0}


def rows(skus) -> np.ndarray:
    return np.array([SKUS.find(sku) for sku in skus], dtype=np.int32)


def anchors(*profiles: Profile, trusting: bool = True) -> Anchors:
    columns = columns_of(profiles, rows, lambda name: [], trust=(lambda source: TRUST[source[0]]) if trusting else None)
    return anchors_of(columns)


def clicks(*pairs: tuple[str, str]) -> Profile:
    return profile_of(*(event("click", number, sku=sku, channel=channel) for number, (channel, sku) in enumerate(pairs)))


@given(st.lists(st.sampled_from([f"channel-{number}" for number in range(CHANNEL_LIMIT + 8)]), max_size=3 * RECENT_LIMIT))
def test_the_channel_of_every_recent_item_is_known_as_long_as_few_are_told_apart(names: list[str]) -> None:
    profile = profile_of(*(event("click", number, channel=name) for number, name in enumerate(names)))
    recent = names[-RECENT_LIMIT:]
    found = channels_of_recent(profile)
    assert len(profile.recent_channels) == len(recent)
    assert all(one in (name, "") for one, name in zip(found, recent, strict=True))
    if len(set(names)) <= CHANNEL_LIMIT:
        assert found == recent
    assert profile.channels == list(dict.fromkeys(filter(None, found)))  # none is kept that no recent item came by
    assert encode_profile(from_description(describe(profile))) == encode_profile(profile)


def test_a_profile_that_an_older_version_wrote_knows_no_channels_until_the_next_event() -> None:
    profile = profile_of(event("click", 1, sku="a"), event("click", 2, sku="b"))
    older = decode_profile(msgspec.msgpack.encode(msgspec.msgpack.decode(encode_profile(profile))[:-5]))
    assert channels_of_recent(older) == ["", ""]
    assert anchors(older).rows[0, :2].tolist() == [1, 0]
    apply(older, event("click", 3, sku="c", channel="app"))
    assert channels_of_recent(older) == ["", "", "app"]
    assert older.recent_channels == bytes([UNTOLD, UNTOLD, 0])
    described = describe(profile)
    del described["recent"][0]["channel"]
    assert channels_of_recent(from_description(described)) == ["", "web"]


def test_channels_go_along_when_histories_join_and_no_further_than_the_items() -> None:
    user = profile_of(event("click", 1, minute=0, channel="web"), event("click", 2, minute=20, channel="app"))
    session = profile_of(event("click", 3, minute=10, channel="relay"))
    assert channels_of_recent(merge(user, session, "s")) == ["web", "relay", "app"]
    silent = profile_of(event("click", 4, channel="web"), event("click", 5, minute=1, channel="app", consent=False))
    assert (silent.channels, silent.recent_channels) == (["app"], b"\0")


def test_what_counts_nothing_is_passed_over_and_takes_no_place() -> None:
    spoilt = clicks(("web", "a"), ("relay", "x"), ("web", "b"), ("relay", "y"), ("relay", "a"))
    found, clean = anchors(spoilt), anchors(clicks(("web", "a"), ("web", "b")), trusting=False)
    assert found.rows[0].tolist() == clean.rows[0].tolist()
    assert found.weights[0].tolist() == pytest.approx(clean.weights[0].tolist())


def test_what_counts_half_weighs_half_and_pushes_back_by_half() -> None:
    found = anchors(clicks(("web", "a"), ("app", "b")))
    assert found.rows[0, :2].tolist() == [1, 0]
    assert found.weights[0, :2].tolist() == pytest.approx([0.5, POSITION_DECAY**0.5])


def test_an_items_strongest_event_speaks_for_it_wherever_it_came_from() -> None:
    profile = profile_of(event("click", 1, sku="a", channel="web"), event("purchase", 2, sku="a", channel="app"))
    found = anchors(profile)
    assert found.weights[0, 0] == pytest.approx(TYPE_WEIGHTS[1])  # 1 x 1 against 1.5 x 0.5
    assert found.types[0, 0] == 1


@pytest.mark.parametrize("channel", ["app", "relay"])
def test_who_is_known_from_one_source_alone_is_known_as_well_as_ever(channel: str) -> None:
    profile = clicks((channel, "a"), (channel, "b"), (channel, "a"))
    assert anchors(profile).weights.tolist() == anchors(profile, trusting=False).weights.tolist()


def test_each_profile_of_a_batch_is_weighed_by_its_own_channels() -> None:
    profiles = [clicks(("relay", "a"), ("web", "b")), Profile(), clicks(("web", "a"), ("relay", "b")), clicks(("web", "c"))]
    found = anchors(*profiles)
    assert found.rows[:, 0].tolist() == [1, -1, 0, 2]
    assert found.rows[:, 1].tolist() == [-1] * 4
    alone = [anchors(profile).weights[0].tolist() for profile in profiles]
    assert found.weights.tolist() == alone


@given(st.lists(st.tuples(st.sampled_from(["web", "app", "relay"]), st.sampled_from(SKUS)), max_size=70))
def test_trusting_all_alike_is_trusting_as_ever(pairs: list[tuple[str, str]]) -> None:
    profile = clicks(*pairs)
    columns = columns_of([profile], rows, lambda name: [], trust=lambda _source: 0.25)
    assert anchors_of(columns).weights.tolist() == anchors(profile, trusting=False).weights.tolist()
    held = anchors(profile)
    listed = held.weights[0][held.rows[0] >= 0]
    assert (listed > 0).all()
