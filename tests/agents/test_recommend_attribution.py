from __future__ import annotations

import msgspec

from streams.agents.shoppers import EmittedList, decode_list, encode_list
from tests.agents.pipeline import Pipeline, event, messages, outcomes


def shown_by(worker: Pipeline, *events: tuple[bytes, bytes]) -> tuple[str, list[str]]:
    (message,) = messages(worker.send(*events), "recommendations")
    return message.recommendation_id, [item.sku for item in message.items]


def attributed(worker: Pipeline, *events: tuple[bytes, bytes]) -> list[bool]:
    """What events would amount to if they came now."""
    return [outcome.attributed for outcome in outcomes(worker.attempt(worker.records(events)))]


def test_a_purchase_is_attributed_when_it_stood_in_the_list_last_emitted() -> None:
    worker = Pipeline(k=2)
    _, skus = shown_by(worker, event("click", 0))
    missing = next(sku for sku in "abcdef" if sku not in skus)
    found = attributed(worker, event("purchase", 1, sku=skus[0]), event("purchase", 2, sku=missing), event("click", 3, sku=skus[0]))
    assert found == [True, False, False]


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


def test_a_purchase_that_names_one_of_the_last_three_lists_is_attributed_if_that_list_held_it() -> None:
    worker = Pipeline("abcdefghijkl", k=2)
    lists = [shown_by(worker, event("click", number, sku=sku)) for number, sku in enumerate("aceg")]
    for place, (identifier, skus) in enumerate(lists):
        last = lists[-1][1]
        held = next(sku for sku in skus if place == 3 or sku not in last)
        other = next(sku for sku in "abcdefghijkl" if sku not in skus and sku not in last)
        named = {"recommendation_id": identifier, "position": 1}
        found = attributed(worker, event("purchase", 90, sku=held, **named), event("purchase", 91, sku=other, **named))
        assert found == [place > 0, False], place


def test_a_list_of_another_shopper_attributes_nothing() -> None:
    worker = Pipeline("abcdefghijkl", k=2)
    identifier, skus = shown_by(worker, event("click", 0, "v", sku="a"))
    shown_by(worker, event("click", 1, "v", sku="g"))
    _, mine = shown_by(worker, event("click", 2, "u", sku="k"))
    sku = next(sku for sku in skus if sku not in mine)
    assert attributed(worker, event("purchase", 3, "u", sku=sku, recommendation_id=identifier, position=1)) == [False]


def test_both_lists_of_a_batch_are_remembered() -> None:
    worker = Pipeline("abcdefghijkl", k=2)
    handed = worker.merges(worker.send(event("click", 0, None, session_id="s", sku="h"), event("login", 1, session_id="s")))
    step = worker.process([*worker.records([event("click", 2, sku="a")]), *handed])
    first, second = messages(step, "recommendations")
    state = decode_list(worker.state.data[b"l|u|u"])
    assert state.recommendation_id == second.recommendation_id
    assert [identifier for identifier, _ in state.earlier_lists()] == [first.recommendation_id]


def test_a_list_written_before_earlier_ones_were_kept_can_still_be_read() -> None:
    assert decode_list(msgspec.msgpack.encode(["list-9", ["A", "B"]])) == EmittedList("list-9", ["A", "B"], [])


def test_no_more_than_two_earlier_lists_are_kept() -> None:
    emitted = EmittedList()
    for number in range(5):
        emitted = decode_list(encode_list(emitted.followed_by(f"list-{number}", [str(number)])))
    assert (emitted.recommendation_id, emitted.skus) == ("list-4", ["4"])
    assert emitted.earlier_lists() == [("list-3", ["3"]), ("list-2", ["2"])]
