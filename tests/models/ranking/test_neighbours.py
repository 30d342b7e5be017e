"""The past sessions behind an item: named by a hash, with parts that add up."""

from __future__ import annotations

import numpy as np
import pytest

from models.ranking.neighbours import attribute, session_digest
from models.retrieval.session_votes import Carriers
from tests.models.profiles.events import START_MS
from tests.models.ranking.shop import Shop, shopper


def explained(shop: Shop, sku: str, *steps: tuple[str, str]) -> tuple[float, dict[str, float]]:
    """(share of the source, parts by session) of an item."""
    item = next(item for item in shop.items(shop.rank(shopper(*steps))) if item.sku == sku)
    reason = next(reason for reason in item.reasons if reason.source == "sessions")
    return reason.score, {session.session: session.score for session in reason.sessions}


def digest(name: str, salt: str = "pepper") -> str:
    return f"{session_digest(f'{name}@0', salt):016x}"


def shop(limit: int = 5) -> Shop:
    made = Shop("abcdef", explain_sessions=limit, salt="pepper")
    made.session("u", "ab", at_ms=START_MS)
    made.session("v", "acb", at_ms=START_MS)
    made.session("w", "ef", at_ms=START_MS)
    return made


def test_an_item_names_the_sessions_that_voted_for_it_most_first() -> None:
    share, parts = explained(shop(), "b", ("click", "a"))
    assert list(parts) == [digest("u"), digest("v")]  # v's b stands farther from a, in a longer session
    assert parts[digest("u")] > parts[digest("v")] > 0
    assert sum(parts.values()) == pytest.approx(share, abs=3e-6)
    assert sum(parts.values()) <= share


def test_no_more_are_named_than_asked_for_and_the_rest_is_what_is_missing() -> None:
    share, parts = explained(shop(1), "b", ("click", "a"))
    assert list(parts) == [digest("u")]
    assert 0 < parts[digest("u")] < 0.9 * share
    assert explained(shop(0), "b", ("click", "a"))[1] == {}


def test_who_was_erased_is_named_no_more() -> None:
    made = shop()
    made.sessions.erase("u")
    assert list(explained(made, "b", ("click", "a"))[1]) == [digest("v")]


def test_ones_own_session_is_not_among_them() -> None:
    made = shop()
    lists = made.ranker.rank([shopper(("click", "a"))], 0, ["u"])
    named = {session.session for item in made.items(lists) for reason in item.reasons for session in reason.sessions}
    assert digest("v") in named
    assert digest("u") not in named


def test_another_salt_gives_other_names() -> None:
    assert digest("u") != digest("u", "salt")
    assert session_digest("x", "y" * 200) > 0  # a salt may be longer than a key


def test_parts_never_exceed_the_share_and_unknown_sessions_are_left_out() -> None:
    carriers = Carriers(
        np.array([[[4, 7, -1], [7, -1, -1]]]), np.array([[[2, 1, 0], [1e-9, 0, 0]]], dtype=np.float32), np.array([[3, 1]], np.float32)
    )
    found = attribute(carriers, np.array([[100, 50]], np.int32), lambda numbers: {4: "u@0"}, "pepper")
    assert found.millionths.tolist() == [[[66, 0, 0], [0, 0, 0]]]
    assert found.digests[0, 0].tolist() == [session_digest("u@0", "pepper"), 0, 0]
    assert not found.digests[0, 1].any()
