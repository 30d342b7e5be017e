"""Reset against a real Kafka: the embedded broker can neither truncate topics nor delete groups."""

import contextlib
import itertools
import time

import pytest

from models.simulation import Storefront, StorefrontOptions
from streams.agents.shoppers import ERASED_PREFIX, Shopper
from streams.demo.readings import Readings
from streams.reading import TopicReader, newest
from streams.reset import Reset, at_offsets, beginning, emptied, end, tasks_for
from streams.runtime.datadir import DataDir
from streams.runtime.errors import ResetUnfinished
from streams.runtime.marker import MARKER_KEY, Marker
from streams.runtime.partitioner import murmur2_partition
from streams.settings import Settings
from streams.topics import TopicAdmin
from streams.worker import RunningWorker
from tests.agents.pipeline import erasure, event

EVENTS = 400


def test_what_a_role_feeds_is_reset_with_it():
    assert tasks_for(["recommend"]) == ("recommend", "value", "rolling")
    assert tasks_for(["value"]) == ("value", "rolling")
    assert tasks_for(["embed"]) == ("embed",)
    assert tasks_for(["serve"]) == ()


def test_outputs_are_emptied_unless_they_are_to_stay_and_inputs_never():
    names = {topic.name for topic in emptied(tasks_for(["embed", "recommend", "value"]), keep_outputs=False)}
    assert {"recommendations", "sessions", "outcomes", "catalog.embeddings", "valuation.rolling"} <= names
    assert not names & {"storefront.events", "storefront.catalog", "privacy.erasures"}
    assert emptied(["recommend"], keep_outputs=True) == ()
    assert [topic.name for topic in emptied(tasks_for(["value"]), keep_outputs=True)] == ["valuation.partials"]


def test_start_points_are_the_first_offset_the_end_or_a_given_one():
    assert (beginning("t", 0, 5, 9), end("t", 0, 5, 9)) == (5, 9)
    chosen = at_offsets({"t": {"1": 7}})
    assert (chosen("t", 1, 5, 9), chosen("t", 0, 5, 9)) == (7, 5)


def test_local_deletes_the_stores_of_the_roles_and_keeps_the_rest(assay, tmp_path):
    for name in ("recommend/0", "value/0", "embed/0"):
        (tmp_path / "data" / name).mkdir(parents=True)
    result = assay("reset", "--local", "--roles", "recommend", "--data-dir", "data", "--yes")
    assert result.exit_code == 0, result.output
    assert "data/recommend" in result.stdout
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.is_dir()) == ["embed"]


def test_local_refuses_while_a_worker_uses_the_folder(assay, tmp_path):
    (tmp_path / "data" / "recommend").mkdir(parents=True)
    with DataDir(tmp_path / "data"):
        result = assay("reset", "--local", "--data-dir", "data", "--yes")
    assert result.exit_code == 4
    assert (tmp_path / "data" / "recommend").is_dir()


def test_a_no_deletes_nothing(assay, tmp_path):
    (tmp_path / "data" / "recommend").mkdir(parents=True)
    assert assay("reset", "--local", "--data-dir", "data", input="n\n").exit_code == 1
    assert (tmp_path / "data" / "recommend").is_dir()


def test_the_embedded_broker_has_nothing_to_reset(assay, broker):
    result = assay("reset", "--yes", "--bootstrap-servers", broker)
    assert result.exit_code == 3
    assert "embedded broker keeps nothing" in result.stderr


@pytest.mark.parametrize("start", ["yesterday", "2025-06-01T00:00:00", "offsets:missing.json"])
def test_a_start_point_that_cannot_be_read_is_a_usage_error(assay, start):
    result = assay("reset", "--from", start, "--yes", "--bootstrap-servers", "127.0.0.1:1")
    assert result.exit_code == 2
    assert f"--from {start}" in result.stderr


@contextlib.contextmanager
def following(settings):
    readings = Readings(settings)
    try:
        yield readings
    finally:
        readings.close()


def count_all(settings, sent):
    """Read the topics until every event sent is counted or refused; the figures."""
    with following(settings) as readings:
        deadline = time.monotonic() + 240
        while readings.figures.outcomes + readings.figures.dead_letters.total() < sent:
            assert time.monotonic() < deadline, readings.figures
            readings.poll(0.5)
        return readings.figures


@pytest.mark.kafka
def test_reprocessing_after_a_reset_counts_every_event_once(assay, send, kafka, topic_prefix, tmp_path):
    flags = {"bootstrap_servers": kafka, "topic_prefix": topic_prefix, "data_dir": tmp_path / "data"}
    settings = Settings(**flags)
    arguments = ("--bootstrap-servers", kafka, "--topic-prefix", topic_prefix, "--data-dir", str(tmp_path / "data"))
    TopicAdmin(settings).create()
    shop = Storefront(5, StorefrontOptions(products=60, fault_share=0.02))
    records = list(itertools.islice(shop.records(), EVENTS))
    send(kafka, settings.topic("storefront.catalog"), [(product.sku.encode(), product.to_json()) for product in shop.catalogue.products])
    send(kafka, settings.topic("storefront.events"), [(record.key, record.value) for record in records])
    with RunningWorker(settings, ("recommend", "value")) as worker:
        worker.wait_ready(240)
        before = count_all(settings, EVENTS)
        refused = assay("reset", "--yes", *arguments)
    assert refused.exit_code == 3
    assert "stop the workers first" in refused.stderr

    result = assay("reset", "--roles", "recommend", "--yes", *arguments)
    assert result.exit_code == 0, result.output
    assert f"{topic_prefix}recommendations" in result.stdout
    changelog = f"{topic_prefix}assay-recommend-changelog"
    with TopicReader(settings, [changelog, settings.topic("recommendations")]) as reader:
        live = newest(reader)
    assert {key for _, key in live} == {MARKER_KEY}
    offsets = [Marker.decode(value).offsets[settings.topic("storefront.events")] for value in live.values()]
    assert offsets == [-1] * settings.partitions
    assert not (tmp_path / "data" / "recommend").exists()

    with RunningWorker(settings, ("recommend", "value")) as worker:
        worker.wait_ready(240)
        after = count_all(settings, EVENTS)
    assert after.outcomes == before.outcomes
    assert after.dead_letters == before.dead_letters
    assert after.money()[1] == before.money()[1]
    assert after.outcomes + after.dead_letters.total() == EVENTS


class Interrupted(BaseException):
    """What a killed process would be."""


@pytest.mark.kafka
@pytest.mark.parametrize("last_words", ["emptying", "forgetting", "setting the positions"])
def test_after_an_interrupted_reset_no_worker_starts_until_it_was_run_again(assay, send, kafka, topic_prefix, tmp_path, last_words):
    settings = Settings(bootstrap_servers=kafka, topic_prefix=topic_prefix, data_dir=tmp_path / "data")
    arguments = ("--bootstrap-servers", kafka, "--topic-prefix", topic_prefix, "--data-dir", str(tmp_path / "data"))
    TopicAdmin(settings).create()
    send(kafka, settings.topic("storefront.events"), [event("click", number, f"u{number}") for number in range(8)])
    with RunningWorker(settings, ("recommend", "value")) as worker:
        worker.wait_ready(240)
        before = count_all(settings, 8)

    def say(words: str) -> None:
        if words.startswith(last_words):
            raise Interrupted

    reset = Reset(settings, tasks_for(["recommend"]), keep_outputs=False, command="assay reset --roles recommend --from beginning")
    with pytest.raises(Interrupted):
        reset.run(beginning, say)
    for role in ("recommend", "value"):
        with (
            pytest.raises(ResetUnfinished, match="run `assay reset --roles recommend --from beginning` again") as refusal,
            RunningWorker(settings, (role,)) as worker,
        ):
            worker.wait_ready(240)
        assert refusal.value.exit_code == 6

    result = assay("reset", "--roles", "recommend", "--yes", *arguments)
    assert result.exit_code == 0, result.output
    with RunningWorker(settings, ("recommend", "value")) as worker:
        worker.wait_ready(240)
        assert count_all(settings, 8).outcomes == before.outcomes == 8


@pytest.mark.kafka
def test_a_reset_brings_no_erased_shopper_back(assay, send, kafka, topic_prefix, tmp_path):
    settings = Settings(bootstrap_servers=kafka, topic_prefix=topic_prefix, data_dir=tmp_path / "data")
    arguments = ("--bootstrap-servers", kafka, "--topic-prefix", topic_prefix, "--data-dir", str(tmp_path / "data"))
    TopicAdmin(settings).create()
    gone, stays = event("click", 0, "gone"), event("click", 1, "stays")
    send(kafka, settings.topic("storefront.events"), [gone, stays])
    changelog, receipts = f"{topic_prefix}assay-recommend-changelog", settings.topic("privacy.receipts")

    def living() -> dict[bytes, bytes]:
        with TopicReader(settings, [changelog]) as reader:
            return {key: value for (_, key), value in newest(reader).items() if key != MARKER_KEY}

    def wait_for(condition) -> None:
        deadline = time.monotonic() + 60
        while not condition(living()):
            assert time.monotonic() < deadline, sorted(living())

    stays_key, gone_key = Shopper("stays", False).profile_key, Shopper("gone", False).profile_key
    with RunningWorker(settings, ("recommend",)) as worker:
        worker.wait_ready(240)
        wait_for(lambda state: {stays_key, gone_key} <= state.keys())
        send(kafka, settings.topic("privacy.erasures"), [erasure("gone")])
        wait_for(lambda state: gone_key not in state)
    erased = {key: value for key, value in living().items() if key.startswith(ERASED_PREFIX)}
    assert len(erased) == 1

    result = assay("reset", "--roles", "recommend", "--yes", *arguments)
    assert result.exit_code == 0, result.output
    assert living() == erased

    # What is sent last to the partition of the erased shopper is read last, so that the old event was met by then.
    last = next(name for name in map(str, itertools.count()) if murmur2_partition(name.encode(), 4) == murmur2_partition(b"gone", 4))
    send(kafka, settings.topic("storefront.events"), [event("click", 2, last)])
    with RunningWorker(settings, ("recommend",)) as worker:
        worker.wait_ready(240)
        wait_for(lambda state: {stays_key, Shopper(last, False).profile_key} <= state.keys())
    assert {key: value for key, value in living().items() if key.startswith(ERASED_PREFIX)} == erased
    assert gone_key not in living()
    with TopicReader(settings, [receipts]) as reader:
        assert len(list(reader.to_end())) == 1
