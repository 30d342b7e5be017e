from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

import streams.runtime.store
from streams.runtime.errors import OutOfFiles, StoreCorrupt, StoreDamaged, StoreFailed
from streams.runtime.marker import MARKER_KEY, Marker
from streams.runtime.store import MAX_AGE_MS, Store, StoreOptions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "task" / "0"


@pytest.fixture(autouse=True)
def _parent(path: Path) -> None:
    path.parent.mkdir()


def fill(store: Store, count: int = 2_000) -> None:
    store.write([(f"k{i:05}".encode(), os.urandom(100)) for i in range(count)], 10, 0)


def test_values_come_back_in_the_order_of_the_keys_and_after_reopening(path: Path) -> None:
    store = Store(path)
    store.write([(b"a", b"1"), (b"b", b"2"), (MARKER_KEY, Marker({"t": 3}).encode())], 7, 1_000)
    store.write([(b"b", None)], 8, 1_000)
    store.close()
    store = Store(path)
    assert store.get_many([b"z", b"b", b"a"]) == [None, None, b"1"]
    assert store.get_many([]) == []
    assert store.checkpoint(1_000) == 8
    assert store.marker().offsets == {"t": 3}
    store.close()


def test_a_store_that_is_opened_again_keeps_its_bounds_and_its_filters(path: Path) -> None:
    """By what RocksDB itself writes down; asked twice, because options may hold for a new store only."""
    for cache_mb in (5, 7):
        Store(path, StoreOptions(cache_mb=cache_mb, memtable_mb=3)).close()
        told = {line.strip().replace(" ", "") for line in (path / "LOG").read_text().splitlines()}
        assert {f"capacity:{cache_mb << 20}", "filter_policy:bloomfilter", "partition_filters:1", "index_type:2"} <= told
        assert any(line.endswith(f"Options.write_buffer_size:{3 << 20}") for line in told)


def test_a_scan_gives_one_prefix_in_order_and_never_what_the_runtime_keeps_for_itself(path: Path) -> None:
    store = Store(path)
    store.write([(b"p:2", b"2"), (b"p:1", b"1"), (b"q", b"3"), (MARKER_KEY, Marker().encode())], 1, 0)
    assert list(store.scan(b"p:")) == [(b"p:1", b"1"), (b"p:2", b"2")]
    assert [key for key, _ in store.scan(b"")] == [b"p:1", b"p:2", b"q"]
    assert [[key for key, _ in store.scan(b"p:", start)] for start in (b"a", b"p:1", b"p:11", b"p:3", b"q")] == [
        [b"p:1", b"p:2"], [b"p:1", b"p:2"], [b"p:2"], [], [],
    ]  # fmt: skip
    store.close()


def test_a_copy_so_old_that_it_may_have_missed_tombstones_must_be_rebuilt(path: Path) -> None:
    store = Store(path)
    store.write([(b"a", b"1")], 7, 1_000)
    assert store.checkpoint(1_000 + MAX_AGE_MS) == 7
    assert store.checkpoint(1_001 + MAX_AGE_MS) == 0
    assert not store.empty()
    store.clear()
    assert store.empty()
    assert store.get_many([b"a"]) == [None]
    store.close()


def test_a_store_that_was_read_to_the_end_of_an_empty_changelog_is_empty(path: Path) -> None:
    store = Store(path)
    store.write([], 0, 1_000)
    assert store.empty()
    store.close()


def test_damaged_files_are_set_aside_and_an_empty_store_takes_their_place(path: Path) -> None:
    store = Store(path)
    fill(store)
    store.close()
    for manifest in path.glob("MANIFEST-*"):
        manifest.write_bytes(manifest.read_bytes()[:20])
    with pytest.raises(StoreCorrupt):
        Store(path)
    store = Store.open_or_rebuild(path)
    assert store.empty()
    store.close()
    assert len(list(path.parent.glob("0.damaged-*"))) == 1
    assert not list(path.parent.glob("0.rebuild"))


def test_damage_found_while_running_is_remembered_so_that_the_next_start_mends_it(path: Path) -> None:
    store = Store(path)
    fill(store)
    store._db.flush()
    for table in path.glob("*.sst"):
        data = bytearray(table.read_bytes())
        data[100:2_000] = os.urandom(1_900)
        table.write_bytes(data)
    with pytest.raises(StoreCorrupt) as damage:
        store.get_many([f"k{i:05}".encode() for i in range(2_000)])
    assert damage.value.exit_code == 5
    store.close()
    rebuilt = Store.open_or_rebuild(path)
    assert rebuilt.empty()
    rebuilt.close()


def test_damage_on_a_full_disk_is_still_a_fault_of_the_store_and_of_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(path)
    fill(store)
    store._db.flush()
    for table in path.glob("*.sst"):
        table.write_bytes(os.urandom(len(table.read_bytes())))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreCorrupt):
        store.get_many([f"k{i:05}".encode() for i in range(2_000)])
    store.close()


@pytest.mark.parametrize("reason", ["No space left on device", "Permission denied", "Read-only file system"])
def test_a_manifest_that_could_not_be_written_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    store = Store(path)
    fill(store)
    store.close()

    # Word for word what RocksDB says when a disk of 8 MB is full at its start.
    def refuse(*_: object, **__: object) -> None:
        raise Exception(f"IO error: {reason}: While appending to file: {path}/MANIFEST-000013: {reason}")

    with monkeypatch.context() as patch:
        patch.setattr(streams.runtime.store, "Rdict", refuse)
        with pytest.raises(StoreDamaged, match="free the disk if it is full") as trouble:
            Store.open_or_rebuild(path)
    assert trouble.value.exit_code == 4
    assert not list(path.parent.glob("0.*"))
    store = Store.open_or_rebuild(path)
    assert not store.empty()
    store.close()


def test_a_store_whose_last_user_has_not_ended_yet_is_tried_again(path: Path) -> None:
    store = Store(path)
    with pytest.raises(StoreFailed, match="nothing is lost") as trouble:
        Store.open_or_rebuild(path)
    assert trouble.value.exit_code == 5
    store.close()
    Store.open_or_rebuild(path).close()


def test_too_many_open_files_are_no_fault_of_the_disk_and_lose_nothing(path: Path) -> None:
    store = Store(path)
    fill(store)
    store.close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 2, limits[1]))
    try:
        with pytest.raises(OutOfFiles, match="ulimit -n") as trouble:
            Store.open_or_rebuild(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert trouble.value.exit_code == 5
    assert not list(path.parent.glob("0.*"))
    store = Store.open_or_rebuild(path)
    assert not store.empty()
    store.close()


def test_what_is_no_damage_is_left_to_the_operator(path: Path) -> None:
    path.write_text("a file where the folder should be")
    with pytest.raises(StoreDamaged, match="free the disk if it is full") as trouble:
        Store.open_or_rebuild(path)
    assert trouble.value.exit_code == 4
    assert path.read_text()
