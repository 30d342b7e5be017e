"""Sending: order, partitions, pace, back-pressure, and what is said when it fails."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.catalog import Product
from streams.cli import main
from streams.replay import ReplayError, ReplayEvent
from streams.replay import publisher as publishing
from streams.replay.publisher import Pace, Publisher, Summary, await_embeddings
from streams.runtime.names import group_id
from streams.settings import Settings
from streams.topics import TopicAdmin


@pytest.fixture
def settings(embedded: str) -> Settings:
    chosen = Settings(bootstrap_servers=embedded)
    TopicAdmin(chosen).create()
    return chosen


def event(number: int, *, key: bytes = b"ann", at_ms: int = 0) -> ReplayEvent:
    return ReplayEvent(key, b"%d" % number, at_ms, "click")


def read(settings: Settings, topic: str, count: int) -> list[Message]:
    """``count`` messages of all partitions, each partition in order."""
    consumer = Consumer(settings.client_config() | {"group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(settings.topic(topic), partition, 0) for partition in range(4)])
    found: list[Message] = []
    while len(found) < count and (batch := consumer.consume(count - len(found), timeout=20)):
        found += batch
    consumer.close()
    assert len(found) == count
    return sorted(found, key=lambda message: (message.partition(), message.offset()))


def murmur2(key: bytes) -> int:
    """Kafka's hash as the Java client's documentation gives it, for the partitions that it must choose."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    for i in range(0, len(key) - len(key) % 4, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    tail = key[len(key) - len(key) % 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def crc32(key: bytes) -> int:
    import zlib

    return zlib.crc32(key)


@pytest.mark.parametrize(("partitioner", "hashed"), [("murmur2", murmur2), ("crc32", crc32)])
def test_should_keep_each_shoppers_events_in_order_in_the_partition_of_the_chosen_hash(settings: Settings, partitioner: str, hashed):
    keys = [b"ann", b"bob", b"c", b"17850", b"session:77", "zoë".encode()]
    chosen = settings.model_copy(update={"partitioner": partitioner})
    with Publisher(chosen) as publisher:
        publisher.publish_events([event(n, key=keys[n % len(keys)]) for n in range(60)], Summary())
    messages = read(settings, "storefront.events", 60)
    assert {message.key(): message.partition() for message in messages} == {key: hashed(key) % 4 for key in keys}
    for key in keys:
        values = [int(message.value()) for message in messages if message.key() == key]
        assert values == sorted(values)


def test_should_publish_products_by_sku(settings: Settings):
    with Publisher(settings) as publisher:
        assert publisher.publish_products([Product(sku="A", title="Red shoes"), Product(sku="B")]) == 2
    messages = read(settings, "storefront.catalog", 2)
    assert {message.key(): Product.model_validate_json(message.value()).title for message in messages} == {b"A": "Red shoes", b"B": ""}


def test_should_sum_amounts_exactly_by_kind_and_currency():
    summary = Summary()
    for amount in ("0.10", "0.20", "-7"):
        summary.add(ReplayEvent(b"k", b"v", 0, "purchase", Decimal(amount), "GBP"))
    summary.add(ReplayEvent(b"k", b"v", 0, "refund", Decimal("1.234"), "EUR"))
    summary.add(event(1))
    report = summary.as_json()
    assert report["revenue"] == {"purchase": {"GBP": "-6.70"}, "refund": {"EUR": "1.234"}}
    assert report["kinds"] == {"purchase": 3, "refund": 1, "click": 1}
    json.dumps(report)


class Clock:
    """A clock that moves only when somebody waits, and never by more than a second at once."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += min(seconds, 1.0)


@pytest.mark.parametrize(("speed", "moments"), [(1.0, [0, 2, 2, 10]), (4.0, [0, 0.5, 0.5, 2.5]), (None, [0, 0, 0, 0])])
def test_should_send_events_when_their_time_has_come(speed: float | None, moments: list[float]):
    clock = Clock()
    pace = Pace(speed, clock=clock, wait=clock.wait)
    sent = []
    for at_ms in (5_000, 7_000, 6_000, 15_000):
        pace.await_time(at_ms)
        sent.append(clock.now - 100)
    assert sent == pytest.approx(moments)


def test_should_wait_for_workers_that_are_too_far_behind_and_give_up_when_they_stand_still(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publishing, "_LAG_EVERY", 10)
    monkeypatch.setattr(publishing, "_STALL_S", 0.5)
    summary = Summary()
    with pytest.raises(ReplayError, match=r"30 events behind.*assay worker"), Publisher(settings, max_lag=25) as publisher:
        publisher.publish_events((event(n) for n in range(100)), summary)
    assert summary.events == 30
    worker = Consumer(settings.client_config() | {"group.id": group_id(settings, "recommend"), "enable.auto.commit": False})
    partition = murmur2(b"ann") % 4
    worker.commit(offsets=[TopicPartition("storefront.events", partition, 30)], asynchronous=False)
    worker.close()
    with Publisher(settings, max_lag=25) as publisher:
        publisher.publish_events((event(n) for n in range(20)), summary)
    assert summary.events == 50


def test_should_return_once_every_vector_is_there(settings: Settings):
    producer = Producer(settings.client_config())
    for sku in ("A", "B", "gone"):
        producer.produce("catalog.embeddings", key=sku, value=None if sku == "gone" else b"{}")
    producer.flush(10)
    seen: list[int] = []
    await_embeddings(settings, {"A", "B"}, timeout_s=20, progress=seen.append)
    assert sum(seen) == 2
    with pytest.raises(ReplayError, match=r"1 of 2 products.*assay worker --roles embed"):
        await_embeddings(settings, {"A", "gone"}, timeout_s=0.5)


def test_should_say_that_records_were_not_delivered(settings: Settings):
    with pytest.raises(ReplayError, match="could not send"), Publisher(settings) as publisher:
        publisher.publish_events([ReplayEvent(b"k", b"x" * 9_000_000, 0, "malformed")], Summary())


# The command

LOG = """\
event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,1,21,,shiseido,35.79,54,72d76fde-8bb3-4e00-8c23-a032dfed738c
2019-10-01 00:00:01 UTC,purchase,1,21,,shiseido,35.79,54,72d76fde-8bb3-4e00-8c23-a032dfed738c
2019-10-01 00:00:05 UTC,view,44600"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path / "log.csv"


def replay(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["replay", *arguments, "--bootstrap-servers", settings.bootstrap_servers, "--topic-prefix", settings.topic_prefix]
    )


def test_should_replay_a_file_and_sum_it_up_in_one_json_object(settings: Settings, log: Path):
    done = replay(settings, "rees46", "--path", str(log), "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["products"], report["events"], report["kinds"]) == (1, 3, {"browse": 1, "purchase": 1, "malformed": 1})
    assert report["revenue"] == {"purchase": {"USD": "35.79"}}
    read(settings, "storefront.catalog", 1)
    values = {message.value() for message in read(settings, "storefront.events", 3)}
    assert b"2019-10-01 00:00:05 UTC,view,44600" in values


def test_should_move_the_last_event_to_now_when_asked(settings: Settings, log: Path):
    from datetime import UTC, datetime

    before = datetime.now(UTC)
    assert replay(settings, "rees46", "--path", str(log), "--shift-time", "last", "--limit", "2").exit_code == 0
    times = [datetime.fromisoformat(json.loads(message.value())["occurred_at"]) for message in read(settings, "storefront.events", 2)]
    assert max(times).timestamp() == pytest.approx(before.timestamp(), abs=30)
    assert (max(times) - min(times)).total_seconds() == 1


def test_should_not_run_ahead_of_the_clock(settings: Settings, log: Path):
    refused = replay(settings, "rees46", "--path", str(log), "--shift-time", "first")
    assert refused.exit_code == 2
    assert "--speed 1" in refused.output


def test_should_give_up_without_an_embed_worker(settings: Settings, log: Path):
    done = replay(settings, "rees46", "--path", str(log), "--wait-embeddings", "--wait-timeout", "0.2")
    assert done.exit_code == 3
    assert "after 0 events" in done.output


def test_should_tell_unreadable_data_from_an_unreachable_broker(settings: Settings, log: Path):
    assert replay(settings, "online-retail", "--path", str(log)).exit_code == 2
    nobody = Settings(bootstrap_servers="127.0.0.1:1")
    assert replay(nobody, "rees46", "--path", str(log)).exit_code == 3


def test_should_say_where_to_download_each_set(settings: Settings):
    said = replay(settings, "--list")
    assert said.exit_code == 0
    for name in ("online-retail", "rees46", "retailrocket", "yoochoose", "diginetica"):
        assert name in said.output
    assert said.output.count("Download:") == 5


@pytest.mark.kafka
def test_should_refuse_to_send_before_topics_exist_and_send_all_of_it_after(kafka: str, topic_prefix: str, log: Path):
    settings = Settings(bootstrap_servers=kafka, topic_prefix=topic_prefix)
    refused = replay(settings, "rees46", "--path", str(log))
    assert refused.exit_code == 3
    assert "assay topics create" in refused.output
    TopicAdmin(settings).create()
    assert replay(settings, "rees46", "--path", str(log)).exit_code == 0
    messages = read(settings, "storefront.events", 3)
    assert AdminClient(settings.client_config()).list_topics(timeout=10).topics[settings.topic("storefront.events")]
    # The broker's clock stamps them, so a log of 2019 is not past its retention on arrival.
    assert {message.timestamp()[0] for message in messages} == {2}
