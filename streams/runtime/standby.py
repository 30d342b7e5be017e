"""A warm standby: the changelogs of partitions owned elsewhere, tailed into local RocksDB, so that taking one over is a short catch-up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from streams.runtime.changelog import BATCH, Pairs, ends_reading, fetch, reader_config
from streams.runtime.datadir import DataDir
from streams.runtime.errors import BrokerUnreachable
from streams.runtime.names import group_id
from streams.runtime.store import Store, StoreOptions
from streams.settings import Settings

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.2


class Standby:
    """Follows partitions of ``changelog`` in a thread of its own. ``failed`` is called (in that thread) with what ends it."""

    def __init__(
        self, settings: Settings, task: str, data: DataDir, changelog: str, failed: Callable[[BaseException], None], changelog_id: str = ""
    ) -> None:
        self._settings = settings
        self._task = task
        self._data = data
        self._changelog = changelog
        self._changelog_id = changelog_id
        self._failed = failed
        self._lock = threading.Condition()
        # Who waits to release partitions. A lock knows no turns: the thread, which takes it again at once, would keep it from them.
        self._asked = 0
        self._stores: dict[int, Store] = {}
        self._wanted: frozenset[int] = frozenset()
        # Stores were opened or closed since partitions were last assigned; how often they were.
        self._changed = False
        self._assignments = 0
        self._stopping = False
        self._consumer = Consumer(reader_config(settings.client_config(), f"{group_id(settings, task)}-standby"), logger=logger)
        self._thread = threading.Thread(target=self._run, name=f"standby-{task}", daemon=True)
        self._thread.start()

    def follow(self, partitions: Iterable[int]) -> None:
        """Follow exactly these partitions from now on."""
        self._wanted = frozenset(partitions)

    def release(self, partitions: Iterable[int]) -> None:
        """Close the stores of these partitions, which this worker is about to own; returns when they are closed.

        A rebalance waits for it, so it waits for no poll, and for one RocksDB write or opening at most.
        """
        self._wanted -= frozenset(partitions)
        self._asked += 1
        with self._lock:
            self._asked -= 1
            self._close_unwanted()
            if self._changed:
                self._assign()
            self._lock.notify_all()

    def positions(self) -> dict[int, int]:
        """Partition -> changelog offset that the local copy has reached."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            return {partition: store.checkpoint(now) for partition, store in self._stores.items()}

    def _close_unwanted(self) -> None:
        for partition in set(self._stores) - self._wanted:
            self._stores.pop(partition).close()
            self._changed = True

    def _open(self, partition: int) -> None:
        limits = StoreOptions(self._settings.rocksdb_cache_mb, self._settings.rocksdb_memtable_mb)
        store = Store.open_or_rebuild(self._data.partition(self._task, partition), limits, self._changelog_id)
        if store.checkpoint(time.time_ns() // 1_000_000) == 0 and not store.empty():
            store.clear()
        self._stores[partition] = store
        self._changed = True

    def _assign(self) -> None:
        now = time.time_ns() // 1_000_000
        self._consumer.assign(
            [TopicPartition(self._changelog, p, store.checkpoint(now) or OFFSET_BEGINNING) for p, store in self._stores.items()]
        )
        self._changed = False
        self._assignments += 1

    # -- The thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                assignment = self._settle()
                messages = fetch(self._consumer, BATCH, _POLL_S)
                with self._turn():
                    if assignment == self._assignments:
                        self._apply(messages)
                    else:
                        # They may be of the former assignment, of stores that have moved on since: read again from what was applied.
                        self._assign()
        except BaseException as error:
            self._failed(error)
        finally:
            self._consumer.close()
            for store in self._stores.values():
                store.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The lock, once nobody else asks for it."""
        with self._lock:
            self._lock.wait_for(lambda: not self._asked)
            yield

    def _settle(self) -> int:
        """Open and close stores until they are those wanted, one in a turn; the assignment that follows them."""
        while True:
            with self._turn():
                self._close_unwanted()
                missing = min(self._wanted - set(self._stores), default=None)
                if missing is None:
                    if self._changed:
                        self._assign()
                    return self._assignments
                self._open(missing)

    def _apply(self, messages: Sequence[Message]) -> None:
        batches: dict[int, tuple[Pairs, int]] = {}
        for message in messages:
            error = message.error()
            if error is None:
                pairs, _ = batches.setdefault(message.partition(), ([], 0))
                key = message.key()
                if key is not None:
                    pairs.append((key, message.value()))
                batches[message.partition()] = (pairs, message.offset() + 1)
            elif error.code() != KafkaError._PARTITION_EOF and ends_reading(error):  # noqa: SLF001
                raise BrokerUnreachable(f"standby of {self._changelog}: {error.str()}")
        now = time.time_ns() // 1_000_000
        for partition, (pairs, position) in batches.items():
            self._stores[partition].write(pairs, position, now)

    def stop(self) -> None:
        """End the thread and close the stores."""
        self._stopping = True
        self._thread.join(timeout=5.0)
