"""Value feedback in the recommend worker: registers become what sources count, lists say so, and nothing that is kept depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.valuation.feedback import SourceWeights
from schemas.recommendation import Recommendations
from streams.agents.feedback import Feedback
from streams.agents.recommend import tasks
from streams.runtime.metrics import REGISTRY
from streams.runtime.processor import SourceRecord, Step
from streams.settings import Settings
from tests.agents.pipeline import START_MS, Pipeline, event, messages
from tests.models.valuation.test_feedback import register

RELAY_OUT = SourceWeights({"channel": {"relay": 0.0}, "event_type": {}})


def newest(step: Step) -> Recommendations:
    (message,) = messages(step, "recommendations")
    assert isinstance(message, Recommendations)
    return message


def together(worker: Pipeline, channel: str, skus: str, times: int, number: int) -> None:
    """``times`` visits by ``channel`` of shoppers of their own, each to all of ``skus``."""
    for visit in range(times):
        for place, sku in enumerate(skus):
            at = number + 10 * visit + place
            worker.send(event("click", at, f"{channel}-{visit}", sku=sku, channel=channel, second=at))


def from_source(message: Recommendations, source: str = "sessions") -> dict[str, float]:
    shares = {item.sku: {reason.source: reason.score for reason in item.reasons} for item in message.items}
    return {sku: found[source] for sku, found in shares.items() if found.get(source, 0) > 0}


def test_votes_of_sessions_from_a_source_that_counts_nothing_are_gone_and_come_back() -> None:
    worker = Pipeline("abcdef", vectors=False, value_feedback=True)
    together(worker, "web", "ab", 3, 0)
    together(worker, "relay", "ac", 3, 1_000)
    before = from_source(newest(worker.send(event("click", 5_000, sku="a"))))
    assert {"b", "c"} <= before.keys()
    worker.processor.feedback_changed(RELAY_OUT)
    after = from_source(newest(worker.send(event("click", 5_001, sku="a"))))
    assert "b" in after
    assert "c" not in after
    worker.processor.feedback_changed(SourceWeights({"channel": {}, "event_type": {}}))
    assert {"b", "c"} <= from_source(newest(worker.send(event("click", 5_002, sku="a")))).keys()


@pytest.mark.parametrize("source", ["together", "trending"])
def test_pairs_and_what_is_popular_without_a_source_that_counts_nothing(source: str) -> None:
    worker = Pipeline("abcdef", vectors=False, value_feedback=True)
    together(worker, "web", "ab", 3, 0)
    together(worker, "relay", "ac", 3, 1_000)
    assert {"b", "c"} <= from_source(newest(worker.send(event("click", 5_000, sku="a"))), source).keys()
    worker.processor.feedback_changed(RELAY_OUT)
    for number in range(2):  # what is known by then, and what comes after it
        after = from_source(newest(worker.send(event("click", 5_001 + number, sku="a"))), source)
        assert "b" in after
        assert "c" not in after
        together(worker, "relay", "ac", 1, 6_000)
    worker.processor.feedback_changed(SourceWeights({"channel": {}, "event_type": {}}))
    assert {"b", "c"} <= from_source(newest(worker.send(event("click", 5_010, sku="a"))), source).keys()


def test_lists_of_what_is_popular_for_those_held_out_count_all_sources() -> None:
    lists = []
    for weights in (SourceWeights({"channel": {}, "event_type": {}}), RELAY_OUT):
        worker = Pipeline("abcdef", vectors=False, value_feedback=True, holdout_share=0.5, experiment_salt="x")
        worker.processor.feedback_changed(weights)
        together(worker, "relay", "bc", 6, 0)
        together(worker, "web", "de", 3, 1_000)
        found = [newest(worker.send(event("search", 5_000 + n, f"v{n}"))) for n in range(20)]
        lists.append({arm: [[item.sku for item in m.items] for m in found if m.arm == arm] for arm in ("holdout", "treated")})
    assert lists[0]["holdout"] == lists[1]["holdout"] != []
    assert lists[0]["treated"] != lists[1]["treated"]


def test_items_that_a_source_which_counts_nothing_put_into_a_history_do_not_speak_for_the_shopper() -> None:
    worker = Pipeline("abcdef", value_feedback=True)
    worker.send(event("click", 0, sku="a"), event("click", 1, sku="f", channel="relay", second=1))
    worker.processor.feedback_changed(RELAY_OUT)
    message = newest(worker.send(event("search", 2, second=2)))
    assert {reason.because for item in message.items for reason in item.reasons} <= {"a", None}
    assert not [item for item in message.items if item.sku == "f" for reason in item.reasons if reason.source == "again"]


def test_each_list_says_what_counted_less() -> None:
    worker = Pipeline(value_feedback=True)
    assert newest(worker.send(event("click", 0))).versions.feedback is None
    worker.processor.feedback_changed(RELAY_OUT)
    assert newest(worker.send(event("click", 1))).versions.feedback == {"channel": {"relay": 0.0}, "event_type": {}}
    worker.catalogue.encoder_changes += 1  # another ranker is made
    assert newest(worker.send(event("click", 2))).versions.feedback == {"channel": {"relay": 0.0}, "event_type": {}}
    bare = Pipeline().send(event("click", 0))
    assert b'"feedback"' not in next(output.value for output in bare.outputs if output.topic == "recommendations")


def test_lists_of_what_is_popular_rest_on_no_weights_and_name_none() -> None:
    worker = Pipeline(value_feedback=True, holdout_share=0.5, experiment_salt="x")
    worker.processor.feedback_changed(RELAY_OUT)
    found = {m.arm: m.versions.feedback for n in range(20) for m in [newest(worker.send(event("click", n, f"u{n}")))]}
    assert found == {"holdout": None, "treated": {"channel": {"relay": 0.0}, "event_type": {}}}


def test_profiles_and_sessions_are_the_same_whatever_counted() -> None:
    """What is kept is a function of the log alone; weights arrive when they arrive."""
    log = [
        event(kind, number, f"u{number % 3}", sku="abcdef"[number % 6], channel=channel, second=number)
        for number, (kind, channel) in enumerate(
            [("click", "web"), ("purchase", "relay"), ("browse", "relay"), ("add_to_cart", "web"), ("click", "app")] * 6
        )
    ]
    kept = []
    for turn in (None, 5, 20):
        worker = Pipeline(value_feedback=turn is not None)
        for place, one in enumerate(log):
            if place == turn:
                worker.processor.feedback_changed(RELAY_OUT)
            worker.send(one)
        profiles = {key: value for key, value in worker.snapshot().items() if key.startswith(b"p|")}
        kept.append((profiles, [output for output in worker.outputs if output.topic == "sessions"]))
    assert kept[0] == kept[1] == kept[2]


def test_a_delta_says_where_its_items_came_from_and_ends_where_that_changes() -> None:
    worker = Pipeline()
    step = worker.send(
        event("click", 0, sku="a", country="GB"), event("click", 1, sku="b", country="GB", second=1),
        event("click", 2, sku="c", channel="relay", segment="new", second=2), event("purchase", 3, sku="d", second=3),
    )  # fmt: skip
    told = [(d.start, [item.sku for item in d.items], d.channel, d.country, d.segment) for d in messages(step, "sessions")]
    assert told == [
        (0, ["a", "b"], "web", "GB", None), (2, ["c"], "relay", None, "new"), (3, ["d"], "web", None, None),
    ]  # fmt: skip
    assert worker.sessions.index.items_of(worker.sessions.newest_of("u")) == [worker.catalogue.table.row(sku) for sku in "abcd"]


# -- Registers ----------------------------------------------------------------------------------------------------------


def record(key: str, value: bytes | None, offset: int = 0) -> SourceRecord:
    return SourceRecord("valuation.register", 0, offset, START_MS, key.encode(), value)


def weight(dimension: str, asset: str) -> float | None:
    return REGISTRY.get_sample_value("assay_feedback_weight", {"dimension": dimension, "asset": asset})


def follower(**settings: Any) -> tuple[Feedback, list[SourceWeights]]:
    told: list[SourceWeights] = []
    return Feedback(Settings(value_feedback=True, **settings), told.append), told


def test_only_the_registers_of_the_settings_window_and_dimensions_are_followed() -> None:
    feedback, told = follower(feedback_window="24h", feedback_dimensions="channel,country")
    assert [one.below for one in told] == [{"channel": {}, "country": {}}]
    harmful = register({"web": 9.0, "relay": -9.0}).to_json()
    for key in ("channel|7d", "channel|total", "event_type|24h", "channel|1m@2026-03-01T00:00:00Z"):
        feedback.apply([record(key, harmful)])
    assert len(told) == 1
    feedback.apply([record("channel|24h", harmful), record("country|24h", register({"GB": 9.0}, "country").to_json())])
    assert told[-1].below == {"channel": {"relay": 0.0}, "country": {}}


def test_of_each_register_the_newest_counts_and_a_repeat_changes_nothing() -> None:
    feedback, told = follower()
    harmful, fine = (register({"web": 9.0, "relay": s}).to_json() for s in (-9.0, 9.0))
    feedback.apply([record("channel|7d", harmful, 0), record("channel|7d", fine, 1)])
    assert len(told) == 1
    feedback.apply([record("channel|7d", harmful, 2)])
    feedback.apply([record("channel|7d", harmful, 3), record("channel|7d", None, 4)])
    assert len(told) == 2


def test_a_register_that_cannot_be_read_leaves_the_weights_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    feedback, told = follower()
    feedback.apply([record("channel|7d", register({"web": 9.0, "relay": -9.0}).to_json())])
    feedback.apply([record("channel|7d", b'{"dimension": "channel"}', 7)])
    assert told[-1].below["channel"] == {"relay": 0.0}
    assert "valuation.register-0 offset 7 is no register" in caplog.text


def test_gauges_and_the_log_tell_what_each_asset_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    feedback, _ = follower()
    changes = {"dimension": "channel"}
    before = REGISTRY.get_sample_value("assay_feedback_changes_total", changes) or 0.0
    feedback.take([register({"web": 9.0, "relay": -1.5, "kiosk": 0.1})])
    assert [weight("channel", asset) for asset in ("web", "relay", "kiosk")] == [1.0, 0.5, 1.0]
    assert REGISTRY.get_sample_value("assay_feedback_changes_total", changes) == before + 1
    assert "value feedback: channel relay counts 0.50 (was 1.00): -1.50000 points a test" in caplog.text
    feedback.take([register({"web": 9.0, "relay": 9.0})])
    assert [weight("channel", asset) for asset in ("web", "relay", "kiosk")] == [1.0, 1.0, None]


@pytest.mark.parametrize("on", [False, True])
def test_a_worker_follows_registers_only_where_it_is_told_to(tmp_path: Path, *, on: bool) -> None:
    (task,) = tasks(Settings(value_feedback=on, data_dir=tmp_path, index="flat", device="cpu"))
    found = {broadcast.topic: broadcast.apply for broadcast in task.broadcasts}
    assert ("valuation.register" in found) is on
    if on:
        found["valuation.register"]([record("channel|7d", register({"web": 9.0, "relay": -9.0}).to_json())])
        assert weight("channel", "relay") == 0.0
    assert task.close is not None
    task.close()
