"""Where to begin to read a topic of which only the newest records are wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.runtime.changelog import watermarks
from streams.runtime.errors import BrokerUnreachable

logger = logging.getLogger(__name__)

#: How exactly the time is found, in ms.
_GRAIN_MS: Final = 1_000


def beginnings(consumer: Consumer, topic: str, partitions: Sequence[int], enough: int, timeout_s: float) -> dict[int, int]:
    """Partition -> offset from which to read so that all together hold at least the newest ``enough`` offsets of ``topic``.

    Empty where it holds no more than that. All partitions begin at the same time (the broker's), so that what they say of each other is
    read whole or not at all. Raises ``BrokerUnreachable``.
    """
    extents = {partition: watermarks(consumer, topic, partition, timeout_s) for partition in partitions}
    ends = {partition: end for partition, (_, end) in extents.items()}
    held = sum(end - first for first, end in extents.values())
    if held <= enough:
        return {}

    def since(time_ms: int) -> dict[int, int]:
        try:
            found = consumer.offsets_for_times([TopicPartition(topic, partition, time_ms) for partition in partitions], timeout_s)
        except KafkaException as error:
            raise BrokerUnreachable(f"{topic}: the broker did not tell which records are new: {error.args[0].str()}") from error
        failed = next((place for place in found if place.error is not None), None)
        if failed is not None:
            raise BrokerUnreachable(f"{topic}/{failed.partition}: the broker did not tell which records are new: {failed.error}")
        # A negative offset: nothing is as new as that.
        return {place.partition: place.offset if place.offset >= 0 else ends[place.partition] for place in found}

    since_ms = _newest_time(since, ends, enough, time.time_ns() // 1_000_000)
    if since_ms == 0:
        return {}
    begin = since(since_ms)
    logger.info(
        "%s: reading the newest %d of %d offsets, those since %s",
        topic,
        sum(ends[partition] - offset for partition, offset in begin.items()),
        held,
        datetime.fromtimestamp(since_ms / 1_000, UTC).isoformat(timespec="seconds"),
    )
    return begin


def _newest_time(since: Callable[[int], Mapping[int, int]], ends: Mapping[int, int], enough: int, now_ms: int) -> int:
    """The latest time in ms since which there are ``enough`` offsets, by bisection; 0 where the broker knows no such time."""
    earlier, later = 0, now_ms
    while later - earlier > _GRAIN_MS:
        middle = (earlier + later) // 2
        if sum(ends[partition] - offset for partition, offset in since(middle).items()) >= enough:
            earlier = middle
        else:
            later = middle
    return earlier
