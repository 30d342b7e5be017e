"""The embedded broker: librdkafka's mock cluster, for the demo and for quick tests.

Any client on the machine can connect, transactions and consumer groups included. Its limits: no admin calls (a topic comes
into being when it is first named), always 4 partitions, 5 MiB or 100,000 batches a partition (then the oldest go), no
compaction, memory only, and the first group join waits 3 s. It proves nothing about faults, restarts or throughput.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from streams.broker.exceptions import BrokerStartError

#: What the mock cluster gives every topic; it cannot be asked for another count.
PARTITIONS = 4
_TOUCH_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """A broker inside this process, alive from construction until ``close`` (or the end of the ``with`` block).

    ``bootstrap_servers`` is its ``host:port``; the port is chosen by the operating system.
    """

    def __init__(self, topics: Iterable[str] = (), *, brokers: int = 1) -> None:
        logger = logging.getLogger("assay.broker.embedded")
        config = {"bootstrap.servers": "embedded", "test.mock.num.brokers": brokers, "log_level": 3}
        self._owner: Producer | None = Producer(config, logger=logger)
        found = self._owner.list_topics(timeout=_TOUCH_TIMEOUT_S).brokers.values()
        if not found:
            raise BrokerStartError("the embedded broker did not report an address")
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)
        self.touch(topics)

    def touch(self, topics: Iterable[str]) -> None:
        """Bring ``topics`` into being; naming one that exists changes nothing."""
        if self._owner is None:
            raise BrokerStartError("the embedded broker is closed")
        for name in topics:
            self._owner.list_topics(name, timeout=_TOUCH_TIMEOUT_S)

    def close(self) -> None:
        """Stop the broker; everything in it is gone."""
        self._owner = None  # the last reference: librdkafka destroys the mock cluster with its client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
