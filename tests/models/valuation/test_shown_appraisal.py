"""Items shown as rows: what they were worth to the next ones, by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest

from models.valuation.appraisal import AGE, OVERALL, Rules
from models.valuation.asset_game import asset_game, leave_one_out
from models.valuation.knn_shapley import knn_shapley
from models.valuation.money import Margin
from models.valuation.panes import TOTAL
from models.valuation.shown_appraisal import Placement, Receipt, ShownAppraiser, ShownItem
from models.valuation.worth import Worth
from tests.models.valuation.test_appraisal import START_MS, added_up

RULES = Rules(k=2, head=3, rows=6, neighbours="embeddings")
PLACES = {"mug": [1.0, 0.0], "cup": [0.8, 0.6], "hat": [0.0, 1.0]}


def placement_of(sku: str) -> Placement | None:
    return Placement("e1", np.array(PLACES[sku], np.float32)) if sku in PLACES else None


def shown(shopper: str, sku: str, result: str = "ignored", at_ms: int = 0, **more: object) -> ShownItem:
    name = more.pop("shown", f"list of {shopper}")
    return ShownItem(START_MS + at_ms, shopper, name, sku, result, (None, result, None, None, None), **more)


def empty(rules: Rules = RULES, places: object = placement_of) -> ShownAppraiser:
    appraiser = ShownAppraiser(rules)
    appraiser.placement_of = places
    return appraiser


def taken(items: Sequence[ShownItem], rules: Rules = RULES) -> ShownAppraiser:
    appraiser = empty(rules)
    for offset, item in enumerate(items):
        appraiser.take(offset, item)
    return appraiser


def total(appraiser: ShownAppraiser) -> dict[str, Worth]:
    return appraiser.sums()[TOTAL]


def drawn(size: int, skus: int, dimensions: int, seed: int = 1) -> tuple[list[ShownItem], dict[str, Placement]]:
    """Items like each other are taken up alike, now and then."""
    chance = np.random.default_rng(seed)
    vectors = chance.standard_normal((skus, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = {f"i{sku}": Placement("e1", vector.astype(np.float16).astype(np.float32)) for sku, vector in enumerate(vectors)}
    items, at_ms = [], 0
    for _ in range(size):
        at_ms += int(chance.integers(0, 40_000))
        sku = int(chance.integers(skus))
        liked = chance.random() < (0.6 if vectors[sku, 0] > 0 else 0.1)
        result = str(chance.choice(["clicked", "bought"])) if liked else "ignored"
        items.append(shown(f"u{chance.integers(40)}", f"i{sku}", result, at_ms))
    return items, places


def test_a_tests_values_are_those_of_the_same_games_by_brute_force() -> None:
    rows = [shown("ann", "mug", "clicked"), shown("bob", "cup"), shown("cat", "hat", "bought"), shown("dan", "mug", "bought")]
    before = total(taken(rows))
    after = total(taken([*rows, shown("eve", "mug", "clicked")]))
    # Nearest to the mug: ann's, dan's, bob's cup, and the hat; all but the cup were taken up.
    match = np.array([1.0, 1.0, 0.0, 1.0])
    lift = 1.0 - 3 / 4
    points = knn_shapley(match, 2) - 3 / 4 / 4
    assert float(after[OVERALL].lift - before[OVERALL].lift) == pytest.approx(lift)
    kinds = {"clicked": [0], "bought": [1, 3], "ignored": [2]}
    game = np.array([0, 1, 2]), match[:3], 2, np.array([0, 1, 0]), np.array([0.0, 1.0, 0.0]), 3
    for place, (kind, its) in enumerate(kinds.items()):
        was, now = before["event_type"].credits.get(kind), after["event_type"].credits[kind]
        assert float(now.points - (was.points if was else 0)) == pytest.approx(float(points[its].sum()))
        assert float(now.player - (was.player if was else 0)) == pytest.approx(float(asset_game(*game)[place]))
        assert float(now.leave_one_out - (was.leave_one_out if was else 0)) == pytest.approx(float(leave_one_out(*game)[place]))


def test_values_add_up_to_the_lift_in_every_pane_and_likes_foretell_likes() -> None:
    items, places = drawn(1_500, 60, 8)
    appraiser = empty(Rules(rows=400, neighbours="embeddings"), places.get)
    for offset, item in enumerate(items):
        appraiser.take(offset, item)
    panes = appraiser.sums()
    for worths in panes.values():
        for worth in worths.values():
            assert abs(worth.residual()) < Decimal("1e-12")
            assert float(sum(credit.player for credit in worth.credits.values())) == pytest.approx(float(worth.lift), abs=1e-9)
    whole = panes[TOTAL][OVERALL]
    assert whole.tests > 1_400
    assert float(whole.lift) / whole.tests > 0.05
    assert set(panes[TOTAL]["channel"].credits) == {"unknown"}
    assert len(panes[TOTAL][AGE].credits) > 1
    assert len(appraiser) == 400


@pytest.mark.parametrize("cut", [700, 1_250])
def test_a_window_read_back_goes_on_as_if_nothing_had_been(cut: int) -> None:
    items, places = drawn(1_600, 90, 384)
    rules = Rules(rows=900, neighbours="embeddings")
    whole, first, second = (empty(rules, places.get) for _ in range(3))
    for offset, item in enumerate(items):
        whole.take(offset, item)
        if offset < cut:
            first.take(offset, item)
    parts, changes = first.sums(), first.changes()
    # The lines of rows that are gone are told as gone.
    second.load(changes.names or (), [(number, line) for number, line in changes.lines.items() if line is not None])
    for offset, item in enumerate(items[cut:], cut):
        second.take(offset, item)
    assert added_up(parts, second.sums()) == added_up(whole.sums())


def test_what_was_shown_to_the_same_shopper_foretells_nothing_and_who_is_held_out_only_teaches() -> None:
    assert taken([shown("ann", "mug"), shown("ann", "cup")]).sums() == {}
    appraiser = taken([shown("ann", "mug", "clicked"), shown("bob", "cup", tested=False)])
    assert appraiser.sums() == {}
    assert len(appraiser) == 2
    appraiser.erase("ann")
    appraiser.erase("bob")
    appraiser.take(2, shown("cat", "mug"))
    assert appraiser.sums() == {}


def test_an_item_without_a_vector_is_left_out_and_counted() -> None:
    appraiser = taken([shown("ann", "mug"), shown("bob", "gone"), shown("cat", "cup")])
    assert appraiser.unplaced == 1
    assert len(appraiser) == 2
    assert total(appraiser)[OVERALL].tests == 1


def test_a_row_stays_where_it_entered_and_another_encoder_begins_anew() -> None:
    appraiser = taken([shown("ann", "mug", "clicked"), shown("bob", "hat"), shown("cat", "hat")])
    appraiser.sums()
    appraiser.placement_of = lambda sku: Placement("e1", np.array([0.0, 1.0], np.float32))
    appraiser.take(3, shown("dan", "mug", "clicked"))
    assert float(total(appraiser)[OVERALL].utility) == 0.0  # the hats are near now, ann's mug is where it was
    appraiser.placement_of = lambda sku: Placement("e2", np.array([0.0, 0.6, 0.8], np.float32))
    appraiser.take(4, shown("eve", "mug"))
    assert appraiser.sums() == {}
    assert [number for number, line in appraiser.changes().lines.items() if line is not None] == [4]
    appraiser.take(5, shown("fay", "hat"))
    assert total(appraiser)[OVERALL].tests == 1


def test_a_correction_changes_what_the_row_holds_from_then_on() -> None:
    before = [shown("ann", "mug"), shown("bob", "hat")]
    late = shown("ann", "mug", "clicked")
    next_one = shown("cat", "mug", "clicked")
    appraiser = taken(before)
    appraiser.sums()
    for _ in range(2):  # told twice it is the same
        appraiser.correct(2, late)
    appraiser.take(3, next_one)
    again = taken([shown("ann", "mug", "clicked"), shown("bob", "hat")])
    again.sums()
    again.take(3, next_one)
    assert float(total(appraiser)[OVERALL].utility) == 0.5
    mine, theirs = appraiser.changes().lines, again.changes().lines
    assert [line.taken for line in mine.values()] == [line.taken for line in theirs.values()] == [True, False, True]
    appraiser.correct(4, shown("ann", "mug", "clicked", shown="another list"))
    assert appraiser.changes().lines == {}


def test_what_was_bought_is_shared_out_and_taken_back() -> None:
    before = [shown("ann", "mug", "bought"), shown("bob", "hat"), shown("cat", "hat")]
    sale = Receipt(Decimal("20.00"), "GBP", Margin(Decimal("8.00")))
    appraiser = taken(before)
    appraiser.sums()
    appraiser.take(3, shown("dan", "mug", "bought", receipts=[sale]))
    worth = total(appraiser)["event_type"]
    assert worth.money["GBP.margin"] == 8 * worth.lift
    assert sum(credit.money.get("GBP.margin", 0) for credit in worth.credits.values()) == pytest.approx(worth.money["GBP.margin"])
    assert worth.credits["bought"].money["GBP.margin"] > 0
    # Sold late, foretold as ignored: nothing is credited, so nothing is taken back for it.
    appraiser.correct(4, shown("bob", "hat", "bought", receipts=[sale]))
    back = Receipt(Decimal("-20.00"), "GBP", None)
    appraiser.correct(5, shown("bob", "hat", "bought", receipts=[back]))
    assert appraiser.sums() == {}
    for offset, expected in ((6, -worth.money["GBP.margin"]), (7, None)):
        appraiser.correct(offset, shown("dan", "mug", "bought", receipts=[back]))
        panes = appraiser.sums()
        assert (panes[TOTAL]["event_type"].money["GBP.margin"] if panes else None) == expected
