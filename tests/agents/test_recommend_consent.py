"""Shoppers who do not agree to a history: lists by the item at hand, nothing shared with others."""

from __future__ import annotations

from schemas.recommendation import Recommendations
from streams.runtime.processor import Step
from tests.agents.pipeline import Pipeline, event, parse


def lists(step: Step) -> list[Recommendations]:
    return [parse(output) for output in step.outputs if output.topic == "recommendations"]


def test_a_list_rests_on_the_item_at_hand_alone() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, sku="f"), event("click", 1, sku="e"))
    (found,) = lists(worker.send(event("click", 2, sku="a", consent=False)))
    assert found.policy == "item_only"
    because = {reason.because for item in found.items for reason in item.reasons if reason.because}
    assert because <= {"a"}
    (found,) = lists(worker.send(event("click", 3, sku="b")))
    assert {reason.because for item in found.items for reason in item.reasons if reason.because} <= {"b"}


def test_their_visits_are_neither_told_nor_kept() -> None:
    worker = Pipeline()
    worker.send(event("click", 0, sku="a"), event("click", 1, sku="b"))
    assert worker.sessions.sessions_of("u") == 1
    worker.send(event("click", 2, sku="c", consent=False))
    assert worker.sessions.sessions_of("u") == 0
    step = worker.send(event("click", 3, sku="d"), event("purchase", 4, sku="e"))
    assert not [output for output in step.outputs if output.topic == "sessions"]
    # What one batch holds of before and after is not told either.
    step = worker.send(event("click", 5, "v", sku="a"), event("click", 6, "v", sku="b", consent=False))
    assert worker.sessions.sessions_of("v") == 0


def test_who_agrees_again_is_personal_again_and_has_no_list_for_the_next_visit_before_a_purchase() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, sku="a", consent=False))
    worker.now_ms += 60 * 60_000
    step = worker.tick()
    assert step is None or not lists(step)
    (found,) = lists(worker.send(event("click", 1, sku="b", consent=True, second=4000)))
    assert found.policy == "personal"
    assert worker.sessions.sessions_of("u") == 1
