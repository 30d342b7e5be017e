"""Shoppers who do not agree to a history: lists by the item at hand, nothing shared with others."""

from __future__ import annotations

import pytest

from schemas.recommendation import Recommendations
from streams.agents.value import ValueProcessor
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from tests.agents.pipeline import Pipeline, event, outcomes, parse


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


class Roles:
    """A recommend worker, and a value worker that reads what it sends, both of one partition."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        self.value, self.state = ValueProcessor(4), DictState()
        self.value.opened(self.state, 2)
        self.read = 0
        self.begin()

    def begin(self) -> None:
        """A recommend worker that knows nobody yet."""
        self.worker = Pipeline(partitions=4, **self.settings)

    def send(self, *pairs: tuple[bytes | None, bytes | None], merges: Step | None = None) -> Step:
        """One micro-batch of events, and of what sessions handed over in the step ``merges``."""
        handed = [] if merges is None else self.worker.merges(merges)
        step = self.worker.process([*self.worker.records(pairs), *handed])
        told = [output for output in step.outputs if output.topic == "outcomes" and output.partition == 2]
        records = [SourceRecord("outcomes", 2, self.read + n, self.worker.now_ms, one.key, one.value) for n, one in enumerate(told)]
        self.read += len(told)
        self.state.apply(self.value.process(self.state, Batch(2, records, self.worker.now_ms)).writes)
        return step

    def kept(self, name: str) -> set[str]:
        """Where the value worker has anything of a shopper."""
        return {key.decode(errors="ignore")[:4] for key, data in self.state.data.items() if name.encode() in key + data}


#: In an experiment, and outside any.
SETTINGS = pytest.mark.parametrize("settings", [{"holdout_share": 0.5}, {}], ids=["arm", "no arm"])


@SETTINGS
@pytest.mark.parametrize("together", [False, True])
def test_a_session_that_said_no_takes_the_consent_of_the_user_it_logs_in_as(settings: dict[str, object], together: bool) -> None:
    roles = Roles(**settings)
    before = event("purchase", 0, "somebody", sku="a")
    if not together:
        roles.send(before)
        assert roles.kept("somebody") == {"line", "acco" if settings else "past"}
    step = roles.send(
        event("click", 1, None, session_id="visit", sku="b", consent=False, second=10),
        event("login", 2, "somebody", session_id="visit", second=20),
    )
    # What the user did is told before they are forgotten, though it comes in one batch with the login.
    step = roles.send(*([before] if together else []), merges=step)
    assert [outcome.consent for outcome in outcomes(step)] == [True] * together
    assert roles.kept("somebody") == roles.kept("visit") == set()
    assert roles.worker.sessions.sessions_of("somebody") == 0
    step = roles.send(event("click", 3, "somebody", sku="c", second=30))
    assert [outcome.consent for outcome in outcomes(step)] == [False]
    assert roles.kept("somebody") == set()


def test_a_user_who_said_no_later_takes_the_consent_of_a_session_that_becomes_theirs() -> None:
    roles = Roles()
    step = roles.send(event("purchase", 0, None, session_id="visit", sku="a"), event("login", 1, "somebody", session_id="visit", second=5))
    assert roles.kept("session:visit")
    roles.send(event("click", 2, "somebody", sku="b", consent=False, second=60))
    roles.send(merges=step)
    assert roles.kept("session:visit") == roles.kept("somebody") == set()


def test_a_login_of_a_session_that_never_spoke_of_consent_does_not_undo_a_withdrawal() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, "anna", sku="f"))
    worker.send(event("click", 1, "anna", sku="a", consent=False, second=10))
    step = worker.send(
        event("click", 2, None, session_id="visit", sku="b", second=20), event("login", 3, "anna", session_id="visit", second=30)
    )
    assert worker.sessions.sessions_of("session:visit") == 1
    (found,) = lists(worker.process(worker.merges(step)))
    assert found.policy == "item_only"
    assert worker.sessions.sessions_of("session:visit") == 0
    step = worker.send(event("click", 4, "anna", sku="c", second=40))
    assert not [output for output in step.outputs if output.topic == "sessions"]
    profile = worker.profile("anna")
    assert profile is not None
    assert (profile.recent_skus, profile.bought_skus) == (["c"], [])


def test_a_session_that_said_no_before_the_users_newest_event_is_heard() -> None:
    worker = Pipeline()
    step = worker.send(
        event("click", 0, None, session_id="visit", sku="a", consent=False, second=60),
        event("login", 1, "anna", session_id="visit", second=61),
    )
    worker.send(event("purchase", 2, "anna", sku="f", second=90))
    (found,) = lists(worker.process(worker.merges(step)))
    assert found.policy == "item_only"
    assert worker.sessions.sessions_of("anna") == 0


@pytest.mark.parametrize("together", [False, True])
def test_a_session_that_said_no_goes_on_saying_so_after_its_login(together: bool) -> None:
    worker = Pipeline()
    first = [event("click", 0, None, session_id="visit", sku="a", consent=False), event("login", 1, "anna", session_id="visit", second=1)]
    later = event("click", 2, None, session_id="visit", sku="b", second=2)
    if not together:
        worker.send(*first)
        first = []
    found = lists(worker.send(*first, later))[-1]
    assert (found.session_id, found.policy) == ("visit", "item_only")
    assert worker.sessions.sessions_of("session:visit") == 0
    (found,) = lists(worker.send(event("click", 3, None, session_id="visit", sku="c", consent=True, second=3)))
    assert found.policy == "personal"


@SETTINGS
def test_who_says_no_before_there_is_a_profile_of_them_is_forgotten_by_the_value_role_too(settings: dict[str, object]) -> None:
    roles = Roles(**settings)
    roles.send(event("purchase", 0, "somebody", sku="a"), event("click", 1, "somebody", sku="b", second=1))
    assert roles.kept("somebody")
    roles.begin()
    roles.send(event("click", 2, "somebody", sku="c", consent=False, second=10))
    assert roles.kept("somebody") == set()


def test_what_was_bought_without_consent_is_kept_in_no_account_though_consent_came_in_the_same_batch() -> None:
    roles = Roles()
    step = roles.send(
        event("purchase", 0, "somebody", sku="a", consent=False), event("click", 1, "somebody", sku="b", consent=True, second=10)
    )
    assert [outcome.consent for outcome in outcomes(step)] == [False, True]
    assert roles.kept("somebody") == {"line"}
