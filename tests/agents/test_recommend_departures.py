"""Lists for the next visit, made when a visit is over."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.recommendation import Recommendations
from streams.agents.departures import DUE_LIMIT, SLICE
from streams.agents.recommend import RecommendProcessor
from streams.runtime.processor import Step
from tests.agents.pipeline import Pipeline, erasure, event, outcomes, parse

MINUTE_MS = 60_000


def bought(number: int, user: str = "u", **fields: Any) -> tuple[bytes, bytes]:
    return event("purchase", number, user, **fields)


def prepared(step: Step | None) -> list[Recommendations]:
    """The lists that a step sent, held to their contract."""
    return [parse(output) for output in step.outputs if output.topic == "recommendations"] if step is not None else []


def minutes_later(worker: Pipeline, minutes: float) -> list[Recommendations]:
    """Lists of all ticks from now to so much later, at its end."""
    worker.now_ms += int(minutes * MINUTE_MS)
    found: list[Recommendations] = []
    while lists := prepared(worker.tick()):
        found += lists
    return found


def restarted(worker: Pipeline) -> None:
    """Another process takes over, with nothing but the state."""
    worker.processor = RecommendProcessor(worker.settings, worker.catalogue, worker.sessions)
    worker.processor.products_changed(list(range(len(worker.catalogue.table))))
    worker.processor.opened(worker.state, 2)


def test_a_buyer_who_left_gets_a_list_for_the_next_visit_once() -> None:
    worker = Pipeline()
    (last,) = prepared(worker.send(bought(0), bought(1, sku="b")))
    assert last.occasion == "visit"
    assert minutes_later(worker, 29) == []
    (found,) = minutes_later(worker, 2)
    assert (found.user_id, found.occasion, found.policy) == ("u", "next_visit", "personal")
    assert found.recommendation_id == f"{last.recommendation_id}-next"
    assert found.caused_by.last_offset == last.caused_by.last_offset
    assert {item.sku for item in found.items[:2]} == {"a", "b"}
    assert minutes_later(worker, 600) == []


def test_one_shopper_with_whom_it_fails_costs_nobody_else_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Pipeline()
    worker.send(*(bought(number, f"u{number}") for number in range(7)))
    rank = RecommendProcessor._rank

    def fails(self: RecommendProcessor, arm: str | None, visits: Any, now_ms: int, **options: Any) -> Any:
        if any(visit.shopper.identifier == "u3" for visit in visits):
            raise ValueError("what is stored of u3")
        return rank(self, arm, visits, now_ms, **options)

    monkeypatch.setattr(RecommendProcessor, "_rank", fails)
    assert sorted(found.user_id or "" for found in minutes_later(worker, 31)) == ["u0", "u1", "u2", "u4", "u5", "u6"]


def test_who_never_bought_keeps_the_visits_last_list() -> None:
    worker = Pipeline()
    worker.send(event("click", 0), event("click", 1, None, session_id="s"))
    assert minutes_later(worker, 60) == []


def test_who_came_back_in_time_is_not_gone() -> None:
    worker = Pipeline()
    worker.send(bought(0))
    assert minutes_later(worker, 20) == []
    worker.send(event("click", 1))
    assert minutes_later(worker, 20) == []
    assert len(minutes_later(worker, 15)) == 1


def test_what_comes_next_is_judged_by_that_list() -> None:
    worker = Pipeline()
    worker.send(bought(0))
    (found,) = minutes_later(worker, 31)
    (outcome,) = outcomes(worker.send(event("click", 1)))
    assert outcome.recommendation_id == found.recommendation_id
    assert outcome.rank == 1
    # And the list of the new visit is followed by another one.
    assert len(minutes_later(worker, 31)) == 1


def test_a_backlog_ends_no_visit_whose_events_wait_in_it() -> None:
    worker = Pipeline()
    worker.send(bought(0))
    waiting = worker.records([event("click", 1)])
    worker.now_ms += 300 * MINUTE_MS
    restarted(worker)
    assert prepared(worker.tick()) == []
    worker.process(waiting)
    assert prepared(worker.processor.tick(worker.state, 2, worker.now_ms)) == []


def test_those_who_left_before_a_restart_are_found_in_the_state() -> None:
    worker = Pipeline()
    worker.send(bought(0, "gone"), bought(1, "served"))
    served = {found.user_id for found in minutes_later(worker, 31)}
    assert served == {"gone", "served"}
    worker.send(bought(2, "gone"))
    restarted(worker)
    worker.send(bought(3, "other"))
    assert {found.user_id for found in minutes_later(worker, 31)} == {"gone", "other"}


def test_a_step_that_did_not_commit_is_made_again() -> None:
    worker = Pipeline()
    worker.send(bought(0))
    worker.now_ms += 31 * MINUTE_MS
    dropped = worker.processor.tick(worker.state, 2, worker.now_ms + 86_400_000)
    worker.processor.lost(2)
    worker.processor.opened(worker.state, 2)
    worker.send(event("click", 1, "other"))
    (found,) = minutes_later(worker, 31)
    assert [item.sku for item in prepared(dropped)[0].items] == [item.sku for item in found.items]
    assert prepared(dropped)[0].recommendation_id == found.recommendation_id


def test_who_was_erased_or_logged_in_gets_none() -> None:
    worker = Pipeline()
    worker.send(bought(0), event("purchase", 1, None, session_id="s"))
    worker.process(worker.records([erasure("u")], "privacy.erasures"))
    worker.send(event("login", 2, "v", session_id="s"))
    assert minutes_later(worker, 60) == []


def test_many_who_leave_at_once_are_served_in_turns() -> None:
    worker = Pipeline(products="ab", vectors=False)
    worker.send(*(bought(number, f"u{number}") for number in range(DUE_LIMIT + 20)))
    worker.now_ms += 31 * MINUTE_MS
    assert [len(prepared(worker.tick())) for _ in range(3)] == [DUE_LIMIT, 20, 0]


def test_a_large_state_is_read_in_slices() -> None:
    worker = Pipeline(products="ab", vectors=False)
    worker.send(*(bought(number, f"u{number}") for number in range(SLICE + 10)))
    restarted(worker)
    worker.now_ms += 31 * MINUTE_MS
    worker.send(event("click", SLICE + 20, "other"))
    turns = [len(prepared(worker.tick())) for _ in range(7)]
    assert (sum(turns), turns[-1]) == (SLICE + 10, 0)


@pytest.mark.parametrize("minutes", [10.0, 60.0])
def test_the_gap_is_that_of_sessions(minutes: float) -> None:
    worker = Pipeline(session_gap_s=minutes * 60)
    worker.send(bought(0))
    assert minutes_later(worker, minutes - 1) == []
    assert len(minutes_later(worker, 2)) == 1


def test_an_older_record_without_occasion_is_still_read() -> None:
    worker = Pipeline()
    (last,) = worker.send(bought(0)).outputs[:1]
    assert b"occasion" not in last.value
    assert orjson.loads(last.value)["recommendation_id"] == parse(last).recommendation_id
