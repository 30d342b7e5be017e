from __future__ import annotations

from decimal import Decimal

import msgspec
import orjson
import pytest

from models.attribution import Memory
from models.attribution.memory import list_digest
from models.valuation.messages import decode_partial
from schemas.catalog import Product
from streams.agents.shoppers import EmittedList, decode_list
from streams.agents.value import ValueProcessor
from streams.runtime.processor import Batch, DictState, SourceRecord
from tests.agents.pipeline import MERGES, Pipeline, erasure, event, messages, outcomes, parse

DAY_S = 86_400
SHOP = "abcdefghijklmnop"


def shown_by(worker: Pipeline, *events: tuple[bytes, bytes]) -> tuple[str, list[str]]:
    (message,) = messages(worker.send(*events), "recommendations")
    return message.recommendation_id, [item.sku for item in message.items]


def attributed(worker: Pipeline, *events: tuple[bytes, bytes]) -> list[bool]:
    """What events would amount to if they came now."""
    return [outcome.attributed for outcome in outcomes(worker.attempt(worker.records(events)))]


def test_a_purchase_or_click_is_attributed_when_its_item_stood_in_the_list_last_emitted() -> None:
    worker = Pipeline(k=2)
    _, skus = shown_by(worker, event("click", 0))
    missing = next(sku for sku in "abcdef" if sku not in skus)
    found = attributed(worker, event("purchase", 1, sku=skus[0]), event("purchase", 2, sku=missing), event("click", 3, sku=skus[0]))
    assert found == [True, False, True]


def test_a_made_up_list_attributes_nothing() -> None:
    worker = Pipeline(k=2)
    assert attributed(worker, event("purchase", 0, sku="a", recommendation_id="r", position=1)) == [False]  # nothing was emitted yet
    identifier, skus = shown_by(worker, event("click", 1))
    missing = next(sku for sku in "abcdef" if sku not in skus)
    assert attributed(
        worker,
        event("purchase", 2, sku=missing, recommendation_id="r", position=1),
        event("purchase", 3, sku=missing, recommendation_id="", position=1),
        event("purchase", 4, sku=missing, recommendation_id=identifier, position=1),
    ) == [False, False]  # an empty name is no valid event


def test_every_event_that_cites_a_list_sent_to_its_shopper_is_attributed_however_many_lists_came_after() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    for number, sku in enumerate("hijklmnop", 1):
        _, newest = shown_by(worker, event("click", number, sku=sku))
    held = next(sku for sku in skus if sku not in newest)
    place = skus.index(held) + 1
    other = next(sku for sku in SHOP if sku not in skus and sku not in newest)
    for kind in ("click", "browse", "add_to_cart", "purchase"):
        cited = {"recommendation_id": identifier, "position": place}
        step = worker.attempt(worker.records([event(kind, 90, sku=held, **cited), event(kind, 91, sku=other, **cited)]))
        true, false = outcomes(step)
        assert (true.attributed, true.attributed_by, true.cited_rank) == (True, "cited", place), kind
        assert (true.cited_recommendation_id, true.cited_position) == (identifier, place)
        assert true.recommendation_id not in (None, identifier)  # the list last emitted, which it was shown against
        assert (true.rank, true.list_size) == (None, 3)
        assert (false.attributed, false.attributed_by, false.cited_rank) == (False, None, None), kind
        assert (false.cited_recommendation_id, false.cited_position) == (identifier, place)


def test_the_books_count_what_cites_a_list_that_is_no_longer_the_newest() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    for number, sku in enumerate("hijklmnop", 1):
        _, newest = shown_by(worker, event("click", number, sku=sku))
    held = next(sku for sku in skus if sku not in newest)
    cited = {"sku": held, "recommendation_id": identifier}
    step = worker.send(
        event("click", 90, **cited), event("purchase", 91, **cited), event("click", 92, sku="a", recommendation_id="made up")
    )
    values = [output.value for output in step.outputs if output.topic == "outcomes"]
    records = [SourceRecord("outcomes", 0, offset, worker.now_ms, b"u", value) for offset, value in enumerate(values)]
    value = ValueProcessor(1)
    value.opened(DictState(), 0)
    partials = [decode_partial(output.value) for output in value.process(DictState(), Batch(0, records, worker.now_ms)).outputs]
    total = next(partial.assets["all"]["total"] for partial in partials if partial.dimension == "overall")
    assert (total.clicks, total.conversions) == (1, 1)
    assert total.money["GBP"] == (Decimal("2.50"), 0, Decimal("2.50"))  # revenue, refunds, attributable


def test_a_wrong_position_is_kept_beside_the_true_one() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    (outcome,) = outcomes(worker.send(event("click", 1, sku=skus[2], recommendation_id=identifier, position=1)))
    assert (outcome.attributed_by, outcome.cited_position, outcome.cited_rank) == ("cited", 1, 3)


def test_a_list_older_than_the_window_attributes_nothing() -> None:
    worker = Pipeline(SHOP, k=2)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    _, newest = shown_by(worker, event("click", 1, sku="p", second=1))
    held = next(sku for sku in skus if sku not in newest)
    cited = {"sku": held, "recommendation_id": identifier, "position": 1}
    worker.now_ms += 8 * DAY_S * 1000
    assert attributed(worker, event("purchase", 2, second=7 * DAY_S, **cited)) == [True]
    assert attributed(worker, event("purchase", 3, second=7 * DAY_S + 1, **cited)) == [False]
    short = Pipeline(SHOP, k=2, click_window_s=60)
    identifier, _ = shown_by(short, event("click", 0, sku="a"))
    shown_by(short, event("click", 1, sku="p", second=1))
    assert attributed(short, event("purchase", 2, second=60, **cited | {"recommendation_id": identifier})) == [True]
    assert attributed(short, event("purchase", 3, second=61, **cited | {"recommendation_id": identifier})) == [False]


def test_a_purchase_that_cites_nothing_is_attributed_to_an_earlier_click_or_view_of_its_item_in_a_list() -> None:
    worker = Pipeline(SHOP, k=4)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    cited = {"recommendation_id": identifier}
    worker.send(event("click", 1, sku=skus[1], **cited), event("impression", 2, sku=skus[2], **cited))
    for number, sku in enumerate("klmnop", 3):
        _, newest = shown_by(worker, event("click", number, sku=sku))
    clicked, viewed, neither = skus[1], skus[2], skus[3]
    assert not {clicked, viewed, neither} & set(newest)
    worker.now_ms += 8 * DAY_S * 1000
    found = {}
    for at in (60, DAY_S + 1, 7 * DAY_S + 1):
        bought = [event("purchase", 90 + place, sku=sku, second=at) for place, sku in enumerate((clicked, viewed, neither))]
        found[at] = [outcome.attributed_by for outcome in outcomes(worker.attempt(worker.records(bought)))]
    assert found == {60: ["clicked", "viewed", None], DAY_S + 1: ["clicked", None, None], 7 * DAY_S + 1: [None, None, None]}


def test_a_click_and_its_purchase_may_come_in_one_batch() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    for number, sku in enumerate("klmnop", 1):
        shown_by(worker, event("click", number, sku=sku))
    step = worker.send(event("click", 90, sku=skus[2], recommendation_id=identifier), event("purchase", 91, sku=skus[2]))
    assert [outcome.attributed_by for outcome in outcomes(step)] == ["cited", "clicked"]


def test_what_a_session_was_sent_counts_for_the_user_that_it_became() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, None, session_id="s", sku="a"))
    worker.send(event("click", 1, None, session_id="s", sku=skus[1], recommendation_id=identifier))
    shown_by(worker, event("click", 2, "u", sku="p"))
    step = worker.process(worker.merges(worker.send(event("login", 3, session_id="s"))))
    (merged,) = messages(step, "recommendations")
    for number, sku in enumerate("efghijklmnop", 4):  # until the session is past what votes
        _, newest = shown_by(worker, event("click", number, "u", sku=sku))
    assert not {skus[1], skus[2]} & set(newest)
    cited = {"sku": skus[2], "recommendation_id": identifier}
    step = worker.attempt(
        worker.records([event("purchase", 90, **cited), event("purchase", 91, sku=skus[1]), event("purchase", 92, "v", **cited)])
    )
    assert [outcome.attributed_by for outcome in outcomes(step)] == ["cited", "clicked", None]
    assert merged.recommendation_id != identifier


def test_an_erasure_forgets_what_was_sent() -> None:
    worker = Pipeline(SHOP, k=3)
    identifier, skus = shown_by(worker, event("click", 0, sku="a"))
    worker.send(event("click", 1, sku=skus[2], recommendation_id=identifier))
    worker.process(worker.records([erasure("u")], "privacy.erasures"))
    worker.now_ms += 2 * DAY_S * 1000
    assert attributed(worker, event("purchase", 2, sku=skus[2], recommendation_id=identifier)) == [False]


def test_a_history_with_a_damaged_memory_becomes_a_dead_letter() -> None:
    worker = Pipeline(SHOP, k=3)
    (merge,) = worker.merges(worker.send(event("login", 0, session_id="s")))
    body = orjson.loads(merge.value) | {"lists_sent": "00"}
    step = worker.process(worker.records([(merge.key, orjson.dumps(body))], MERGES))
    assert [(letter.code, letter.path) for letter in messages(step, "events.dead-letter")] == [("field_invalid", "lists_sent")]


def test_a_list_of_another_shopper_attributes_nothing() -> None:
    worker = Pipeline("abcdefghijkl", k=2)
    identifier, skus = shown_by(worker, event("click", 0, "v", sku="a"))
    shown_by(worker, event("click", 1, "v", sku="g"))
    _, mine = shown_by(worker, event("click", 2, "u", sku="k"))
    sku = next(sku for sku in skus if sku not in mine)
    assert attributed(worker, event("purchase", 3, "u", sku=sku, recommendation_id=identifier, position=1)) == [False]


def test_both_lists_of_a_batch_are_remembered() -> None:
    worker = Pipeline("abcdefghijkl", k=2)
    login = worker.send(event("click", 0, None, session_id="s", sku="h"), event("login", 1, session_id="s"))
    handed = worker.merges(login)
    session = parse(next(output for output in login.outputs if output.topic == "recommendations"))
    step = worker.process([*worker.records([event("click", 2, sku="a")]), *handed])
    first, second = messages(step, "recommendations")
    state = decode_list(worker.state.data[b"l|u|u"])
    assert state.recommendation_id == second.recommendation_id
    sent = [first.recommendation_id, session.recommendation_id, second.recommendation_id]
    assert [kept.digest for kept in state.memory.sent_lists()] == [list_digest(identifier) for identifier in sent]


def test_a_list_of_an_earlier_version_can_still_be_read() -> None:
    bare = EmittedList("list-9", ["A", "B"], Memory(), 0)
    assert decode_list(msgspec.msgpack.encode(["list-9", ["A", "B"]])) == bare
    assert decode_list(msgspec.msgpack.encode(["list-9", ["A", "B"], [["list-8", ["C"]]]])) == bare


def test_an_outcome_tells_the_margin_that_the_catalogue_names_in_its_currency() -> None:
    worker = Pipeline()
    worker.publish(Product(sku="a", price="9.00", currency="GBP", margin="1.25"))
    worker.publish(Product(sku="b", price="9.00", currency="GBP", margin="-0.5"))
    found = outcomes(
        worker.send(
            event("purchase", 0, quantity=3, order_id="o1"), event("refund", 1, quantity=2, order_id="o1"),
            event("purchase", 2, currency="EUR", order_id="o2"), event("purchase", 3, sku="b", order_id="o3"),
            event("purchase", 4, sku="c", order_id="o4"), event("click", 5),
        )
    )  # fmt: skip
    assert [outcome.margin for outcome in found] == [Decimal("3.75"), Decimal("-2.50"), None, Decimal("-0.5"), None, None]


@pytest.mark.parametrize("since", ["dearer", "gone", "another currency", "never known"])
def test_a_refund_takes_back_the_margin_that_its_order_line_was_bought_with(since: str) -> None:
    worker = Pipeline()
    margin = None if since == "never known" else "1.25"
    worker.publish(Product(sku="a", price="9.00", currency="GBP", margin=margin))
    worker.send(event("purchase", 0, quantity=3, order_id="o1"), event("purchase", 1, None, session_id="s", quantity=2, order_id="o2"))
    worker.process(worker.merges(worker.send(event("login", 2, session_id="s"))))
    if since == "gone":
        worker.delete("a")
    else:
        worker.publish(Product(sku="a", price="9.00", currency="EUR" if since == "another currency" else "GBP", margin="4"))
    step = worker.send(event("refund", 3, quantity=1, order_id="o1"), event("refund", 4, quantity=2, order_id="o2"))
    assert [outcome.margin for outcome in outcomes(step)] == ([None, None] if margin is None else [Decimal("-1.25"), Decimal("-2.50")])
    if since == "dearer":
        (unheard,) = outcomes(worker.send(event("refund", 5, order_id="o3")))
        assert unheard.margin == -4


def test_what_was_bought_without_consent_or_before_it_was_withdrawn_is_not_remembered() -> None:
    worker = Pipeline()
    worker.publish(Product(sku="a", price="9.00", currency="GBP", margin="1.25"))
    worker.send(event("purchase", 0, order_id="o1"))
    assert decode_list(worker.state.data[b"l|u|u"]).memory.order_lines()
    worker.send(event("purchase", 1, order_id="o2", consent=False))
    assert not decode_list(worker.state.data[b"l|u|u"]).memory.order_lines()
