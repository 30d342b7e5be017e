"""One partition's state on disk: RocksDB with bounded memory, written one batch at a time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from rocksdict import BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from streams.runtime.datadir import set_aside
from streams.runtime.errors import OutOfFiles, RuntimeFault, StoreCorrupt, StoreDamaged, StoreFailed
from streams.runtime.marker import CHECKPOINT_KEY, MARKER_KEY, RESERVED, Marker

logger = logging.getLogger(__name__)

_MIB: Final = 1024 * 1024
#: Ten bits a key make a lookup of an absent key (a new shopper) read a data block in 1 % of cases.
_BLOOM_BITS: Final = 10
#: Files that one store keeps open at most.
OPEN_FILES: Final = 256
#: Half the time for which a compacted changelog keeps tombstones (``delete.retention.ms``, 7 days; see ``streams.topics``).
MAX_AGE_MS: Final = 84 * 3_600_000
#: What RocksDB says when its files, and not the disk or our call, are at fault.
_DAMAGE: Final = (
    "Corruption",
    "checksum",
    "truncated",
    "CURRENT",
    "MANIFEST",
    "No such file",
    "not a valid",
    "Bad table magic",
    "too short",
)
#: What only the operator can mend, whichever file it befell: a MANIFEST that could not be written for lack of room is no damaged one.
_OF_THE_DISK: Final = (
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Permission denied",
    "Not a directory",
    "File exists",
)
_OF_THE_PROCESS: Final = "Too many open files"


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Memory bounds of one partition: RocksDB's own defaults are 2 GiB of cache and 192 MiB of memtables."""

    cache_mb: int = 16
    memtable_mb: int = 8


def _rebuild_note(path: Path) -> Path:
    """The file beside a store whose presence says that it must be rebuilt."""
    return path.with_name(f"{path.name}.rebuild")


def _options(limits: StoreOptions) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(limits.memtable_mb * _MIB)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(4 * limits.memtable_mb * _MIB)
    options.set_max_background_jobs(2)
    options.set_max_open_files(OPEN_FILES)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    options.set_compression_type(DBCompressionType.lz4())
    table = BlockBasedOptions()
    table.set_block_cache(Cache(limits.cache_mb * _MIB))
    table.set_bloom_filter(_BLOOM_BITS, False)
    # Index and filters in pieces of 4 KiB: whole ones are megabytes a file, and a lookup whose piece is not in the cache reads it anew.
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options.set_block_based_table_factory(table)
    return options


def _open(path: Path, limits: StoreOptions) -> Rdict:
    # Named for the column family too: options given for the database alone hold for column families that this call creates,
    # and a store that is opened again would go on with a block cache of 8 MiB and without bloom filters.
    options = _options(limits)
    return Rdict(str(path), options, column_families={"default": options})


class Store:
    """Keyed state of one partition. Keys that begin with a zero byte are the runtime's own (marker, checkpoint).

    Reads and writes may come from different threads. Not synced on write: what a machine crash takes is read again from
    the changelog, because state, marker and checkpoint go in one atomic batch. All that raises ``StoreDamaged`` may raise ``OutOfFiles``.

    ``changelog_id`` is the broker's id of the changelog topic that this copies ("" where it gives none). It is kept beside the
    checkpoint, so that a copy of a topic that was deleted and created again is not believed, however long the new one is.
    """

    def __init__(self, path: Path, limits: StoreOptions | None = None, changelog_id: str = "") -> None:
        self.path = path
        self._changelog_id = changelog_id.encode()
        self._limits = limits or StoreOptions()
        try:
            self._db = _open(path, self._limits)
            self._db.get([MARKER_KEY, CHECKPOINT_KEY])
        except Exception as error:
            raise self._fault(error) from error

    @classmethod
    def open_or_rebuild(cls, path: Path, limits: StoreOptions | None = None, changelog_id: str = "") -> Self:
        """Open ``path``; damaged files are set aside and an empty store takes their place, to be filled from the changelog.

        Damaged is what RocksDB refuses to open and what an earlier run found unreadable. Raises ``StoreDamaged`` where the
        disk itself is the trouble (full, read-only, no permission).
        """
        note = _rebuild_note(path)
        try:
            if note.exists():
                raise StoreCorrupt(note.read_text())
            return cls(path, limits, changelog_id)
        except StoreCorrupt as damage:
            if path.exists():
                logger.error("%s; set aside as %s, the state is rebuilt from the changelog", damage, set_aside(path))
            note.unlink(missing_ok=True)
            return cls(path, limits, changelog_id)

    def _fault(self, error: Exception) -> RuntimeFault:
        text = str(error)
        if _OF_THE_PROCESS in text:
            return OutOfFiles(
                f"RocksDB in {self.path} needs more open files than this process may have: {error}; raise the limit (`ulimit -n`), "
                "or start more workers, so that each has fewer partitions (nothing is lost)"
            )
        if any(sign in text for sign in _OF_THE_DISK):
            return StoreDamaged(
                f"RocksDB in {self.path} cannot be used: {error}; free the disk if it is full and check its permissions, "
                "then start again (nothing is lost, the state is in the changelog)"
            )
        if any(sign in text for sign in _DAMAGE):
            damage = f"RocksDB in {self.path} is damaged: {error}"
            # On a full disk there is no note; then the next start finds the damage by itself, or stops here again.
            with contextlib.suppress(OSError):
                _rebuild_note(self.path).write_text(damage)
            return StoreCorrupt(f"{damage}; the next start rebuilds it from the changelog (as does `assay reset --local`)")
        return StoreFailed(f"RocksDB in {self.path} failed: {error}; start again (nothing is lost, the state is in the changelog)")

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``; None where absent. Raises ``StoreDamaged``."""
        if not keys:
            return []
        try:
            return self._db.get(list(keys))  # type: ignore[no-any-return]
        except Exception as error:
            raise self._fault(error) from error

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``; None where absent. Takes three quarters of the time of a list of one. Raises ``StoreDamaged``."""
        try:
            return self._db.get(key)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._fault(error) from error

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """State pairs whose key starts with ``prefix`` and is not below ``start``, in key order. Raises ``StoreDamaged``."""
        try:
            for key, value in self._db.items(from_key=max(prefix, start) or b"\x01"):
                if not key.startswith(prefix):
                    return
                if not key.startswith(RESERVED):
                    yield key, value
        except StopIteration:
            return
        except Exception as error:
            raise self._fault(error) from error

    def checkpoint(self, now_ms: int) -> int:
        """The changelog offset from which this copy must be caught up; 0 = rebuild it.

        A copy older than ``MAX_AGE_MS`` may have missed deletions whose tombstones compaction has removed since; one of another
        changelog says nothing of this one.
        """
        value = self.get(CHECKPOINT_KEY)
        if value is None:
            return 0
        offset, taken_ms, *copied_id = value.split()
        if self._changelog_id and copied_id != [self._changelog_id]:
            return 0
        return int(offset) if now_ms - int(taken_ms) <= MAX_AGE_MS else 0

    def empty(self) -> bool:
        """Whether nothing was ever read into it."""
        value = self.get(CHECKPOINT_KEY)
        return value is None or value.startswith(b"0 ")

    def marker(self) -> Marker:
        """How far the sources were applied when the checkpoint was taken."""
        return Marker.decode(self.get(MARKER_KEY))

    def write(self, writes: Iterable[tuple[bytes, bytes | None]], checkpoint: int, now_ms: int) -> None:
        """Apply ``writes`` (None deletes; the marker may be among them) and set the checkpoint, atomically. Raises ``StoreDamaged``."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in writes:
            if value is None:
                delete(key)
            else:
                put(key, value)
        put(CHECKPOINT_KEY, (b"%d %d %s" % (checkpoint, now_ms, self._changelog_id)).rstrip())
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Flush and release the files. Raises ``StoreDamaged``: what was not flushed comes back from the changelog."""
        try:
            self._db.close()
        except Exception as error:
            raise self._fault(error) from error

    def clear(self) -> None:
        """Delete everything, files included, and start empty. Raises ``StoreDamaged``."""
        try:
            self._db.close()
            Rdict.destroy(str(self.path), _options(self._limits))
            self._db = _open(self.path, self._limits)
        except Exception as error:
            raise self._fault(error) from error
