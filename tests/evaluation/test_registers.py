"""From a log to visits, their assets, and tests of what came next."""

from __future__ import annotations

import numpy as np

from models.valuation.neighbours import HEAD
from streams.evaluation.registers import (
    DIMENSIONS,
    assets_of,
    neighbours_of,
    next_items,
    read_visits,
    split_visits,
    teach,
    value_visits,
)  # fmt: skip
from streams.replay.record import ReplayEvent, encode

MINUTE = 60_000
GAP = 30 * MINUTE
DAY = 1_440 * MINUTE


def event(who: str, sku: str, at_ms: int, kind: str = "click", **more: object) -> ReplayEvent:
    fields = {"type": kind, "sku": sku, "session_id" if who.startswith("s") else "user_id": who, **more}
    return encode(fields, at_ms)


def test_a_visit_ends_with_a_pause_and_says_whose_it_is() -> None:
    visits = read_visits(
        [
            event("u", "a", 0, country="GB", channel="ads"),
            event("s1", "x", MINUTE),
            event("u", "a", 2 * MINUTE, "purchase"),
            ReplayEvent(b"u", b"{", 2 * MINUTE, "click"),
            event("u", "b", 3 * MINUTE, "purchase"),
            event("u", "c", 40 * MINUTE, segment="loyal"),
            event("u", "d", 90 * MINUTE),
            event("u", "z", 90 * MINUTE, "refund"),
        ],
        GAP,
    )
    assert [(one.shopper, one.skus, one.segment) for one in visits] == [
        ("u", ["a", "b"], "first visit"), ("session:s1", ["x"], "anonymous"), ("u", ["c"], "loyal"), ("u", ["d"], "returning"),
    ]  # fmt: skip
    assert (visits[0].country, visits[0].channel, visits[0].at_ms) == ("GB", "ads", [2 * MINUTE, 3 * MINUTE])
    assert assets_of(visits[0], 31 * DAY, {"a": "Bags", "b": "Bags"}) == {
        "channel": "ads", "event_type": "purchase", "category": "Bags", "country": "GB", "segment": "first visit", "age": "month 2",
        "length": "1-2",
    }  # fmt: skip
    assert assets_of(visits[1], MINUTE, {})["category"] == "uncategorised"
    assert assets_of(visits[1], MINUTE, {})["country"] == "unknown"


def test_visits_under_way_when_the_tests_begin_are_neither_learned_nor_judged() -> None:
    visits = read_visits([event(f"u{n}", sku, n * MINUTE + after) for n in range(10) for after, sku in ((0, "a"), (90_000, "b"))], GAP)
    parts = split_visits(visits, 0.2)
    assert parts.cut_ms == 8 * MINUTE
    assert [one.shopper for one in parts.train] == [f"u{n}" for n in range(7)]
    assert [one.shopper for one in parts.test] == ["u8", "u9"]


def test_tests_are_every_item_but_the_first_or_some_of_them_spread_evenly() -> None:
    visits = read_visits([event(f"u{n}", sku, n * MINUTE) for n in range(6) for sku in "abc"], GAP)
    every = list(next_items(visits, 100))
    assert [(one.anchors, one.label) for one in every[:2]] == [(["a"], "b"), (["b", "a"], "c")]
    assert len(every) == 12
    assert [one.visit.shopper for one in next_items(visits, 3)] == ["u0", "u3", "u5"]
    assert list(next_items([], 3)) == []


def shop(days: int = 40) -> list[ReplayEvent]:
    """Visits of two channels: in one what comes next follows from what came first, in the other it is anything."""
    chance = np.random.default_rng(4)
    events = []
    for number in range(days * 40):
        theme, noisy = int(chance.integers(8)), number % 2 == 1
        skus = [f"first-{theme}", f"second-{theme}", f"next-{int(chance.integers(8)) if noisy else theme}"]
        at = number * DAY // 40
        more = {"channel": "noise" if noisy else "sound", "country": "GB"}
        events += [event(f"u{number}", sku, at + place * 1_000, **more) for place, sku in enumerate(skus)]
    return events


def test_the_sound_channel_is_worth_something_and_the_noise_is_not() -> None:
    parts = split_visits(read_visits(shop(), GAP), 0.2)
    progress: list[int] = []
    valued = value_visits(parts, {}, ["channel", "age", "country"], k=5, tests=200, shuffles=4, progress=progress.append)
    assert (valued.tests, progress[-1], valued.rows) == (200, 200, len(parts.train))
    sound, noise = valued.registers["channel"].lines()
    assert (sound.asset, noise.asset) == ("sound", "noise")
    assert sound.low is not None
    assert sound.low > 0
    assert sound.share is not None
    assert sound.share > 0.8
    assert sound.random_share is not None
    assert abs(sound.random_share - 0.5) < 0.2
    (country,) = valued.registers["country"].lines()
    assert country.share is not None
    assert abs(country.share - 1) < 1e-9
    assert {line.asset for line in valued.registers["age"].lines()} == {"month 1", "month 2"}
    assert {abs(register.lift - country.points) < 1e-9 for register in valued.registers.values()} == {True}


def test_a_window_of_visits_is_asked_as_of_the_test() -> None:
    parts = split_visits(read_visits(shop(4), GAP), 0.2)
    window, names = teach(parts.train, parts.cut_ms, {})
    assert set(names) == set(DIMENSIONS)
    assert names["channel"] == ["sound", "noise"]
    test = next(next_items(parts.test, 1))
    found = neighbours_of(window, test)
    assert 0 < len(found.rows) <= HEAD
    own = {number for number, visit in enumerate(parts.train) if test.anchors[0] in visit.skus}
    assert set(found.rows.tolist()) == own
