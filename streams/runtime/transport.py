"""Faust's transport, handing agents whole fetched batches instead of single records.

Stock Faust starts two asyncio tasks and a wait for each record. Here the consumer's drain loop makes **one Faust message per
fetched partition batch** (its value a ``Fetched``), and acknowledging keeps one "applied up to" per partition instead of a
list of offsets. What a rebalance relies on is kept: flow control, active partitions and the generation id are checked before a
batch is handed over; a batch dropped by one of these checks is always followed by a seek.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import aiokafka
import faust
from aiokafka.errors import ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from streams.runtime.partition import Fetched

logger = logging.getLogger(__name__)

#: Errors of group membership that trying again does not mend.
_FORBIDDEN: Final = (ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)
#: How long a fetch may wait when every owned partition may be read, and when some may not (their turn must come soon).
_FETCH_WAIT_S: Final = 0.5
_FETCH_WAIT_SOME_S: Final = 0.02
#: How long the broker may hold back a fetch; new records end the wait at once.
_BROKER_WAIT_MS: Final = 500


class Gate(Protocol):
    """Says which partitions may be read now: those that are open and have room."""

    wake: asyncio.Event

    def readable(self, tp: TP) -> bool:
        """Whether records of ``tp`` may be handed over."""
        ...


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer."""

    failure: Exception | None = None

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        """Faust's consumer with two changes: committed records only, and the sticky assignor.

        Without Faust tables it would be round robin, which does not keep co-partitioned topics together.
        """
        conf = self.app.conf
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=_BROKER_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level="read_committed",
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        """Set reading positions; None = the group's committed offset, else the earliest. Returns them as set."""
        return await self.call_thread(self._place, wanted)

    async def _place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        placed = {}
        for tp, target in wanted.items():
            partition = TopicPartition(tp.topic, tp.partition)
            offset = target
            if offset is None:
                offset = await consumer.committed(partition)
            if offset is None:
                await consumer.seek_to_beginning(partition)
                offset = await consumer.position(partition)
            consumer.seek(partition, offset)
            placed[tp] = offset
        return placed

    def watch(self) -> None:
        """Look after the group coordinator (call often, from the event loop).

        aiokafka hands an error in group membership to whoever polls next and waits, for ever, until it is taken. Faust fetches
        past that check, so one refused JoinGroup would leave a consumer that looks alive and never reads again. Taking the
        error lets the coordinator try once more; what cannot be mended that way becomes ``failure``.
        """
        if self._consumer is not None and self.thread_loop.is_running():
            self.thread_loop.call_soon_threadsafe(self._take_coordinator_error)

    def _take_coordinator_error(self) -> None:
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is None:
            return
        try:
            coordinator.check_errors()
        except asyncio.CancelledError:
            return
        except Exception as error:
            task = getattr(coordinator, "_coordination_task", None)
            if isinstance(error, _FORBIDDEN) or task is None or task.done():
                self.failure = error
            else:
                logger.warning("%s: group membership: %s; trying again", self.app.conf.id, error)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's own check counts single messages; ``watchdog`` measures progress instead."""


class Consumer(driver.Consumer):
    """Hands over batches, keeps one acknowledged offset per partition."""

    gate: Gate

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._acked_up_to: dict[TP, int] = {}
        self._handed_over: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Nothing: each partition is placed by ``place`` when it has opened, and read only from then on."""

    async def place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        """Set reading positions (see ``ConsumerThread.place``); what is handed over next follows them."""
        placed = await self._thread.place(wanted)
        for tp, offset in placed.items():
            self._handed_over[tp] = offset - 1
            self._read_offset[tp] = offset
        return placed

    def watch(self) -> Exception | None:
        """Look after the group coordinator; the error that group membership cannot recover from, if there was one."""
        self._thread.watch()
        return self._thread.failure

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand over, until the consumer or ``fetcher`` stops."""
        app = self.app
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                active = self._get_active_partitions()
                readable = {tp for tp in active if self.gate.readable(tp)}
                if not readable:
                    self.gate.wake.clear()
                    await self.wait_first(self.gate.wake.wait(), self.suspend_flow.wait(), timeout=_FETCH_WAIT_S)
                    continue
                generation = app.consumer_generation_id
                records = await self._getmany(readable, _FETCH_WAIT_S if len(readable) == len(active) else _FETCH_WAIT_SOME_S)
                for tp, batch in records.items():
                    if not self.flow_active or app.consumer_generation_id != generation:
                        break
                    await self._hand_over(driver.TP(tp.topic, tp.partition), batch)
        except self.consumer_stopped_errors:
            if not app.should_stop:
                raise
        except asyncio.CancelledError:
            if not app.should_stop:
                raise

    async def _hand_over(self, tp: TP, records: list[Any]) -> None:
        last = records[-1]
        fetched = Fetched(tp.topic, records, self._handed_over[tp])
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            last.key,
            fetched,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        self._handed_over[tp] = last.offset
        self._read_offset[tp] = last.offset

    # -- Acknowledging ------------------------------------------------------------------------------------------------

    def applied(self, tp: TP, offset: int) -> None:
        """The transaction that holds ``offset`` of ``tp``, and all before it, has committed."""
        self._acked_up_to[tp] = offset + 1

    def ack(self, message: Message) -> bool:
        """Forget the message. Streams call this for batches that they skip, so it must not move the offset: ``applied`` does."""
        message.acked = True
        self._unacked_messages.discard(message)
        return False

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        return (tp for tp in list(self._acked_up_to) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._acked_up_to.get(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust's, and forget what was acknowledged: it belongs to the next owner."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._acked_up_to.pop(tp, None)
            self._handed_over.pop(tp, None)


class Transport(driver.Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = Consumer


class BatchSchema(faust.Schema):
    """Decodes nothing: a message's value is a ``Fetched`` of raw records already."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """The decoder of a channel."""

        async def decode(message: Message, *, propagate: bool = False) -> Any:
            return faust.Event(app, message.key, message.value, {}, message)

        return decode
