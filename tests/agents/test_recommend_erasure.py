from __future__ import annotations

import itertools

import pytest

from schemas.topics import TOPICS
from tests.agents.pipeline import ERASURES, Pipeline, erasure, event, messages, outcomes


def login(number: int, user: str = "u", session: str = "s") -> tuple[bytes, bytes]:
    return event("login", number, user, session_id=session)


def recommendations(step) -> list[tuple[bytes, bool]]:
    """(key, is a list rather than a tombstone) in order."""
    return [(output.key, output.value is not None) for output in step.outputs if output.topic == "recommendations"]


def forgotten(step) -> set[str]:
    return {delta.shopper for delta in messages(step, "sessions") if delta.erased}


def erase(worker: Pipeline, user: str = "u"):
    return worker.process(worker.records([erasure(user)], ERASURES))


def later(worker: Pipeline) -> None:
    """Let the broker's clock go on."""
    worker.now_ms += 1000


def test_an_erased_user_is_gone_and_the_receipt_says_from_where() -> None:
    worker = Pipeline()
    worker.process(
        worker.merges(worker.send(event("click", 0, None, session_id="s"), event("click", 1, None, session_id="s", sku="b"), login(2)))
    )
    worker.send(event("click", 3, sku="c"), event("click", 4, sku="d"))
    worker.send(event("click", 5, "v", sku="c"), event("click", 6, "v", sku="d"))
    step = erase(worker)
    assert worker.profile("u") is None
    assert not [key for key in worker.state.data if key.endswith(b"|u")]
    assert recommendations(step) == [(b"u", False)]
    assert forgotten(step) == {"u", "session:s"}
    (receipt,) = messages(step, "privacy.receipts")
    assert (receipt.user_id, receipt.request_id) == ("u", "q1")
    assert receipt.removed == {"profile": 1, "recommendations": 1, "sessions": 2}
    table, index = worker.catalogue.table, worker.sessions.cooccurrence
    assert index.neighbours_of(table.row("a")) == []  # the anonymous past went too
    assert index.neighbours_of(table.row("c")) == [(table.row("d"), pytest.approx(1.0))]  # another shopper's stays


def test_the_receipt_says_how_long_raw_records_may_stay() -> None:
    (receipt,) = messages(erase(Pipeline()), "privacy.receipts")
    assert receipt.expiring == {"storefront.events": 30, "profile.merges": 7, "sessions": 90, "outcomes": 30, "events.dead-letter": 30}
    days = {topic.name: topic.retention_ms / 86_400_000 for topic in TOPICS}
    assert all(days[name] == value for name, value in receipt.expiring.items())


def test_what_is_kept_of_an_erasure_does_not_name_the_user() -> None:
    worker = Pipeline()
    worker.send(event("click", 0, "somebody"))
    erase(worker, "somebody")
    assert [key[:2] for key in worker.snapshot()] == [b"e|"]
    assert not [entry for entry in worker.state.data.items() if b"somebody" in b"".join(entry)]


def test_the_session_index_is_told_in_every_partition() -> None:
    worker = Pipeline(partitions=4)
    step = erase(worker)
    assert [output.partition for output in step.outputs if output.topic == "sessions"] == [0, 1, 2, 3]
    assert all(delta.erased and delta.shopper == "u" for delta in messages(step, "sessions"))


def test_an_anonymous_session_is_no_user_to_be_erased() -> None:
    worker = Pipeline()
    step = erase(worker, "session:abc")
    (letter,) = messages(step, "events.dead-letter")
    assert (letter.code, letter.path) == ("field_invalid", "user_id")
    assert not messages(step, "privacy.receipts")


def test_events_that_the_broker_took_before_an_erasure_bring_nobody_back_when_they_are_read_after_it() -> None:
    worker = Pipeline()
    worker.send(event("click", 0))
    backlog = worker.records([event("click", 1, sku="b"), event("purchase", 2, sku="c"), event("click", 3, "v", sku="c")])
    later(worker)
    erase(worker)
    before = worker.snapshot()
    step = worker.process(backlog)
    assert worker.profile("u") is None
    assert recommendations(step) == [(b"v", True)]
    assert [outcome.shopper for outcome in outcomes(step)] == ["v"]
    assert {delta.shopper for delta in messages(step, "sessions")} == {"v"}
    assert messages(step, "events.dead-letter") == []
    assert {key: value for key, value in worker.snapshot().items() if b"|v" not in key} == before


def test_what_is_read_together_with_an_erasure_is_told_apart_by_the_brokers_time() -> None:
    def batch(worker: Pipeline) -> list:
        early = worker.records([event("click", 1, sku="b")])
        later(worker)
        request = worker.records([erasure("u")], ERASURES)
        later(worker)
        return [early, request, worker.records([event("click", 2, sku="c")])]

    for order in itertools.permutations(range(3)):
        worker = Pipeline()
        worker.send(event("click", 0, sku="a"))
        parts = batch(worker)
        step = worker.process([record for place in order for record in parts[place]])
        assert worker.profile("u").recent_skus == ["c"], order
        assert recommendations(step) == [(b"u", False), (b"u", True)]
        assert [outcome.event_id for outcome in outcomes(step)] == ["e2"]
        assert outcomes(step)[0].list_size == 0
        assert messages(step, "privacy.receipts")[0].removed["profile"] == 1


def test_a_history_whose_login_came_before_an_erasure_does_not_join_after_it() -> None:
    worker = Pipeline()
    worker.send(event("click", 0, None, session_id="s", sku="a"), event("click", 1, None, session_id="s", sku="b"))
    handed = worker.send(login(2))
    later(worker)
    erase(worker)
    later(worker)
    step = worker.process(worker.merges(handed))  # the merge itself is younger than the erasure
    assert worker.profile("u") is None
    assert recommendations(step) == []
    assert forgotten(step) == {"session:s"}
    table = worker.catalogue.table
    assert worker.sessions.cooccurrence.neighbours_of(table.row("a")) == []


def test_a_login_after_an_erasure_hands_its_history_over() -> None:
    worker = Pipeline()
    erase(worker)
    step = worker.process(worker.merges(worker.send(event("click", 0, None, session_id="s", sku="b"), login(1))))
    assert worker.profile("u").recent_skus == ["b"]
    assert recommendations(step) == [(b"u", True)]


def test_a_user_who_comes_back_begins_anew() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0))
    erase(worker)
    step = worker.send(event("click", 1, sku="b"))
    assert worker.profile("u").recent_skus == ["b"]
    assert outcomes(step)[0].list_size == 0


def test_an_erasure_read_again_deletes_what_there_is_and_gives_no_second_receipt() -> None:
    worker = Pipeline()
    old = worker.records([erasure("u")], ERASURES)
    later(worker)
    request = worker.records([erasure("u")], ERASURES)
    assert len(messages(worker.process(request), "privacy.receipts")) == 1
    kept = worker.snapshot()
    for again in (request, old, [*request, *old]):
        worker.send(event("click", 1, sku="b"))
        step = worker.process(again)
        assert messages(step, "privacy.receipts") == []
        assert (b"u", False) in recommendations(step)
        assert worker.snapshot() == kept


def test_a_later_erasure_gives_a_receipt_of_its_own() -> None:
    worker = Pipeline()
    erase(worker)
    worker.send(event("click", 1, sku="b"))
    late = worker.records([event("click", 2, sku="c")])
    later(worker)
    (receipt,) = messages(erase(worker), "privacy.receipts")
    assert receipt.removed["profile"] == 1
    worker.process(late)
    assert worker.profile("u") is None


def test_reading_everything_again_brings_nobody_back_in_any_order() -> None:
    worker = Pipeline()
    early = worker.records([event("click", 0, sku="a"), event("click", 1, None, session_id="s", sku="b"), login(2)])
    handed = worker.merges(worker.process(early))
    worker.process(handed)
    later(worker)
    request = worker.records([erasure("u")], ERASURES)
    worker.process(request)
    memory = {key: value for key, value in worker.state.data.items() if key.startswith(b"e|")}
    for order in itertools.permutations([early, request]):
        again = Pipeline()
        again.state.data = dict(memory)
        for part in order:
            step = again.process(part)
            again.process(again.merges(step))
        # Besides the erasure's own, only hashes of event ids under the hash of a session's name.
        assert {key: value for key, value in again.snapshot().items() if not key.startswith(b"h|")} == memory
        assert messages(again, "privacy.receipts") == []
        assert {outcome.shopper for outcome in outcomes(again)} == {"session:s"}


def test_a_request_that_cannot_be_read_is_refused_with_the_field_that_is_wrong() -> None:
    worker = Pipeline()
    bad = [
        (b"u", b'{"requested_at": "2026-03-01T12:00:00Z", "request_id": "q"}'),
        (b"u", b'{"user_id": "u", "requested_at": "1772366400", "request_id": "q"}'),
        (b"u", b'{"user_id": "u", "requested_at": "2026-03-01T12:00:00Z", "request_id": "q", "more": NaN}'),
    ]
    letters = messages(worker.process(worker.records(bad, ERASURES)), "events.dead-letter")
    expected = [("field_missing", "user_id"), ("field_invalid", "requested_at"), ("json_invalid", "")]
    assert [(letter.code, letter.path) for letter in letters] == expected
