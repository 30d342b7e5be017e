from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from models.profiles.profile import bought_entries, recent_entries
from tests.agents.pipeline import ERASURES, MERGES, START_MS, Pipeline, erasure, event, messages, outcomes


def login(number: int, user: str = "u", session: str = "s", **fields) -> tuple[bytes, bytes]:
    return event("login", number, user, session_id=session, **fields)


def anonymous(kind: str, number: int, session: str = "s", **fields) -> tuple[bytes, bytes]:
    return event(kind, number, None, session_id=session, **fields)


def recommendations(step) -> list[tuple[bytes, bool]]:
    """(key, is a list rather than a tombstone) in order."""
    return [(output.key, output.value is not None) for output in step.outputs if output.topic == "recommendations"]


def test_a_login_hands_the_sessions_history_to_its_user() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, sku="a"))
    worker.send(anonymous("click", 1, sku="b", second=10), anonymous("purchase", 2, sku="c", second=20))
    step = worker.send(login(3, second=30))
    (merge,) = messages(step, "profile.merges")
    assert (merge.user_id, merge.session_id, merge.origin.offset) == ("u", "s", 3)
    assert [output.key for output in step.outputs if output.topic == "profile.merges"] == [b"u"]
    assert merge.received_ms == START_MS + 86_401_000 + 1000  # when the broker took the login
    assert recommendations(step) == [(b"session:s", True), (b"session:s", False)]
    assert worker.profile("s", anonymous=True) is None
    assert not [key for key in worker.state.data if b"s|" in key]

    step = worker.process(worker.merges(step))
    (message,) = messages(step, "recommendations")
    assert (message.user_id, message.caused_by.topic, message.caused_by.events) == ("u", MERGES, 1)
    profile = worker.profile("u")
    assert [sku for sku, _, _ in recent_entries(profile)] == ["a", "b", "c"]
    assert [sku for sku, *_ in bought_entries(profile)] == ["a", "c"]
    assert (profile.events, profile.aliases) == (4, ["s"])
    assert outcomes(step) == []


def test_every_event_of_a_session_is_covered_even_when_its_login_comes_in_the_same_batch() -> None:
    worker = Pipeline()
    step = worker.send(anonymous("click", 0), login(1), anonymous("click", 2, sku="b"), anonymous("click", 3, sku="c"))
    covered = [
        (output.key, orjson.loads(output.value)["caused_by"]["first_offset"], orjson.loads(output.value)["caused_by"]["events"])
        if output.value
        else (output.key, None)
        for output in step.outputs
        if output.topic == "recommendations"
    ]
    assert covered == [(b"session:s", 0, 2), (b"session:s", None), (b"session:s", 2, 2)]
    assert worker.profile("s", anonymous=True).recent_skus == ["b", "c"]  # a new anonymous history has begun
    assert len(outcomes(step)) == 4
    assert outcomes(step)[2].list_size == 0


def test_a_login_of_a_session_without_history_still_reaches_the_user() -> None:
    worker = Pipeline()
    step = worker.process(worker.merges(worker.send(login(0))))
    assert worker.profile("u").events == 1
    assert len(messages(step, "recommendations")) == 1


@pytest.mark.parametrize("batches", [1, 2])
def test_a_session_sent_again_with_its_login_counts_once(batches: int) -> None:
    worker = Pipeline()
    sent = [anonymous("purchase", 1, sku="c"), login(2, second=10)]
    steps = [worker.send(*sent, *sent)] if batches == 1 else [worker.send(*sent), worker.send(*sent)]
    merges = [merge for step in steps for merge in messages(step, "profile.merges")]
    assert len(merges) == 1
    assert [outcome.revenue for outcome in outcomes(worker) if outcome.revenue is not None] == [Decimal("2.50")]
    for step in steps:
        worker.process(worker.merges(step))
    user = worker.profile("u")
    assert user is not None
    assert user.events == 2


def test_an_event_sent_again_after_the_login_counts_once() -> None:
    worker = Pipeline()
    step = worker.send(anonymous("click", 7), login(8))
    worker.process(worker.merges(step))
    again = worker.send(event("click", 7, "u", session_id="s"))
    assert again.outputs == []


def test_events_and_merges_of_one_user_in_one_batch_are_told_apart() -> None:
    worker = Pipeline()
    handed = worker.merges(worker.send(anonymous("purchase", 0, sku="c"), login(1)))
    other = worker.merges(worker.send(anonymous("purchase", 2, "t", sku="d"), login(3, session="t")))
    step = worker.process([*handed, *worker.records([event("click", 4, sku="b")]), *other])
    causes = [(message.caused_by.topic, message.caused_by.events) for message in messages(step, "recommendations")]
    assert causes == [("storefront.events", 1), ("profile.merges", 2)]
    profile = worker.profile("u")
    assert sorted(sku for sku, _, _ in recent_entries(profile)) == ["b", "c", "d"]
    assert profile.aliases == ["s", "t"]
    (outcome,) = outcomes(worker.send(event("click", 5, sku="b")))
    assert outcome.recommendation_id == messages(step, "recommendations")[1].recommendation_id  # the newest list


def test_malformed_erasures_and_merges_become_dead_letters() -> None:
    worker = Pipeline()
    merge = {
        "user_id": "u", "session_id": "s", "origin": {"topic": "t", "partition": 0, "offset": 0},
        "occurred_at": "2026-03-01T12:00:00Z", "profile": {"format": 1},
    }  # fmt: skip
    step = worker.process(
        [
            *worker.records([(b"u", b"no"), erasure("u", key="w"), (b"u", None)], ERASURES),
            *worker.records([(b"u", orjson.dumps(merge)), (b"u", b"[]")], MERGES),
        ]
    )
    letters = messages(step, "events.dead-letter")
    assert [(letter.topic, letter.code, letter.path) for letter in letters] == [
        (ERASURES, "json_invalid", ""), (ERASURES, "key_mismatch", ""), (ERASURES, "value_missing", ""),
        (MERGES, "field_invalid", "profile"), (MERGES, "object_expected", ""),
    ]  # fmt: skip
    assert step.writes == {}
