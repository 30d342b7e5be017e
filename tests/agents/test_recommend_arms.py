"""Hold-out and experiments: who gets which lists, and what the records say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.experiments.assignment import Experiment
from models.ranking.weights import Weights, WeightsError
from models.rules import read_rules
from schemas.catalog import Product
from schemas.recommendation import Recommendations
from streams.agents.arms import CONTROL, HOLDOUT, TREATED, TREATMENT, Arms
from streams.agents.shoppers import Shopper
from streams.runtime.processor import Step
from streams.settings import Settings
from tests.agents.pipeline import Pipeline, event, messages, outcomes

USERS = [f"u{number}" for number in range(40)]
HALF = Experiment("", "s1", {HOLDOUT: 0.5, TREATED: 0.5})
HELD, TAKEN = ([user for user in USERS if HALF.arm(user) == arm] for arm in (HOLDOUT, TREATED))


def lists(step: Step | Pipeline) -> list[Recommendations]:
    return [message for message in messages(step, "recommendations") if message is not None]


def half(**options: object) -> Pipeline:
    return Pipeline(holdout_share=0.5, experiment_salt="s1", **options)


def skus(found: Recommendations) -> list[str]:
    return [item.sku for item in found.items]


def test_without_a_hold_out_records_name_no_arm() -> None:
    worker = Pipeline()
    step = worker.send(event("click", 0))
    assert [found.arm for found in (*lists(step), *outcomes(step))] == [None, None]
    assert not any(b'"arm"' in (output.value or b"") for output in step.outputs)


def test_the_held_out_get_what_is_popular_and_the_others_what_is_theirs() -> None:
    worker = half()
    worker.send(*(event("purchase", number, TAKEN[0], sku="f") for number in range(3)))
    step = worker.send(event("click", 10, HELD[1], sku="b"), event("click", 11, TAKEN[1], sku="b"))
    found = {message.user_id: message for message in lists(step)}
    held, taken = found[HELD[1]], found[TAKEN[1]]
    assert (held.arm, held.policy, held.versions.model) == (HOLDOUT, "cold_start", "popular-1")
    assert (taken.arm, taken.policy) == (TREATED, "personal")
    assert skus(held)[0] == "f"
    assert skus(taken)[0] == "b"
    assert {reason.source for item in held.items for reason in item.reasons} <= {"trending"}
    assert {outcome.shopper: outcome.arm for outcome in outcomes(step)} == {HELD[1]: HOLDOUT, TAKEN[1]: TREATED}
    assert {outcome.experiment for outcome in outcomes(step)} == {HALF.identity}


def test_two_held_out_shoppers_get_the_same_list_whatever_they_did() -> None:
    worker = half()
    worker.send(*(event("click", number, TAKEN[number % 9], sku=sku) for number, sku in enumerate("abcabacdef")))
    worker.send(event("purchase", 20, HELD[0], sku="a"), event("click", 21, HELD[0], sku="b"))
    first, second = lists(worker.send(event("click", 22, HELD[0], sku="c"), event("browse", 23, HELD[1], sku="f")))
    assert first.items == second.items


def test_one_micro_batch_says_once_what_all_arms_were_shown() -> None:
    worker = half(k=2)
    step = worker.send(event("click", 0, HELD[0], sku="a"), event("click", 1, TAKEN[0], sku="b"))
    (exposure,) = [message for message in messages(step, "outcomes") if message.kind == "exposure"]
    assert exposure.lists == 2
    assert set(exposure.skus) == {sku for message in lists(step) for sku in skus(message)}


def test_rules_and_stock_hold_for_the_held_out() -> None:
    rules = b"exclude: [{skus: a}, {skus: b, for: {regions: FR}}, {skus: c, for: {categories: Other}}]\npin: [{sku: d, position: 1}]"
    worker = half(rules=read_rules(rules))
    worker.publish(Product(sku="o", category_path=("Other",)))
    worker.publish(Product(sku="e", stock=0))
    (plain,) = lists(worker.send(event("click", 0, HELD[0], sku="f")))
    assert set(skus(plain)) == set("bcdfo")
    assert (skus(plain)[0], plain.items[0].pinned) == ("d", True)
    (french,) = lists(worker.send(event("click", 1, HELD[1], sku="f", country="FR")))
    assert set(skus(french)) == set("cdfo")
    (other,) = lists(worker.send(event("click", 2, HELD[2], sku="o")))
    assert set(skus(other)) == set("bdfo")


def test_nothing_on_sale_is_an_empty_list_for_the_held_out_too() -> None:
    worker = half(products="a")
    worker.delete("a")
    (found,) = lists(worker.send(event("click", 0, HELD[0])))
    assert (found.arm, found.policy, found.items) == (HOLDOUT, "empty", ())


def test_the_held_out_get_no_list_for_their_next_visit() -> None:
    worker = half()
    worker.send(event("purchase", 0, HELD[0]), event("purchase", 1, TAKEN[0]))
    worker.now_ms += 31 * 60_000
    step = worker.tick()
    assert step is not None
    assert [(message.user_id, message.arm) for message in lists(step)] == [(TAKEN[0], TREATED)]


def test_the_held_out_teach_as_all_do() -> None:
    worker = half(products="abc", vectors=False)
    for number, user in enumerate(HELD[:3]):
        worker.send(event("click", 2 * number, user, sku="a"), event("click", 2 * number + 1, user, sku="c"))
    (found,) = lists(worker.send(event("click", 90, TAKEN[0], sku="a")))
    assert [reason for item in found.items if item.sku == "c" for reason in item.reasons if reason.source == "together"]


def test_who_does_not_agree_to_a_history_may_be_held_out_as_well() -> None:
    worker = half()
    step = worker.send(event("click", 0, HELD[0], consent=False), event("click", 1, TAKEN[0], consent=False))
    assert [(message.arm, message.policy) for message in lists(step)] == [(HOLDOUT, "cold_start"), (TREATED, "item_only")]
    assert all(delta.erased for delta in messages(step, "sessions"))


def test_a_session_keeps_its_arm_until_its_login_and_a_user_theirs_beyond_it() -> None:
    worker = half()
    sessions = [f"s{number}" for number in range(40)]
    held_session = next(name for name in sessions if HALF.arm(f"session:{name}") == HOLDOUT)
    for number, user in enumerate((HELD[0], TAKEN[0])):
        login = event("login", 10 * number + 1, user, session_id=held_session)
        step = worker.send(event("click", 10 * number, None, session_id=held_session), login)
        assert {message.arm for message in (*lists(step), *outcomes(step))} == {HOLDOUT}
        merged = worker.process(worker.merges(step))
        later = worker.send(event("click", 10 * number + 2, user, sku="b", session_id=held_session))
        arm = HALF.arm(user)
        assert [message.arm for message in (*lists(merged), *lists(later), *outcomes(later))] == [arm] * 3


def test_arms_are_drawn_by_salt_and_share_and_stay_when_the_share_grows() -> None:
    def held(share: float, salt: str = "s1") -> set[str]:
        arms = Arms(Settings(holdout_share=share, experiment_salt=salt))
        return {user for user in map(str, range(20_000)) if arms.of(Shopper(user, False)) == HOLDOUT}

    few, more, other = held(0.05), held(0.1), held(0.05, "s2")
    assert few < more
    assert 900 < len(few) < 1100
    assert len(few & other) < 100
    drawn = [Settings(holdout_share=share, experiment_salt=salt) for share, salt in ((0.05, "s1"), (0.1, "s1"), (0.05, "s2"))]
    identities = [Arms(settings).identity for settings in drawn]
    assert len(set(identities)) == 3
    assert Arms(Settings()).identity is None
    default = Experiment("", "assay", {HOLDOUT: 0.5, TREATED: 0.5})
    assert Arms(Settings(holdout_share=0.5)).of(Shopper("x", True)) == default.arm("session:x")
    assert Arms(Settings()).of(Shopper("x", False)) is None


@pytest.fixture
def trending_only(tmp_path: Path) -> Path:
    path = tmp_path / "treatment.json"
    Weights(similar=0, together=0, sessions=0, again=0, sequence=0, trending=1).save(path)
    return path


def test_two_sets_of_weights_are_compared_beside_a_hold_out(trending_only: Path) -> None:
    worker = Pipeline(holdout_share=0.2, experiment_salt="s1", treatment_weights=trending_only, treatment_share=0.5)
    arms = Arms(worker.settings)
    everybody = [Shopper(str(number), False) for number in range(2_000)]
    by_arm = {arm: [user.identifier for user in everybody if arms.of(user) == arm] for arm in (HOLDOUT, CONTROL, TREATMENT)}
    assert [round(len(users) / 2_000, 1) for users in by_arm.values()] == [0.2, 0.4, 0.4]
    worker.send(*(event("purchase", number, by_arm[HOLDOUT][9], sku="f") for number in range(3)))
    step = worker.send(*(event("click", 10 + number, users[0], sku="b") for number, users in enumerate(by_arm.values())))
    found = {message.arm: message for message in lists(step)}
    assert found.keys() == by_arm.keys()
    assert skus(found[CONTROL])[0] == "b"
    assert skus(found[TREATMENT])[0] == skus(found[HOLDOUT])[0] == "f"
    assert (found[TREATMENT].policy, found[TREATMENT].versions.model) == ("personal", found[CONTROL].versions.model)
    made_with = {arm: record.versions.weights for arm, record in found.items()}
    assert made_with == {HOLDOUT: None, CONTROL: None, TREATMENT: Weights.load(trending_only).digest}
    assert {reason.source for item in found[TREATMENT].items for reason in item.reasons} == {"trending"}


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text("{}x")
    with pytest.raises(WeightsError):
        Arms(Settings(treatment_weights=path))
