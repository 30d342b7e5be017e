"""The value role without a broker: any batching, partitioning, lateness or restart gives what the outcomes add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streams.agents.rolling
from models.valuation import ASSET_LIMIT
from schemas.base import MAX_QUANTITY, MAX_UNIT_PRICE
from schemas.internal import Outcome, PanePartial
from schemas.valuation import RollingValuation
from streams.agents.partials import MESSAGE_PANES, UNSENT_LIMIT
from streams.agents.rolling import RollingProcessor
from streams.agents.value import ValueProcessor, tasks
from streams.runtime.errors import ValuationWrong
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from streams.settings import Settings
from tests.agents.valuation_harness import (
    PARTITIONS,
    START,
    WALL_MS,
    WINDOWS,
    Pipeline,
    batch_of,
    check_against_oracle,
    check_minutes,
    exposure,
    log_of,
    logs,
    outcome,
    run,
)
from tests.agents.valuation_oracle import Logged, assets_of, ms


def test_orders_as_dear_as_they_may_be_add_up_however_many():
    # Ten of them need 16 digits: more than an amount may have, and once enough to stop the worker for good.
    dearest = MAX_UNIT_PRICE * MAX_QUANTITY
    bought = [outcome(type="purchase", revenue=dearest, currency="GBP", attributed=True) for _ in range(25)]
    (money,) = run(log_of(*bought))["overall|all|total"].money
    assert (money.revenue, money.attributable) == (25 * dearest, 25 * dearest)


@pytest.mark.parametrize(
    "spoilt",
    [
        (b'"GBP"', b'"TYPE"'), (b'"total"', b'"77:0"'), (b'"total"', b'"60:61000"'), (b'"source_partition":0', b'"source_partition":70000'),
        (b'"2.50"', b'"NaN"'), (b'"2.50"', b'"-2.50"'), (b'"2.50"', b'"0.0000001"'), (b'"2.50"', b'"1E+41"'),
        (b'"purchase":1', b'"purchase":-1'), (b'"purchase":1', b'"stolen":1'), (b'"watermark":"2025', b'"watermark":"9999'),
        (b'"tests":1', b'"tests":1,"items":"AAAA"'),
    ],
    ids=lambda spoilt: spoilt[1].decode(),
)  # fmt: skip
def test_a_partial_that_could_not_be_published_is_refused_whole(spoilt: tuple[bytes, bytes]):
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome(type="purchase", revenue=Decimal("2.50"), currency="GBP", rank=1)))
    pipeline.settle()
    (whole,) = (output.value for output in pipeline.partials if output.key == b"overall")
    assert whole is not None
    assert spoilt[0] in whole
    rolling, state = RollingProcessor(), DictState()
    rolling.opened(state, 0)

    def take(value: bytes) -> Step:
        step = rolling.process(state, Batch(0, [SourceRecord("valuation.partials", 0, 0, WALL_MS, b"overall", value)], WALL_MS))
        state.apply(step.writes)
        return step

    with pytest.raises(ValueError, match="not a pane partial"):
        take(whole.replace(*spoilt))
    published = {output.key: output.value for output in take(whole).outputs}
    assert RollingValuation.model_validate_json(published[b"overall|all|total"] or b"").rows == 1


@settings(max_examples=100, deadline=None)
@given(partitions=logs(), data=st.data())
def test_every_window_of_every_asset_equals_a_recomputation_from_the_outcomes(partitions: list[list[Logged]], data: st.DataObject) -> None:
    pipeline = Pipeline()
    waiting = [list(entries) for entries in partitions]
    while any(waiting):
        entries = waiting[data.draw(st.sampled_from([i for i, part in enumerate(waiting) if part]))]
        size = data.draw(st.integers(1, len(entries)))
        pipeline.drops = data.draw(st.sampled_from([0, 0, 0, 1, 2]))
        pipeline.feed(entries[:size], wait_ms=data.draw(st.sampled_from([1, 700, 1_200])))
        del entries[:size]
        if data.draw(st.integers(0, 4)) == 0:
            pipeline.restart()
    pipeline.settle()
    newest = pipeline.newest()

    log = [entry for part in partitions for entry in part]
    assets = {pair for entry in log if isinstance(entry.message, Outcome) for pair in assets_of(entry.message)} | {("overall", "all")}
    for dimension, asset in assets:
        for window in WINDOWS:
            check_against_oracle(newest[f"{dimension}|{asset}|{window}"], log, dimension, asset, window)
    check_minutes(pipeline, log, assets)


@settings(max_examples=60, deadline=None)
@given(partitions=logs(), data=st.data())
def test_batching_and_clock_do_not_change_a_single_bit_of_the_sums(partitions: list[list[Logged]], data: st.DataObject) -> None:
    def totals(sizes: Sequence[int], wait_ms: int) -> dict[str, dict[str, object]]:
        pipeline = Pipeline()
        for part in partitions:
            rest = list(part)
            for size in sizes:
                if rest:
                    pipeline.feed(rest[:size], wait_ms=wait_ms)
                    del rest[:size]
            if rest:
                pipeline.feed(rest, wait_ms=wait_ms)
        pipeline.settle()
        # An asset that saw nothing new is not published again for a watermark that stayed within its minute, nor for a new encoder.
        return {key: record.model_dump(exclude={"watermark", "versions", "window"}) for key, record in pipeline.newest().items()}

    sizes = data.draw(st.lists(st.integers(1, 5), max_size=10))
    assert totals(sizes, 1_100) == totals([], 10)


def test_the_assets_of_a_dimension_sum_to_the_whole() -> None:
    many = [outcome(channel=f"channel-{i}", revenue=Decimal("0.10"), currency="GBP", type="purchase") for i in range(ASSET_LIMIT + 20)]
    newest = run(log_of(*many))
    channels = [record for key, record in newest.items() if key.startswith("channel|") and key.endswith("|total")]
    assert len(channels) == ASSET_LIMIT + 1
    assert newest["channel|other|total"].tests == 20
    assert sum(record.tests for record in channels) == newest["overall|all|total"].tests == ASSET_LIMIT + 20
    assert sum(record.money[0].revenue for record in channels) == Decimal("8.40") == newest["overall|all|total"].money[0].revenue


def test_an_asset_is_whole_and_other_is_the_rest_whatever_the_partitions_meet_first() -> None:
    size = ASSET_LIMIT + 16
    pipeline = Pipeline()
    for partition, order in ((0, range(size)), (1, reversed(range(size)))):
        messages = [outcome(category=f"c{i}", revenue=Decimal(1), currency="GBP", type="purchase") for i in order]
        for entry in log_of(*messages, partition=partition):
            pipeline.feed([entry], wait_ms=300)
            if entry.offset % 20 == 0:
                pipeline.restart()
    pipeline.settle()
    newest = pipeline.newest()
    totals = {record.asset: record for key, record in newest.items() if key.startswith("category|") and key.endswith("|total")}
    assert set(totals) == {f"c{i}" for i in range(ASSET_LIMIT)} | {"other"}
    other = totals.pop("other")
    assert {(record.rows, record.money[0].revenue) for record in totals.values()} == {(2, Decimal(2))}
    assert (other.rows, other.money[0].revenue) == (32, Decimal(32))


def test_a_minute_comes_out_final_with_all_that_came_between_two_publications() -> None:
    pipeline = Pipeline()
    for tenth in range(60):
        pipeline.feed([Logged(0, tenth, outcome(START + timedelta(seconds=57, milliseconds=100 * tenth)))], wait_ms=100)
    (record,) = pipeline.minutes()["overall|all|1m@2025-03-01T12:00:00Z"]
    assert (record.status, record.rows, record.window.end) == ("final", 30, START + timedelta(minutes=1))


def test_at_replay_speed_no_minute_is_skipped() -> None:
    entries = log_of(*[outcome(START + timedelta(minutes=minute)) for minute in range(600)])
    pipeline = Pipeline()
    pipeline.feed(entries[:300])
    pipeline.feed(entries[300:])
    pipeline.settle()
    minutes = [records for key, records in pipeline.minutes().items() if key.startswith("overall|")]
    assert [[(record.status, record.rows) for record in records] for records in minutes] == [[("final", 1)]] * 599
    assert len([key for key in pipeline.compacted() if key.startswith("overall|all|1m@")]) == 64


def test_a_minute_waits_for_the_partitions_that_are_behind_but_not_for_ever() -> None:
    pipeline = Pipeline()
    key = "overall|all|1m@2025-03-01T12:00:00Z"
    pipeline.feed([Logged(0, 0, outcome())])
    pipeline.feed([Logged(1, 0, outcome())], wait_ms=1_100)
    pipeline.feed([Logged(0, 1, outcome(START + timedelta(minutes=2)))], wait_ms=1_100)
    pipeline.settle()
    assert key not in pipeline.minutes()
    pipeline.feed([Logged(1, 1, outcome()), Logged(1, 2, outcome(START + timedelta(minutes=1)))], wait_ms=1_100)
    pipeline.settle()
    assert [(record.status, record.rows) for record in pipeline.minutes()[key]] == [("final", 3)]
    pipeline.feed([Logged(0, 2, outcome(START + timedelta(minutes=7)))], wait_ms=1_100)
    pipeline.settle()
    assert "overall|all|1m@2025-03-01T12:01:00Z" in pipeline.minutes()


def test_late_outcomes_correct_the_minute_that_they_belong_to() -> None:
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome(), outcome(START + timedelta(minutes=2))))
    pipeline.settle()
    pipeline.feed([Logged(0, 2, outcome(rank=1)), Logged(0, 3, outcome(channel="app"))])
    pipeline.restart()
    pipeline.settle()
    minutes = pipeline.minutes()
    overall = minutes["overall|all|1m@2025-03-01T12:00:00Z"]
    assert [(record.status, record.rows, record.lift.utility) for record in overall] == [("final", 1, 0.0), ("correction", 3, 1 / 3)]
    assert [(record.status, record.rows) for record in minutes["channel|app|1m@2025-03-01T12:00:00Z"]] == [("correction", 1)]
    assert pipeline.compacted()["overall|all|1m@2025-03-01T12:00:00Z"] == overall[-1]


def test_an_outcome_of_a_minute_that_is_no_longer_held_comes_out_by_itself_and_leaves_nothing_behind() -> None:
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome(), outcome(START + timedelta(hours=2))))
    pipeline.settle()
    key = "overall|all|1m@2025-03-01T12:00:00Z"
    assert key not in pipeline.compacted()
    for offset in (2, 3):
        pipeline.feed([Logged(0, offset, outcome())], wait_ms=1_100)
        pipeline.settle()
    assert [(record.status, record.rows, record.late) for record in pipeline.minutes()[key]] == [
        ("final", 1, 0),
        ("addition", 1, 1),
        ("addition", 1, 1),
    ]
    assert key not in pipeline.compacted()
    assert [key for state in pipeline.rolling_states.values() for key in state.data if key.startswith(b"d")] == []


def beside_the_window(state: DictState) -> set[bytes]:
    """Keys of the state of ``value`` other than those of the past sessions."""
    return {key for key in state.data if key != b"names" and not key.startswith(b"line")}


def test_names_without_end_are_sent_on_at_once_and_in_messages_of_bounded_size() -> None:
    state, processor = DictState(), ValueProcessor(PARTITIONS)
    processor.opened(state, 0)
    state.apply(processor.process(state, batch_of(log_of(outcome()), WALL_MS)).writes)
    entries = log_of(*[outcome(channel=f"channel-{i}") for i in range(UNSENT_LIMIT // 3 + 1)])
    step = processor.process(state, batch_of(entries, WALL_MS + 1))
    state.apply(step.writes)
    partials = [PanePartial.model_validate_json(output.value) for output in step.outputs]
    sizes = [sum(map(len, partial.assets.values())) for partial in partials if partial.dimension == "channel"]
    assert sum(sizes) == 3 * len(entries)
    assert max(sizes) <= MESSAGE_PANES
    assert beside_the_window(state) == {b"meta", b"running"}


def test_only_the_last_of_several_messages_says_that_all_has_been_said() -> None:
    state, processor = DictState(), ValueProcessor(PARTITIONS)
    processor.opened(state, 0)
    step = processor.process(state, batch_of(log_of(*[outcome(channel=f"channel-{i}") for i in range(MESSAGE_PANES)]), WALL_MS))
    partials = [PanePartial.model_validate_json(output.value) for output in step.outputs]
    *first, last = [ms(partial.watermark) for partial in partials if partial.dimension == "channel"]
    assert len(first) >= 2
    assert (set(first), last) == ({0}, ms(START))


def test_partials_that_cannot_be_added_leave_the_sums_as_they_were() -> None:
    state, rolling = DictState(), RollingProcessor()
    rolling.opened(state, 0)
    good = (
        b'{"dimension":"channel","source_partition":0,"watermark":"2025-03-01T12:00:00Z","assets":{"web":{"total":{"types":{"click":1}}}}}'
    )
    bad = good.replace(b'"types":{"click":1}', b'"ranks":[' + b"1," * 500 + b"1]")
    records = [SourceRecord("valuation.partials", 0, offset, 0, b"channel", value) for offset, value in enumerate((good, bad))]
    with pytest.raises(ValueError, match="broadcast"):
        rolling.process(state, Batch(0, records, WALL_MS))
    step = rolling.process(state, Batch(0, records[:1], WALL_MS))
    totals = [RollingValuation.model_validate_json(output.value) for output in step.outputs if output.key == b"channel|web|total"]
    assert [record.rows for record in totals] == [1]


def test_many_changed_panes_are_published_at_once_and_few_wait_their_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.agents.rolling, "UNPUBLISHED_LIMIT", 2)
    state, rolling = DictState(), RollingProcessor()
    rolling.opened(state, 0)

    def published(*minutes: int) -> int:
        panes = ",".join(f'"60:{ms(START) + 60_000 * minute}":{{"types":{{"click":1}}}}' for minute in minutes)
        value = f'{{"dimension":"channel","source_partition":0,"watermark":"2025-03-01T12:00:00Z","assets":{{"web":{{{panes}}}}}}}'
        step = rolling.process(state, Batch(0, [SourceRecord("valuation.partials", 0, 0, 0, b"channel", value.encode())], WALL_MS))
        state.apply(step.writes)
        return len(step.outputs)

    assert published(0) > 0
    assert published(1) == 0
    assert published(2) == 0
    assert published(3) > 0
    assert published(4) == 0


def test_an_outcome_without_a_list_is_an_event_but_no_test() -> None:
    record = run(log_of(outcome(list_size=0), outcome(type="search", sku=None), outcome(type="impression", rank=1)))["overall|all|total"]
    assert (record.funnel.events, record.tests, record.lift) == (3, 0, None)


def test_a_late_outcome_is_counted_where_it_belongs_and_as_late() -> None:
    entries = log_of(outcome(), outcome(START - timedelta(minutes=30), channel="app"), outcome(START - timedelta(days=30), channel="fax"))
    newest = run(entries)
    assert [newest[f"channel|app|{window}"].late for window in ("1h", "24h", "7d", "total")] == [1, 1, 1, 1]
    assert newest["channel|app|5m"].funnel.events == 0
    assert newest["channel|fax|total"].late == 1
    assert newest["overall|all|7d"].tests == 2


def test_a_clock_ahead_of_the_broker_does_not_push_others_out_of_the_windows() -> None:
    received = datetime.fromtimestamp(WALL_MS / 1000, UTC)
    record = run(log_of(outcome(received - timedelta(minutes=2)), outcome(received + timedelta(hours=20))))["overall|all|5m"]
    assert record.tests == 2
    assert record.watermark == received


def test_a_quiet_asset_leaves_the_short_windows_when_others_move_on() -> None:
    pipeline = Pipeline()
    entries = log_of(outcome(channel="app"), *[outcome(START + timedelta(minutes=minute)) for minute in range(1, 12)])
    for entry in entries:
        pipeline.feed([entry], wait_ms=1_100)
    pipeline.settle()
    newest = pipeline.newest()
    assert newest["channel|app|5m"].funnel.events == 0
    assert newest["channel|app|5m"].lineage == ()
    assert newest["channel|app|1h"].funnel.events == 1


def test_a_window_that_stays_empty_is_published_once() -> None:
    pipeline = Pipeline()
    for entry in log_of(outcome(channel="app"), *[outcome(START + timedelta(minutes=10 + minute)) for minute in range(5)]):
        pipeline.feed([entry], wait_ms=1_100)
    pipeline.restart()
    pipeline.settle()
    published = [RollingValuation.model_validate_json(o.value) for o in pipeline.published if o.key == b"channel|app|5m"]
    assert [record.funnel.events for record in published] == [1, 0]


def test_changed_panes_go_out_once_a_second_not_once_a_batch() -> None:
    pipeline = Pipeline()
    for entry in log_of(*[outcome() for _ in range(30)]):
        pipeline.feed([entry], wait_ms=100)
    assert 3 <= sum(output.key == b"overall" for output in pipeline.partials) <= 4


def test_what_was_not_sent_before_a_restart_is_sent_after_it() -> None:
    pipeline = Pipeline()
    first, second = log_of(outcome(), outcome())
    pipeline.feed([first])
    pipeline.feed([second], wait_ms=1)
    pipeline.restart()
    pipeline.settle()
    assert pipeline.newest()["overall|all|total"].tests == 2


def test_sums_arrived_but_unpublished_before_a_restart_are_published_after_it() -> None:
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome()))
    published = len(pipeline.published)
    pipeline.feed([Logged(1, 0, outcome())], wait_ms=1)
    assert len(pipeline.published) == published
    pipeline.restart()
    pipeline.settle()
    assert pipeline.newest()["overall|all|total"].tests == 2


def test_processing_a_batch_twice_from_the_same_state_gives_the_same_step() -> None:
    state, processor = DictState(), ValueProcessor(PARTITIONS)
    processor.opened(state, 0)
    batch = batch_of(log_of(outcome(), exposure(), outcome(type="purchase", revenue=Decimal(5), currency="EUR")), WALL_MS)
    once = processor.process(state, batch)
    processor.lost(0)
    processor.opened(state, 0)
    again = processor.process(state, batch)
    assert (once.outputs, once.writes) == (again.outputs, again.writes)

    rolling, rolling_state = RollingProcessor(), DictState()
    rolling.opened(rolling_state, 0)
    partials = Batch(0, [SourceRecord("valuation.partials", 0, i, 0, o.key, o.value) for i, o in enumerate(once.outputs)], WALL_MS)
    first = rolling.process(rolling_state, partials)
    rolling.lost(0)
    rolling.opened(rolling_state, 0)
    later = rolling.process(rolling_state, Batch(0, partials.records, WALL_MS + 2_000))
    assert first.outputs
    assert (first.outputs, first.writes) == (later.outputs, later.writes)


def test_old_panes_leave_both_states() -> None:
    pipeline = Pipeline()
    for hour in range(400):
        pipeline.feed([Logged(0, hour, outcome(START + timedelta(hours=hour)))], wait_ms=1_100)
    pipeline.settle()
    assert beside_the_window(pipeline.value_states[0]) == {b"meta", b"running"}
    held = [key for state in pipeline.rolling_states.values() for key in state.data if key.startswith(b"p")]
    assert len(held) == 4 * (171 + 2 + 1)


def test_panes_that_expired_while_the_worker_was_away_are_deleted_after_it_returns() -> None:
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome()))
    pipeline.settle()
    stale_states = {p: DictState(state.data) for p, state in pipeline.rolling_states.items()}
    pipeline.feed([Logged(0, 1, outcome(START + timedelta(days=30)))], wait_ms=1_100)
    pipeline.settle()
    for partition, old in stale_states.items():
        for key, value in old.data.items():
            pipeline.rolling_states[partition].data.setdefault(key, value)
    pipeline.restart()
    pipeline.settle()
    held = [key for state in pipeline.rolling_states.values() for key in state.data if key.startswith(b"p")]
    assert len(held) == 4 * 3


def test_partials_and_records_satisfy_their_contracts_and_keys() -> None:
    pipeline = Pipeline()
    pipeline.feed(log_of(outcome(country="GB", segment="vip", category="home"), exposure(encoder="bert-2")))
    pipeline.settle()
    outputs = [output for output in pipeline.partials if output.key != b"watermark"]
    partials = [PanePartial.model_validate_json(output.value) for output in outputs]
    assert [p.dimension.encode() for p in partials] == [output.key for output in outputs]
    watermarks = [output for output in pipeline.partials if output.key == b"watermark"]
    assert [output.partition for output in watermarks] == [*range(PARTITIONS)]
    assert {PanePartial.model_validate_json(output.value).dimension for output in watermarks} == {"watermark"}
    assert {p.dimension for p in partials} == {"overall", "channel", "event_type", "category", "country", "segment"}
    newest = pipeline.newest()
    assert set(newest) == {f"{p.dimension}|{asset}|{window}" for p in partials for asset in p.assets for window in WINDOWS}
    assert {record.status for record in newest.values()} == {"open"}
    assert {record.versions.encoder for record in newest.values()} == {"bert-2"}


def test_an_asset_name_may_hold_any_character() -> None:
    names = ["a|b", "p", "\x00", "naïve ☕", "other"]
    pipeline = Pipeline()
    pipeline.feed(log_of(*[outcome(channel=name) for name in names]))
    pipeline.restart()
    pipeline.settle()
    channels = [record for record in pipeline.newest().values() if record.dimension == "channel" and record.window.kind == "total"]
    assert {record.asset: record.tests for record in channels} == dict.fromkeys(names, 1)


def opened_value(state: DictState) -> ValueProcessor:
    processor = ValueProcessor(PARTITIONS)
    processor.opened(state, 0)
    return processor


@pytest.mark.parametrize("value", [b"", b"{}", b'{"kind":"outcome"}', b"\xff"])
def test_a_record_that_is_neither_is_named_by_its_place(value: bytes) -> None:
    batch = Batch(0, [SourceRecord("outcomes", 3, 41, 0, None, value)], 0)
    with pytest.raises(ValueError, match="outcomes/3 offset 41"):
        opened_value(DictState()).process(DictState(), batch)


def test_the_role_is_two_tasks_over_their_topics() -> None:
    assert [(task.name, task.sources) for task in tasks(Settings())] == [("value", ("outcomes",)), ("rolling", ("valuation.partials",))]


@pytest.mark.parametrize("setting", ["margin_shares", "click_margins", "asset_costs"])
def test_a_file_that_does_not_say_what_is_earned_or_what_data_costs_is_refused_at_the_start(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("channel: much\n")
    with pytest.raises(ValuationWrong, match=r"wrong\.yaml does not say what"):
        tasks(Settings(**{setting: file}))
