"""Topics on a broker: created as planned, every drift told, reset only on purpose."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from schemas.topics import TOPICS
from streams.cli import main
from streams.settings import Settings
from streams.topics import TASKS, BrokerUnreachable, Drift, TopicAdmin, TopicError, plan


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> Settings:
    return Settings(bootstrap_servers=kafka, topic_prefix=topic_prefix)


def assay(settings: Settings, *arguments: str, answer: str | None = None) -> Result:
    where = ["--bootstrap-servers", settings.bootstrap_servers, "--topic-prefix", settings.topic_prefix]
    return CliRunner().invoke(main, ["topics", *arguments, *where], input=answer)


def alter(settings: Settings, topic: str, name: str, value: str) -> None:
    """Set one setting and wait until the broker that is asked says so."""
    change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    client = AdminClient(settings.client_config())
    for future in client.incremental_alter_configs([resource]).values():
        future.result(20)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (answer,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        if answer.result(20)[name].value == value:
            return
    raise AssertionError(f"{name} of {topic} did not become {value}")


def test_should_plan_the_table_and_a_changelog_for_each_task():
    planned = plan(Settings(topic_prefix="shop.", app_id="a", partitions=7))
    assert [topic.name for topic in planned] == [f"shop.{t.name}" for t in TOPICS] + [f"shop.a-{task}-changelog" for task in TASKS]
    assert {topic.partitions for topic in planned} == {7}
    assert {topic.config["cleanup.policy"] for topic in planned[-len(TASKS) :]} == {"compact"}


def test_should_keep_records_by_arrival_so_that_an_old_log_survives_its_replay():
    for topic in plan(Settings()):
        by_arrival = topic.config.get("message.timestamp.type") == "LogAppendTime"
        assert by_arrival == (topic.config["cleanup.policy"] == "delete")


@pytest.mark.kafka
def test_should_create_what_is_missing_and_then_find_no_drift(settings: Settings):
    admin = TopicAdmin(settings)
    missing = {drift.topic for drift in admin.check() if drift.setting == "exists"}
    assert missing == {topic.name for topic in admin.plan}
    assert set(admin.create()) == missing
    assert admin.check() == []
    assert admin.create() == []


@pytest.mark.kafka
def test_should_tell_every_drift_and_mend_what_can_be_mended(settings: Settings):
    events, catalog = settings.topic("storefront.events"), settings.topic("storefront.catalog")
    client = AdminClient(settings.client_config())
    for future in client.create_topics([NewTopic(events, 3, 1)]).values():
        future.result(20)
    admin = TopicAdmin(settings)
    admin.create()
    alter(settings, catalog, "cleanup.policy", "delete")
    alter(settings, settings.topic("sessions"), "retention.ms", "60000")
    found = {(drift.topic, drift.setting): drift for drift in admin.check()}
    assert found[events, "partitions"].fatal
    assert (found[events, "partitions"].expected, found[events, "partitions"].found) == ("4", "3")
    assert found[catalog, "cleanup.policy"].fatal
    assert not found[settings.topic("sessions"), "retention.ms"].fatal
    # What somebody else made has none of our settings; the fatal differences come first.
    assert found[events, "message.timestamp.type"].found == "CreateTime"
    assert [drift.fatal for drift in admin.check()] == sorted((drift.fatal for drift in admin.check()), reverse=True)
    left = admin.mend(admin.check())
    assert [(drift.topic, drift.setting) for drift in left] == [(events, "partitions")]
    assert admin.check() == left


@pytest.mark.kafka
@pytest.mark.parametrize(("value", "drifts"), [("-1", False), ("99999999999999", False), ("1000", True)])
def test_should_not_mind_a_longer_retention(settings: Settings, value: str, drifts: bool):
    admin = TopicAdmin(settings)
    admin.create()
    alter(settings, settings.topic("outcomes"), "retention.ms", value)
    assert bool(admin.check()) == drifts


@pytest.mark.kafka
def test_should_empty_derived_topics_and_leave_the_storefronts_own(settings: Settings):
    admin = TopicAdmin(settings)
    admin.create()
    producer = Producer(settings.client_config())
    for name in ("storefront.events", "recommendations"):
        producer.produce(settings.topic(name), value=b"x", key=b"k")
    producer.flush(20)
    refused = assay(settings, "reset", answer="n\n")
    assert refused.exit_code != 0
    assert "up to 1 records" in refused.output
    assert settings.topic("storefront.events") not in refused.output
    assert sum(admin.records(admin.plan).values()) == 2
    done = assay(settings, "reset", "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["reset"][settings.topic("recommendations")] == 1
    assert {name: count for name, count in admin.records(admin.plan).items() if count} == {settings.topic("storefront.events"): 1}
    assert assay(settings, "reset", "storefront.events", "--yes").exit_code == 0
    assert sum(admin.records(admin.plan).values()) == 0
    assert admin.check() == []


@pytest.mark.kafka
def test_should_refuse_to_reset_a_topic_that_is_not_ours(settings: Settings):
    with pytest.raises(TopicError, match=r"not in the table.*somebody-elses"):
        TopicAdmin(settings).select(["somebody-elses"], inputs=False)


@pytest.mark.kafka
def test_should_exit_with_3_while_topics_are_wrong_and_0_once_they_are_right(settings: Settings):
    wrong = assay(settings, "check", "--json")
    assert wrong.exit_code == 3
    assert {drift["setting"] for drift in json.loads(wrong.stdout)["drift"]} == {"exists"}
    assert assay(settings, "create").exit_code == 0
    assert assay(settings, "check").exit_code == 0
    recount = assay(settings, "check", "--partitions", "8")
    assert recount.exit_code == 3
    assert "partitions is 4, should be 8" in recount.output


def test_should_name_the_command_that_starts_a_broker_when_none_answers():
    nobody = Settings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(BrokerUnreachable, match="assay broker"):
        TopicAdmin(nobody, timeout_s=1)


def test_should_touch_topics_on_the_embedded_broker_and_refuse_to_reset_them(embedded: str):
    settings = Settings(bootstrap_servers=embedded)
    admin = TopicAdmin(settings)
    assert admin.embedded
    assert len(admin.create()) == len(admin.plan)
    assert admin.check() == []
    with pytest.raises(TopicError, match="restart"):
        admin.reset(admin.plan)
    refused = assay(settings, "reset", "--yes")
    assert refused.exit_code == 3
    assert "restart" in refused.output
    eight = TopicAdmin(settings.model_copy(update={"partitions": 8}))
    assert {(drift.setting, drift.found) for drift in eight.check()} == {("partitions", "4")}


def test_should_put_a_drift_into_one_readable_line():
    drift = Drift("t", "partitions", "4", "3", True, "mend it")
    assert str(drift) == "t: partitions is 3, should be 4; mend it"


@pytest.mark.kafka
def test_should_say_of_a_missing_topic_that_it_does_not_exist_and_what_creates_it(settings: Settings):
    drift = next(drift for drift in TopicAdmin(settings).check() if drift.setting == "exists")
    assert str(drift) == f"{drift.topic} does not exist; create it with `assay topics create`"


def test_should_never_advise_to_reset_what_the_storefront_writes(embedded: str):
    eight = TopicAdmin(Settings(bootstrap_servers=embedded, partitions=8))
    advice = {drift.topic: drift.mend for drift in eight.check()}
    assert all("--partitions 4 (ASSAY_PARTITIONS=4)" in mend for mend in advice.values())
    reset = {topic for topic, mend in advice.items() if "topics reset" in mend}
    assert reset == {topic.name for topic in eight.plan if topic.derived}
