"""The replica: what was written is what is read, across restarts, deletions and topics that were made anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import pytest
from confluent_kafka import Producer

from schemas.serving import ValuationRecords
from streams.broker import EmbeddedBroker
from streams.runtime.errors import BrokerUnreachable, DataDirTaken, TopicsWrong
from streams.runtime.store import MAX_AGE_MS
from streams.runtime.store import Store as RocksStore
from streams.serve import start
from streams.serve.server import AddressTaken
from tests.serve.conftest import DEADLINE_S, Store, eventually, serving, store_on


def test_the_bytes_of_the_topic_are_the_bytes_of_the_reply(store: Store) -> None:
    written = store.recommend("ann", partition=3)
    with serving(store.settings) as (_, client):
        reply = client.get("/v1/users/ann/recommendations")
    assert reply.content == written
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "private, no-store"


def test_the_newest_list_wins_and_a_tombstone_ends_it(store: Store) -> None:
    store.recommend("ann", "r-1")
    with serving(store.settings) as (_, client):
        newer = store.recommend("ann", "r-2")
        eventually(lambda: client.get("/v1/users/ann/recommendations").content == newer)
        store.withdraw("ann")
        eventually(lambda: client.get("/v1/users/ann/recommendations").status_code == 404)


def test_a_session_and_a_user_of_the_same_name_have_lists_of_their_own(store: Store) -> None:
    of_user, of_session = store.recommend("ann", "user"), store.recommend("session:ann", "session")
    with serving(store.settings) as (_, client):
        assert client.get("/v1/users/ann/recommendations").content == of_user
        assert client.get("/v1/sessions/ann/recommendations").content == of_session


@pytest.mark.parametrize(
    ("shopper", "path"), [("a/b", "a%2Fb"), ("a b?c=d", "a%20b%3Fc%3Dd"), ("naïve☕", "na%C3%AFve%E2%98%95"), ("a|b", "a|b")]
)
def test_an_id_may_hold_any_character(store: Store, shopper: str, path: str) -> None:
    written = store.recommend(shopper)
    with serving(store.settings) as (_, client):
        assert client.get(f"/v1/users/{path}/recommendations").content == written


def test_records_of_an_aborted_transaction_are_never_served(store: Store) -> None:
    settings = store.settings
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "transactional.id": settings.topic_prefix})
    producer.init_transactions(DEADLINE_S)
    for key, commit in (("ghost", False), ("ann", True)):
        producer.begin_transaction()
        producer.produce(settings.topic("recommendations"), key=key, value=b"{}", partition=0)
        (producer.commit_transaction if commit else producer.abort_transaction)(DEADLINE_S)
    with serving(settings) as (_, client):
        assert client.get("/v1/users/ann/recommendations").status_code == 200
        assert client.get("/v1/users/ghost/recommendations").status_code == 404


def test_a_record_that_is_no_valuation_does_not_spoil_the_reply(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.value("channel", "web", "1h", tests=7)
    producer = Producer({"bootstrap.servers": store.settings.bootstrap_servers})
    for key, value in ((b"channel|\xff|1h", b"{}"), (b"channel|web|1h", b"{"), (b"channel|app|1h", b'{"dimension":"channel"}')):
        producer.produce(store.settings.topic("valuation.rolling"), value, key, partition=0)
    assert producer.flush(DEADLINE_S) == 0
    with serving(store.settings) as (_, client):
        records = ValuationRecords.model_validate_json(client.get("/v1/valuation?dimension=channel").content).records
    assert [(record.asset, record.tests) for record in records] == [("web", 7)]
    assert caplog.text.count("is no valuation record") == 3


def test_a_restart_goes_on_where_the_copy_ends(store: Store) -> None:
    written = store.recommend("ann")
    with serving(store.settings) as (_, client):
        before = applied(client)
    newer = store.recommend("ben", "r-2")
    with serving(store.settings) as (_, client):
        assert client.get("/v1/users/ann/recommendations").content == written
        assert client.get("/v1/users/ben/recommendations").content == newer
        assert applied(client) == before + 1


def test_a_topic_that_was_made_anew_is_read_anew(store: Store, topic_prefix: str) -> None:
    with EmbeddedBroker() as other:
        elsewhere = store_on(other.bootstrap_servers, topic_prefix, store.settings.data_dir)
        for number in range(3):
            elsewhere.recommend("gone", f"r-{number}")
        with serving(elsewhere.settings) as (_, client):
            assert client.get("/v1/users/gone/recommendations").status_code == 200
    written = store.recommend("ann")
    with serving(store.settings) as (_, client):
        assert client.get("/v1/users/gone/recommendations").status_code == 404
        assert client.get("/v1/users/ann/recommendations").content == written


def test_a_copy_too_old_to_have_seen_every_deletion_is_read_anew(store: Store) -> None:
    store.recommend("ann")
    with serving(store.settings):
        pass
    path = store.settings.data_dir / "serve" / "replica"
    copy = RocksStore(path)
    copy.write([(b"rerased", b"{}")], 1, 1)
    assert copy.checkpoint(MAX_AGE_MS * 2) == 0
    copy.close()
    with serving(store.settings) as (_, client):
        assert client.get("/v1/users/erased/recommendations").status_code == 404
        assert client.get("/v1/users/ann/recommendations").status_code == 200


def test_a_damaged_copy_is_set_aside_and_read_anew(store: Store) -> None:
    written = store.recommend("ann")
    with serving(store.settings):
        pass
    (store.settings.data_dir / "serve" / "replica" / "CURRENT").write_text("rubbish")
    with serving(store.settings) as (_, client):
        assert client.get("/v1/users/ann/recommendations").content == written


def test_a_second_server_on_the_same_data_dir_is_refused(store: Store) -> None:
    with serving(store.settings), pytest.raises(DataDirTaken, match="--data-dir"):
        start(store.settings)


def test_a_taken_port_is_refused_and_nothing_is_left_behind(store: Store) -> None:
    with serving(store.settings) as (server, _):
        elsewhere = store.settings.model_copy(update={"port": server.port, "data_dir": store.settings.data_dir / "other"})
        with pytest.raises(AddressTaken, match="--port"):
            start(elsewhere)
    with serving(elsewhere):
        pass


def test_a_missing_topic_is_named_before_anything_starts(broker: str, store: Store) -> None:
    with pytest.raises(TopicsWrong, match="assay topics create"):
        start(store.settings.model_copy(update={"topic_prefix": "nobody."}))


def test_an_unreachable_broker_is_said(store: Store) -> None:
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        start(store.settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}))


def test_the_command_serves_and_stops_on_sigterm(store: Store) -> None:
    store.recommend("ann")
    command = [*serve_command(store), "--topic-prefix", store.settings.topic_prefix]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"ASSAY_API_KEY": "secret"}) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving on http" in line)
        base = line.split("serving on ")[1].strip()
        eventually(lambda: httpx.get(f"{base}/readyz").status_code == 200)
        reply = httpx.get(f"{base}/v1/users/ann/recommendations", headers={"authorization": "Bearer secret"})
        refused = httpx.get(f"{base}/v1/users/ann/recommendations")
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert (reply.status_code, refused.status_code) == (200, 401)
    assert process.returncode == 0


def test_the_command_says_what_is_wrong_and_exits_with_its_code(store: Store) -> None:
    command = [*serve_command(store), "--topic-prefix", "nobody."]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=DEADLINE_S)
    assert ended.returncode == 6
    assert "assay topics create" in ended.stderr


def serve_command(store: Store) -> list[str]:
    where = ["--bootstrap-servers", store.settings.bootstrap_servers, "--data-dir", str(store.settings.data_dir)]
    return [sys.executable, "-m", "streams.cli", "serve", "--port", "0", *where]


def applied(client: httpx.Client) -> float:
    """Records of ``recommendations`` that replicas of this process have read."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('assay_replica_records_total{topic="recommendations"}'))
