from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from models.valuation.margins import MarginShares
from schemas.base import Origin
from schemas.internal import Exposure, Outcome
from streams.agents.arms import Arms
from streams.agents.shoppers import Shopper
from streams.broker import EmbeddedBroker
from streams.cli import main
from streams.cli.experiment import exposures
from streams.settings import Settings
from streams.topics import TopicAdmin

START = datetime(2026, 3, 1, tzinfo=UTC)
ORIGIN = Origin(topic="storefront.events", partition=0, offset=0)


def outcome(shopper: str, minute: int = 0, arm: str | None = "treated", **fields: Any) -> bytes:
    values = {"type": "click", "channel": "web", "sku": "mug", "list_size": 20, "outcome_id": "o", "event_id": "e"} | fields
    at = START + timedelta(minutes=minute)
    return Outcome(origin=ORIGIN, shopper=shopper, occurred_at=at, arm=arm, **values).to_json()


def bought(shopper: str, amount: str, minute: int = 0, currency: str = "GBP", arm: str | None = "treated", **fields: Any) -> bytes:
    return outcome(shopper, minute, arm, type="purchase", revenue=Decimal(amount), currency=currency, **fields)


def test_what_shoppers_did_since_the_begin_counts_and_what_they_spent_before_is_the_covariate() -> None:
    begin_ms = round((START + timedelta(minutes=10)).timestamp() * 1000)
    values = [
        bought("ann", "7.50", arm=None), bought("ann", "-2.50", 5, arm=None), bought("ann", "70.00", 5),
        bought("ann", "9.00", 6, currency="EUR"),
        bought("ann", "20.00", 11), outcome("ann", 12, type="refund", revenue=Decimal("-5.00"), currency="GBP"),
        outcome("ann", 13, attributed=True), outcome("ann", 14), outcome("bob", 15, arm=None),
        Exposure(origin=ORIGIN, occurred_at=START, lists=1, skus=("mug",), catalogue_size=1, encoder="e", model="m").to_json(),
        b"not json", None, outcome("cat", 16, arm="holdout", experiment="now"),
        outcome("dan", 17, experiment="before"), outcome("cat", 18, experiment="before"),
    ]  # fmt: skip
    log = exposures(values, "GBP", begin_ms, "now")
    treated, held_out = log.arm("treated"), log.arm("holdout")
    assert (treated.users, held_out.users) == (1, 1)
    assert (treated.covariates("revenue").tolist(), treated.covariates("margin").tolist()) == ([5.0], [0.0])
    sums = {name: treated.sums(name).tolist() for name in ("revenue", "margin", "purchases", "clicks")}
    assert sums == {"revenue": [15.0], "margin": [0.0], "purchases": [1.0], "clicks": [1.0]}


def test_a_list_counts_once_however_much_was_done_while_it_stood() -> None:
    looks = [outcome("ann", minute, type="impression", recommendation_id="r2") for minute in range(20)]
    values = [
        outcome("ann", list_size=0), outcome("ann", recommendation_id="r1"),
        *looks[:10], outcome("bob", recommendation_id="r1"), *looks[10:],
        outcome("ann", 21, recommendation_id="r2", attributed=True), outcome("ann", 22, recommendation_id="r3", list_size=0),
        outcome("bob", 23, recommendation_id="r4", attributed=True), outcome("bob", 24, recommendation_id="r5"),
    ]  # fmt: skip
    treated = exposures(values, "GBP", 0).arm("treated")
    assert (treated.sums("lists").tolist(), treated.sums("clicks").tolist()) == ([2.0, 3.0], [1.0, 1.0])


def test_margin_is_that_which_was_told_or_modelled_and_revenue_that_of_the_rest() -> None:
    values = [bought("treated1", "8.00", category="Kitchen", arm=None, minute=-9)] + [
        bought(f"{arm}{number}", "100.00", arm=arm, margin=Decimal(margin))
        for arm, margin in (("holdout", 40), ("treated", 10)) for number in range(3)
    ] + [
        bought("treated0", "50.00", category="Kitchen > Mugs"), bought("treated0", "-20.00", category="Garden"),
    ]  # fmt: skip
    begin_ms = round(START.timestamp() * 1000)
    told = exposures(values, "GBP", begin_ms)
    assert [told.arm(arm).sums("margin").tolist() for arm in ("holdout", "treated")] == [[40.0] * 3, [10.0] * 3]
    assert [told.arm(arm).sums("revenue").tolist() for arm in ("holdout", "treated")] == [[0.0] * 3, [30.0, 0.0, 0.0]]
    modelled = exposures(values, "GBP", begin_ms, shares=MarginShares(categories={"Kitchen": Decimal("0.5")})).arm("treated")
    assert (modelled.sums("margin").tolist(), modelled.sums("revenue").tolist()) == ([35.0, 10.0, 10.0], [-20.0, 0.0, 0.0])
    assert modelled.sums("modelled").tolist() == [25.0, 0.0, 0.0]
    assert (modelled.covariates("margin").tolist(), modelled.covariates("revenue").tolist()) == ([0.0, 4.0, 0.0], [0.0] * 3)


def test_the_report_finds_the_margin_that_recommendations_added(topic_prefix: str, tmp_path: Path) -> None:
    shares = tmp_path / "margins.yaml"
    shares.write_text("{categories: {Kitchen: 0.5}}")
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, topic_prefix=topic_prefix, holdout_share=0.4)
        TopicAdmin(settings).create()
        arms = Arms(settings)
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for number in range(800):
            shopper = f"u{number}"
            arm = arms.of(Shopper(shopper, anonymous=False))
            spent = 10 + number % 7 + (2 if arm == "treated" else 0)
            # What is earned is told of some, by the rules a half of what is spent of others, and of refunds nothing is known.
            told = {"margin": Decimal(spent)} if number % 2 else {"category": "Kitchen"}
            purchase = bought(shopper, f"{spent * (2 - number % 2)}.00", arm=arm, **told)
            for value in (purchase, bought(shopper, "-1.00", arm=arm)):
                producer.produce(settings.topic("outcomes"), value, shopper.encode())
        assert producer.flush(30) == 0
        del producer  # it would go on looking for a broker that is gone
        common = [
            "--bootstrap-servers", broker.bootstrap_servers, "--topic-prefix", topic_prefix, "--currency", "GBP",
            "--margin-shares", str(shares),
        ]  # fmt: skip
        environment = {"ASSAY_HOLDOUT_SHARE": "0.4"}
        found = CliRunner().invoke(main, ["experiment", "report", "--json", *common], env=environment)
        assert found.exit_code == 0, found.output
        margin, revenue = orjson.loads(found.stdout)["results"][2:]
        assert (margin["metric"]["name"], revenue["metric"]["name"]) == ("margin per user", "revenue per user, margin unknown")
        assert (revenue["control"], revenue["treated"]) == (-1.0, -1.0)
        # Told are the odd ones' amounts, which are of the same size.
        assert orjson.loads(found.stdout)["modelled_fraction"] == pytest.approx(0.5, abs=0.01)
        assert margin["effect"]["low"] < 2 < margin["effect"]["high"]
        assert margin["always_valid"][0] < margin["effect"]["low"]
        users = orjson.loads(found.stdout)["users"]
        assert margin["incremental"]["amount"] == pytest.approx(margin["effect"]["difference"] * users["treated"])
        text = CliRunner().invoke(main, ["experiment", "report", *common], env=environment)
        assert "treated against holdout" in text.stdout
        assert "| revenue per user, margin unknown |" in text.stdout
        assert "- margin per user: 50% of the margin is modelled." in text.stdout
        shares.write_text("{default: 30}")
        wrong = CliRunner().invoke(main, ["experiment", "report", *common], env=environment)
        assert wrong.exit_code == 2
        assert "margins.yaml does not say what share of revenue is margin" in wrong.stderr
        none = CliRunner().invoke(main, ["experiment", "report", *common])
        assert none.exit_code == 2
        assert "holdout-share" in none.stderr


@pytest.mark.parametrize("currency", ["gbp", "GBX", ""])
def test_a_currency_that_no_amount_is_in_is_refused(currency: str) -> None:
    found = CliRunner().invoke(main, ["experiment", "report", "--currency", currency])
    assert found.exit_code == 2
    assert f"{currency!r} is no ISO 4217 code in capitals, such as GBP" in found.stderr
