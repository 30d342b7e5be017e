"""Marker, dead letters, partitioners, seams, data dir: each a few rules."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.operations import DeadLetter
from streams.runtime import seams
from streams.runtime.datadir import DataDir
from streams.runtime.dead_letter import MAX_RAW_BYTES, dead_letter
from streams.runtime.errors import DataDirTaken
from streams.runtime.marker import Marker, SourceExtent, contradiction
from streams.runtime.partitioner import crc32_partition, murmur2_partition
from streams.runtime.processor import SourceRecord
from tests.runtime.processors import record


def test_a_marker_survives_encoding_and_the_absence_of_one_means_nothing_was_applied() -> None:
    marker = Marker({"b": 2, "a": 1}, {"a": "id"})
    assert Marker.decode(marker.encode()) == marker
    assert Marker.decode(None) == Marker()
    unfinished = Marker(resetting="assay reset")
    assert Marker.decode(unfinished.encode()) == unfinished


@pytest.mark.parametrize(
    ("extent", "contradicts"),
    [
        (SourceExtent(0, 6), False),
        (SourceExtent(0, 5), True),
        (SourceExtent(9, 20), False),
        (SourceExtent(0, 6, "x"), False),
        (SourceExtent(0, 5, "x"), True),
        (SourceExtent(0, 6, "y"), True),
    ],
)
def test_a_marker_at_offset_five_needs_a_topic_that_reaches_beyond_it_and_is_still_the_same(
    extent: SourceExtent, contradicts: bool
) -> None:
    assert (contradiction(Marker({"t": 5}, {"t": "x"}), "t", extent) is not None) is contradicts
    assert contradiction(Marker(), "t", extent) is None


def test_a_dead_letter_keeps_the_raw_record_and_its_place() -> None:
    letter = dead_letter(SourceRecord("p.storefront.events", 3, 41, 1_700_000_000_000, b"u1", b"\xff{"), "json_invalid", "a.b", "not JSON")
    assert letter.topic == "events.dead-letter"
    assert letter.key == b"p.storefront.events-3-41"
    read = DeadLetter.model_validate_json(letter.value or b"")
    assert base64.b64decode(read.value or "") == b"\xff{"
    assert base64.b64decode(read.key or "") == b"u1"
    assert (read.code, read.path, read.offset, read.truncated_bytes) == ("json_invalid", "a.b", 41, 0)


def test_a_dead_letter_fits_a_record_and_says_how_much_was_cut() -> None:
    letter = dead_letter(record(0, "k", "x" * 6_000_000), "value_too_large", "", "m" * 5_000)
    assert len(letter.value or b"") < 8 * 1_048_576
    assert DeadLetter.model_validate_json(letter.value or b"").truncated_bytes == 6_000_000 - MAX_RAW_BYTES


def test_a_dead_letter_of_nothing_has_no_key_and_no_value() -> None:
    read = DeadLetter.model_validate_json(dead_letter(SourceRecord("t", 0, 0, 0, None, None), "value_missing", "", "").value or b"")
    assert (read.key, read.value) == (None, None)


# From Java: Utils.toPositive(Utils.murmur2(key)) % 100; the hash values are those of Kafka's own UtilsTest.
@pytest.mark.parametrize(("key", "murmur2"), [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)])
def test_murmur2_places_keys_where_java_does(key: bytes, murmur2: int) -> None:
    assert murmur2_partition(key, 100) == (murmur2 & 0x7FFFFFFF) % 100


def test_crc32_places_keys_where_librdkafka_does() -> None:
    assert crc32_partition(b"123456789", 1_000) == 0xCBF43926 % 1_000


def test_a_seam_strikes_at_its_pass_and_only_there() -> None:
    struck: list[int] = []
    reached = seams.armed("stored:3", lambda: struck.append(1))
    for _ in range(2):
        reached("stored")
        reached("acked")
    assert not struck
    reached("stored")
    reached("stored")
    assert len(struck) == 1


@pytest.mark.parametrize("spec", ["nowhere:1", "stored:0", "stored:x"])
def test_a_seam_that_does_not_exist_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"ASSAY_SEAM|invalid literal"):
        seams.armed(spec)


def test_an_armed_seam_kills_the_process() -> None:
    code = "from streams.runtime import seams; seams.reached('stored'); print('alive', flush=True); seams.reached('stored')"
    result = subprocess.run([sys.executable, "-c", code], env={"ASSAY_SEAM": "stored:2"}, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (-9, b"alive\n")


def test_a_data_dir_has_one_holder_at_a_time_and_says_who(tmp_path: Path) -> None:
    import os

    with DataDir(tmp_path / "d"):
        with pytest.raises(DataDirTaken, match=rf"in use by another worker \(pid {os.getpid()}\)") as taken:
            DataDir(tmp_path / "d")
        assert taken.value.exit_code == 4
    with DataDir(tmp_path / "d") as again:
        assert again.partition("recommend", 3) == tmp_path / "d" / "recommend" / "3"


def test_a_data_dir_names_its_worker_for_good_and_its_copy_names_another(tmp_path: Path):
    with DataDir(tmp_path / "d") as first:
        name = first.member_id()
        assert first.member_id() == name
    with DataDir(tmp_path / "d") as again:
        assert again.member_id() == name
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    with DataDir(tmp_path / "copy") as copy:
        other = copy.member_id()
        assert other != name
        assert copy.member_id() == other
    (tmp_path / "d" / "MEMBER").write_text("")
    with DataDir(tmp_path / "d") as torn:
        assert torn.member_id() == torn.member_id() != ""


def test_a_data_dir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirTaken, match="--data-dir"):
        DataDir(tmp_path / "file")
