from __future__ import annotations

import numpy as np

from streams.evaluation.interactions import interactions_of
from streams.replay.record import ReplayEvent
from tests.evaluation.test_prequential import clicks


def test_touches_are_told_by_shopper_item_effort_and_time() -> None:
    late, early, other = clicks(("u", "b"), ("u", "a"), ("v", "b"))
    late = ReplayEvent(late.key, late.value.replace(b'"click"', b'"purchase"'), late.at_ms + 10_000, "purchase")
    broken = ReplayEvent(b"u", b"{", early.at_ms, "click")
    found = interactions_of([late, broken, early, other])
    assert [(int(user), found.skus[item]) for user, item in zip(found.users, found.items, strict=True)] == [(0, "a"), (1, "b"), (0, "b")]
    assert found.weights.tolist() == [1.0, 1.0, 1.5]
    assert (np.diff(found.at_ms) > 0).all()
    assert found.user_count == 2


def test_a_pair_touched_often_is_one_entry_of_more_confidence() -> None:
    found = interactions_of(clicks(("u", "a"), ("u", "a"), ("u", "a"), ("v", "a")))
    assert found.confidences(2, alpha=1.0).toarray().ravel().tolist() == [3.0, 2.0]


def test_an_empty_log_has_none() -> None:
    found = interactions_of([])
    assert (len(found.users), list(found.skus), found.user_count) == (0, [], 0)
