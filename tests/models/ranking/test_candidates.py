from __future__ import annotations

import numpy as np
import pytest

from models.profiles import Profile
from models.ranking.candidates import NAMES, reorder
from models.ranking.lists import SOURCES, UNIT
from models.rules.arrays import NO_RULES
from tests.models.ranking.shop import Shop, shopper


def test_a_candidate_is_described_by_its_sources_and_the_shoppers_history() -> None:
    shop = Shop()
    for sku, price, category in (("a", "10", "Mugs"), ("b", "40", "Mugs"), ("c", "20", "Hats"), ("d", None, "Hats")):
        shop.product(sku, price=price, currency="GBP" if price else None, category_path=(category,))
    shop.session("x", "ab")
    shop.session("y", "ab")
    shop.session("z", "c")
    profile = shopper(("purchase", "c"), ("click", "a"))
    found = shop.ranker.candidates([Profile(), profile], 0)
    assert found.starts[0] == 0
    assert found.starts[-1] == len(found.rows) == len(found.features)
    mine = slice(int(found.starts[1]), int(found.starts[2]))
    by_sku = {
        shop.table.skus[row]: dict(zip(NAMES, line.tolist(), strict=True))
        for row, line in zip(found.rows[mine], found.features[mine], strict=True)
    }
    assert set(by_sku) == set("abcd")
    ranked = shop.rank(profile)
    blend = {shop.table.skus[row]: total for row, total in zip(ranked.rows[0], ranked.scores()[0], strict=True) if row >= 0}
    for sku, told in by_sku.items():
        assert told["blend"] == pytest.approx(blend[sku], abs=1e-6)
        assert told["blend"] == pytest.approx(sum(told[source] for source in SOURCES), abs=1e-5)
        assert told["blend_place"] == pytest.approx(1 / (1 + sorted(blend, key=lambda other: -blend[other]).index(sku)))
        assert told["recent"] == 2
    assert [by_sku[sku]["recent_place"] for sku in "abcd"] == [1.0, 0.0, 0.5, 0.0]
    assert [by_sku[sku]["recent_type"] for sku in "abcd"] == [2.0, 0.0, 4.0, 0.0]
    assert by_sku["c"]["purchases"] == pytest.approx(np.log(2))
    assert by_sku["c"]["days_since"] == pytest.approx(np.log1p(1 / 1440), rel=1e-4)
    assert by_sku["a"]["days_since"] == -1
    assert by_sku["b"]["category_share"] == 0.5
    middle = np.sqrt(10 * 20)
    assert by_sku["b"]["price_ratio"] == pytest.approx(np.log(40 / middle), rel=1e-5)
    assert by_sku["d"]["price_ratio"] == 0
    assert by_sku["a"]["popularity"] == 0
    assert by_sku["c"]["popularity"] == pytest.approx(np.log(0.5), rel=1e-4)
    assert by_sku["d"]["popularity"] == pytest.approx(np.log(1e-6), rel=1e-4)


def test_pools_take_the_order_of_the_scores_and_shares_sum_to_the_probabilities() -> None:
    rows = np.array([[7, 8, 9], [4, 5, -1]], dtype=np.int32)
    shares = np.zeros((2, 3, len(SOURCES)), dtype=np.int32)
    shares[0, :, 0] = (600_000, 300_000, 100_000)
    shares[0, :, 1] = (0, 100_000, 300_000)
    shares[1, :2, 4] = (500_000, 0)
    because = np.arange(6 * len(SOURCES), dtype=np.int32).reshape(2, 3, len(SOURCES))
    before = because.copy()
    scores = np.array([0.1, 2.0, 0.3, -1.0, 5.0])
    starts, sizes = np.array([0, 3, 5]), np.array([3, 2])
    reorder(NO_RULES, 0, np.zeros(2, np.int64), rows, shares, because, sizes, sizes, starts, scores, np.array([0.1, 0.8, 0.2, 0.3, 0.9]))
    assert rows.tolist() == [[8, 9, 7], [5, 4, -1]]
    assert shares[0].sum(axis=1).tolist() == [0.8 * UNIT, 0.2 * UNIT, 0.1 * UNIT]
    assert shares[0, :2, :2].tolist() == [[600_000, 200_000], [50_000, 150_000]]
    assert shares[1].sum(axis=1).tolist() == [0, 0.3 * UNIT, 0]
    np.testing.assert_array_equal(because[0], before[0][[1, 2, 0]])
