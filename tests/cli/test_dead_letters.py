import base64
import json

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.operations import DeadLetter
from schemas.topics import TOPICS
from streams.broker import EmbeddedBroker
from streams.runtime.partitioner import murmur2_partition


def letter(code, key, value, offset, **more):
    encode = lambda raw: None if raw is None else base64.b64encode(raw).decode()  # noqa: E731
    fields = {
        "path": "sku",
        "message": "refused",
        "topic": "storefront.events",
        "partition": 1,
        "offset": offset,
        "timestamp_ms": 1_736_150_400_000,
    }
    return DeadLetter(code=code, key=encode(key), value=encode(value), **(fields | more))


LETTERS = [
    letter("sku_unknown", b"ann", b'{"sku":"NEW-1"}', 7),
    letter("sku_unknown", b"bob", b'{"sku":"NEW-2"}', 8),
    letter("encoding_invalid", b"eve", b"\xff\xfe", 9),
    letter("value_missing", None, None, 10),
    letter("value_too_large", b"big", b"{", 11, truncated_bytes=2_000_000),
]


@pytest.fixture
def servers(send):
    with EmbeddedBroker(topic.name for topic in TOPICS) as running:
        send(
            running.bootstrap_servers,
            "events.dead-letter",
            [(f"storefront.events-1-{one.offset}".encode(), one.to_json()) for one in LETTERS],
        )
        yield running.bootstrap_servers


def records(servers, topic):
    reader = Consumer({"bootstrap.servers": servers, "group.id": "test", "enable.partition.eof": True})
    try:
        reader.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        found, ended = [], 0
        while ended < 4:
            for message in reader.consume(100, 1.0):
                if message.error() is None:
                    found.append((message.key(), message.value(), message.partition()))
                else:
                    ended += 1
        return found
    finally:
        reader.close()


def sent_again(servers):
    return records(servers, "storefront.events")


def test_list_shows_each_letter_and_counts_by_code_with_advice(assay, servers):
    result = assay("dead-letters", "list", "--bootstrap-servers", servers)
    assert result.exit_code == 0, result.output
    assert "storefront.events/1@7  sku_unknown at sku: refused" in result.stdout
    assert "2  sku_unknown: The catalogue never held this sku" in result.stdout


def test_list_by_code_as_json_gives_the_raw_bytes_and_the_text_to_edit(assay, servers):
    result = assay("dead-letters", "list", "--code", "encoding_invalid", "--code", "sku_unknown", "--json", "--bootstrap-servers", servers)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(row.get("text", "(binary)") for row in rows) == ["(binary)", '{"sku":"NEW-1"}', '{"sku":"NEW-2"}']
    assert {row["code"] for row in rows} == {"encoding_invalid", "sku_unknown"}


def test_a_dry_run_says_what_it_would_send_and_sends_nothing(assay, servers):
    result = assay("dead-letters", "replay", "--dry-run", "--bootstrap-servers", servers)
    assert result.exit_code == 0, result.output
    assert "2  sku_unknown -> storefront.events" in result.stdout
    assert "1  were too large to be kept whole" in result.stdout
    assert "4 record(s) would be sent" in result.stdout
    assert sent_again(servers) == []


def test_replay_sends_the_same_bytes_under_the_same_key_to_the_keys_partition(assay, servers):
    result = assay("dead-letters", "replay", "--yes", "--bootstrap-servers", servers)
    assert result.exit_code == 0, result.output
    assert "sent 4 record(s)" in result.stdout
    found = sent_again(servers)
    assert sorted((key or b"", value or b"") for key, value, _ in found) == [
        (b"", b""), (b"ann", b'{"sku":"NEW-1"}'), (b"bob", b'{"sku":"NEW-2"}'), (b"eve", b"\xff\xfe"),
    ]  # fmt: skip
    assert all(partition == (murmur2_partition(key, 4) if key else 1) for key, _, partition in found)


def test_large_records_are_sent_and_one_that_is_too_large_holds_nothing_up(assay, servers, send, tmp_path):
    listed = assay("dead-letters", "list", "--code", "sku_unknown", "--json", "--bootstrap-servers", servers).stdout.splitlines()
    large = [json.loads(line) | {"text": "x" * size} for line, size in zip(listed, (9_000_000, 2_000_000), strict=True)]
    (tmp_path / "large.jsonl").write_text("\n".join(map(json.dumps, large)))
    result = assay("dead-letters", "replay", "--edit", "large.jsonl", "--yes", "--bootstrap-servers", servers)
    assert result.exit_code == 1
    assert "sent 1 record(s)" in result.stdout
    assert "1 record(s) could not be sent, the first because: Unable to produce message: Broker: Message size too large" in result.stderr
    assert [len(value) for _, value, _ in sent_again(servers)] == [2_000_000]
    left = assay("dead-letters", "list", "--code", "sku_unknown", "--json", "--bootstrap-servers", servers).stdout.splitlines()
    assert len(left) == 1, "what was sent is marked, though another was not"


def test_a_record_that_is_no_dead_letter_is_passed_over_and_said_so(assay, servers, send):
    send(servers, "events.dead-letter", [(b"stray", b"{}")])
    result = assay("dead-letters", "list", "--bootstrap-servers", servers)
    assert result.exit_code == 0, result.output
    assert "2  sku_unknown" in result.stdout
    assert "passed over 1 record(s)" in result.stderr


def test_replay_asks_first_and_a_no_sends_nothing(assay, servers):
    result = assay("dead-letters", "replay", "--code", "sku_unknown", "--bootstrap-servers", servers, input="n\n")
    assert result.exit_code == 1
    assert sent_again(servers) == []


def test_edited_lines_are_sent_with_their_new_text(assay, servers, tmp_path):
    listed = assay("dead-letters", "list", "--code", "sku_unknown", "--json", "--bootstrap-servers", servers).stdout
    (tmp_path / "mended.jsonl").write_text(listed.replace("NEW-", "OLD-"))
    result = assay("dead-letters", "replay", "--edit", "mended.jsonl", "--yes", "--bootstrap-servers", servers)
    assert result.exit_code == 0, result.output
    assert sorted((key, value) for key, value, _ in sent_again(servers)) == [(b"ann", b'{"sku":"OLD-1"}'), (b"bob", b'{"sku":"OLD-2"}')]


def test_a_file_that_is_no_list_names_the_line(assay, servers, tmp_path):
    (tmp_path / "bad.jsonl").write_text('\n{"code": "sku_unknown"}\n')
    result = assay("dead-letters", "replay", "--edit", "bad.jsonl", "--yes", "--bootstrap-servers", servers)
    assert result.exit_code == 2
    assert "bad.jsonl, line 2" in result.stderr


def test_what_was_sent_again_is_marked_in_its_partition_and_is_neither_listed_nor_sent_any_more(assay, servers, send):
    where = ("--bootstrap-servers", servers)
    assert "sent 2 record(s)" in assay("dead-letters", "replay", "--code", "sku_unknown", "--yes", *where).stdout
    assert "nothing to send" in assay("dead-letters", "replay", "--code", "sku_unknown", "--yes", *where).stdout
    assert "sent 2 record(s)" in assay("dead-letters", "replay", "--yes", *where).stdout
    assert len(sent_again(servers)) == 4
    letters = records(servers, "events.dead-letter")
    marks = {(key, partition) for key, value, partition in letters if value is None}
    assert marks == {(key, partition) for key, value, partition in letters if value and json.loads(value)["truncated_bytes"] == 0}
    assert len(marks) == 4
    assert "1  value_too_large" in assay("dead-letters", "list", *where).stdout
    assert "@7" not in assay("dead-letters", "list", *where).stdout
    assert "storefront.events/1@7  sku_unknown" in assay("dead-letters", "list", "--replayed", *where).stdout
    # Refused anew, after an `assay reset`: it is open again.
    send(servers, "events.dead-letter", [(b"storefront.events-1-7", LETTERS[0].to_json())])
    assert "1 record(s) would be sent" in assay("dead-letters", "replay", "--dry-run", *where).stdout


def test_edited_lines_are_sent_once(assay, servers, tmp_path):
    listed = assay("dead-letters", "list", "--code", "sku_unknown", "--json", "--bootstrap-servers", servers).stdout
    (tmp_path / "mended.jsonl").write_text(listed.replace("NEW-", "OLD-"))
    for said in ("sent 2 record(s)", "2  were sent again before, or are no longer in the topic"):
        assert said in assay("dead-letters", "replay", "--edit", "mended.jsonl", "--yes", "--bootstrap-servers", servers).stdout
    assert len(sent_again(servers)) == 2


def test_replay_as_json_is_one_object_of_counts(assay, servers):
    where = ("--bootstrap-servers", servers)
    asking = assay("dead-letters", "replay", "--json", *where)
    assert asking.exit_code == 2
    assert "--yes" in asking.stderr
    found = {"found": [{"code": "sku_unknown", "topic": "storefront.events", "records": 2}], "left_out": 0, "too_large": 0}
    nothing = {"failed": 0, "unmarked": 0}
    replay = ("dead-letters", "replay", "--code", "sku_unknown", "--json")
    assert json.loads(assay(*replay, "--dry-run", *where).stdout) == found | {"sent": 0} | nothing
    assert sent_again(servers) == []
    assert json.loads(assay(*replay, "--yes", *where).stdout) == found | {"sent": 2} | nothing
    assert json.loads(assay(*replay, "--yes", *where).stdout) == found | {"found": [], "sent": 0} | nothing
    assert json.loads(assay("dead-letters", "replay", "--json", "--dry-run", *where).stdout)["too_large"] == 1
