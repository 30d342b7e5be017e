"""Faust's transport, handing agents whole fetched batches instead of single records.

Stock Faust starts two asyncio tasks and a wait for each record. Here the consumer's drain loop makes **one Faust message per
fetched partition batch** (its value a ``Fetched``), and acknowledging keeps one "applied up to" per partition instead of a
list of offsets. What a rebalance relies on is kept: flow control, active partitions and the generation id are checked before a
batch is handed over.

A batch dropped by one of these checks has moved the reading position past itself, so the position is set back, always:
fetching and placing exclude each other (a fetch may outlast a whole rebalance, and what it takes then would be missing after the
seek), and a dropped batch is followed by a seek to what was handed over last. Should both fail, ``Fetched.after`` still tells:
it is what was *fetched* before, so a batch that went missing shows as ``RecordsLost``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import aiokafka
import faust
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from streams.runtime.leaving import LeaveByInstance
from streams.runtime.partition import Fetched
from streams.runtime.sockets import ConsumerLoop

logger = logging.getLogger(__name__)

#: Errors of group membership that trying again does not mend.
_FORBIDDEN: Final = (ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)
#: How long a fetch may wait when every owned partition may be read, and when some may not (their turn must come soon).
_FETCH_WAIT_S: Final = 0.5
_FETCH_WAIT_SOME_S: Final = 0.02
#: Bytes of values after which a fetch ends, and how many records are taken at once before they are counted.
_FETCH_BYTES: Final = 16 * 1024 * 1024
_PIECE: Final = 64
#: A consumer that is not in a rebalance closes within this.
_CLOSE_S: Final = 0.3
#: Pauses between questions where a partition begins.
_ASKED_AGAIN_S: Final = (0.1, 0.3, 1.0)
#: How long the broker may hold back a fetch; new records end the wait at once.
_BROKER_WAIT_MS: Final = 500


class Gate(Protocol):
    """Says which partitions may be read now: those that are open and have room."""

    wake: asyncio.Event

    def readable(self, tp: TP) -> bool:
        """Whether records of ``tp`` may be handed over."""
        ...


def _tried_again(look_up: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """``look_up``, a client's search for a coordinator, with an error that aiokafka tries again in the place of its ``AssertionError``.

    A broker that has just come back may tell a client that starts of no brokers, not even itself; asked again, it does.
    """

    async def looked_up(*arguments: Any) -> Any:
        try:
            return await look_up(*arguments)
        except AssertionError as error:
            raise NodeNotReadyError("the broker names no brokers yet") from error

    return looked_up


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer."""

    failure: BaseException | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=ConsumerLoop(), **kwargs)
        # A loop that is handed in is left open by mode; this one is nobody else's.
        self._close_thread_loop_on_stop = True

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        """Faust's consumer with three changes: committed records only, the sticky assignor, and ``_tried_again``.

        Without Faust tables it would be round robin, which does not keep co-partitioned topics together.
        """
        conf = self.app.conf
        self._assignor = self.app.assignor
        consumer = aiokafka.AIOKafkaConsumer(
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
        client = consumer._client  # noqa: SLF001 - the pinned aiokafka has no other way
        client.coordinator_lookup = _tried_again(client.coordinator_lookup)
        return consumer

    def close(self) -> None:
        """Nothing: ``on_thread_stop`` closes the consumer.

        Faust calls this when a rebalance meets a stop, and closes the consumer there and then, from a loop that is not the
        consumer's: its sockets would end up in two loops, and the group would never hear of the leave.
        """

    async def on_thread_stop(self) -> None:
        """Faust's, and leave the group: aiokafka lets a static member keep its partitions, which nobody would serve until its session
        has timed out.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        instance = coordinator and coordinator._group_instance_id  # noqa: SLF001 - the pinned aiokafka has no other way
        if coordinator is not None:
            coordinator._group_instance_id = None  # noqa: SLF001
        closing = asyncio.ensure_future(super().on_thread_stop())
        await asyncio.wait([closing], timeout=_CLOSE_S)
        if not closing.done() and instance:
            await self._leave(coordinator, instance)
        try:
            await closing
        except KafkaError as error:
            # A fetcher that has failed raises that once more, and what is closed after it stays open.
            logger.warning("%s: closing the consumer: %s", self.app.conf.id, error)
            await self._consumer._client.close()  # noqa: SLF001

    async def _leave(self, coordinator: GroupCoordinator, instance: str) -> None:
        """Leave the group while a JoinGroup of ours is under way.

        The broker answers it when the slowest member has joined too, and reads nothing else from that connection until then; told
        by another one, it answers at once. By the name of the instance, since a first JoinGroup's answer is where a member id comes from.
        """
        if coordinator.coordinator_id is None:
            return
        request = LeaveByInstance(coordinator.group_id, instance)
        try:
            await self._consumer._client.send(coordinator.coordinator_id, request)  # noqa: SLF001
        except KafkaError as error:
            logger.warning("%s: leaving the group: %s", self.app.conf.id, error)

    def set_shutdown(self) -> None:
        """Tell the parent that the thread has ended, unless its loop did not wait for that (a stop in mid-rebalance)."""
        if not self.parent_loop.is_closed():
            super().set_shutdown()

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[TopicPartition, list[Any]]:
        """Faust's, in pieces, and ending with the piece that reaches ``_FETCH_BYTES``.

        What is fetched is bounded by its size on the wire, and records that compress well may be a hundred times larger.
        """
        found: dict[TopicPartition, list[Any]] = {}
        left, size = max_records or _PIECE, 0
        while left > 0 and size < _FETCH_BYTES:
            piece = await super()._fetch_records(consumer, active_partitions, None if found else timeout, min(left, _PIECE))
            if not piece:
                break
            for partition, records in piece.items():
                found.setdefault(partition, []).extend(records)
                left -= len(records)
                size += sum([record.serialized_value_size for record in records])
        return found

    async def place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        """Set reading positions; None = the earliest. Returns them as set.

        The group's committed offset is never asked for: it outlives the state, and nothing may be taken for applied that no
        marker speaks of.
        """
        return await self.call_thread(self._place, wanted)

    async def _place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        placed = {}
        for tp, target in wanted.items():
            partition = TopicPartition(tp.topic, tp.partition)
            offset = await self._beginning(consumer, partition) if target is None else target
            consumer.seek(partition, offset)
            placed[tp] = offset
        return placed

    async def _beginning(self, consumer: aiokafka.AIOKafkaConsumer, partition: TopicPartition) -> int:
        """Where ``partition`` begins. An error in group membership is raised by whatever asks next, so it is asked again, see ``watch``."""
        pauses = iter(_ASKED_AGAIN_S)
        while True:
            try:
                await consumer.seek_to_beginning(partition)
                return int(await consumer.position(partition))
            except KafkaError as error:
                pause_s = next(pauses, None)
                if pause_s is None or isinstance(error, _FORBIDDEN):
                    raise
                logger.warning("%s: where %s begins: %s; asking again", self.app.conf.id, partition, error)
                await asyncio.sleep(pause_s)

    async def put_back(self, wanted: Mapping[TP, int]) -> set[TP]:
        """Set reading positions of those partitions that are still assigned; which they were."""
        return await self.call_thread(self._put_back, wanted)

    async def _put_back(self, wanted: Mapping[TP, int]) -> set[TP]:
        consumer = self._ensure_consumer()
        kept = {tp for tp in wanted if TopicPartition(tp.topic, tp.partition) in consumer.assignment()}
        for tp in kept:
            consumer.seek(TopicPartition(tp.topic, tp.partition), wanted[tp])
        return kept

    def watch(self) -> None:
        """Look after what aiokafka does in the background (call often, from the event loop).

        aiokafka hands an error in group membership to whoever polls next and waits, for ever, until it is taken. Faust fetches
        past that check, so one refused JoinGroup would leave a consumer that looks alive and never reads again. Taking the
        error lets the coordinator try once more; what cannot be mended that way becomes ``failure``.
        """
        if self._consumer is not None and self.thread_loop.is_running():
            self.thread_loop.call_soon_threadsafe(self._look_after)

    def _look_after(self) -> None:
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is None:
            return
        # What fetches and what knows the brokers are tasks that an error nobody expected ends for good, with nothing said.
        for task in (self._consumer._fetcher._fetch_task, self._consumer._client._sync_task):  # noqa: SLF001
            if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
                self.failure = task.exception()
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
        self._fetched: dict[TP, int] = {}
        # Held while a fetch is under way and while positions are set.
        self._positions_lock = asyncio.Lock()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Nothing: each partition is placed by ``place`` when it has opened, and read only from then on."""

    async def place(self, wanted: Mapping[TP, int | None]) -> dict[TP, int]:
        """Set reading positions (see ``ConsumerThread.place``); what is handed over next follows them."""
        async with self._positions_lock:
            placed = await self._thread.place(wanted)
            for tp, offset in placed.items():
                self._handed_over[tp] = self._fetched[tp] = offset - 1
                self._read_offset[tp] = offset
        return placed

    def watch(self) -> BaseException | None:
        """Look after what aiokafka does in the background; the error that it cannot recover from, if there was one."""
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
                wait_s = _FETCH_WAIT_S if len(readable) == len(active) else _FETCH_WAIT_SOME_S
                dropped: set[TP] = set()
                for tp, fetched in (await self._fetch(readable, wait_s)).items():
                    if dropped or not self.flow_active or app.consumer_generation_id != generation:
                        dropped.add(tp)
                    else:
                        await self._hand_over(tp, fetched)
                if dropped:
                    await self._put_back(dropped)
        except self.consumer_stopped_errors:
            if not app.should_stop:
                raise
        except asyncio.CancelledError:
            if not app.should_stop:
                raise

    async def _fetch(self, readable: set[TP], wait_s: float) -> dict[TP, Fetched]:
        async with self._positions_lock:
            found = {}
            for partition, records in (await self._getmany(readable, wait_s)).items():
                tp = driver.TP(partition.topic, partition.partition)
                if tp in self._fetched:
                    found[tp] = Fetched(tp.topic, records, self._fetched[tp])
                    self._fetched[tp] = records[-1].offset
            return found

    async def _put_back(self, dropped: set[TP]) -> None:
        """Read again what was fetched and dropped. Partitions that were revoked meanwhile are placed when they are opened again."""
        async with self._positions_lock:
            wanted = {tp: self._handed_over[tp] + 1 for tp in dropped if tp in self._handed_over}
            for tp in await self._thread.put_back(wanted):
                self._fetched[tp] = wanted[tp] - 1

    async def _hand_over(self, tp: TP, fetched: Fetched) -> None:
        last = fetched.records[-1]
        # Noted first: while the stream has no room the partition may be placed anew, and that must have the last word.
        self._handed_over[tp] = last.offset
        self._read_offset[tp] = last.offset
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
            self._fetched.pop(tp, None)


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
