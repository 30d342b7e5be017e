"""Reading one partition of a changelog: read committed, in large batches, to its present end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.runtime.errors import BrokerUnreachable

logger = logging.getLogger(__name__)

#: Records handed over at once: one RocksDB batch each.
BATCH: Final = 10_000
_POLL_S: Final = 0.5
#: That a partition ends here is said in an empty answer, which the broker holds back this long: what opening a partition takes at least.
_END_WAIT_MS: Final = 10
#: Without a word from the broker for this long, the read fails.
SILENCE_S: Final = 60.0

#: What a partition answers while it is being created or moves between brokers, and the pause before it is asked again.
_SETTLING: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - librdkafka's own names
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    }
)
#: What a request to several partitions at once may also meet then.
_AWAY: Final = _SETTLING | {KafkaError._NOENT, KafkaError._TRANSPORT}  # noqa: SLF001
_SETTLE_S: Final = 0.1
#: What a consumer cannot read on after: it may not, there is no such topic, or records are lost or cannot be decoded.
_FINAL: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
        KafkaError._LOG_TRUNCATION,  # noqa: SLF001
        KafkaError.INVALID_MSG,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError.UNSUPPORTED_VERSION,
    }
)

Pairs = list[tuple[bytes, bytes | None]]


def reader_config(client_config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A consumer that reads whole partitions: committed records only, told where they end, never joining ``group`` nor committing."""
    return {
        **client_config,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "fetch.max.bytes": 64 * 1024 * 1024,
        "max.partition.fetch.bytes": 16 * 1024 * 1024,
        "queued.min.messages": 200_000,
        "queued.max.messages.kbytes": 128 * 1024,
        "fetch.error.backoff.ms": 50,
        "enable.metrics.push": False,
        "log_level": 3,
    }


def fetch(consumer: Consumer, most: int, timeout_s: float) -> list[Message]:
    """Up to ``most`` messages as soon as there are any (librdkafka's ``consume`` would wait for the full number)."""
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *consumer.consume(most - 1, 0.0)]


def ends_reading(error: KafkaError) -> bool:
    """Whether a message's error, other than that a partition ends here, is one that a consumer cannot read on after; others are logged.

    Those are for information: librdkafka fetches again after a pause (``rd_kafka_fetch_reply_handle_partition_error``). They say nothing
    of it themselves, ``retriable()`` being about calls of a transactional producer.
    """
    if error.fatal() or error.code() in _FINAL:
        return True
    logger.warning("while reading: %s (%s); it is tried again", error.str(), error.name())
    return False


class ChangelogReader:
    """Reads partition ``partition`` of ``topic``. Not for use from several threads at once."""

    def __init__(self, client_config: Mapping[str, Any], group: str, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        config = reader_config(client_config, f"{group}-reader") | {"fetch.wait.max.ms": _END_WAIT_MS}
        self._consumer = Consumer(config, logger=logger)

    def extent(self, timeout_s: float = 30.0) -> tuple[int, int]:
        """First offset held and the end (of what is committed). Raises ``BrokerUnreachable``."""
        return watermarks(self._consumer, self._topic, self._partition, timeout_s)

    def read(self, start: int, cancelled: Callable[[], bool] = lambda: False) -> Iterator[tuple[Pairs, int]]:
        """Batches of (key, value) pairs from offset ``start`` to the end as it is when reached, each with the offset that follows it.

        The last item carries the end, with an empty list where nothing was new. Stops early when ``cancelled``.
        Raises ``BrokerUnreachable`` after ``SILENCE_S`` without a record.
        """
        offset = start if start > 0 else OFFSET_BEGINNING
        self._consumer.assign([TopicPartition(self._topic, self._partition, offset)])
        last_word = time.monotonic()
        position = reached = max(start, 0)
        while not cancelled():
            pairs: Pairs = []
            ended = False
            for message in fetch(self._consumer, BATCH, _POLL_S):
                error = message.error()
                if error is None:
                    key = message.key()
                    if key is not None:
                        pairs.append((key, message.value()))
                    position = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                    position = max(position, message.offset())
                    ended = True
                elif ends_reading(error):
                    raise BrokerUnreachable(f"changelog {self._topic}/{self._partition} cannot be read: {error.str()}")
            if position > reached or ended:
                last_word = time.monotonic()
                reached = position
            elif time.monotonic() - last_word > SILENCE_S:
                raise BrokerUnreachable(
                    f"changelog {self._topic}/{self._partition}: neither a record nor the end from the broker for {SILENCE_S:.0f} s"
                )
            if pairs or ended:
                yield pairs, position
            if ended:
                break
        self._consumer.unassign()

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def watermarks(consumer: Consumer, topic: str, partition: int, timeout_s: float = 30.0) -> tuple[int, int]:
    """First offset and end of a partition, as a consumer of this isolation level sees it. Raises ``BrokerUnreachable``.

    A partition that is just being created or changes its leader is asked again for up to ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s, cached=False)
        except KafkaException as error:
            if error.args[0].code() not in _SETTLING or time.monotonic() > deadline:
                raise BrokerUnreachable(f"{topic}/{partition}: the broker did not tell its offsets: {error.args[0].str()}") from error
            time.sleep(_SETTLE_S)
        else:
            return low, high


def ends(admin: AdminClient, places: Iterable[tuple[str, int]], timeout_s: float) -> dict[tuple[str, int], int]:
    """End of what is committed, for each (topic, partition) of ``places``, in one request to each broker. Raises ``BrokerUnreachable``.

    Partitions that are just being created or change their leader are asked again for up to ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    while True:
        patience = max(_SETTLE_S, deadline - time.monotonic())
        answers = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=patience) if wanted else {}
        try:
            return {(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}
        except KafkaException as error:
            if error.args[0].code() not in _AWAY or time.monotonic() > deadline:
                raise BrokerUnreachable(f"the broker did not tell where its topics end: {error.args[0].str()}") from error
            time.sleep(_SETTLE_S)
