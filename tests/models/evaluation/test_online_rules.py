from __future__ import annotations

import doctest

import numpy as np
import pytest

from models.evaluation import Sequences, online_rules
from models.evaluation.online_rules import OnlineRules
from models.evaluation.rules import RuleVotes, count_rules


def test_the_docstring_holds() -> None:
    assert doctest.testmod(online_rules).failed == 0


@pytest.mark.parametrize("window", [1, 3, 10])
def test_rules_learned_event_by_event_are_those_counted_over_whole_sessions(window: int) -> None:
    rng = np.random.default_rng(0)
    sessions = [rng.integers(0, 30, rng.integers(1, 15)).tolist() for _ in range(400)]
    online = OnlineRules(window)
    for session in sessions:
        for position, item in enumerate(session):
            online.learn(session[:position][::-1], item)
    votes = RuleVotes(count_rules(Sequences.of(sessions), 30, window=window, both_ways=False, by_distance=True), 30, recent=1, decay=1.0)
    rows, scores = votes.vote(Sequences.of([[item] for item in range(30)]), 20)
    for item in range(30):
        expected = dict(zip(rows[item].tolist(), scores[item].tolist(), strict=True))
        followers = online._followers[item]
        found = online.following(item, 20)
        # Of equal weights either may come first, or be the one that is left out.
        assert [followers[other] for other in found] == pytest.approx(list(expected.values()), rel=1e-5)


def test_what_follows_an_item_is_bounded_and_the_strong_stay() -> None:
    rules = OnlineRules(window=1)
    for _ in range(5):
        rules.learn([0], 1)
    for other in range(2, 2_000):
        rules.learn([0], other)
    assert rules.following(0, 1) == [1]
    assert len(rules._followers[0]) <= 256
    assert rules.following(7, 20) == []
