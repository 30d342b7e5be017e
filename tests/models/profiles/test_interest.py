from __future__ import annotations

import numpy as np
import pytest

from models.profiles import Profile
from models.profiles.columns import columns_of
from models.profiles.interest import HALF_LIFE_MS, POSITION_DECAY, TYPE_WEIGHTS, anchors_of
from tests.models.profiles.events import MINUTE_MS, event
from tests.models.profiles.test_history import profile_of

SKUS = "abcdefghijklmnop"


def rows(skus) -> np.ndarray:
    return np.array([SKUS.find(sku) for sku in skus], dtype=np.int32)


def anchors(*profiles: Profile):
    return anchors_of(columns_of(profiles, rows, lambda name: [3, 4] if name == "Mugs" else []))


def test_newest_items_come_first_and_each_once_with_its_strongest_type() -> None:
    found = anchors(profile_of(event("purchase", 1, sku="a"), event("click", 2, sku="b"), event("browse", 3, sku="a")))
    assert found.rows[0].tolist()[:3] == [0, 1, -1]
    assert found.types[0].tolist()[:2] == [3, 1]
    assert found.weights[0, :2].tolist() == pytest.approx([TYPE_WEIGHTS[3], TYPE_WEIGHTS[1] * POSITION_DECAY])


def test_weights_halve_in_a_half_life_of_event_time() -> None:
    week = HALF_LIFE_MS / MINUTE_MS
    found = anchors(profile_of(event("click", 1, minute=0, sku="a"), event("click", 2, minute=week, sku="b")))
    assert found.weights[0, :2].tolist() == pytest.approx([1.0, 0.5 * POSITION_DECAY])


def test_items_that_the_table_does_not_know_are_passed_over() -> None:
    found = anchors(profile_of(event("click", 1, sku="a"), event("click", 2, sku="?")), Profile())
    assert found.rows[0, 0] == 0
    assert found.rows[0, 1] == -1
    assert (found.rows[1] == -1).all()


def test_columns_hold_each_profiles_part_of_the_batch() -> None:
    one = profile_of(event("purchase", 1, sku="a"), event("purchase", 2, sku="b"), event("browse", 3, category="Mugs"))
    other = profile_of(event("click", 4, sku="c"))
    columns = columns_of([one, Profile(), other], rows, lambda name: [3, 4] if name == "Mugs" else [], with_seen=True)
    assert columns.recent_start.tolist() == [0, 2, 2, 3]
    assert columns.recent_row.tolist() == [0, 1, 2]
    assert columns.bought_row.tolist() == [0, 1]
    assert columns.seen_start.tolist() == [0, 0, 0, 1]
    assert columns.affinity_category.tolist() == [3, 4]
    assert columns.affinity_weight.tolist() == [0.5, 0.5]
