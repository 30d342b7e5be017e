"""Who is in which arm: the same for ever, in the right shares, and independent of other experiments."""

from __future__ import annotations

import doctest
import time
from collections import Counter

import pytest
from scipy.stats import chi2_contingency, chisquare

from models.experiments import Experiment, assignment

HALVES = {"old": 0.5, "new": 0.5}


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(assignment).failed == 0


def test_an_assignment_never_changes() -> None:
    experiment = Experiment("rankers", "salt", {"old": 0.5, "new": 0.3, "newest": 0.2})
    arms = [experiment.arm(f"user-{number}") for number in range(12)]
    assert arms == [Experiment("another name", "salt", dict(experiment.arms)).arm(f"user-{number}") for number in range(12)]
    assert arms == PINNED


PINNED = ["old", "old", "newest", "newest", "new", "newest", "new", "old", "old", "old", "new", "old"]


@pytest.mark.parametrize("users", ["{}", "user-{}", "{:032x}", "anne.{}@example.com"])
@pytest.mark.parametrize("salt", ["a", "hold-out 2026", "\u00e9"])
def test_arms_get_their_shares_whatever_the_names_of_users_look_like(users: str, salt: str) -> None:
    experiment = Experiment("e", salt, {"a": 0.02, "b": 0.28, "c": 0.7})
    arms = [experiment.arm(users.format(number)) for number in range(50_000)]
    counts = [arms.count(name) for name in experiment.arms]
    assert chisquare(counts, [1_000, 14_000, 35_000]).pvalue > 1e-4


def test_experiments_of_different_salts_are_independent() -> None:
    for first, second in (("a", "b"), ("1", "2"), ("ranker", "ranker2")):
        one, other = Experiment("e", first, HALVES), Experiment("e", second, HALVES)
        pairs = Counter((one.arm(str(number)), other.arm(str(number))) for number in range(50_000))
        table = [[pairs[arm, another] for another in HALVES] for arm in HALVES]
        assert chi2_contingency(table).pvalue > 1e-4, (first, second)


def test_a_first_arm_that_grows_keeps_its_users() -> None:
    small = Experiment("e", "s", {"hold_out": 0.01, "treated": 0.99})
    large = Experiment("e", "s", {"hold_out": 0.05, "treated": 0.95})
    held_out = [user for user in map(str, range(20_000)) if small.arm(user) == "hold_out"]
    assert 150 < len(held_out) < 250
    assert {large.arm(user) for user in held_out} == {"hold_out"}


@pytest.mark.parametrize("arms", [{"all": 1.0}, {"none": 0.0, "all": 1.0}, {"all": 1.0, "none": 0.0}])
def test_an_arm_without_a_share_has_nobody(arms: dict[str, float]) -> None:
    experiment = Experiment("e", "s", arms)
    assert {experiment.arm(str(number)) for number in range(1_000)} == {"all"}


def test_tenths_add_up() -> None:
    experiment = Experiment("e", "s", {str(number): 0.1 for number in range(10)})
    assert len({experiment.arm(str(number)) for number in range(1_000)}) == 10


@pytest.mark.parametrize(
    ("salt", "arms", "message"),
    [
        ("", HALVES, "needs a salt"),
        ("s", {}, "needs arms"),
        ("s", {"": 1.0}, "needs arms with names"),
        ("s", {"a": 0.5, "b": 0.4}, "must add up to 1, got 0.9"),
        ("s", {"a": -0.5, "b": 1.5}, "must lie in 0..1"),
        ("s", {"a": float("nan"), "b": 1.0}, "must lie in 0..1"),
    ],
)
def test_arms_that_make_no_sense_are_refused(salt: str, arms: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Experiment("e", salt, arms)


def test_later_changes_of_what_it_was_made_from_do_not_reach_an_experiment() -> None:
    arms = dict(HALVES)
    experiment = Experiment("e", "s", arms)
    arms["old"] = 0.9
    assert experiment.arms == HALVES


def test_an_assignment_takes_microseconds() -> None:
    arm = Experiment("e", "s", {"hold_out": 0.05, "treated": 0.95}).arm
    users = [f"user-{number}" for number in range(20_000)]
    fastest = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for user in users:
            arm(user)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest / len(users) < 10e-6
