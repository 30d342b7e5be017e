from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from streams.evaluation.interactions import interactions_of
from streams.evaluation.visits import visits_of
from streams.replay import open_dataset
from streams.replay.record import ReplayEvent, encode

START = 1_760_000_000_000


def log(*events: dict[str, Any]) -> list[ReplayEvent]:
    """Clicks, unless they say otherwise, a second apart, unless they say ``at``."""
    made = []
    for number, fields in enumerate(events):
        at_ms = START + 1000 * fields.pop("at", number)
        body = {"event_id": f"e{number}", "type": "click", "occurred_at": f"{np.datetime64(at_ms, 'ms')}Z", "channel": "web"}
        made.append(encode(body | fields, at_ms))
    return made


def by(user: str, sku: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"user_id": user, "sku": sku, **fields}


def anonymous(sku: str, **fields: Any) -> dict[str, Any]:
    return {"session_id": "s", "sku": sku, **fields}


def login(user: str, **fields: Any) -> dict[str, Any]:
    return {"type": "login", "user_id": user, "session_id": "s", **fields}


def erasure(user: str) -> ReplayEvent:
    value = orjson.dumps({"user_id": user, "request_id": "q", "requested_at": "2026-03-01T12:00:00Z"})
    return ReplayEvent(b"line", value, START, "malformed")


def learned(events: list[ReplayEvent]) -> list[str]:
    """The SKUs that are learned, of interactions and of visits, which must be alike."""
    skus, visits = visits_of(events, 1_800_000)
    found = interactions_of(events)
    touched = sorted(found.skus[item] for item in found.items)
    assert touched == sorted(skus[row] for row in visits.rows)
    assert sorted(skus) == sorted(found.skus) == sorted(set(touched))
    assert sorted(set(found.users.tolist())) == list(range(found.user_count))
    return touched


@pytest.mark.parametrize("kind", ["click", "search"])
def test_a_withdrawal_takes_what_came_before_and_what_comes_until_consent_is_given(kind: str) -> None:
    no = by("u", "c" if kind == "click" else None, type=kind, consent=False)
    events = log(by("u", "a"), by("v", "b"), no, by("u", "d"), by("u", "e", consent=True), by("u", "f"))
    assert learned(events) == ["b", "e", "f"]
    assert learned(events[:4]) == ["b"]
    assert learned(events[2:4]) == []


def test_a_visit_that_was_under_way_is_cut_at_the_withdrawal() -> None:
    skus, visits = visits_of(log(by("u", "a"), by("u", "b", consent=False), by("u", "c", consent=True), by("u", "d")), 1_800_000)
    assert [[skus[row] for row in visits[number]] for number in range(len(visits))] == [["c", "d"]]


def test_an_older_word_that_comes_late_is_not_heard() -> None:
    assert learned(log(by("u", "a"), by("u", "b", consent=True, at=50), by("u", "c", consent=False, at=2))) == ["a", "b", "c"]


def test_the_sessions_that_a_user_logged_in_from_are_forgotten_with_them() -> None:
    assert learned(log(anonymous("a"), login("u"), by("u", "b"))) == ["a", "b"]
    assert learned(log(anonymous("a"), login("u"), by("u", "b", consent=False), by("v", "c"))) == ["c"]
    # Whoever had said no stays silent though the session said nothing.
    assert learned(log(by("u", "a", consent=False), anonymous("b"), login("u"), by("u", "c"))) == []


def test_a_session_that_says_no_speaks_for_its_user_from_the_login_on() -> None:
    assert learned(log(by("u", "a"), anonymous("b", consent=False), by("u", "c"))) == ["a", "c"]
    assert learned(log(by("u", "a"), anonymous("b", consent=False), login("u"), by("u", "c"))) == []
    assert learned(log(by("u", "a"), anonymous("b"), login("u", consent=False), by("u", "c"))) == []
    # It says so still when it goes on without its user.
    assert learned(log(anonymous("b", consent=False), login("u"), by("u", "a", consent=True), anonymous("c"))) == ["a"]
    assert learned(log(anonymous("b", consent=False), by("u", "a", consent=True), login("u"), by("u", "c"))) == ["a", "c"]


def test_an_erasure_in_the_log_takes_the_user_with_all_that_was_known() -> None:
    before = log(by("u", "a", consent=False), anonymous("b"), login("u"), by("u", "c", consent=True), by("v", "d"))
    assert learned([*before, erasure("u")]) == ["d"]
    assert learned([*before, erasure("u"), *log(by("u", "e"))]) == ["d", "e"]


def test_erasures_may_stand_in_a_file_of_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    records = [*log(by("u", "a"), by("v", "b")), erasure("u")]
    path.write_bytes(gzip.compress(b"\n".join(record.value for record in records)))
    assert learned(list(open_dataset("json-lines", path).events())) == ["b"]
