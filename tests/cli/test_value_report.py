"""The register of data assets as its owner reads it, and a record made again, over an embedded broker."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from models.valuation.appraisal import AGE, AGES, Rules
from models.valuation.asset_register import ageing, entries
from models.valuation.costs import AssetCost
from schemas.valuation import AssetValue, AssetVersions, Checks, Funnel, Game, RollingValuation, ValueMoney, ValueRegister, Window
from streams.broker import EmbeddedBroker
from streams.cli import main
from streams.cli.value_csv import csv_of
from streams.cli.value_report import markdown
from streams.reading import TopicReader, newest
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.agents.test_register import campaign, played, shopping
from tests.agents.test_value_embeddings import embeddings
from tests.agents.test_value_embeddings import played as shown_and_played
from tests.agents.valuation_harness import START, Pipeline


@pytest.fixture(scope="module")
def options() -> Iterator[list[str]]:
    """What to call ``assay`` with: a broker whose topics hold what the value role made of some shopping."""
    pipeline = Pipeline()
    log = played([*shopping(500), *campaign()], pipeline)
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, topic_prefix="report.")
        TopicAdmin(settings).create()
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for records in log.values():
            for record in records:
                producer.produce(settings.topic("outcomes"), record.value, record.key, record.partition, timestamp=record.timestamp)
        for output in pipeline.published:
            producer.produce(settings.topic(output.topic), output.value, output.key)
        assert producer.flush(30) == 0
        del producer  # it would go on looking for a broker that is gone
        yield ["--bootstrap-servers", broker.bootstrap_servers, "--topic-prefix", "report."]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_register_is_read_as_a_table_a_page_and_a_file(options: list[str], tmp_path: Path) -> None:
    found = call("value", "report", "--window", "total", *options)
    assert found.exit_code == 0, found.output
    assert "## channel" in found.stdout
    assert "| app |" in found.stdout
    assert "does not say that the data could not be useful" in found.stdout
    (app,) = [line for line in found.stdout.splitlines() if line.startswith("| app |")]
    assert "| 1.8% | category 90%, country 100%, segment 0%, margin 7% |" in app
    rows = list(csv.DictReader(io.StringIO(call("value", "report", "--window", "total", "--format", "csv", *options).stdout)))
    assert {row["asset"] for row in rows if row["dimension"] == "country"} == {"GB", "FR"}
    page = tmp_path / "register.html"
    assert call("value", "report", "--window", "total", "--format", "html", "--output", str(page), *options).exit_code == 0
    assert page.read_text().count("<svg") >= 5


def test_what_was_caused_is_said_first_and_shared_out_in_the_total(options: list[str]) -> None:
    found = call("value", "report", "--window", "7d", *options).stdout
    assert "## What was caused, since the experiment began" in found
    (line,) = [line for line in found.splitlines() if line.startswith("- Experiment spring: ")]
    for words in ("from 240 treated shoppers, beside 120 held out", "for who looks once", "at any time", "(CUPED)", "Not adjusted: "):
        assert words in line
    amount = float(line.split("brought ")[1].split(" ")[0].replace(",", ""))
    for window, whole in (("total", amount), ("24h", 0.0)):
        rows = list(csv.DictReader(io.StringIO(call("value", "report", "--window", window, "--format", "csv", *options).stdout)))
        parts = [row.get("incremental_spring_GBP_revenue") for row in rows if row["dimension"] == "channel"]
        assert sum(float(part or 0) for part in parts) == pytest.approx(whole, abs=0.011)
    assert "<h2>What was caused" in call("value", "report", "--format", "html", *options).stdout


def test_costs_stand_beside_the_money(options: list[str], tmp_path: Path) -> None:
    costs = tmp_path / "costs.yaml"
    costs.write_text("channel:\n  web: {acquire: 99999.00, store: 1, currency: GBP}\n")
    found = call("value", "report", "--window", "total", "--dimension", "channel", "--costs", str(costs), *options)
    (web,) = [line for line in found.stdout.splitlines() if line.startswith("| web |")]
    assert "GBP" in web.split("|")[10]
    costs.write_text("channel:\n  web: {acquire: -1, currency: GBP}\n")
    bad = call("value", "report", "--costs", str(costs), *options)
    assert bad.exit_code == 2
    assert "does not say what data costs" in bad.stderr
    for strange in ("chanel", "age_bucket"):
        costs.write_text(f"{strange}:\n  web: {{acquire: 1, currency: GBP}}\n")
        refused = call("value", "report", "--costs", str(costs), *options)
        assert refused.exit_code == 2
        named = f"is called {strange}; choose from overall, channel, event_type, category, country, segment"
        assert named in refused.stderr


@pytest.mark.parametrize("key", ["channel|total", "country|7d", "channel|web|total"])
def test_a_record_is_made_again_from_the_log(options: list[str], key: str) -> None:
    found = call("value", "recompute", key, *options)
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith(f"{key}: identical")


def test_a_record_that_the_log_does_not_bear_out_is_named_with_what_differs(options: list[str]) -> None:
    pipeline = Pipeline()
    played(shopping(500, seed=99), pipeline)
    forged = next(o.value for o in reversed(pipeline.published) if o.key == b"segment|total")
    settings = Settings(bootstrap_servers=options[1], topic_prefix=options[3])
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    producer.produce(settings.topic("valuation.register"), forged, b"segment|total")
    assert producer.flush(30) == 0
    del producer  # it would go on looking for a broker that is gone
    found = call("value", "recompute", "segment|total", *options)
    assert found.exit_code == 1
    assert "not identical" in found.stderr
    assert "game.lift" in found.stderr


def test_values_of_items_shown_are_made_again_while_their_vectors_stand(options: list[str]) -> None:
    pipeline, log = shown_and_played(20, 1_000, Rules(neighbours="embeddings"))
    settings = Settings(bootstrap_servers=options[1], topic_prefix="shown.")
    TopicAdmin(settings).create()
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for record in (record for records in log.values() for record in records):
        producer.produce(settings.topic("outcomes"), record.value, record.key, record.partition, timestamp=record.timestamp)
    for output in pipeline.published:
        producer.produce(settings.topic(output.topic), output.value, output.key)
    for key, value in embeddings():
        producer.produce(settings.topic("catalog.embeddings"), value, key)
    assert producer.flush(30) == 0
    there = ["--bootstrap-servers", options[1], "--topic-prefix", "shown."]
    again = ("value", "recompute", "event_type|total", "--value-neighbours", "embeddings", *there)
    found = call(*again)
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("event_type|total: identical")
    assert "items shown" in call("value", "report", "--window", "total", "--dimension", "event_type", *there).stdout
    for key, value in embeddings(seed=6):
        producer.produce(settings.topic("catalog.embeddings"), value, key)
    assert producer.flush(30) == 0
    del producer  # it would go on looking for a broker that is gone
    found = call(*again)
    assert found.exit_code == 1
    assert "not identical; items stand at the vectors of now" in found.stderr


def test_a_key_that_is_not_there_is_told_how_to_find_one(options: list[str]) -> None:
    found = call("value", "recompute", "no|such|total", *options)
    assert found.exit_code == 1
    assert "assay tail" in found.stderr


def worth(points: float, rows: float, low: float | None = None, high: float | None = None, **more: object) -> AssetValue:
    values = {"player": points, "leave_one_out": points, "tests": 500, "insufficient": low is None, "per_1k_rows": 1_000 * points / rows}
    return AssetValue(points=points, rows=rows, low=low, high=high, **(values | more))


def register(dimension: str, **assets: AssetValue) -> ValueRegister:
    lift = sum(value.points for value in assets.values())
    game = Game(k=10, head=256, tests=500, utility=lift + 0.1, baseline=0.1, lift=lift, truncation_error_max=0.0)
    window = Window(kind="horizon", start=START, end=START, length=604_800)
    return ValueRegister(
        dimension=dimension, window=window, watermark=START, game=game, assets=assets, checks=Checks(efficiency_residual=0.0), lineage=()
    )


def test_advice_follows_interval_cost_and_richness() -> None:
    pounds = (ValueMoney(currency="GBP", attributable=50.0),)
    found = register(
        "channel",
        poison=worth(-0.01, 900, -0.02, -0.005),
        needed=worth(-0.01, 900, -0.02, -0.005, leave_one_out=0.03),
        minor=worth(-0.01, 90, -0.02, -0.005, leave_one_out=0, owned=0),
        rich=worth(0.05, 100, 0.03, 0.07),
        plain=worth(0.01, 900, 0.005, 0.02),
        unsure=worth(-0.001, 900, -0.004, 0.002),
        new=worth(0.2, 3),
        dear=worth(0.02, 500, 0.01, 0.03, money=pounds),
    )
    charges = {name: AssetCost(acquire=200, currency="GBP") for name in ("dear", "unsure")}
    records = {name: record(name, rows=1_000) for name in charges}
    found_entries = {e.asset: e for e in entries(found, records, charges)}
    assert {asset: entry.action for asset, entry in found_entries.items()} == {
        "poison": "drop", "needed": "clean", "minor": "clean", "rich": "buy more", "plain": "keep", "unsure": "drop", "new": "keep",
        "dear": "keep",
    }  # fmt: skip
    assert found_entries["dear"].net == {"GBP": -150.0}
    assert "costs more than it brought: -150.00 GBP" in found_entries["dear"].reason


def test_what_was_brought_in_another_currency_is_not_set_against_a_cost() -> None:
    euros = (ValueMoney(currency="EUR", attributable=5_000.0),)
    found = register("channel", web=worth(0.001, 900, -0.004, 0.002, money=euros))
    (entry,) = entries(found, {"web": record("web", rows=1_000)}, {"web": AssetCost(acquire=200, currency="GBP")})
    assert (entry.cost, entry.net, entry.no_net, entry.action) == ({"GBP": 200.0}, {}, "brought in EUR", "keep")
    # So it is with what the record itself says of cost.
    charged = record("web", rows=1_000).model_copy(
        update={"cost": AssetCost(acquire=200, currency="GBP").of(1_000, euros), "value": found.assets["web"]}
    )
    (entry,) = entries(found, {"web": charged}, {})
    assert (entry.cost, entry.net, entry.no_net) == ({"GBP": 200.0}, {}, "brought in EUR")


def test_a_cost_of_all_events_is_not_set_against_the_margin_of_some() -> None:
    some, others = (
        ValueMoney(currency="GBP", basis=basis, attributable=amount) for basis, amount in (("margin", 0.1), ("revenue", 5_000.0))
    )
    found = register("channel", web=worth(0.001, 900, -0.004, 0.002, money=(some, others)))
    charges = {"web": AssetCost(acquire=1, currency="GBP")}
    (entry,) = entries(found, {"web": record("web", rows=1_000)}, charges)
    assert (entry.net, entry.no_net, entry.action) == ({}, "part margin, part revenue", "keep")
    assert "| 1.00 GBP | part margin, part revenue |" in markdown("7d", [(found, [entry])], None, [])
    (line,) = csv.DictReader(io.StringIO(csv_of("7d", [(found, [entry])], None, [])))
    assert (line["cost_GBP"], line["no_net"]) == ("1.0", "part margin, part revenue")
    (entry,) = entries(register("channel", web=worth(0.001, 900, money=(some,))), {"web": record("web", rows=1_000)}, charges)
    assert (entry.net, entry.no_net) == ({"GBP": -0.9}, "")


def record(asset: str, rows: int) -> RollingValuation:
    window = Window(kind="horizon", start=START, end=START, length=604_800)
    return RollingValuation(
        dimension="channel", asset=asset, window=window, watermark=START, versions=AssetVersions(), rows=rows, tests=0, late=0,
        funnel=Funnel(events=rows, clicks=0, conversions=0, by_type={}), lineage=(),
    )  # fmt: skip


WORDS = ("window", "dimension", "asset", "insufficient", "no_net", "action", "reason")


def read(text: str) -> list[dict[str, str | float | None]]:
    """A file of comma-separated values as any reader of numbers takes it: what is no number is a word, and nothing is None."""
    return [
        {name: cell if name in WORDS else float(cell) if cell else None
         for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]  # fmt: skip


def test_the_file_has_the_very_numbers_of_the_records_one_column_a_figure(options: list[str]) -> None:
    rows = read(call("value", "report", "--window", "total", "--format", "csv", *options).stdout)
    settings = Settings(bootstrap_servers=options[1], topic_prefix=options[3])
    with TopicReader(settings, [settings.topic("valuation.register")]) as reader:
        records = {key: ValueRegister.model_validate_json(value) for (_, key), value in newest(reader).items() if key.endswith(b"|total")}
    with TopicReader(settings, [settings.topic("valuation.rolling")]) as reader:
        live = newest(reader, lambda key: key.endswith(b"|total"))
    rolling = {key: RollingValuation.model_validate_json(value) for (_, key), value in live.items()}
    wholes, rows = [row for row in rows if row["asset"] == ""], [row for row in rows if row["asset"]]
    aged = ageing(records[b"age_bucket|total"])
    (caused,) = records[b"overall|total"].incremental or ()
    assert caused.adjusted is not None
    wanted = {"caused_spring_GBP_revenue_treated": caused.treated, "caused_spring_GBP_revenue_held_out": caused.held_out}
    for name, estimate in (("caused_spring_GBP_revenue", caused), ("caused_spring_GBP_revenue_adjusted", caused.adjusted)):
        wanted |= {name: estimate.amount, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        wanted |= {f"{name}_always_valid_{end}": getattr(estimate, f"always_valid_{end}") for end in ("low", "high")}
    wanted["caused_spring_GBP_revenue_adjusted_variance_reduction"] = caused.adjusted.variance_reduction
    assert [{name: cell for name, cell in row.items() if cell not in (None, "")} for row in wholes] == [
        {
            "window": "total", "dimension": "age_bucket", "discount_rate": 0.1, "half_life_days": aged.half_life_days,
            "present_value_days": aged.present_value_days,
        },
        {"window": "total", "dimension": "overall"} | wanted,
    ]  # fmt: skip
    assert sum(len(record.assets) for record in records.values()) == len(rows) > 10
    amounts = completed = 0
    for row in rows:
        record = records[f"{row['dimension']}|total".encode()]
        value = record.assets[str(row["asset"])]
        figures = {
            "sessions": value.rows, "tests": value.tests, "points_per_test": value.points, "points_per_test_low": value.low,
            "points_per_test_high": value.high, "share_of_lift": value.share, "player_per_test": value.player,
            "leave_one_out_per_test": value.leave_one_out, "points_per_1k_sessions": value.per_1k_rows,
        }  # fmt: skip
        figures |= dict.fromkeys(("late_share", "complete_category", "complete_country", "complete_segment", "complete_margin"))
        found = rolling.get(f"{row['dimension']}|{row['asset']}|total".encode())
        if found is not None and found.quality is not None:
            figures["late_share"] = found.quality.late_share
            figures |= {f"complete_{name}": share for name, share in found.quality.completeness.model_dump().items()}
            completed += 1
        for money in value.money:
            name = f"attributable_{money.currency}_{money.basis}"
            figures |= {name: money.attributable, f"{name}_low": money.low, f"{name}_high": money.high}
            if money.basis == "margin":
                figures[f"{name}_modelled_fraction"] = money.modelled_fraction
        for part in record.incremental_split or ():
            figures[f"incremental_spring_{part.currency}_{part.basis}"] = float(part.parts[str(row["asset"])])
        assert {name: row[name] for name in figures} == figures
        amounts += len([name for name in figures if name.startswith("attributable")])
        assert row["insufficient"] == ("true" if value.insufficient else "false")
        # Of the amounts, too, nothing stands where there is none: no 0, and no word.
        assert {name for name, cell in row.items() if name.startswith(("attributable", "incremental")) and cell is not None} <= set(figures)
    assert amounts > len(rows)
    # Ages have no records of their own to take it from.
    assert len(rows) > completed > 10


def test_costs_of_several_currencies_have_columns_of_their_own() -> None:
    money = (
        ValueMoney(currency="GBP", basis="margin", attributable=1234.5678901, modelled_fraction=0.25, low=1e-7),
        ValueMoney(currency="EUR", attributable=2.0),
    )
    found = register("channel", web=worth(0.01, 900, money=money), app=worth(0.1 + 0.2, 3))
    charges = {"web": AssetCost(acquire=Decimal("0.1"), currency="GBP"), "app": AssetCost(acquire=3, currency="USD")}
    lines = entries(found, {name: record(name, rows=1_000) for name in charges}, charges)
    by_asset = {str(row["asset"]): row for row in read(csv_of("7d", [(found, lines)], None, []))}
    web, app = by_asset["web"], by_asset["app"]
    assert (web["attributable_GBP_margin"], web["attributable_GBP_margin_modelled_fraction"]) == (1234.5678901, 0.25)
    assert (web["attributable_GBP_margin_low"], web["attributable_GBP_margin_high"]) == (1e-7, None)
    assert (web["attributable_EUR_revenue"], web["cost_GBP"], web["cost_USD"]) == (2.0, 0.1, None)
    assert (app["points_per_test"], app["cost_USD"], app["net_USD"], app["attributable_GBP_margin"]) == (0.1 + 0.2, 3.0, -3.0, None)


def test_half_life_and_present_value_are_those_of_the_curve_that_the_buckets_lie_on() -> None:
    middles, lower = {}, 0
    for name, upper in AGES:
        middles[name], lower = (lower + upper) / 2 / 86_400, upper
    assets = {name: worth(0.4 * 2 ** (-age / 10) / 1_000 * 50, 50) for name, age in middles.items()}
    found = ageing(register(AGE, **assets), discount_rate=0.0)
    assert found.half_life_days == pytest.approx(10)
    assert found.present_value_days == pytest.approx(10 / 0.6931471805599453)
    assert ageing(register(AGE, **assets), discount_rate=0.5).present_value_days < found.present_value_days
    with pytest.raises(ValueError, match="age_bucket"):
        ageing(register("channel"))


@pytest.mark.parametrize(
    ("worths", "reason"),
    [
        ([70, 30, 5, -0.2], "What a session is worth falls to nothing or below from the bucket 'over 90 d' on, so no half-life fits."),
        ([70, 0, -1, -2], "What a session is worth falls to nothing or below from the bucket '7 to 30 d' on, so no half-life fits."),
        ([70, -1, 5, 0], "What a session is worth is nothing or below in the buckets '7 to 30 d', 'over 90 d', so no half-life fits."),
        ([-1, 0], "What a session is worth is nothing or below in the buckets '1 to 7 d', '7 to 30 d', so no half-life fits."),
        ([5, 6, 7, 7], "What a session is worth does not fall with its age, as far as it is known."),
        ([5], "What a session is worth is not known of two ages yet."),
        ([70, 30, 5, 0.01], ""),
    ],
)
def test_where_there_is_no_half_life_it_is_said_why(worths: list[float], reason: str) -> None:
    ages = ("1 to 7 d", "7 to 30 d", "30 to 90 d", "over 90 d")
    found = ageing(register(AGE, **{age: worth(value / 20_000, 50) for age, value in zip(ages, worths, strict=False)}))
    # Old data that harms is no data that lasts: a curve through the other buckets alone would say so.
    assert (found.half_life_days is None, found.reason) == (bool(reason), reason)
    text = markdown("7d", [], found, [])
    assert (reason or "What a session is worth halves in") in text
    (line,) = read(csv_of("7d", [], found, []))
    assert (line["half_life_days"], line["reason"]) == (found.half_life_days, reason)
