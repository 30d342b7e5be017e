"""Records that name the past sessions behind their items, where the settings ask for it."""

from __future__ import annotations

from models.ranking.neighbours import session_digest
from schemas.recommendation import Reason
from tests.agents.pipeline import START_MS, Pipeline, erasure, event, messages


def reasons(worker: Pipeline, number: int) -> list[Reason]:
    found = messages(worker.send(event("click", number, "w")), "recommendations")[-1]
    return [reason for item in found.items for reason in item.reasons if reason.source == "sessions"]


def taught(**settings: object) -> Pipeline:
    worker = Pipeline(**settings)
    for number, user in enumerate(("u", "v")):
        worker.send(event("click", 10 * number, user), event("click", 10 * number + 1, user, sku="b"))
    return worker


def test_each_share_of_the_session_neighbours_names_those_behind_it() -> None:
    worker = taught(explain_sessions=3, experiment_salt="pepper")
    names = {f"{session_digest(f'{user}@{START_MS}', 'pepper'):016x}" for user in "uv"}
    found = reasons(worker, 50)
    assert found
    for reason in found:
        assert {session.session for session in reason.sessions} == names
        assert 0 <= reason.score - sum(session.score for session in reason.sessions) < 3e-6
    worker.process(worker.records([erasure("u")], "privacy.erasures"))
    gone = f"{session_digest(f'u@{START_MS}', 'pepper'):016x}"
    assert all(gone not in {session.session for session in reason.sessions} for reason in reasons(worker, 51))


def test_nobody_is_named_unless_asked_for() -> None:
    assert all(reason.sessions == () for reason in reasons(taught(), 50))
