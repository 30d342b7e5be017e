"""From a log's impressions to items shown, what became of them, and what they are worth."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from models.attribution.shown import RESULTS
from streams.evaluation.showings import ROWS, SHOWN_DIMENSIONS, Showing, assets_of, read_showings, split_showings, value_showings
from streams.replay.record import ReplayEvent, encode

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TYPES = ("click", "add_to_cart", "purchase")


def event(who: str, kind: str, sku: str, at_ms: int, **more: object) -> ReplayEvent:
    return encode({"type": kind, "sku": sku, "session_id" if who.startswith("s") else "user_id": who, **more}, at_ms)


def became(*events: ReplayEvent, window_ms: int = HOUR, end_ms: int = 10 * DAY) -> list[tuple[str, str, int, str]]:
    found = read_showings([*events, event("z", "click", "z", end_ms)], window_ms, TYPES)
    return [(one.shopper, one.sku, one.at_ms, RESULTS[one.result]) for one in found]


def test_an_item_shown_was_taken_up_within_its_window_or_passed_over() -> None:
    shown = [event(who, "impression", "a", 0) for who in ("u", "v", "w", "s1")]
    assert became(
        *shown,
        event("u", "click", "a", HOUR),
        event("u", "purchase", "a", HOUR),
        event("u", "add_to_cart", "a", HOUR),
        event("v", "click", "a", HOUR + 1),
        event("w", "click", "b", 1),
        event("s1", "browse", "a", 1),  # of a type that takes nothing up here
    ) == [("u", "a", 0, "bought"), ("v", "a", 0, "ignored"), ("w", "a", 0, "ignored"), ("session:s1", "a", 0, "ignored")]


def test_an_event_speaks_for_one_showing_the_cited_or_the_newest() -> None:
    assert became(
        event("u", "impression", "a", 0, recommendation_id="L1"),
        event("u", "impression", "a", 1, recommendation_id="L2"),
        event("u", "impression", "a", 2, recommendation_id="L1"),  # shown again
        event("u", "click", "a", 3, recommendation_id="L1"),
        event("u", "add_to_cart", "a", 4, recommendation_id="made up"),
        event("v", "impression", "a", 10),
        event("v", "impression", "a", 20),
        event("v", "impression", "a", HOUR + 11),
        event("v", "click", "a", HOUR + 12),
    ) == [("u", "a", 0, "clicked"), ("u", "a", 1, "added"), ("v", "a", 10, "ignored"), ("v", "a", HOUR + 11, "clicked")]


def test_of_what_was_shown_last_it_is_not_known_what_becomes_of_it() -> None:
    events = [event("u", "impression", "a", 0), event("u", "impression", "b", 1)]
    assert [sku for _, sku, _, _ in became(*events, end_ms=HOUR)] == ["a"]
    assert read_showings([event("u", "click", "a", 0), event("u", "purchase", "a", DAY)], HOUR, TYPES) == []


def showing(number: int, sku: str, *, taken: bool, at_ms: int | None = None, shopper: str | None = None, channel: str = "web") -> Showing:
    return Showing(shopper or f"u{number}", sku, number if at_ms is None else at_ms, channel, "GB", "new", 2 * taken)


def test_only_what_was_known_before_the_tests_were_shown_is_learned() -> None:
    many = [showing(number, "a", taken=False, at_ms=number * MINUTE) for number in range(100)]
    parts = split_showings(many[::-1], 0.2, HOUR)
    assert (parts.cut_ms, [one.at_ms for one in parts.test]) == (80 * MINUTE, [number * MINUTE for number in range(80, 100)])
    assert [one.at_ms for one in parts.train] == [number * MINUTE for number in range(20)]
    assert len(split_showings([showing(0, "a", taken=False)] * (2 * ROWS), 0.2, -1).train) == ROWS


def test_the_assets_of_an_item_shown() -> None:
    assets = assets_of(showing(1, "a", taken=True, at_ms=0), 31 * DAY, {"a": "Bags"})
    assert assets == {
        "channel": "web", "event_type": "added", "category": "Bags", "country": "GB", "segment": "new", "age": "month 2",
    }  # fmt: skip
    assert tuple(assets) == SHOWN_DIMENSIONS
    assert assets_of(showing(1, "b", taken=True), 0, {})["category"] == "uncategorised"


def worth(match: list[bool], coalition: int, k: int) -> float:
    """The vote of the nearest rows that a coalition, a set of bits, holds."""
    return sum([same for place, same in enumerate(match) if coalition >> place & 1][:k]) / k


def test_values_are_those_of_the_game_played_by_hand() -> None:
    """Every coalition of six rows, and the points of each row in every order in which they can come."""
    chance = np.random.default_rng(6)
    vectors = {sku: vector / np.linalg.norm(vector) for sku, vector in zip("abcdefg", chance.normal(size=(7, 8)), strict=True)}
    vectors = {sku: vector.astype(np.float32) for sku, vector in vectors.items()}
    train = [showing(n, sku, taken=n % 3 == 0, channel=["web", "app"][n % 2]) for n, sku in enumerate("abcdef")]
    test = [showing(9, "g", taken=True), showing(10, "a", taken=False, shopper="u1")]
    k, expected, lift = 2, {"web": 0.0, "app": 0.0}, 0.0
    for one in test:
        rows = [row for row in train if row.shopper != one.shopper]
        near = sorted(rows, key=lambda row: -float(vectors[row.sku] @ vectors[one.sku]))
        match = [row.taken == one.taken for row in near]
        popularity = sum(match) / len(near)
        for place, row in enumerate(near):
            for coalition in range(1 << len(near)):
                if not coalition >> place & 1:
                    size = coalition.bit_count()
                    weight = factorial(size) * factorial(len(near) - size - 1) / factorial(len(near))
                    expected[row.channel] += weight * (worth(match, coalition | 1 << place, k) - worth(match, coalition, k)) / len(test)
            expected[row.channel] -= popularity / len(near) / len(test)
        lift += (worth(match, (1 << len(near)) - 1, k) - popularity) / len(test)
    parts = split_showings([*train, *test], 0.25, 1)
    assert (len(parts.train), len(parts.test)) == (6, 2)
    valued = value_showings(parts, vectors, {}, ("channel",), k=k, tests=10, shuffles=0)
    assert {line.asset: line.points for line in valued.registers["channel"].lines()} == pytest.approx(expected, abs=1e-12)
    assert valued.registers["channel"].lift == pytest.approx(lift, abs=1e-12)
    assert (valued.tests, valued.rows) == (2, 6)
