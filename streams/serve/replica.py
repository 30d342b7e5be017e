"""A copy of ``recommendations`` and ``valuation.rolling`` on this machine: a read is one key lookup of ready-made bytes."""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from schemas.topics import RECOMMENDATIONS, VALUATION
from schemas.valuation import RollingValuation
from streams.runtime.changelog import ends_reading, fetch, reader_config, watermarks
from streams.runtime.errors import BroadcastFailed
from streams.runtime.names import group_id
from streams.runtime.store import Store
from streams.serve.metrics import APPLIED
from streams.settings import Settings

logger = logging.getLogger(__name__)

_FETCH: Final = 5_000
_POLL_S: Final = 0.1
#: An idle replica still notes this often that it is current, so that its age on disk is known (``Store.checkpoint``).
_NOTE_S: Final = 60.0
#: Prefix of each topic's keys in the store.
_PREFIXES: Final[dict[str, bytes]] = {RECOMMENDATIONS.name: b"r", VALUATION.name: b"v"}
_OFFSET: Final = b"o"
_IDENTITY: Final = b"identity"
_PLACE: Final = struct.Struct(">i")

Place = tuple[str, int]  # topic on the broker, partition


class Replica:
    """Reads every partition of both topics, committed records only, and keeps the newest value of each key.

    Of ``valuation.rolling`` these are the windows that move on; minutes that are over are for those who follow the topic.
    Offsets go into the same write as the records, so a restart goes on where the copy ends. A copy is thrown away and read
    anew when a topic was created again since, or when it is so old that it may have missed deletions.
    ``partitions`` and ``topic_ids``: of both topics, by name on the broker.
    """

    def __init__(self, settings: Settings, store: Store, partitions: Mapping[str, int], topic_ids: Mapping[str, str]) -> None:
        self._store = store
        self._tables = {settings.topic(name): name for name in _PREFIXES}
        self._consumer = Consumer(reader_config(settings.client_config(), f"{group_id(settings, 'serve')}-replica"), logger=logger)
        self._places = [(topic, partition) for topic in self._tables for partition in range(partitions[topic])]
        identity = {topic: [partitions[topic], topic_ids.get(topic, "")] for topic in self._tables}
        self._identity = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        self._ends: dict[Place, int] = {}
        self._positions: dict[Place, int] = {}
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="serve-replica", daemon=True)

    # -- Reading it ---------------------------------------------------------------------------------------------------

    def recommendations(self, key: str) -> bytes | None:
        """The newest list under a topic key (``user_id``, or ``session:`` + ``session_id``), as it was written; None without one."""
        return self._store.get(b"r" + key.encode())

    def valuation(self, dimension: str) -> list[tuple[str, bytes]]:
        """(asset and window with ``|`` between, record as it was written) of a dimension, in key order."""
        prefix = b"v" + dimension.encode() + b"|"
        return [(key[len(prefix) :].decode(), value) for key, value in self._store.scan(prefix)]

    @property
    def ready(self) -> bool:
        """Whether everything that the topics held at the start has been read."""
        return self._ready.is_set()

    def behind(self) -> dict[str, int]:
        """Offsets still to go to the end seen at the start, by table name; a topic that is there is left out."""
        missing: dict[str, int] = {}
        for (topic, partition), end in self._ends.items():
            gap = end - self._positions.get((topic, partition), 0)
            if gap > 0:
                missing[self._tables[topic]] = missing.get(self._tables[topic], 0) + gap
        return missing

    # -- Filling it ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find where the copy ends and begin to read. Raises ``BrokerUnreachable``, ``StoreDamaged``."""
        extents = {place: watermarks(self._consumer, *place) for place in self._places}
        self._positions = self._stored_positions(extents)
        self._ends = {place: end for place, (first, end) in extents.items() if end > first}
        for place, (first, _) in extents.items():
            self._positions[place] = max(self._positions.get(place, 0), first)
        self._consumer.assign([TopicPartition(*place, self._positions[place] or OFFSET_BEGINNING) for place in self._places])
        self._check_ready()
        self._thread.start()

    def _stored_positions(self, extents: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        """Where each partition is to go on; nothing, after the copy was thrown away, when it cannot be trusted."""
        identity = self._store.get(_IDENTITY)
        positions = {_place(key): int(value) for key, value in self._store.scan(_OFFSET)}
        fault = None
        if identity is not None and identity != self._identity:
            fault = "a topic was created again"
        elif any(position > extents[place][1] for place, position in positions.items() if place in extents):
            fault = "a topic ends before what was read from it: it was created again"
        elif identity is not None and self._store.checkpoint(_now_ms()) == 0:
            fault = "it is too old to have seen every deletion"
        if fault is not None:
            logger.warning("the copy in %s is read anew from the topics: %s", self._store.path, fault)
            self._store.clear()
            positions = {}
        self._store.write([(_IDENTITY, self._identity)], 1, _now_ms())
        return positions

    def _run(self) -> None:
        noted = time.monotonic()
        try:
            while not self._stopping.is_set():
                messages = fetch(self._consumer, _FETCH, _POLL_S)
                if messages:
                    self._apply(messages)
                if messages or time.monotonic() - noted > _NOTE_S:
                    noted = time.monotonic()
                    if not messages:
                        self._store.write((), 1, _now_ms())
        except BaseException as error:
            self.error = error
            logger.exception("the read replica stopped; lists go stale until this process is started again")
        finally:
            self._consumer.close()

    def _apply(self, messages: Sequence[Message]) -> None:
        writes: dict[bytes, bytes | None] = {}
        counts = dict.fromkeys(_PREFIXES, 0)
        positions: dict[Place, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                table = self._tables[message.topic()]
                positions[message.topic(), message.partition()] = message.offset() + 1
                counts[table] += 1
                key = message.key()
                if key is not None and (table != VALUATION.name or self._is_shown(message)):
                    writes[_PREFIXES[table] + key] = message.value()
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                place = (message.topic(), message.partition())
                positions[place] = max(positions.get(place, 0), message.offset())
            elif ends_reading(error):
                raise BroadcastFailed(f"{message.topic()}/{message.partition()} can no longer be read: {error.str()}")
        changed = {place: offset for place, offset in positions.items() if offset != self._positions.get(place, 0)}
        if not changed:
            return
        for (topic, partition), offset in changed.items():
            writes[_offset_key(topic, partition)] = b"%d" % offset
        self._store.write(writes.items(), 1, _now_ms())
        self._positions.update(changed)
        for table, count in counts.items():
            APPLIED.labels(table).inc(count)
        self._check_ready()

    def _is_shown(self, message: Message) -> bool:
        """Whether a record of ``valuation.rolling`` is one of the windows that move on, and is what it should be.

        The records of a dimension are one reply, so a single one that is none would make them all unreadable.
        """
        key, value = message.key(), message.value()
        if _is_over(key):
            return False
        try:
            key.decode()
            if value is not None:
                RollingValuation.model_validate_json(value)
        except ValueError as error:
            place = f"{message.topic()}/{message.partition()} offset {message.offset()}"
            logger.error("%s is no valuation record and was passed over: %s", place, str(error).splitlines()[0])
            return False
        return True

    def _check_ready(self) -> None:
        if not self._ready.is_set() and not self.behind():
            self._ready.set()

    def stop(self) -> None:
        """End the thread and let go of the broker; the store stays open."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        elif self._thread.ident is None:
            self._consumer.close()


def _is_over(key: bytes) -> bool:
    """Whether a record of ``valuation.rolling`` is that of a minute that is over (``1m@START``): the read API has what moves on."""
    return b"@" in key.rpartition(b"|")[2]


def _offset_key(topic: str, partition: int) -> bytes:
    return _OFFSET + _PLACE.pack(partition) + topic.encode()


def _place(offset_key: bytes) -> Place:
    start = len(_OFFSET) + _PLACE.size
    return offset_key[start:].decode(), _PLACE.unpack(offset_key[len(_OFFSET) : start])[0]


def _now_ms() -> int:
    return int(time.time() * 1000)
