"""The register through both processors: it adds up over partitions, moves on, is corrected, and can be made again from the log."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

import streams.agents.books
from models.experiments import ConfidenceSequence, Experiment, Metric, compare
from models.valuation.accounts import Running
from models.valuation.appraisal import WORTH_DIMENSIONS, Rules
from models.valuation.costs import AssetCost, Costs
from models.valuation.incremental import TIGHTEST_AT
from models.valuation.margins import ClickMargins, MarginShares
from schemas.internal import Forgotten, Outcome
from schemas.topics import REGISTER
from schemas.valuation import ValueRegister
from streams.agents.recomputation import books_of, record_again, register_again
from streams.agents.value import ValueProcessor
from streams.agents.value_gauges import ValueGauges
from streams.cli.experiment import exposures
from streams.runtime.metrics import REGISTRY
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from tests.agents.valuation_harness import PARTITIONS, START, WALL_MS, WINDOWS, Pipeline, outcome
from tests.agents.valuation_oracle import Logged, ms


def shopping(size: int = 900, seed: int = 3) -> list[Outcome]:
    chance, at, made = random.Random(seed), START, []
    for _ in range(size):
        at += timedelta(seconds=chance.choice([1, 5, 20]))
        late = timedelta(minutes=chance.choice([0] * 20 + [20, 200]))
        kind = chance.choices(["browse", "click", "purchase", "refund", "impression"], [5, 4, 2, 1, 1])[0]
        amount = Decimal(chance.randrange(1, 5_000)) / 100
        made.append(
            outcome(
                at - late, type=kind, sku=f"i{chance.randrange(12)}", shopper=f"u{chance.randrange(30)}",
                channel=chance.choice(["web", "app"]),
                category=chance.choice(["home", "garden", None]), country=chance.choice(["GB", "FR"]),
                arm=chance.choice([None, "treated", "holdout"]), experiment=chance.choice([None, "e1", "e2"]),
                revenue={"purchase": amount, "refund": -amount}.get(kind), currency="GBP" if kind in ("purchase", "refund") else None,
                margin=chance.choice([None, Decimal(7) * (-1 if kind == "refund" else 1)]) if kind in ("purchase", "refund") else None,
                attributed=kind == "purchase" and chance.random() < 0.8,
            )
        )  # fmt: skip
    return made


def campaign(shoppers: int = 360) -> list[Outcome]:
    """Two visits of each shopper, with two items that go together: one in no arm, where some buy nothing, one in an arm days later."""
    chance = random.Random(12)
    tastes = [chance.lognormvariate(3, 0.8) for _ in range(shoppers)]
    pairs = [("mug", "pan"), ("hat", "tie"), ("pen", "ink"), ("cup", "tea")]

    def visit(number: int, at: datetime, arm: str | None) -> list[Outcome]:
        raised = 1.2 if arm == "treated" else 1.0
        first, second = pairs[number % 4]
        shared = {
            "shopper": f"u{1_000 + number}", "channel": ("web", "app")[number % 2], "category": ("home", "garden")[number % 3 % 2],
            "country": ("GB", "FR")[number % 5 % 2], "arm": arm, "experiment": None if arm is None else "spring",
        }  # fmt: skip
        amount = Decimal(round(100 * raised * tastes[number] * chance.lognormvariate(0, 0.3))) / 100
        paid = {"type": "purchase", "revenue": amount, "currency": "GBP", "attributed": arm == "treated"}
        if arm is None and number % 4 == 3:
            paid = {"type": "click"}
        return [outcome(at, sku=first, **shared), outcome(at + timedelta(seconds=30), sku=second, **(shared | paid))]

    first, later = START + timedelta(hours=9), START + timedelta(days=20)
    made = [one for n in range(shoppers) for one in visit(n, first + timedelta(minutes=n), None)]
    return made + [one for n in range(shoppers) for one in visit(n, later + timedelta(minutes=n), "holdout" if n % 3 == 0 else "treated")]


def played(outcomes: list[Outcome], pipeline: Pipeline) -> dict[int, list[SourceRecord]]:
    """Feed them by shopper's partition in small batches; returns the log by partition."""
    log: dict[int, list[SourceRecord]] = defaultdict(list)
    batch: dict[int, list[Logged]] = defaultdict(list)
    for number, message in enumerate(outcomes):
        partition = int(message.shopper[1:]) % 3
        offset = len(log[partition])
        log[partition].append(SourceRecord("outcomes", partition, offset, WALL_MS, b"s", message.to_json()))
        batch[partition].append(Logged(partition, offset, message))
        if number % 17 == 0:
            for entries in batch.values():
                pipeline.feed(entries)
            batch.clear()
        if number % 100 == 50:
            pipeline.restart()
    for entries in batch.values():
        pipeline.feed(entries)
    pipeline.settle()
    return log


def registers(pipeline: Pipeline) -> dict[str, ValueRegister]:
    newest = {output.key.decode(): output.value for output in pipeline.published if output.topic == REGISTER.name}
    return {key: ValueRegister.model_validate_json(value) for key, value in newest.items() if value is not None}


def test_every_record_adds_up_and_is_made_again_from_the_log_to_the_byte() -> None:
    pipeline = Pipeline()
    log = played(shopping(), pipeline)
    found = registers(pipeline)
    assert {f"{dimension}|{window}" for dimension in WORTH_DIMENSIONS for window in WINDOWS} <= found.keys()
    minutes = 0
    for key, record in found.items():
        window = key.split("|")[1]
        assert abs(record.checks.efficiency_residual) <= 1e-9
        tests = record.game.tests
        for field in ("points", "player"):
            total = sum(getattr(value, field) for value in record.assets.values())
            assert abs(total - record.game.lift) * tests <= 1e-9 * max(1, tests), (key, field)
        if window.startswith("1m@"):
            minutes += 1
            # To make one again reads the log from its beginning.
            if record.status != "final" or minutes % 40:
                continue
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        assert register_again(window, record, books_of(parts, Rules()), Rules()).to_json() == record.to_json(), key
    assert minutes > 50


def test_what_clicks_are_worth_that_are_not_bought_yet_is_made_again_too_and_changes_nothing_else() -> None:
    clicks = ClickMargins(currency="GBP", default="0.05", categories={"home": "0.20"})
    rules = Rules(clicks=clicks, click_window_ms=20 * 60_000)
    outcomes = [one.model_copy(update={"attributed": True}) if one.type == "click" else one for one in shopping()]
    pipeline, plain = Pipeline(rules), Pipeline()
    log = played(outcomes, pipeline)
    played(outcomes, plain)
    found, without = registers(pipeline), registers(plain)
    expected = 0
    for name in WORTH_DIMENSIONS:
        for window in ("total", "7d", "1h"):
            key = f"{name}|{window}"
            record = found[key]
            parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
            assert register_again(window, record, books_of(parts, rules), rules).to_json() == record.to_json(), key
            for asset, value in record.assets.items():
                kept = tuple(money for money in value.money if money.basis != "clicks")
                expected += len(value.money) - len(kept)
                assert value.model_copy(update={"money": kept}) == without[key].assets[asset], (key, asset)
    assert expected > 20


def test_what_the_worker_could_not_read_spoils_no_audit() -> None:
    pipeline = Pipeline()
    log = played(shopping(), pipeline)
    record = registers(pipeline)["overall|total"]
    parts = {line.partition: [*log[line.partition][: line.offset_high + 1]] for line in record.lineage}
    for records in parts.values():
        middle = len(records) // 2
        records.insert(middle, records[middle]._replace(value=b"{broken"))
    assert register_again("total", record, books_of(parts, Rules()), Rules()).to_json() == record.to_json()


def test_an_assets_own_record_quotes_the_register_and_is_made_again_too() -> None:
    costs = Costs({"channel": {"web": AssetCost(acquire=Decimal(3), store=Decimal("0.5"), currency="GBP")}})
    pipeline = Pipeline(costs=costs)
    log = played(shopping(seed=8), pipeline)
    records = pipeline.compacted()
    quoted = 0
    for key, record in records.items():
        dimension, asset, window = key.split("|")
        told_apart = frozenset(name.split("|")[1] for name in records if name.startswith(f"{dimension}|"))
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        if window == "total" or (record.status == "final" and len(parts) > 1):
            assert record_again(window, record, parts, told_apart, costs).to_json() == record.to_json(), key
        quoted += record.value is not None
        if window == "total" and record.value is not None:
            register = registers(pipeline)[f"{dimension}|total"]
            assert register.assets[asset].points == record.value.points or register.watermark >= record.watermark
    assert quoted > 20
    assert {(record.dimension, record.asset) for record in records.values() if record.cost is not None} == {("channel", "web")}
    web = records["channel|web|total"]
    assert web.cost is not None
    assert web.value is not None
    assert (web.cost.acquire, web.cost.store, web.cost.compute) == (3 * web.rows / 1_000, web.rows / 2_000, 0)
    # Of some purchases the margin is known, of others the revenue: neither is set against the cost of all events.
    assert {money.basis for money in web.value.money} == {"margin", "revenue"}
    assert web.cost.net is None


def test_a_record_says_how_good_the_assets_data_is() -> None:
    pipeline, outcomes = Pipeline(), shopping(seed=2)
    played(outcomes, pipeline)
    records = pipeline.compacted()
    for channel in ("web", "app"):
        mine = [message for message in outcomes if message.channel == channel]
        bought = [message for message in mine if message.type == "purchase"]
        record = records[f"channel|{channel}|total"]
        assert record.quality is not None
        assert record.quality.late_share == record.late / len(mine) > 0
        assert record.quality.completeness.model_dump() == {
            "category": sum(message.category is not None for message in mine) / len(mine),
            "country": 1.0,
            "segment": 0.0,
            "margin": sum(message.margin is not None for message in bought) / len(bought),
        }


def test_the_average_that_fades_is_of_the_hours_of_a_week_and_adds_up() -> None:
    pipeline = Pipeline()
    early, late = shopping(300, seed=6), shopping(300, seed=7)
    played([*early, *(m.model_copy(update={"occurred_at": m.occurred_at + timedelta(days=2)}) for m in late)], pipeline)
    found = registers(pipeline)
    week, total = found["channel|7d"], found["channel|total"]
    assert {key for key, record in found.items() if record.fading is not None} == {f"{dimension}|7d" for dimension in WORTH_DIMENSIONS}
    assert week.fading is not None
    assert sum(value.faded or 0.0 for value in week.assets.values()) == pytest.approx(week.fading.lift, abs=1e-12)
    # Two days are two half-lives: of the earlier half of the tests a quarter is left, and a little less of the hours before the newest.
    assert 0.5 < week.fading.tests / total.game.tests < 0.625
    assert week.fading.lift != week.game.lift


def test_what_randomised_shoppers_brought_is_in_the_register_of_everything_alone() -> None:
    pipeline = Pipeline()
    outcomes = [
        outcome(
            START + timedelta(seconds=n), type="purchase", shopper=f"u{n}", sku=f"i{n % 3}", arm="treated" if n % 4 else "holdout",
            revenue=Decimal(20 + n % 5 if n % 4 else 10 + n % 5), currency="GBP",
        )
        for n in range(200)
    ]  # fmt: skip
    outcomes += [outcome(START + timedelta(minutes=9), type="click", shopper=f"u{n}", sku="i1", arm="treated") for n in (1, 2, 3)]
    played(outcomes, pipeline)
    found = registers(pipeline)
    (margin,) = found["overall|total"].incremental or ()
    assert (margin.currency, margin.treated, margin.held_out) == ("GBP", 150, 50)
    assert margin.low < 1_500 < margin.high
    assert all(record.incremental is None for key, record in found.items() if key != "overall|total")


def test_what_was_caused_is_that_of_the_offline_report_and_shared_out_exactly_in_every_dimension() -> None:
    outcomes, pipeline = campaign(), Pipeline()
    log = played(outcomes, pipeline)
    found = registers(pipeline)
    (margin,) = found["overall|total"].incremental or ()
    assert margin.adjusted is not None
    exposed = exposures([message.to_json() for message in outcomes], "GBP", ms(START + timedelta(days=19)), "spring")
    experiment, metric = Experiment("", "s", {"holdout": 0.5, "treated": 0.5}), Metric("revenue per user", "revenue", adjusted=True)
    (wanted,) = compare(exposed, experiment, "holdout", "treated", ConfidenceSequence(TIGHTEST_AT), [metric]).results
    assert wanted.effect is not None
    assert wanted.adjusted is not None
    assert wanted.adjusted.variance_reduction > 0.2
    assert margin.treated == 240
    assert margin.amount == pytest.approx(240 * wanted.effect.difference)
    assert margin.adjusted.amount == pytest.approx(240 * wanted.adjusted.effect.difference)
    assert margin.adjusted.low == pytest.approx(240 * wanted.adjusted.effect.low)
    assert wanted.adjusted_always_valid is not None
    assert margin.adjusted.always_valid_low == pytest.approx(240 * wanted.adjusted_always_valid[0])
    assert margin.adjusted.variance_reduction == pytest.approx(wanted.adjusted.variance_reduction)

    for dimension in WORTH_DIMENSIONS:
        record = found[f"{dimension}|total"]
        (shared,) = record.incremental_split or ()
        assert (shared.experiment, shared.currency, shared.basis, shared.estimate) == ("spring", "GBP", "revenue", "adjusted")
        assert float(shared.amount) == pytest.approx(margin.adjusted.amount, abs=1e-6)
        assert sum(shared.parts.values()) == shared.amount
        assert shared.parts.keys() == record.assets.keys()
        for asset, part in shared.parts.items():
            assert float(part) == pytest.approx(float(shared.amount) * record.assets[asset].player / record.game.lift, abs=1e-5)
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        assert register_again("total", record, books_of(parts, Rules()), Rules()).to_json() == record.to_json()
    assert all(record.incremental_split is None for key, record in found.items() if not key.endswith("|total"))


def test_other_batches_and_workers_say_the_same_of_an_experiment_to_the_byte() -> None:
    outcomes, by_batches, at_once = campaign(), Pipeline(), Pipeline()
    log = played(outcomes, by_batches)
    for partition, records in log.items():
        messages = [Outcome.model_validate_json(record.value or b"") for record in records]
        at_once.feed([Logged(partition, offset, message) for offset, message in enumerate(messages)])
        at_once.restart()
    at_once.settle()
    one, other = registers(by_batches), registers(at_once)
    for dimension in WORTH_DIMENSIONS:
        assert one[f"{dimension}|total"].incremental_split
        assert one[f"{dimension}|total"].to_json() == other[f"{dimension}|total"].to_json()
    for partition, state in by_batches.value_states.items():
        kept = {key: value for key, value in state.data.items() if key.startswith((b"account", b"past", b"books"))}
        assert kept == {key: at_once.value_states[partition].data[key] for key in kept}
        assert any(key.startswith(b"past") for key in kept)


def test_an_experiment_that_is_over_is_shared_out_no_more_and_pasts_lapse_in_time() -> None:
    pipeline = Pipeline()
    over = [outcome(START + timedelta(days=days, minutes=n), shopper=f"u{n}") for days in (29, 20 + 16 * 7) for n in range(3)]
    played([*campaign(), *over[:3]], pipeline)
    kept = [key for state in pipeline.value_states.values() for key in state.data]
    assert not any(key.startswith(b"account") for key in kept)
    assert any(key.startswith(b"past") for key in kept)
    for record in registers(pipeline).values():
        assert record.incremental is record.incremental_split is None
    pipeline = Pipeline()
    played([*campaign(), *over], pipeline)
    assert not any(key.startswith(b"past") for state in pipeline.value_states.values() for key in state.data)


def test_books_of_an_experiment_that_is_over_are_closed_and_made_again_from_the_log() -> None:
    def bought(experiment: str, shoppers: int, at: datetime) -> list[Outcome]:
        return [
            outcome(
                at + timedelta(seconds=n), type="purchase", shopper=f"u{n}", sku=f"i{n % 3}", experiment=experiment,
                arm="treated" if n % 2 else "holdout", revenue=Decimal(20 + n % 5), currency="GBP",
            )
            for n in range(shoppers)
        ]  # fmt: skip

    later = START + timedelta(days=7, minutes=5)
    first = bought("e1", 90, START)
    running = [*first, *bought("e2", 90, later)]
    for outcomes, experiments in ((first, {"e1"}), (running[:-45], set()), (running, {"e2"})):
        pipeline = Pipeline()
        log = played(outcomes, pipeline)
        record = registers(pipeline)["overall|total"]
        assert {margin.experiment for margin in record.incremental or ()} == experiments
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        assert register_again("total", record, books_of(parts, Rules()), Rules()).to_json() == record.to_json()
    accounts = [key for state in pipeline.value_states.values() for key in state.data if key.startswith(b"account")]
    assert len(accounts) == 90
    for state in pipeline.value_states.values():
        known = msgspec.msgpack.decode(state.data[b"running"], type=Running)
        assert known.closed == []
        assert known.books.keys() == {"e2:treated", "e2:holdout"}


def test_accounts_that_are_kept_no_more_go_a_few_at_a_step_and_no_record_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def bought(at: datetime, arms: bool) -> list[Outcome]:
        return [
            outcome(
                at + timedelta(seconds=n), type="purchase", shopper=f"u{n % 60}", sku=f"i{n % 3}",
                revenue=Decimal(20 + n % 7), currency="GBP",
                **({"experiment": "e1", "arm": ("holdout", "treated")[n % 2]} if arms else {}),
            )
            for n in range(90)
        ]  # fmt: skip

    class Counted(Pipeline):
        most = 0

        def _commit_value(self, partition: int, step: Step) -> None:
            gone = [key for key, value in step.writes.items() if value is None and key.startswith((b"account", b"past"))]
            self.most = max(self.most, len(gone))
            super()._commit_value(partition, step)

    # The same experiment begins anew while what is left of it, and of the first purchases in no arm, is being deleted.
    parts = (bought(START, False), bought(START + timedelta(hours=1), True), bought(START + timedelta(days=130), True))
    at_once, by_and_by = Counted(), Counted()
    log = played([one for part in parts for one in part], at_once)
    monkeypatch.setattr(streams.agents.books, "CLEARED_LIMIT", 2)
    assert played([one for part in parts for one in part], by_and_by) == log
    assert at_once.most > 10
    left = [len(by_and_by.value_states[partition].data) - len(at_once.value_states[partition].data) for partition in range(PARTITIONS)]
    assert min(left) > 0
    for key, record in registers(at_once).items():
        assert registers(by_and_by)[key].to_json() == record.to_json()
    while [len(state.data) for state in by_and_by.value_states.values()] != [len(state.data) for state in at_once.value_states.values()]:
        by_and_by.restart()
        before = sum(len(state.data) for state in by_and_by.value_states.values())
        by_and_by.settle()
        assert sum(len(state.data) for state in by_and_by.value_states.values()) < before
    assert by_and_by.most <= 2
    for partition, state in by_and_by.value_states.items():
        accounts = {key: value for key, value in state.data.items() if key.startswith((b"account", b"past"))}
        assert accounts == {
            key: value for key, value in at_once.value_states[partition].data.items() if key.startswith((b"account", b"past"))
        }
        assert len(accounts) == 20


def test_who_is_held_out_is_in_neither_lift_nor_attributable_money_but_among_the_sessions() -> None:
    def bought(arm: str) -> list[Outcome]:
        money = {"type": "purchase", "revenue": Decimal(20), "currency": "GBP", "attributed": True, "rank": 1}
        visits = [(f"u{3 * n}", sku) for n in range(14) for sku in (("mug", "pan"), ("hat", "tie"))[n % 2]]
        return [outcome(START + timedelta(seconds=n), shopper=who, sku=sku, arm=arm, **money) for n, (who, sku) in enumerate(visits)]

    pipelines = {arm: Pipeline() for arm in ("treated", "holdout")}
    for arm, pipeline in pipelines.items():
        played(bought(arm), pipeline)
    treated, held_out = (registers(pipeline)["overall|total"] for pipeline in pipelines.values())
    assert (treated.game.tests, held_out.game.tests, held_out.assets) == (13, 0, {})
    assert treated.assets["all"].money
    flows = [pipeline.newest()["overall|all|total"] for pipeline in pipelines.values()]
    assert [(record.rows, record.tests, record.funnel.conversions) for record in flows] == [(28, 28, 28), (28, 0, 0)]
    assert [(flow.money[0].revenue, flow.money[0].attributable) for flow in flows] == [(560, 560), (560, 0)]
    # Whoever comes next is set beside the sessions of both.
    for pipeline in pipelines.values():
        late = [outcome(START + timedelta(minutes=1), shopper="u9999", sku=sku, arm="treated") for sku in ("mug", "pan")]
        pipeline.feed([Logged(0, 28 + n, message) for n, message in enumerate(late)])
        pipeline.settle()
    assert registers(pipelines["holdout"])["overall|total"].assets["all"].rows == 14


def test_a_forgotten_shopper_leaves_the_window_and_the_accounts_and_one_without_history_never_enters() -> None:
    state, value = DictState(), ValueProcessor(PARTITIONS)
    value.opened(state, 0)
    outcomes: list[Outcome | Forgotten] = [
        outcome(shopper=shopper, sku=sku, arm="treated", type="purchase", revenue=Decimal(5), currency="GBP")
        for shopper in ("shopper-1", "shopper-2") for sku in ("mug", "pan")
    ]  # fmt: skip
    outcomes += [outcome(shopper="shopper-3", sku=sku, consent=False, arm="treated") for sku in ("mug", "pan")]
    outcomes += [
        outcome(shopper=f"shopper-{n}", type="purchase", revenue=Decimal(9), currency="GBP", consent=n != 3) for n in (1, 2, 3)
    ]  # in no arm

    def take(messages: Sequence[Outcome | Forgotten], first: int) -> None:
        records = [SourceRecord("outcomes", 0, first + i, WALL_MS, b"s", message.to_json()) for i, message in enumerate(messages)]
        state.apply(value.process(state, Batch(0, records, WALL_MS + first)).writes)

    take(outcomes, 0)
    kept = b"".join(key + data for key, data in state.data.items())
    assert b"shopper-1" in kept
    assert sorted(key[-9:] for key in state.data if key.startswith(b"past")) == [b"shopper-1", b"shopper-2"]
    assert b"shopper-3" not in kept
    take([Forgotten(shoppers=("shopper-1",))], len(outcomes))
    assert b"shopper-1" not in b"".join(key + data for key, data in state.data.items())
    assert b"shopper-2" in b"".join(key + data for key, data in state.data.items())
    # Who agrees to no history any more, though nobody said to forget them.
    take([outcome(shopper="shopper-2", sku=None, type="search", consent=False)], len(outcomes) + 1)
    assert b"shopper-2" not in b"".join(key + data for key, data in state.data.items())
    value.opened(state, 0)
    take([outcome(shopper="shopper-4", sku=sku) for sku in ("mug", "pan")], 20)


def test_money_is_margin_where_that_is_told_or_modelled_and_else_revenue_in_an_entry_of_its_own() -> None:
    shares = MarginShares(categories={"home": Decimal("0.25")})
    found = []
    for rules in (Rules(), Rules(margins=shares), Rules(margins=MarginShares(default=Decimal("0.5")))):
        pipeline = Pipeline(rules)
        log = played(shopping(seed=4), pipeline)
        record = registers(pipeline)["overall|total"]
        parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
        assert register_again("total", record, books_of(parts, rules), rules).to_json() == record.to_json()
        found.append({(money.currency, money.basis): money for money in record.assets["all"].money})
    told, some, whole = found
    assert told.keys() == some.keys() == {("GBP", "margin"), ("GBP", "revenue")}
    assert whole.keys() == {("GBP", "margin")}
    assert [money["GBP", "margin"].modelled_fraction == 0 for money in (told, some, whole)] == [True, False, False]
    assert told["GBP", "revenue"].attributable != some["GBP", "revenue"].attributable
    assert told["GBP", "revenue"].modelled_fraction is None


def test_a_purchase_that_no_recommendation_is_credited_with_brings_nothing_to_share_out() -> None:
    pipeline = Pipeline()
    played([message.model_copy(update={"attributed": False}) for message in shopping()], pipeline)
    assert all(not value.money for record in registers(pipeline).values() for value in record.assets.values())


def test_money_has_an_interval_where_a_window_has_panes_enough() -> None:
    pipeline = Pipeline()
    played(shopping(900, seed=5), pipeline)
    found = registers(pipeline)
    hour, total = (found[f"channel|{window}"].assets["app"].money[-1] for window in ("1h", "total"))
    assert hour.low is not None
    assert hour.low < hour.attributable < (hour.high or 0.0)
    assert total.low is None


def test_gauges_say_what_is_published_and_nothing_of_dimensions_that_went_to_another_worker() -> None:
    pipeline = Pipeline()
    played(shopping(300), pipeline)
    found = registers(pipeline)
    for dimension in WORTH_DIMENSIONS:
        for window in WINDOWS:
            record = found[f"{dimension}|{window}"]
            shown = REGISTRY.get_sample_value("assay_value_lift", {"dimension": dimension, "window": window})
            assert shown == record.game.lift
            for asset, value in record.assets.items():
                labels = {"dimension": dimension, "asset": asset, "window": window}
                assert REGISTRY.get_sample_value("assay_value_points", labels) == value.points
    for partition in range(PARTITIONS):
        pipeline.rolling.lost(partition)
    for key, record in found.items():
        labels = {"dimension": record.dimension, "window": key.split("|")[1]}
        assert REGISTRY.get_sample_value("assay_value_lift", labels) is None
        assert all(REGISTRY.get_sample_value("assay_value_points", labels | {"asset": asset}) is None for asset in record.assets)


def test_an_asset_that_left_a_window_leaves_the_gauges() -> None:
    gauges, before = ValueGauges(), next(iter(registers(filled()).values()))
    gauges.show(before, "5m")
    asset = next(iter(before.assets))
    gauges.show(before.model_copy(update={"assets": {name: v for name, v in before.assets.items() if name != asset}}), "5m")
    labels = {"dimension": before.dimension, "asset": asset, "window": "5m"}
    assert REGISTRY.get_sample_value("assay_value_points", labels) is None
    gauges.clear()


def filled() -> Pipeline:
    pipeline = Pipeline()
    played(shopping(200), pipeline)
    for partition in range(PARTITIONS):
        pipeline.rolling.lost(partition)
    return pipeline
