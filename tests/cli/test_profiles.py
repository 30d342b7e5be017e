import json
from decimal import Decimal

import pytest

from models.attribution import Memory, Touch, Windows, sku_digest
from models.profiles import Profile, encode_profile
from streams.agents.shoppers import EmittedList, Shopper, encode_list

CHANGELOG = "assay-recommend-changelog"


@pytest.fixture(scope="module")
def known(broker):
    """A changelog as workers write it: ann twice (the newer counts), an anonymous session, bob who is gone, and the position marker."""
    from confluent_kafka import Producer

    ann, visit, bob = Shopper("ann", False), Shopper("s1", True), Shopper("bob", False)
    old, new = Profile(events=1, first_ms=0, last_ms=0), Profile(events=2, first_ms=0, last_ms=60_000)
    shown = Memory().sent("list-8", 60_000, sku_digest("C"), Windows()).clicked(Touch(8, 90, sku_digest("C"), 1))
    shown = shown.bought("o1", "C", "GBP", Decimal("1.50")).bought("o2", "C", "GBP", None)
    pairs = [
        (ann.profile_key, encode_profile(old)),
        (bob.profile_key, encode_profile(old)),
        (visit.profile_key, encode_profile(old)),
        (ann.profile_key, encode_profile(new)),
        (ann.list_key, encode_list(EmittedList("list-9", ["A", "B"], shown))),
        (bob.profile_key, None),
        (b"\x00position", b"{}"),
    ]
    producer = Producer({"bootstrap.servers": broker})
    for key, value in pairs:
        producer.produce(CHANGELOG, value, key, 2)
    assert producer.flush(20) == 0
    return broker


def test_get_shows_the_newest_committed_profile_and_the_list_last_sent(assay, known):
    result = assay("profiles", "get", "ann", "--json", "--bootstrap-servers", known)
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)
    assert (fields["user_id"], fields["partition"], fields["profile"]["events"]) == ("ann", 2, 2)
    assert fields["last_list"] == {"recommendation_id": "list-9", "skus": ["A", "B"]}
    remembered, sku_hash = fields["remembered"], sku_digest("C").hex()
    assert [(sent["at"], sent["sku_hashes"]) for sent in remembered["lists"]] == [("1970-01-01T00:01:00Z", [sku_hash])]
    click = {"recommendation_id_hash": "00000008", "at": "1970-01-01T00:01:30Z", "sku_hash": sku_hash, "position": 1}
    assert (remembered["clicks"], remembered["views"]) == ([click], [])
    assert [line["unit_margin"] for line in remembered["order_lines"]] == ["1.5", None]


def test_get_for_people_names_the_shopper_and_the_time_span(assay, known):
    text = assay("profiles", "get", "s1", "--bootstrap-servers", known).stdout
    assert text.startswith("anonymous session s1")
    assert "1 events from 1970-01-01T00:00:00.000Z" in text


@pytest.mark.parametrize("who", ["bob", "nobody"])
def test_a_shopper_who_is_gone_or_unknown_is_exit_code_1(assay, known, who):
    result = assay("profiles", "get", who, "--bootstrap-servers", known)
    assert result.exit_code == 1
    assert f"nothing is known of {who}" in result.stderr


def test_export_writes_one_line_for_each_living_profile(assay, known, tmp_path):
    result = assay("profiles", "export", "all.jsonl", "--bootstrap-servers", known)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert sorted(row.get("user_id") or row["session_id"] for row in rows) == ["ann", "s1"]
    assert "2 profiles" in result.stderr


def test_a_file_that_cannot_be_written_is_told_before_anything_is_read(assay, known):
    result = assay("profiles", "export", "no/such/folder.jsonl", "--bootstrap-servers", known)
    assert result.exit_code == 2
    assert "no/such/folder.jsonl" in result.stderr


def test_a_changelog_that_does_not_exist_is_exit_code_3(assay):
    assert assay("profiles", "get", "ann", "--bootstrap-servers", "127.0.0.1:1").exit_code == 3
