from __future__ import annotations

from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profiles import encode_profile
from schemas.catalog import Product
from schemas.internal import Exposure
from streams.runtime.processor import Batch, Step
from streams.runtime.task import CatchUpNeeded
from tests.agents.pipeline import START_MS, Pipeline, event, messages, outcomes


def skus(message) -> list[str]:
    return [item.sku for item in message.items]


def received(worker: Pipeline, second: int, *pairs: tuple[bytes, bytes]) -> Step:
    """A micro-batch that the broker took ``second`` after ``START_MS``."""
    return worker.process([record._replace(timestamp=START_MS + 1000 * second) for record in worker.records(pairs)])


def test_one_record_for_each_active_shopper_names_what_it_rests_on() -> None:
    worker = Pipeline()
    step = worker.send(event("click", 0, "u"), event("click", 1, "v", sku="b"), event("search", 2, "u"), event("purchase", 3, "u", sku="c"))
    first, second = messages(step, "recommendations")
    assert (first.user_id, first.recommendation_id) == ("u", "storefront.events-2-3")
    assert first.caused_by.model_dump() == {"topic": "storefront.events", "partition": 2, "first_offset": 0, "last_offset": 3, "events": 3}
    assert (second.user_id, second.caused_by.events) == ("v", 1)
    assert first.policy == "personal"
    assert (first.versions.encoder, first.versions.model) == ("test@1", "blend-4")


def test_what_a_micro_batch_says_goes_to_the_partition_it_came_from() -> None:
    step = Pipeline().send(event("click", 0, "u"), event("click", 1, None, session_id="s", sku="b"), event("click", 2, "u", sku="c"))
    assert {(output.topic, output.partition) for output in step.outputs} == {("recommendations", 2), ("outcomes", 2), ("sessions", 2)}


def test_an_anonymous_shopper_is_keyed_apart_from_a_user_of_the_same_name() -> None:
    worker = Pipeline()
    step = worker.send(event("click", 0, "x"), event("click", 1, None, session_id="x", sku="b"))
    assert [output.key for output in step.outputs if output.topic == "recommendations"] == [b"x", b"session:x"]
    user, session = messages(step, "recommendations")
    assert (user.user_id, user.session_id) == ("x", None)
    assert (session.user_id, session.session_id) == (None, "x")
    assert worker.profile("x").recent_skus == ["a"]
    assert worker.profile("x", anonymous=True).recent_skus == ["b"]
    assert [outcome.shopper for outcome in outcomes(step)] == ["x", "session:x"]


def test_an_event_is_judged_against_the_list_last_emitted_before_it() -> None:
    worker = Pipeline(k=3)
    first = worker.send(event("click", 0, sku="a"))
    (outcome,) = outcomes(first)
    assert (outcome.list_size, outcome.rank, outcome.recommendation_id) == (0, None, None)
    (shown,) = messages(first, "recommendations")
    wanted = skus(shown)[1]
    second = worker.send(event("click", 1, sku=wanted), event("click", 2, sku="f" if "f" not in skus(shown) else "e"))
    hit, miss = outcomes(second)
    assert (hit.list_size, hit.rank, hit.recommendation_id) == (3, 2, shown.recommendation_id)
    assert miss.rank is None
    (learned,) = messages(second, "recommendations")
    assert hit.rank_after == (skus(learned).index(wanted) + 1 if wanted in skus(learned) else None)


def test_what_is_judged_next_is_what_was_emitted() -> None:
    worker = Pipeline()
    step = worker.send(event("click", 0))
    (emitted,) = messages(step, "recommendations")
    for rank, sku in enumerate(skus(emitted), start=1):
        (outcome,) = outcomes(worker.attempt(worker.records([event("click", 100 + rank, sku=sku)])))
        assert outcome.rank == rank


def test_the_popularity_baseline_is_that_of_the_batchs_start() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, "v", sku="c"), event("purchase", 1, "w", sku="c"), event("click", 2, "w", sku="d"))
    found = outcomes(worker.send(event("click", 3, sku="c"), event("click", 4, sku="d"), event("search", 5)))
    assert [outcome.popularity_rank for outcome in found] == [1, 2, None]


def test_money_is_exact_and_refunds_are_negative() -> None:
    worker = Pipeline()
    price = {"unit_price": "0.10", "currency": "EUR"}
    bought, returned, viewed = outcomes(
        worker.send(event("purchase", 0, quantity=3, **price), event("refund", 1, quantity=2, **price), event("click", 2))
    )
    assert (bought.revenue, bought.quantity, bought.currency) == (Decimal("0.30"), 3, "EUR")
    assert (returned.revenue, returned.quantity) == (Decimal("-0.20"), 2)
    assert (viewed.revenue, viewed.quantity, viewed.currency) == (None, None, None)


def test_outcomes_carry_what_assets_are_told_apart_by() -> None:
    worker = Pipeline()
    (outcome, page) = outcomes(
        worker.send(event("click", 0, channel="app", country="GB", segment="gold"), event("browse", 1, category="Aisle"))
    )
    assert (outcome.channel, outcome.country, outcome.segment, outcome.category) == ("app", "GB", "gold", "Shop > Aisle")
    assert (outcome.origin.topic, outcome.origin.partition, outcome.origin.offset) == ("storefront.events", 2, 0)
    assert (page.type, page.sku, page.category) == ("browse", None, "Aisle")


def test_exposure_lists_each_item_shown_once() -> None:
    worker = Pipeline()
    step = worker.send(event("click", 0, "u"), event("click", 1, "v", second=9))
    (exposure,) = [message for message in messages(step, "outcomes") if isinstance(message, Exposure)]
    shown = {sku for message in messages(step, "recommendations") for sku in skus(message)}
    assert sorted(exposure.skus) == sorted(shown)
    assert (exposure.lists, exposure.catalogue_size, exposure.origin.offset) == (2, 6, 1)
    assert exposure.occurred_at.isoformat() == "2026-03-01T12:00:09+00:00"


def test_a_session_grows_by_position() -> None:
    worker = Pipeline()
    worker.send(event("click", 0, second=0))
    step = worker.send(event("click", 1, sku="b", second=60), event("search", 2, second=61), event("purchase", 3, sku="c", second=62))
    (delta,) = messages(step, "sessions")
    assert (delta.session, delta.shopper, delta.start) == ("u@1772366400000", "u", 1)
    assert [(item.sku, item.type) for item in delta.items] == [("b", "click"), ("c", "purchase")]
    earlier, later = messages(worker.send(event("click", 4, second=100), event("click", 5, second=5000)), "sessions")
    assert (earlier.session, earlier.start) == ("u@1772366400000", 3)
    assert (later.session, later.start) == ("u@1772371400000", 0)


def test_a_clock_that_is_ahead_lends_a_session_no_weight() -> None:
    worker = Pipeline(trending_half_life_s=3600.0)
    received_ms = START_MS
    ahead = event("click", 0, "ahead", second=80_000, sku="b")
    ordinary = [event("click", number, f"u{number}", second=-1, sku="a") for number in (1, 2)]
    step = worker.process([record._replace(timestamp=received_ms) for record in worker.records([ahead, *ordinary])])
    assert [item.at for delta in messages(step, "sessions") for item in delta.items] == [
        received_ms,
        received_ms - 1000,
        received_ms - 1000,
    ]
    table = worker.catalogue.table
    for popularity in (worker.sessions.trending, worker.sessions.baseline):
        popular = popularity.lists(table.active[: len(table)], table.category[: len(table)], len(table.categories), START_MS)
        assert [table.skus[row] for row in popular.overall[:2]] == ["a", "b"]


def test_after_a_clock_that_was_ahead_sessions_go_on_and_a_withdrawal_is_heard() -> None:
    worker = Pipeline()
    ahead = messages(received(worker, 0, event("click", 0, second=23 * 3600, sku="a")), "sessions")
    later = messages(received(worker, 61, event("click", 1, second=60, sku="b")), "sessions")
    assert [(delta.session, delta.start) for delta in (*ahead, *later)] == [(f"u@{START_MS}", 0), (f"u@{START_MS}", 1)]
    received(worker, 100, event("click", 2, second=23 * 3600, sku="c", consent=True))
    received(worker, 121, *(event("click", number, second=120, sku="d", consent=False) for number in range(3, 8)))
    assert worker.profile("u").recent_skus == ["d"]
    assert worker.sessions.sessions_of("u") == 0


def test_a_click_by_a_clock_that_is_ahead_counts_no_longer_than_others() -> None:
    worker, week_s = Pipeline(), 7 * 86_400
    received(worker, 0, event("click", 0, sku="a"))
    (found,) = outcomes(received(worker, 0, event("click", 1, second=23 * 3600, sku="b")))
    assert found.attributed_by == "listed"
    worker.delete("b")
    received(worker, 60, event("search", 2, second=60))  # the newest list is without it
    (late,) = outcomes(received(worker, week_s + 3600, event("purchase", 3, second=week_s + 3600, sku="b")))
    assert late.attributed_by is None


def test_the_tail_of_an_endless_session_feeds_no_index() -> None:
    worker = Pipeline()
    step = worker.send(*(event("click", number) for number in range(600)))
    (delta,) = messages(step, "sessions")
    assert len(delta.items) == 500
    assert messages(worker.send(event("click", 600)), "sessions") == []
    assert worker.profile("u").events == 601


def test_the_same_event_twice_counts_once_within_a_batch_and_across() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0), event("purchase", 0))
    step = worker.send(event("purchase", 0))
    assert step.outputs == []
    assert step.writes == {}
    assert len(outcomes(worker)) == 1
    step = worker.send(event("purchase", 0), event("click", 1))
    (message,) = messages(step, "recommendations")
    assert (message.caused_by.first_offset, message.caused_by.events) == (4, 1)


def test_invalid_records_become_dead_letters_and_the_rest_goes_on() -> None:
    worker = Pipeline()
    key, value = event("click", 0)
    step = worker.send(
        (key, b"{"), (key, None), (None, value), (key, b"\xff"), (b"w", value), (key, orjson.dumps({"type": "dance"})), (key, value)
    )
    letters = messages(step, "events.dead-letter")
    assert [letter.code for letter in letters] == [
        "json_invalid", "value_missing", "key_missing", "encoding_invalid", "key_mismatch", "type_unknown",
    ]  # fmt: skip
    assert [letter.offset for letter in letters] == [0, 1, 2, 3, 4, 5]
    assert len(messages(step, "recommendations")) == 1


def test_an_unknown_sku_asks_to_catch_up_and_then_is_refused() -> None:
    worker = Pipeline()
    records = worker.records([event("click", 0, sku="new"), event("click", 1)])
    with pytest.raises(CatchUpNeeded) as needed:
        worker.processor.process(worker.state, Batch(2, records, worker.now_ms))
    assert needed.value.topic == "storefront.catalog"
    step = worker.processor.process(worker.state, Batch(2, records, worker.now_ms, caught_up=True))
    assert [letter.code for letter in messages(step, "events.dead-letter")] == ["sku_unknown"]
    worker.publish(Product(sku="new", title="New"))
    step = worker.processor.process(worker.state, Batch(2, records, worker.now_ms))
    assert messages(step, "events.dead-letter") == []


def test_events_of_a_deleted_product_are_valid_but_it_is_never_listed() -> None:
    worker = Pipeline()
    worker.send(event("purchase", 0, sku="b"))
    worker.delete("b")
    step = worker.send(event("refund", 1, sku="b"))
    assert messages(step, "events.dead-letter") == []
    assert "b" not in skus(messages(step, "recommendations")[0])


def test_unknown_skus_are_accepted_where_the_storefront_says_so_and_where_it_has_no_catalogue() -> None:
    lenient = Pipeline(unknown_sku="accept")
    assert messages(lenient.send(event("click", 0, sku="new")), "events.dead-letter") == []
    bare = Pipeline("")
    bare.send(event("click", 0, sku="x"), event("click", 1, sku="y"))
    step = bare.send(event("click", 2, "v", sku="x"))
    assert messages(step, "events.dead-letter") == []
    assert "y" in skus(messages(step, "recommendations")[0])


@pytest.mark.parametrize(("repeats", "kind"), [("drop_seen", "click"), ("drop_bought", "purchase")])
def test_a_shopper_who_knows_everything_is_told_from_an_empty_shop(repeats: str, kind: str) -> None:
    worker = Pipeline("ab", repeats=repeats)
    (message,) = messages(worker.send(event(kind, 0, sku="a"), event(kind, 1, sku="b")), "recommendations")
    assert (message.policy, message.items) == ("empty", ())
    assert message.reason == "the shopper knows everything that could be recommended, and repeats are switched off (--repeats)"
    for sku in "ab":
        worker.delete(sku)
    (message,) = messages(worker.send(event(kind, 2, sku="a")), "recommendations")
    assert message.reason == "the catalogue holds no product that may be recommended"


def test_nothing_to_recommend_is_said_with_its_reason() -> None:
    bare = Pipeline("")
    (message,) = messages(bare.send(event("search", 0)), "recommendations")
    assert (message.policy, message.items, message.reason) == ("empty", (), "no products are known yet")
    sold_out = Pipeline("")
    sold_out.publish(Product(sku="a", stock=0))
    (message,) = messages(sold_out.send(event("click", 0)), "recommendations")
    assert (message.policy, message.reason) == ("empty", "the catalogue holds no product that may be recommended")


def test_a_failing_source_is_named_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Pipeline()

    def fail(*_args):
        raise MemoryError("out of GPU memory")

    monkeypatch.setattr(worker.catalogue.index, "search", fail)
    (message,) = messages(worker.send(event("click", 0)), "recommendations")
    assert message.degraded == ("similar",)
    assert message.items


def test_another_encoder_takes_over_between_batches() -> None:
    worker = Pipeline()
    worker.send(event("click", 0))
    for number, sku in enumerate("abcdef"):
        worker.processor.vectors_changed(worker.catalogue.apply_embeddings([_embedding(sku, number)]))
    worker.catalogue.background(0)
    (message,) = messages(worker.send(event("click", 1)), "recommendations")
    assert message.versions.encoder == "other@2"
    assert message.degraded == ()
    assert "similar" in {reason.source for item in message.items for reason in item.reasons}


def _embedding(sku: str, number: int) -> tuple[bytes, bytes]:
    import numpy as np

    from models.catalog.vectors import pack
    from schemas.catalog import Embedding

    vector = np.array([1.0, number / 10, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)
    message = Embedding(sku=sku, encoder="other@2", dimensions=6, vector=pack(vector / np.linalg.norm(vector)), text_hash="1")
    return sku.encode(), message.to_json()


def test_identifiers_as_long_as_the_contract_allows_pass() -> None:
    worker = Pipeline()
    long = "x" * 256
    step = worker.send(event("click", 0, long), event("click", 1, None, session_id=long), event("login", 2, long, session_id=long))
    assert len({outcome.shopper for outcome in outcomes(step)}) == 2
    assert next(output.key for output in step.outputs if output.topic == "recommendations") == long.encode()


KINDS = ["browse", "click", "add_to_cart", "purchase", "refund", "search", "impression"]


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    made = []
    for number in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from(KINDS))
        fields = {} if kind == "search" else {"sku": draw(st.sampled_from("abcdef"))}
        user = draw(st.sampled_from(["u", "v", None]))
        if user is None:
            fields["session_id"] = "u"
        repeated = number if draw(st.integers(0, 9)) else draw(st.integers(0, number))
        made.append(event(kind, repeated, user, second=draw(st.integers(0, 5000)), **fields))
    return made


@given(streams(), st.data())
@settings(deadline=None, max_examples=40)
def test_any_split_into_batches_gives_the_same_profiles_and_covers_each_event_once(stream: list, data: st.DataObject) -> None:
    whole, split = Pipeline(), Pipeline()
    whole.send(*stream)
    rest = stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        split.send(*rest[:size])
        rest = rest[size:]

    def profiles(worker: Pipeline) -> dict[bytes, bytes]:
        return {key: value for key, value in worker.state.data.items() if key.startswith(b"p|")}

    assert profiles(split) == profiles(whole)

    def told(worker: Pipeline) -> list[tuple[str, str, int]]:
        return sorted((outcome.shopper, outcome.event_id, outcome.origin.offset) for outcome in outcomes(worker))

    assert told(split) == told(whole)
    assert len(set(told(whole))) == len(told(whole))
    for worker in (whole, split):
        counted: dict[str, int] = {}
        covered: dict[str, set[int]] = {}
        for output in worker.outputs:
            if output.topic == "recommendations":
                cause = orjson.loads(output.value)["caused_by"]
                name = output.key.decode()
                counted[name] = counted.get(name, 0) + cause["events"]
                span = set(range(cause["first_offset"], cause["last_offset"] + 1))
                mine = {outcome.origin.offset for outcome in outcomes(worker) if outcome.shopper == name} & span
                assert len(mine) == cause["events"]
                assert not mine & covered.setdefault(name, set())
                covered[name] |= mine
        assert sum(counted.values()) == len(told(worker))


@given(streams())
@settings(deadline=None, max_examples=25)
def test_an_attempt_that_was_not_committed_leaves_no_trace(stream: list) -> None:
    worker, calm = Pipeline(), Pipeline()
    for first in range(0, len(stream), 4):
        chunk = stream[first : first + 4]
        records = worker.records(chunk)
        worker.attempt(records)  # its transaction was lost
        again = worker.process(records)
        once = calm.send(*chunk)
        assert [(output.topic, output.key, output.value) for output in again.outputs] == [
            (output.topic, output.key, output.value) for output in once.outputs
        ]
        assert again.writes == once.writes
    if worker.profile("u") is not None:
        assert encode_profile(worker.profile("u")) == encode_profile(calm.profile("u"))


def test_lists_are_whole_after_any_pause_in_event_time() -> None:
    days = 86_400
    for pauses in ([-3 * 365 * days, 0], [-15 * 365 * days, 0], [-200 * days, -100 * days, 0]):
        shop = Pipeline(trending_half_life_s=float(days))
        for number, second in enumerate(pauses):
            for place, sku in enumerate("abc" if number == 0 else "de"):
                shop.send(event("click", 10 * number + place, f"u{number}", sku=sku, second=second + place))
        step = shop.send(event("click", 99, "u0", sku="a", second=5))
        (listed,) = [output.value for output in step.outputs if output.topic == "recommendations"]
        assert listed is not None
        assert all(item["sku"] and item["score"] >= 0 for item in orjson.loads(listed)["items"])
