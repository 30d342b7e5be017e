"""A transactional producer for one partition: what it sends becomes visible whole, or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.runtime.errors import Fenced, ProducerFailed
from streams.runtime.partitioner import LIBRDKAFKA
from streams.runtime.processor import Output

logger = logging.getLogger(__name__)

_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own name for it
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)
#: A fatal error (fenced) is told while callbacks are served; a delivery report served in the same call then turns the KafkaException
#: into a SystemError that has it as its cause.
_RAISED: Final = (KafkaException, SystemError)
#: The largest record that our producers send and our topics take: room for a dead letter that quotes a whole oversized event in
#: base64, a shopper's whole profile, or a batch of exposures.
MAX_RECORD_BYTES: Final = 8 * 1_048_576
#: What the client holds of a transaction that the broker has not taken yet; beyond it sending waits.
_QUEUE_MESSAGES: Final = 1_000_000
_QUEUE_KBYTES: Final = 512 * 1024
#: A commit sends at once whatever is queued; before it, records wait this long for company in a batch.
_LINGER_MS: Final = 20
_ROOM_POLL_S: Final = 0.05
#: librdkafka's word for "the partitioner chooses" (in Python, murmur2 takes longer than all else that sending a record does).
_BY_KEY: Final = -1


class TransactionalProducer:
    """Owns ``transactional_id``: creating one and calling ``fence`` makes every earlier owner's next commit fail as fenced.

    ``timeout_s`` bounds a transaction: a dead owner's open transaction holds back readers for as long. ``partitioner``: see ``Settings``.
    """

    def __init__(
        self,
        client_config: Mapping[str, Any],
        transactional_id: str,
        *,
        timeout_s: float,
        partitioner: str,
        topic_names: Mapping[str, str],
    ) -> None:
        self._id = transactional_id
        self._timeout_s = timeout_s
        self._topic_names = topic_names
        self._producer = Producer(
            {
                **client_config,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": int(timeout_s * 1000),
                "partitioner": LIBRDKAFKA[partitioner],
                "compression.type": "lz4",
                "linger.ms": _LINGER_MS,
                "queue.buffering.max.messages": _QUEUE_MESSAGES,
                "queue.buffering.max.kbytes": _QUEUE_KBYTES,
                "message.max.bytes": MAX_RECORD_BYTES,
                "enable.metrics.push": False,
                "log_level": 3,
            },
            logger=logger,
        )

    def fence(self, timeout_s: float = 60.0) -> None:
        """Become the owner: earlier owners are fenced and what they left open is aborted. Raises ``ProducerFailed``."""
        try:
            self._producer.init_transactions(timeout_s)
        except _RAISED as error:
            raise self._fault(error, "initialising") from error

    def begin(self) -> None:
        """Open a transaction."""
        try:
            self._producer.begin_transaction()
        except _RAISED as error:
            raise self._fault(error, "beginning") from error

    def send(self, outputs: Iterable[Output]) -> None:
        """Queue ``outputs``: table names become topic names, librdkafka places keys. Raises ``ProducerFailed``, ``Fenced``."""
        produce = self._producer.produce
        names = self._topic_names
        try:
            for table, key, value, chosen, timestamp_ms in outputs:
                topic = names.get(table, table)
                partition = chosen if chosen is not None else _BY_KEY
                try:
                    produce(topic, value, key, partition, timestamp=timestamp_ms or 0)
                except BufferError:
                    self._wait_for_room(topic, value, key, partition, timestamp=timestamp_ms or 0)
        except _RAISED as error:
            raise self._fault(error, "sending") from error

    def _wait_for_room(self, *record: Any, **options: Any) -> None:
        """Produce while librdkafka's queue is full: it empties as the broker takes what is in it."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._producer.poll(_ROOM_POLL_S)
            try:
                self._producer.produce(*record, **options)
                return
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise self._fault(error, "sending") from error

    def send_changes(self, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> _LastOffset:
        """Queue ``pairs`` (None = tombstone) to one partition; the returned object knows the offset of the last once committed."""
        produce = self._producer.produce
        last = _LastOffset()
        try:
            for key, value in pairs[:-1]:
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    self._wait_for_room(topic, value, key, partition)
            for key, value in pairs[-1:]:
                try:
                    produce(topic, value, key, partition, on_delivery=last)
                except BufferError:
                    self._wait_for_room(topic, value, key, partition, on_delivery=last)
        except _RAISED as error:
            raise self._fault(error, "sending") from error
        return last

    def commit(self) -> None:
        """Commit, waiting for it. Raises ``Fenced`` where a new owner came, ``ProducerFailed`` for any other failure."""
        try:
            self._producer.commit_transaction(self._timeout_s + 5.0)
        except _RAISED as error:
            raise self._fault(error, "committing") from error

    def _fault(self, error: Exception, doing: str) -> Fenced | ProducerFailed:
        if isinstance(error, SystemError):
            if not isinstance(error.__cause__, KafkaException):
                raise error
            error = error.__cause__
        detail = error.args[0] if error.args else error
        if isinstance(detail, KafkaError) and detail.code() == KafkaError._FATAL:  # noqa: SLF001 - librdkafka's own name for it
            detail = self._what_was_fatal(detail)
        if isinstance(detail, KafkaError) and detail.code() in _FENCED:
            return Fenced(
                f"{self._id}: a new owner came, or the broker ended the transaction after its timeout, while {doing} ({detail.str()})"
            )
        return ProducerFailed(
            f"{self._id}: the transaction failed while {doing}: {detail}; the worker must start again (supervised, it does)"
        )

    def _what_was_fatal(self, vague: KafkaError) -> KafkaError:
        """Sending says only that there was a fatal error before; the transactional calls, all of which fail from then on, say which."""
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            return error.args[0]  # type: ignore[no-any-return]
        return vague

    def close(self) -> None:
        """Abort what is open, without waiting for the broker for long."""
        try:
            self._producer.abort_transaction(1.0)
        except _RAISED:
            logger.debug("%s: nothing to abort", self._id, exc_info=True)
        try:
            self._producer.purge(in_queue=True, in_flight=True)
            self._producer.flush(1.0)
        except _RAISED:
            # A fenced producer answers everything with the error that ended it.
            logger.debug("%s: nothing to purge", self._id, exc_info=True)


class _LastOffset:
    """A delivery callback that keeps the offset it is told."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = -1

    def __call__(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.offset = message.offset()
