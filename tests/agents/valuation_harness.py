"""The value role over dict states, outcomes and logs to feed it, and the comparison with the oracle."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st

from models.valuation import closed_until
from models.valuation.appraisal import Rules
from models.valuation.costs import Costs
from schemas.base import Origin
from schemas.internal import Exposure, Outcome
from schemas.topics import VALUATION
from schemas.valuation import RollingValuation
from streams.agents.appraisers import PlacementOf
from streams.agents.rolling import RollingProcessor
from streams.agents.value import ValueProcessor
from streams.runtime.processor import Batch, DictState, Output, Processor, SourceRecord, Step
from tests.agents.valuation_oracle import Logged, expected, ms

START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
WALL_MS = ms(datetime(2026, 1, 1, tzinfo=UTC))
WINDOWS = ("1m", "5m", "1h", "24h", "7d", "total")
PARTITIONS = 3
ORIGIN = Origin(topic="storefront.events", partition=0, offset=0)


class Pipeline:
    """Both processors over dict states, a clock that is told the time, and partials routed by their key."""

    def __init__(self, rules: Rules | None = None, costs: Costs | None = None, placement_of: PlacementOf | None = None) -> None:
        self.rules, self.costs, self.placement_of = rules, costs, placement_of
        self.now_ms = WALL_MS
        self.value_states = defaultdict(DictState)
        self.rolling_states = defaultdict(DictState)
        self.partials: list[Output] = []
        self.published: list[Output] = []
        self._rolling_offset = 0
        self.drops = 0
        self.restart()

    def restart(self) -> None:
        """New processes over the same state."""
        self.value: Processor = ValueProcessor(PARTITIONS, self.rules, self.placement_of)
        self.rolling: Processor = RollingProcessor(self.costs, self.rules)
        for partition in range(PARTITIONS):
            self.value.opened(self.value_states[partition], partition)
            self.rolling.opened(self.rolling_states[partition], partition)

    def feed(self, entries: Sequence[Logged], *, wait_ms: int = 50) -> None:
        """One batch of one partition; its partials are summed at once."""
        self.now_ms += wait_ms
        partition = entries[0].partition
        self._commit_value(partition, self.value.process(self.value_states[partition], batch_of(entries, self.now_ms)))

    def settle(self) -> None:
        """Let a second pass with nothing new."""
        self.now_ms += 1_500
        for partition in range(PARTITIONS):
            if step := self.value.tick(self.value_states[partition], partition, self.now_ms):
                self._commit_value(partition, step)
        self.now_ms += 1_500
        for partition in range(PARTITIONS):
            if step := self.rolling.tick(self.rolling_states[partition], partition, self.now_ms):
                self._commit_rolling(partition, step)

    def _commit_value(self, partition: int, step: Step) -> None:
        self.value_states[partition].apply(step.writes)
        self.partials += step.outputs
        routed = defaultdict(list)
        for output in step.outputs:
            self._rolling_offset += 1
            target = zlib.crc32(output.key) % PARTITIONS if output.partition is None else output.partition
            routed[target].append(SourceRecord(output.topic, target, self._rolling_offset, self.now_ms, output.key, output.value))
        for target, records in routed.items():
            state, batch = self.rolling_states[target], Batch(target, records, self.now_ms)
            step = self.rolling.process(state, batch)
            while self.drops:
                # The transaction never happened: the runtime says so, and makes the step again from the same state.
                self.drops -= 1
                self.rolling.lost(target)
                self.rolling.opened(state, target)
                step = self.rolling.process(state, batch)
            self._commit_rolling(target, step)

    def _commit_rolling(self, partition: int, step: Step) -> None:
        self.rolling_states[partition].apply(step.writes)
        self.published += step.outputs

    def compacted(self) -> dict[str, RollingValuation]:
        """What a reader of the compacted topic holds."""
        live = {output.key.decode(): output.value for output in self.published if output.topic == VALUATION.name}
        return {key: RollingValuation.model_validate_json(value) for key, value in live.items() if value is not None}

    def newest(self) -> dict[str, RollingValuation]:
        """The windows that move on."""
        return {key: record for key, record in self.compacted().items() if "|1m@" not in key}

    def minutes(self) -> dict[str, list[RollingValuation]]:
        """What one who follows the topic has read of each minute that is over."""
        read = defaultdict(list)
        for output in self.published:
            if output.topic == VALUATION.name and b"|1m@" in output.key and output.value is not None:
                read[output.key.decode()].append(RollingValuation.model_validate_json(output.value))
        return read


def batch_of(entries: Sequence[Logged], now_ms: int) -> Batch:
    records = [SourceRecord("outcomes", e.partition, e.offset, WALL_MS, b"shopper", e.message.to_json()) for e in entries]
    return Batch(entries[0].partition, records, now_ms)


def outcome(at: datetime = START, **fields: object) -> Outcome:
    values = {"type": "click", "channel": "web", "sku": "mug", "list_size": 20, "shopper": "ann"} | fields
    return Outcome(
        outcome_id="o",
        origin=ORIGIN,
        event_id="e",
        occurred_at=at,
        **values,
    )


def exposure(at: datetime = START, skus: Sequence[str] = ("mug",), size: int = 100, encoder: str = "minilm") -> Exposure:
    return Exposure(
        origin=ORIGIN,
        occurred_at=at,
        lists=1,
        skus=tuple(skus),
        catalogue_size=size,
        encoder=encoder,
        model="fusion-1",
    )


def log_of(*messages: Outcome | Exposure, partition: int = 0) -> list[Logged]:
    return [Logged(partition, offset, message) for offset, message in enumerate(messages)]


def run(entries: Sequence[Logged]) -> dict[str, RollingValuation]:
    pipeline = Pipeline()
    pipeline.feed(entries)
    pipeline.settle()
    return pipeline.newest()


RANK = st.none() | st.integers(1, 25)
#: Mostly seconds apart, at times hours or days, now and then back in time.
STEP = st.one_of(st.integers(0, 90), st.integers(0, 90), st.integers(3_000, 90_000), st.integers(-7_200, 0), st.just(-8 * 86_400))


@st.composite
def logs(draw: st.DrawFn) -> list[list[Logged]]:
    """The three partitions of an outcomes topic."""
    partitions = []
    for partition in range(PARTITIONS):
        at, entries = START, []
        for offset in range(draw(st.integers(0 if partition else 1, 14))):
            at += timedelta(seconds=draw(STEP))
            if draw(st.integers(0, 5)) == 0:
                skus = draw(st.lists(st.sampled_from("abcdefgh"), max_size=4, unique=True))
                entries.append(Logged(partition, offset, exposure(at, skus)))
                continue
            type_ = draw(st.sampled_from(["browse", "click", "purchase", "refund", "search", "impression"]))
            sku = None if type_ == "search" else draw(st.sampled_from(["mug", "lamp"]))
            paid = type_ in ("purchase", "refund")
            amount = draw(st.decimals(0, 1000, places=2)) if paid else None
            entries.append(
                Logged(
                    partition,
                    offset,
                    outcome(
                        at,
                        type=type_,
                        sku=sku,
                        channel=draw(st.sampled_from(["web", "app"])),
                        category=draw(st.sampled_from([None, "home"])),
                        country=draw(st.sampled_from([None, "GB"])),
                        list_size=draw(st.sampled_from([0, 20])),
                        rank=draw(RANK),
                        rank_after=draw(RANK),
                        popularity_rank=draw(RANK),
                        revenue=-amount if type_ == "refund" else amount,
                        currency=draw(st.sampled_from(["GBP", "EUR"])) if paid else None,
                        attributed=type_ == "purchase" and draw(st.booleans()),
                        arm=draw(st.sampled_from([None, "treated", "holdout"])),
                    ),
                )
            )
        partitions.append(entries)
    return partitions


def check_against_oracle(record: RollingValuation, log: Sequence[Logged], dimension: str, asset: str, window: str | int) -> None:
    want = expected(log, dimension, asset, window)
    assert record.rows == want["events"]
    assert record.tests == want["tests"]
    assert record.late == want["late"]
    assert record.funnel.model_dump() == {key: want[key] for key in ("events", "clicks", "conversions", "by_type")}
    assert {flow.currency: [flow.revenue, flow.refunds, flow.attributable] for flow in record.money} == want["money"]
    assert {line.partition: (line.offset_low, line.offset_high) for line in record.lineage} == want["offsets"]
    if not want["tests"]:
        assert record.lift is record.utility is None
        assert record.health is None
        return
    for (metric, k, field), value in want["scores"].items():
        if field == "rank":
            assert getattr(record.lift, metric)[str(k)] == pytest.approx(value, abs=1e-12)
        elif field == "popularity_rank":
            assert getattr(record.lift.popularity, metric)[str(k)] == pytest.approx(value, abs=1e-12)
    gap = want["scores"]["hit_rate", 20, "rank_after"] - want["scores"]["hit_rate", 20, "rank"]
    assert record.health.gap == pytest.approx(gap, abs=1e-12)
    assert pytest.approx(max(0.0, gap - record.health.epsilon), abs=1e-12) == record.health.E
    assert record.lift.utility == getattr(record.lift, record.utility.metric)[str(record.utility.k)]
    if want["items"]:
        assert record.lift.coverage == pytest.approx(len(want["items"]) / 100, rel=1e-4)


def check_minutes(pipeline: Pipeline, log: Sequence[Logged], assets: set[tuple[str, str]]) -> None:
    """Every minute that is over came out, exactly, as what its records say together."""
    minutes = pipeline.minutes()
    for key, records in minutes.items():
        dimension, asset, _ = key.split("|")
        start_ms = ms(records[0].window.start)
        assert key == f"{dimension}|{asset}|1m@{records[0].window.start:%Y-%m-%dT%H:%M:%SZ}"
        assert {(r.dimension, r.asset, ms(r.window.start), r.window.length, r.window.kind) for r in records} == {
            (dimension, asset, start_ms, 60, "pane")
        }
        statuses = [record.status for record in records]
        assert statuses == sorted(statuses, key=["final", "correction", "addition"].index)
        assert statuses.count("final") <= 1
        whole = [record for record in records if record.status != "addition"][-1:]
        additions = [record for record in records if record.status == "addition"]
        if whole and not additions:
            check_against_oracle(whole[0], log, dimension, asset, start_ms)
        want, together = expected(log, dimension, asset, start_ms), whole + additions
        assert sum(record.rows for record in together) == want["events"]
        assert sum(record.tests for record in together) == want["tests"]
        assert sum(record.late for record in together) == want["late"]
        revenue = sum(flow.revenue - flow.refunds for record in together for flow in record.money)
        assert revenue == sum(sums[0] - sums[1] for sums in want["money"].values())

    watermarks = {part: max(ms(e.message.occurred_at) for e in log if e.partition == part) for part in {e.partition for e in log}}
    over = {ms(e.message.occurred_at) // 60_000 * 60_000 for e in log if isinstance(e.message, Outcome)}
    over = {start for start in over if start + 60_000 <= closed_until(watermarks.values())}
    for dimension, asset in assets:
        for start_ms in over:
            start = datetime.fromtimestamp(start_ms / 1000, UTC)
            here = f"{dimension}|{asset}|1m@{start:%Y-%m-%dT%H:%M:%SZ}" in minutes
            assert here or not expected(log, dimension, asset, start_ms)["offsets"]
