from __future__ import annotations

import numpy as np

from models.index.factory import create_index
from models.search.semantic import nearest

QUERY = np.array([1.0, 0.0], dtype=np.float32)


def turned(degrees: float) -> tuple[float, float]:
    return float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))


def test_the_nearest_that_are_allowed_come_however_many_nearer_ones_are_not() -> None:
    index = create_index("flat", 2, "cpu")
    index.upsert(np.arange(90), np.array([turned(angle) for angle in range(90)], dtype=np.float32))
    allowed = np.ones(128, dtype=np.bool_)
    allowed[:80] = False
    rows, cosines = nearest(index, QUERY, 3, allowed)
    assert rows.tolist() == [80, 81, 82]
    np.testing.assert_allclose(cosines, np.cos(np.radians([80, 81, 82])), atol=1e-6)


def test_there_may_be_fewer_than_asked_for_or_none() -> None:
    index = create_index("flat", 2, "cpu")
    assert nearest(index, QUERY, 5, np.ones(8, dtype=np.bool_))[0].tolist() == []
    index.upsert(np.array([1, 6]), np.array([turned(10), turned(5)], dtype=np.float32))
    assert nearest(index, QUERY, 5, np.ones(8, dtype=np.bool_))[0].tolist() == [6, 1]
    assert nearest(index, QUERY, 5, np.zeros(8, dtype=np.bool_))[0].tolist() == []
