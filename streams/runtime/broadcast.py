"""Topics that every worker reads: a thread fetches, the compute thread applies between batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.runtime.beginning import beginnings
from streams.runtime.changelog import ends, ends_reading, fetch, reader_config
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable
from streams.runtime.processor import Record, SourceRecord
from streams.runtime.task import Broadcast

logger = logging.getLogger(__name__)

_METADATA_S: Final = 30.0
#: How often a long catching up says how far it is.
_SAY_S: Final = 10.0
_FETCH: Final = 5_000
_POLL_S: Final = 0.1
#: What is read in one turn should be applied in this time, by what records took so far, so that nobody waits longer for the compute thread;
#: so many records at least, and at most ``_FETCH``.
_TURN_S: Final = 0.25
_LEAST: Final = 100
#: Records read ahead while catching up, when nothing else is to be done, and bytes of values that may wait at any time.
_MAX_WAITING: Final = 2 * _FETCH
_MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

Place = tuple[str, int]


class BroadcastReader:
    """Reads all partitions of ``broadcasts``, committed records only: from the beginning, or the newest where those are enough.
    ``topics``: table name -> topic on the broker.

    ``start`` once; then ``drain`` from the compute thread hands records to each ``Broadcast.apply`` in order.
    ``failed`` is called (in the reader's thread) with what ends it.

    No more is read ahead than can be applied in a moment: so whoever drains has applied all that was read by then, and still waits
    for a moment only, however much is published. What is not read yet shows in ``lag``.
    """

    def __init__(
        self,
        client_config: Mapping[str, Any],
        group: str,
        broadcasts: Sequence[Broadcast],
        topics: Mapping[str, str],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._topics = topics
        self._apply = {topics[broadcast.topic]: broadcast.apply for broadcast in broadcasts}
        self._newest = {topics[broadcast.topic]: broadcast.newest for broadcast in broadcasts}
        self._group = group
        self._failed = failed
        self._waiting: deque[tuple[str, list[Record], dict[Place, int]]] = deque()
        self._waiting_records = self._waiting_bytes = 0
        # Records that may be read in this turn, and seconds that applying one took of late.
        self._left = _FETCH
        self._seconds = 0.0
        self._catching_up = False
        self._reached: dict[Place, int] = {}
        self._applied: dict[Place, int] = {}
        self._arrived = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        config = reader_config(client_config, f"{group}-broadcast")
        self._consumer = Consumer({**config, "queued.min.messages": 20_000, "queued.max.messages.kbytes": 64 * 1024}, logger=logger)
        self._admin = AdminClient({**client_config, "log_level": 3}, logger=logger)
        self._thread = threading.Thread(target=self._read, name=f"broadcast-{group}", daemon=True)
        self._places: list[Place] = []

    def start(self) -> None:
        """Find the partitions and begin to read. Raises ``BroadcastFailed`` where a topic is missing or the broker does not answer."""
        for topic in self._apply:
            try:
                metadata = self._admin.list_topics(topic, timeout=_METADATA_S).topics[topic]
            except KafkaException as error:
                raise BroadcastFailed(f"topic {topic}: {error}") from error
            if metadata.error is not None:
                raise BroadcastFailed(f"topic {topic} cannot be read: {metadata.error}; create it with `assay topics create`")
            partitions = sorted(metadata.partitions)
            self._places += [(topic, partition) for partition in partitions]
            self._reached |= self._beginnings(topic, partitions)
        self._applied = dict(self._reached)
        self._consumer.assign([TopicPartition(*place, self._reached.get(place, OFFSET_BEGINNING)) for place in self._places])
        self._thread.start()

    def _beginnings(self, topic: str, partitions: Sequence[int]) -> dict[Place, int]:
        enough = self._newest[topic]
        if enough is None:
            return {}
        try:
            begin = beginnings(self._consumer, topic, partitions, enough, _METADATA_S)
        except BrokerUnreachable as error:
            raise BroadcastFailed(str(error)) from error
        return {(topic, partition): offset for partition, offset in begin.items()}

    # -- The reader's thread ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while not self._stopping:
                if not self._has_room():
                    with self._arrived:
                        self._arrived.wait_for(lambda: self._stopping or self._has_room(), timeout=1.0)
                    continue
                messages = fetch(self._consumer, _FETCH if self._catching_up else min(self._left, _FETCH), _POLL_S)
                if messages:
                    self._take(messages)
        except BaseException as error:
            with self._arrived:
                self._error = error
                self._arrived.notify_all()
            self._failed(error)
        finally:
            self._consumer.close()

    def _has_room(self) -> bool:
        if self._waiting_bytes > _MAX_WAITING_BYTES:
            return False
        return self._waiting_records <= _MAX_WAITING if self._catching_up else self._left > 0

    def _take(self, messages: Sequence[Message]) -> None:
        records: dict[str, list[Record]] = {}
        reached: dict[Place, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                kind, timestamp = message.timestamp()
                record = SourceRecord(topic, partition, offset, timestamp if kind else 0, message.key(), message.value())
                records.setdefault(topic, []).append(record)
                reached[topic, partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                place = (message.topic(), message.partition())
                reached[place] = max(reached.get(place, 0), message.offset())
            elif ends_reading(error):
                raise BroadcastFailed(f"topic {message.topic()}: {error.str()}")
        with self._arrived:
            for topic, batch in records.items():
                ends = {place: offset for place, offset in reached.items() if place[0] == topic}
                self._waiting.append((topic, batch, ends))
                self._waiting_records += len(batch)
                self._left -= len(batch)
                self._waiting_bytes += _bytes_of(batch)
            self._reached.update(reached)
            self._arrived.notify_all()

    # -- The compute thread -------------------------------------------------------------------------------------------

    def drain(self, *, more: bool = True) -> int:
        """Apply everything that has been read by now; the number of records. Raises what ended the reader, or what ``apply`` raises.

        With ``more`` a turn is over, and the reader may read for the next one.
        """
        if self._error is not None:
            raise BroadcastFailed(f"broadcast topics can no longer be read: {self._error}") from self._error
        applied = 0
        began = time.monotonic()
        # What is read meanwhile waits for the next call: a reader that is as quick as this would keep it for ever.
        for _ in range(len(self._waiting)):
            if self._stopping:
                break
            topic, records, ends = self._waiting.popleft()
            self._apply[topic](records)
            applied += len(records)
            self._applied.update(ends)
            with self._arrived:
                self._waiting_records -= len(records)
                self._waiting_bytes -= _bytes_of(records)
                self._arrived.notify_all()
        if applied:
            self._seconds = (self._seconds + (time.monotonic() - began) / applied) / 2
        if more:
            with self._arrived:
                self._left = max(_LEAST, min(_FETCH, int(_TURN_S / max(self._seconds, 1e-9))))
                self._arrived.notify_all()
        return applied

    @property
    def turn_due(self) -> bool:
        """Whether something waits to be applied, or to be read."""
        return bool(self._waiting) or self._left <= 0 or self._error is not None

    def catch_up(self, timeout_s: float, *, while_moving: bool = False) -> None:
        """Read and apply to the end that every topic has now.

        Raises ``BroadcastFailed`` if that takes longer than ``timeout_s``; ``while_moving`` it may take as long as there is something to
        read, and fails only once nothing came for so long. So does it as soon as the reader is to stop.
        """
        try:
            known = ends(self._admin, self._places, timeout_s)
        except BrokerUnreachable as error:
            raise BroadcastFailed(str(error)) from error
        self._catching_up = True
        try:
            self._catch_up(known, timeout_s, while_moving=while_moving)
        finally:
            self._catching_up = False

    def _catch_up(self, known: Mapping[Place, int], timeout_s: float, *, while_moving: bool) -> None:
        began = said = moved = time.monotonic()
        records = 0
        before: Mapping[Place, int] = {}
        while True:
            with self._arrived:
                self._arrived.notify_all()
                patience = max(0.0, moved + timeout_s - time.monotonic())
                self._arrived.wait_for(lambda: self._stopping or self._error or self._waiting or not self._behind(known), timeout=patience)
            if self._stopping:
                raise BroadcastFailed(f"broadcast topics were not read to their end: the reader stops ({records:,} records were read)")
            # Looked at before the draining: what the reader has reached by then is drained, what it reaches meanwhile may not be.
            behind = self._behind(known)
            applied = self.drain()
            records += applied
            if not behind:
                return
            now = time.monotonic()
            if while_moving and (applied or behind != before):
                moved = now
            before = behind
            to_go = sum(end - self._reached.get(place, 0) for place, end in behind.items())
            if now - moved >= timeout_s:
                raise BroadcastFailed(
                    f"of broadcast topics {records:,} records were read in {now - began:.0f} s and {to_go:,} offsets not, "
                    f"{'nothing for the last' if while_moving else 'within'} {timeout_s:.0f} s: {behind}"
                )
            if now - said >= _SAY_S:
                said = now
                logger.info("%s: read %d broadcast records in %.0f s, at most %d offsets to go", self._group, records, now - began, to_go)

    def _behind(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        return {place: end for place, end in ends.items() if end > 0 and self._reached.get(place, 0) < end}

    # -- From any thread ----------------------------------------------------------------------------------------------

    def ends_of(self, topic: str, timeout_s: float) -> dict[Place, int]:
        """Where the partitions of ``topic`` (a table name) end now. Raises ``BrokerUnreachable``."""
        return ends(self._admin, [place for place in self._places if place[0] == self._topics[topic]], timeout_s)

    def to_go(self, ends: Mapping[Place, int]) -> int:
        """Offsets still to be read before ``ends``; once there are none, the next ``drain`` leaves none of them unapplied."""
        with self._arrived:
            return sum(end - self._reached.get(place, 0) for place, end in self._behind(ends).items())

    def positions(self) -> dict[Place, int]:
        """(topic, partition) -> offset after the last record applied."""
        return dict(self._applied)

    def lag(self, timeout_s: float) -> dict[Place, int]:
        """(topic, partition) -> offsets between what was applied and the end. Raises ``BrokerUnreachable``."""
        with self._arrived:
            # Ends that are told without a record, after the marker of a transaction, are known to the reader only.
            at = dict(self._applied if self._waiting else self._reached)
        return {place: max(0, end - at.get(place, 0)) for place, end in ends(self._admin, self._places, timeout_s).items()}

    def interrupt(self) -> None:
        """Read and apply no more; who waits for it no longer does."""
        self._stopping = True
        with self._arrived:
            self._arrived.notify_all()

    def stop(self) -> None:
        """End the thread and let go of the broker."""
        self.interrupt()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        del self._admin  # it has no close(), and goes on connecting while it is held


def _bytes_of(records: Sequence[Record]) -> int:
    return sum([len(record.value) for record in records if record.value is not None])
