"""What became of lists shown, as the recommend worker tells it."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson
import pytest

from models.attribution.following import LISTS_LIMIT
from schemas.catalog import Product
from schemas.internal import Resolution
from streams.agents.recommend import RecommendProcessor
from streams.agents.resolutions import CHANNEL_LIMIT, DUE_LIMIT, Impressing
from streams.agents.shoppers import IMPRESSING_KEY, TIMER_PREFIX, decode_list
from streams.agents.value import ValueProcessor
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from streams.settings import Settings
from tests.agents.pipeline import ERASURES, MERGES, START_MS, Pipeline, erasure, event, messages, outcomes, resolutions

DAY_S = 86_400


class Shop(Pipeline):
    """Time goes by on all clocks at once: of the events, the broker and the wall."""

    second = 0

    def at(self, second: int) -> None:
        self.second = second
        self.now_ms = START_MS + 1000 * second

    def act(self, kind: str, number: int, *more: Any, **fields: Any) -> Step:
        """An event of now, in a micro-batch of its own."""
        step = self.send(event(kind, number, *more, second=self.second, **fields))
        self.now_ms -= 1000
        return step

    def ticked(self) -> list[Resolution]:
        """What a tick tells."""
        step = self.processor.tick(self.state, 2, self.now_ms)
        if step is None:
            return []
        self.state.apply(step.writes)
        self.outputs += step.outputs
        return resolutions(step)

    def told_after(self, seconds: int) -> list[Resolution]:
        """What is told when so much later an event of another shopper moves the clock. Of that one nothing."""
        self.at(self.second + seconds)
        found = resolutions(self.act("search", 10_000 + self.second, "clock"))
        while more := self.ticked():
            found += more
        return [resolution for resolution in found if resolution.shopper != "clock"]

    def restart(self) -> None:
        """Another process takes over, with nothing but the state."""
        self.processor = RecommendProcessor(self.settings, self.catalogue, self.sessions)
        self.processor.products_changed(list(range(len(self.catalogue.table))))
        self.processor.opened(self.state, 2)

    def timers(self) -> list[bytes]:
        return [key for key in self.state.data if key.startswith(TIMER_PREFIX)]


def listed(step: Step) -> tuple[str, list[str]]:
    """(id, SKUs) of the one list that a step sent."""
    (message,) = [message for message in messages(step, "recommendations") if message is not None]
    return message.recommendation_id, [item.sku for item in message.items]


def results(resolution: Resolution) -> dict[str, str]:
    return {item.sku: item.result for item in resolution.items}


def test_the_list_that_stood_when_the_shopper_next_acted_is_told_of_once_with_every_item() -> None:
    worker = Shop()
    identifier, skus = listed(worker.act("click", 0, sku="f"))
    worker.at(10)
    worker.act("search", 1)
    assert worker.told_after(DAY_S - 10) == []
    (found,) = worker.told_after(1)
    assert (found.recommendation_id, found.resolution_id, found.reason, found.corrects) == (identifier, "shown-2-1", "window", None)
    assert (found.shopper, found.origin.partition, found.origin.offset, found.label_delay_s, found.arm) == ("u", 2, 1, None, None)
    assert [(item.sku, item.place, item.result, item.label_delay_s, item.sales) for item in found.items] == [
        (sku, place, "ignored", None, ()) for place, sku in enumerate(skus, 1)
    ]
    assert found.shown_at is not None
    assert found.shown_at.timestamp() * 1000 == START_MS  # when the list was made
    assert found.watermark.timestamp() * 1000 == START_MS + 1000 * (DAY_S + 1)
    assert worker.told_after(40 * DAY_S) == []
    assert decode_list(worker.state.data[b"l|u|u"]).shown.lists == []
    assert not any(key.endswith(b"u|u") for key in worker.timers())


def test_what_was_taken_up_is_told_with_its_delay_units_and_money() -> None:
    worker = Shop("abcdef", k=5)
    worker.publish(Product(sku="e", title="e", price="9.00", currency="GBP", margin="1.25"))
    _, skus = listed(worker.act("click", 0, sku="f"))
    assert {"c", "d", "e"} <= set(skus)
    worker.at(7)
    worker.send(
        event("click", 1, sku="c", second=7), event("add_to_cart", 2, sku="d", second=8), event("purchase", 3, sku="d", second=9),
        event("purchase", 4, sku="e", second=9, quantity=3, unit_price="9.00", order_id="o2"),
        event("purchase", 5, sku="e", second=9, quantity=1, unit_price="11.00", currency="EUR", order_id="o3"),
        event("refund", 6, sku="e", second=20, quantity=1, unit_price="9.00", order_id="o2"),
    )  # fmt: skip
    (found,) = worker.told_after(8 * DAY_S)
    items = {item.sku: item for item in found.items}
    assert results(found) == {sku: {"c": "clicked", "d": "bought", "e": "bought"}.get(sku, "ignored") for sku in skus}
    assert [items[sku].label_delay_s for sku in "cde"] == [7, 8, 9]
    assert found.label_delay_s == 7
    assert [sale.model_dump(exclude_none=True) for sale in items["d"].sales] == [
        {"quantity": 1, "revenue": Decimal("2.50"), "currency": "GBP"}
    ]
    assert [sale.model_dump(exclude_none=True) for sale in items["e"].sales] == [
        {"quantity": 2, "revenue": Decimal("18.00"), "currency": "GBP", "margin": Decimal("2.50")},
        {"quantity": 1, "revenue": Decimal("11.00"), "currency": "EUR"},
    ]


def test_a_list_says_in_which_channel_to_whom_and_of_which_categories_it_was_shown() -> None:
    worker = Shop("abcdef", k=5)
    worker.publish(Product(sku="b", title="b", category_path=("Shop", "Nook")))
    worker.publish(Product(sku="c", title="c"))
    _, skus = listed(worker.act("click", 0, sku="f", channel="app", country="FR"))
    assert {"b", "c", "d"} <= set(skus)
    worker.at(10)
    worker.act("search", 1, channel="web", country="GB", segment="loyal")
    (found,) = worker.told_after(DAY_S)
    assert (found.channel, found.country, found.segment) == ("web", "GB", "loyal")
    categories = {"b": "Shop > Nook", "c": None}
    assert {item.sku: item.category for item in found.items} == {sku: categories.get(sku, "Shop > Aisle") for sku in skus}
    # What comes late, in another channel, is of the same showing; what products are is said as of now.
    worker.publish(Product(sku="b", title="b", category_path=("Shop", "Cellar")))
    (late,) = resolutions(worker.send(event("purchase", 2, sku="b", channel="store", country="DE", second=30)))
    assert (late.corrects, late.channel, late.country, late.segment) == (found.resolution_id, "web", "GB", "loyal")
    assert [item.category for item in late.items] == ["Shop > Cellar"]


def test_a_list_that_waited_for_the_next_visit_was_shown_when_the_shopper_came_back() -> None:
    worker = Shop()
    _, skus = listed(worker.act("click", 0, sku="f"))
    worker.at(5 * DAY_S)
    worker.act("click", 1, sku=skus[1])
    (found,) = worker.told_after(8 * DAY_S)
    assert found.shown_at is not None
    assert found.shown_at.timestamp() * 1000 == START_MS + 1000 * 5 * DAY_S
    assert (results(found)[skus[1]], found.label_delay_s) == ("clicked", 0)


def test_what_impressions_tell_was_shown_is_believed_from_then_on_in_their_channel() -> None:
    worker = Shop("abcdefgh", k=4)
    identifier, skus = listed(worker.act("click", 0, sku="h"))
    worker.at(5)
    cited = {"recommendation_id": identifier, "second": 5}
    made_up = {**cited, "recommendation_id": "made up"}
    worker.send(
        event("impression", 1, sku=skus[2], position=3, **cited), event("impression", 2, sku=skus[0], position=1, **cited),
        event("impression", 3, sku=skus[2], position=3, **cited), event("impression", 4, sku=skus[1], **made_up),
        event("click", 5, sku=skus[0], position=1, **cited),
    )  # fmt: skip
    other, _ = listed(worker.act("click", 6, "v", sku="h"))
    worker.at(60)
    worker.act("click", 7, sku="h")  # stands in front of a list that no impression tells of
    standing, _ = listed(worker.act("click", 8, "v", sku="a", channel="app"))
    worker.at(70)
    worker.act("search", 9, "v", channel="app")
    found = worker.told_after(8 * DAY_S)
    assert {resolution.recommendation_id for resolution in found} == {identifier, other, standing}
    (mine,) = [resolution for resolution in found if resolution.shopper == "u"]
    assert [(item.sku, item.place, item.result) for item in mine.items] == [(skus[2], 3, "ignored"), (skus[0], 1, "clicked")]
    assert mine.resolution_id == "shown-2-1"
    # A channel that fell silent for longer than a click's window is as one that never told.
    worker.at(worker.second + 8 * DAY_S)
    worker.act("search", 11)
    worker.at(worker.second + 1)
    again = listed(worker.act("search", 12))[0]
    worker.at(worker.second + 1)
    worker.act("search", 13)
    assert again not in {resolution.recommendation_id for resolution in found}
    assert len(worker.told_after(8 * DAY_S)) > 0


def test_facts_that_come_late_are_corrections() -> None:
    worker = Shop()
    identifier, skus = listed(worker.act("click", 0, sku="f"))
    worker.at(10)
    worker.act("search", 1)
    (first,) = worker.told_after(DAY_S + 1)
    late = event("click", 3, sku=skus[1], second=20, recommendation_id=identifier)
    purchase, click = resolutions(worker.send(event("purchase", 2, sku=skus[2], second=30), late))
    for correction in (purchase, click):
        assert (correction.corrects, correction.recommendation_id, correction.reason) == (first.resolution_id, identifier, "late")
        assert correction.shown_at is None
    assert purchase.resolution_id == f"shown-2-1-corrected-2-{purchase.origin.offset}"
    assert [(item.sku, item.place, item.result, item.label_delay_s) for item in purchase.items] == [(skus[2], 3, "bought", 30)]
    assert purchase.items[0].sales[0].revenue == Decimal("2.50")
    assert results(click) == {skus[1]: "clicked"}
    worker.now_ms += 20 * DAY_S * 1000
    (refund,) = resolutions(worker.send(event("refund", 4, sku=skus[2], second=20 * DAY_S)))
    assert (refund.corrects, refund.reason, refund.label_delay_s) == (first.resolution_id, "refund", None)
    assert [sale.model_dump(exclude_none=True) for sale in refund.items[0].sales] == [
        {"quantity": -1, "revenue": Decimal("-2.50"), "currency": "GBP"}
    ]


def test_who_goes_on_acting_is_told_of_without_a_tick() -> None:
    worker = Shop()
    identifier, _ = listed(worker.act("click", 0, sku="f"))
    worker.at(10)
    worker.act("search", 1)
    worker.at(2 * DAY_S)
    worker.act("search", 2, "clock")
    (found,) = resolutions(worker.act("search", 3))
    assert found.recommendation_id == identifier
    assert worker.ticked() == []


def test_the_clock_of_the_events_runs_on_while_none_come_but_not_over_a_backlog() -> None:
    worker = Shop()
    listed(worker.act("click", 0, sku="f"))
    worker.at(10)
    worker.act("search", 1)
    worker.now_ms += 2 * DAY_S * 1000
    worker.restart()
    assert worker.ticked() == []  # nothing was heard for two days because nobody listened
    worker.now_ms += (DAY_S - 60) * 1000
    assert worker.ticked() == []
    worker.now_ms += 120 * 1000
    assert len(worker.ticked()) == 1


def test_another_process_goes_on_from_the_state_and_a_dropped_step_is_made_again() -> None:
    worker = Shop()
    for number in range(3):
        worker.act("click", 2 * number, f"u{number}", sku="f")
        worker.act("search", 2 * number + 1, f"u{number}")
    worker.at(2 * DAY_S)
    worker.act("search", 100, "clock")
    dropped = worker.processor.tick(worker.state, 2, worker.now_ms)
    worker.restart()
    found = worker.ticked()
    assert dropped is not None
    assert found == resolutions(dropped)
    assert sorted(resolution.shopper for resolution in found) == ["u0", "u1", "u2"]
    assert worker.ticked() == []


def test_many_shoppers_are_told_of_over_several_ticks() -> None:
    worker = Shop()
    users = [f"u{number}" for number in range(DUE_LIMIT + 10)]
    for round_ in range(2):
        worker.send(*(event("search", 1000 * round_ + number, user, second=round_) for number, user in enumerate(users)))
    worker.at(2 * DAY_S)
    worker.act("search", 9_000, "clock")
    assert [len(worker.ticked()) for _ in range(3)] == [DUE_LIMIT, 10, 0]


def test_a_shopper_has_one_timer_at_most() -> None:
    worker = Shop("abcdefghijkl", k=3)
    for number in range(40):
        worker.at(number * 20_000)
        worker.act("click", number, sku="abcdefghijkl"[number % 12])
        assert len(worker.timers()) <= 1
        worker.ticked()
    told = [resolution.resolution_id for resolution in resolutions(worker)]
    told += [resolution.resolution_id for resolution in worker.told_after(9 * DAY_S)]
    assert len(told) == len(set(told)) == 39


def test_more_lists_than_are_followed_are_told_of_early() -> None:
    worker = Shop("abcdefghijkl", k=3)
    for number in range(LISTS_LIMIT + 5):
        worker.at(number)
        worker.act("click", number, sku="abcdefghijkl"[number % 12])
    early = resolutions(worker)
    assert {resolution.reason for resolution in early} == {"evicted"}
    stood = [[item.sku for item in message.items] for message in messages(worker, "recommendations")[:-1]]
    shown = 1 + sum(one != other for one, other in pairwise(stood))
    assert shown > LISTS_LIMIT
    assert len(early) + len(decode_list(worker.state.data[b"l|u|u"]).shown.lists) == shown


def test_a_login_hands_on_what_its_session_was_shown() -> None:
    worker = Shop(holdout_share=0.5, experiment_salt="s1")
    shown = {"session_id": "s"}
    identifier, skus = listed(worker.act("click", 0, None, sku="f", **shown))
    arm = messages(worker, "recommendations")[0].arm
    worker.at(5)
    worker.act("click", 1, None, sku=skus[1], country="NL", **shown)
    step = worker.act("login", 2, "u", **shown)
    assert not worker.timers()
    assert not resolutions(step)
    worker.process(worker.merges(step))
    worker.act("purchase", 3, "u", sku=skus[1])
    found = {resolution.recommendation_id: resolution for resolution in worker.told_after(8 * DAY_S)}
    assert (found[identifier].shopper, found[identifier].arm, results(found[identifier])[skus[1]]) == ("u", arm, "bought")
    assert (found[identifier].channel, found[identifier].country) == ("web", "NL")
    assert results(found[identifier])[skus[0]] == "ignored"


def test_a_history_with_damaged_lists_becomes_a_dead_letter() -> None:
    worker = Shop()
    worker.act("click", 0, None, session_id="s")
    (merge,) = worker.merges(worker.act("login", 1, session_id="s"))
    body = orjson.loads(merge.value) | {"lists_shown": "00"}
    step = worker.process(worker.records([(merge.key, orjson.dumps(body))], MERGES))
    assert [(letter.code, letter.path) for letter in messages(step, "events.dead-letter")] == [("field_invalid", "lists_shown")]


def test_of_an_erased_shopper_nothing_is_told_any_more() -> None:
    worker = Shop()
    worker.act("click", 0, sku="f")
    worker.at(5)
    worker.act("purchase", 1, sku="a")
    worker.process(worker.records([erasure("u")], ERASURES))
    assert not worker.timers()
    assert worker.told_after(9 * DAY_S) == []
    assert resolutions(worker.act("refund", 2, sku="a")) == []


def test_who_does_not_agree_to_a_history_is_not_followed() -> None:
    worker = Shop()
    worker.act("click", 0, sku="f")
    worker.act("search", 1)
    worker.act("search", 2, consent=False)
    assert not worker.timers()
    worker.act("click", 3, sku="a")
    assert worker.told_after(9 * DAY_S) == []


def test_what_was_shown_before_a_no_is_not_followed_though_a_yes_comes_in_the_same_batch() -> None:
    worker = Shop()
    worker.act("click", 0, sku="f")
    worker.act("search", 1)
    worker.at(10)
    agreed = worker.send(event("click", 2, sku="a", consent=False, second=10), event("click", 3, sku="b", consent=True, second=11))
    identifier, _ = listed(agreed)
    assert not [key for key in worker.timers() if key.endswith(b"u|u")]
    worker.at(20)
    worker.act("search", 4)
    (found,) = worker.told_after(9 * DAY_S)  # the list made when all was agreed to again
    assert (found.recommendation_id, found.resolution_id) == (identifier, "shown-2-4")


def test_what_was_shown_to_a_session_that_is_let_go_is_told_first() -> None:
    worker = Shop(view_window_s=90.0 * DAY_S, click_window_s=90.0 * DAY_S)
    worker.act("click", 0, None, session_id="s", sku="f")
    worker.act("search", 1, None, session_id="s")
    found = worker.told_after(33 * DAY_S)
    assert [(resolution.shopper, resolution.reason) for resolution in found] == [("session:s", "evicted")]
    assert not [key for key in worker.state.data if b"s|s" in key]


def test_the_list_for_the_next_visit_keeps_what_was_shown_before_it() -> None:
    worker = Shop()
    worker.act("purchase", 0, sku="f")
    worker.at(10)
    identifier, _ = listed(worker.act("purchase", 1, sku="a"))
    worker.at(2 * DAY_S)
    worker.act("search", 2, "clock")
    (found,) = worker.ticked()  # in one step with the list
    prepared = messages(worker, "recommendations")[-2 if messages(worker, "recommendations")[-1].user_id == "clock" else -1]
    assert (prepared.user_id, prepared.occasion) == ("u", "next_visit")
    assert (found.resolution_id, found.recommendation_id == identifier) == ("shown-2-1", False)
    worker.at(3 * DAY_S)
    worker.act("search", 3)
    (found,) = worker.told_after(2 * DAY_S)
    assert (found.recommendation_id, found.resolution_id) == (prepared.recommendation_id, "shown-2-3")


def test_turned_off_nobody_is_followed_and_all_else_is_as_ever() -> None:
    follows, does_not = Shop(), Shop(resolutions=False)
    for worker in (follows, does_not):
        for number in range(6):
            worker.at(100 * number)
            worker.act("purchase" if number % 2 else "click", number, sku="abcdef"[number])
    assert does_not.told_after(9 * DAY_S) == []
    assert not does_not.timers()
    assert not decode_list(does_not.state.data[b"l|u|u"]).shown.data
    assert len(does_not.state.data[b"l|u|u"]) < len(follows.state.data[b"l|u|u"]) / 2
    assert len(follows.told_after(9 * DAY_S)) > 2
    said = [[m for m in messages(worker, "outcomes") if not isinstance(m, Resolution)][:12] for worker in (follows, does_not)]
    assert said[0] == said[1]


def test_what_was_followed_when_it_is_turned_off_is_told_once() -> None:
    worker = Shop()
    for number, user in enumerate(["u", "v", "u", "v"]):
        worker.at(10 * number)
        worker.act("click", number, user, sku="f")
    _, skus = listed(worker.act("purchase", 4, sku="f"))
    worker.settings = Settings(k=5, resolutions=False)
    worker.restart()
    worker.at(50)
    step = worker.act("purchase", 5, sku=skus[0])
    found = resolutions(step)
    assert [(resolution.shopper, resolution.reason) for resolution in found] == [("u", "evicted")] * len(found)
    assert "bought" in {item.result for resolution in found for item in resolution.items}
    assert not decode_list(worker.state.data[b"l|u|u"]).shown.data
    # Who does not come back is told of when the window is over.
    assert {resolution.shopper for resolution in worker.told_after(9 * DAY_S)} == {"v"}
    assert not worker.timers()
    told = [resolution.resolution_id for resolution in resolutions(worker)]
    assert len(told) == len(set(told))


def test_the_value_role_counts_the_same_beside_resolutions() -> None:
    worker = Shop()
    for number in range(30):
        worker.at(number * 10_000)
        worker.act("purchase" if number % 3 == 0 else "click", number, sku="abcdef"[number % 6])
        worker.ticked()
    values = [(output.key, output.value) for output in worker.outputs if output.topic == "outcomes"]
    assert any(b'"resolution"' in (value or b"") for _, value in values)
    assert any(outcome.attributed for outcome in outcomes(worker))

    def counted(kept: list[tuple[bytes | None, bytes | None]]) -> Step:
        records = [SourceRecord("outcomes", 0, 0, worker.now_ms, key, value) for key, value in kept]
        value = ValueProcessor(4)
        value.opened(DictState(), 0)
        return value.process(DictState(), Batch(0, records, worker.now_ms))

    assert counted(values) == counted([(key, value) for key, value in values if b'"resolution"' not in (value or b"")])


def test_channels_are_remembered_by_their_newest_impression_and_no_more_than_a_limit() -> None:
    known = Impressing(None, 1000)
    assert known.encode() is None
    for number in range(CHANNEL_LIMIT + 1):
        known.note(f"c{number}", 10_000 + number)
    assert not known("c5", 10_000)  # from the next micro-batch on
    known = Impressing(known.encode(), 1000)
    assert not known("c0", 10_000)
    assert [known("c5", at_s) for at_s in (0, 10_000, 11_005, 11_006)] == [True, True, True, False]
    known.note("c5", 13_000)
    assert known.encode() is None  # too little newer
    known.note("c5", 13_605)
    assert Impressing(known.encode(), 1000)("c5", 14_605)


@pytest.mark.parametrize("channel", ["web", "app"])
def test_only_impressions_that_cite_a_list_of_the_shopper_make_a_channel_one_that_tells(channel: str) -> None:
    worker = Shop()
    identifier, skus = listed(worker.act("click", 0, sku="f"))
    cited = identifier if channel == "app" else "made up"
    worker.act("impression", 1, sku=skus[0], recommendation_id=cited, channel=channel)
    assert (IMPRESSING_KEY in worker.state.data) == (channel == "app")
