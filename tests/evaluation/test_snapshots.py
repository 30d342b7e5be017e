from __future__ import annotations

import numpy as np
import orjson

from models.ranking.candidates import NAMES
from schemas.catalog import Product
from streams.evaluation.shop import InProcessShop
from streams.evaluation.snapshots import Snapshots, collect, snapshots
from streams.replay.record import ReplayEvent, encode
from streams.settings import Settings
from tests.evaluation.test_prequential import START, clicks


def shop() -> InProcessShop:
    return InProcessShop(Settings(index="flat", k=3, threads=1), [Product(sku=sku, title=f"Title {sku}") for sku in "abcdefgh"], None)


def taken(events: list[ReplayEvent], batch: int = 1, limit: int = 100, types: tuple[str, ...] = ("click",)) -> Snapshots:
    return collect(shop(), events, types, batch=batch, limit=limit)


def test_there_is_one_of_each_known_shopper_before_each_event() -> None:
    found = taken(clicks(("u", "a"), ("v", "b"), ("u", "b"), ("u", "h")))
    assert len(found.lists) == 2  # the first event of each finds nobody
    for features, right in found.lists:
        assert features.shape == (len(right), len(NAMES))
    first, second = (right for _, right in found.lists)
    # u had seen a, and b was popular: it is among the candidates once. All that is on sale is.
    assert (first.sum(), second.sum()) == (1, 1)
    place = NAMES.index("recent_place")
    assert found.lists[0][0][first, place].tolist() == [0.0]
    assert found.lists[1][0][:, place].max() == 1.0


def test_a_batch_holds_one_snapshot_a_shopper_of_what_was_known_before_it() -> None:
    events = clicks(("u", "a"), ("v", "b"), ("u", "b"), ("u", "a"), ("v", "c"), ("w", "a"))
    found = taken(events, batch=3)
    assert len(found.lists) == 2  # u, whose next is a, and v, whose next is c
    recent = NAMES.index("recent")
    assert [float(features[0, recent]) for features, _ in found.lists] == [2.0, 1.0]


def test_the_newest_are_kept_and_joined_end_to_end() -> None:
    events = clicks(*[("u", sku) for sku in "abcdefgh"])
    whole, newest = taken(events), taken(events, limit=3)
    assert (len(whole.lists), len(newest.lists)) == (7, 3)
    starts, features, right = newest.joined()
    assert starts.tolist() == [0, 8, 16, 24]
    np.testing.assert_array_equal(features, np.concatenate([features for features, _ in list(whole.lists)[-3:]]))
    np.testing.assert_array_equal(right, np.concatenate([right for _, right in list(whole.lists)[-3:]]))
    assert [array.shape for array in Snapshots(1).joined()] == [(1,), (0, len(NAMES)), (0,)]


def test_other_events_and_broken_ones_are_learned_or_refused_as_ever_but_not_foreseen() -> None:
    broken = [
        ReplayEvent(b"u", b"{", START, "click"),
        ReplayEvent(b"u", b"[]", START, "click"),
        encode({"type": "click", "sku": 3, "user_id": "u"}, START),
    ]
    assert len(taken([*clicks(("u", "a")), *broken, *clicks(("u", "b"))[0:1]], types=("purchase",)).lists) == 0
    assert len(taken([*clicks(("u", "a")), *broken]).lists) == 0


def bought(events: list[ReplayEvent]) -> list[list[str]]:
    """Of each snapshot the SKUs that were bought before the visit was over."""
    one = shop()
    return [[one.catalogue.table.skus[row] for row in found.rows[found.bought]] for found in list(snapshots(one, events, KINDS, batch=1))]


KINDS = ("click", "purchase")


def purchase(event: ReplayEvent, minutes: float = 0.0) -> ReplayEvent:
    """The event as a purchase, so much later."""
    body = orjson.loads(event.value) | {"type": "purchase", "unit_price": "1.00", "currency": "GBP", "order_id": "o1"}
    at_ms = event.at_ms + round(60_000 * minutes)
    return encode(body | {"occurred_at": f"{np.datetime64(at_ms, 'ms')}Z"}, at_ms)


def test_what_is_bought_later_in_the_visit_is_noted_for_every_list_before_it() -> None:
    first, other, again, last = clicks(("u", "a"), ("v", "b"), ("u", "b"), ("u", "c"))
    assert bought([first, other, again, purchase(last)]) == [["c"], ["c"]]
    assert bought([first, other, again, last]) == [[], []]


def test_what_is_bought_in_another_visit_or_by_another_is_not() -> None:
    first, other, again, last = clicks(("u", "a"), ("v", "b"), ("u", "b"), ("u", "c"))
    assert bought([first, other, again, purchase(last, minutes=29)]) == [["c"], ["c"]]
    assert bought([first, other, again, purchase(last, minutes=31)]) == [[], []]
    assert bought([first, other, purchase(again), last]) == [["b"], []]


def test_purchases_are_joined_end_to_end_with_the_lists() -> None:
    events = clicks(*[("u", sku) for sku in "abcdefgh"])
    found = collect(shop(), [*events[:-1], purchase(events[-1])], KINDS, batch=1, limit=3)
    assert len(found.purchases()) == found.joined()[0][-1]
    assert found.purchases().reshape(3, 8).sum(axis=1).tolist() == [1, 1, 1]
