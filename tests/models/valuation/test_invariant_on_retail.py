"""A year of a real shop: in every pane and dimension the values of the assets add up to the lift over popularity."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest

from models.valuation.appraisal import AGE, EVENT_DIMENSIONS, Appraiser, Happening, PurchaseKey, Rules
from models.valuation.panes import TOTAL
from models.valuation.worth import Worth, merged
from schemas.decoding import InvalidRecord, decode_event
from schemas.events import Purchase, Refund
from streams.replay import OnlineRetail
from tests.conftest import DataSets

pytestmark = [pytest.mark.dataset, pytest.mark.slow, pytest.mark.timeout(1_800)]

#: Residual of one pane, summed over its tests (VALUATION, section 3).
LIMIT = Decimal("1e-9")


def test_every_pane_of_every_dimension_adds_up(datasets: DataSets) -> None:
    appraiser, total = Appraiser(Rules()), dict[str, Worth]()
    dataset = OnlineRetail(datasets.online_retail)
    categories = {product.sku: product.category_path[-1] for product in dataset.catalogue().products if product.category_path}
    orders: dict[str, set[str]] = defaultdict(set)
    panes, worst = 0, Decimal(0)
    points: dict[PurchaseKey, bytes | None] = {}
    appraiser.stored = points.get
    for offset, record in enumerate(dataset.events()):
        try:
            event = decode_event(record.key, record.value, received_ms=0)
        except InvalidRecord:
            continue
        sku = getattr(event, "sku", None)
        if sku is None:
            continue
        before = len(orders[event.key])
        orders[event.key].add(getattr(event, "order_id", "") or "")
        segment = "first order" if before <= 1 else "2 to 5 orders" if before <= 5 else "over 5 orders"
        amount = event.quantity * event.unit_price if isinstance(event, Purchase | Refund) else None
        if amount is not None and isinstance(event, Refund):
            amount = -amount
        names = (event.channel, event.type, categories.get(sku), event.country, segment)
        at_ms = round(event.occurred_at.timestamp() * 1000)
        appraiser.take(offset, Happening(at_ms, event.type, event.key, sku, names, amount, getattr(event, "currency", None)))
        if offset % 5_000 == 4_999:
            for worths in (sums := appraiser.sums()).values():
                panes += len(worths)
                worst = max(worst, *(abs(worth.residual()) for worth in worths.values()))
            points |= appraiser.changes().points
            for key in [key for key, packed in points.items() if packed is None]:
                del points[key]
            for dimension, worth in sums.get(TOTAL, {}).items():
                total[dimension] = merged([total[dimension], worth]) if dimension in total else worth
    print(f"\n{total[EVENT_DIMENSIONS[0]].tests:,} tests, {panes:,} sums of panes, largest residual {worst:.1e}")
    for dimension in ("country", "segment", AGE, "category"):
        worth = total[dimension]
        print(f"{dimension}: lift {float(worth.lift) / worth.tests:.4f}")
        for asset, credit in sorted(worth.credits.items(), key=lambda pair: -pair[1].points)[:12]:
            money = float(credit.money.get("GBP", 0))
            points, player = (100 * float(value) / worth.tests for value in (credit.points, credit.player))
            rows = float(credit.rows) / worth.tests
            print(f"  {asset:<22} points {points:+8.4f}  player {player:+8.4f}  rows {rows:8,.0f}  GBP {money:12,.2f}")
    assert total[EVENT_DIMENSIONS[0]].tests > 300_000
    assert worst <= LIMIT
    assert all(abs(worth.residual()) <= LIMIT for worth in total.values())
