"""The Faust app of a task: its group, its subscription and one agent, and nothing else of Faust's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager

from streams.runtime.credentials import broker_credentials, broker_urls
from streams.runtime.names import group_id
from streams.runtime.partition import Fetched
from streams.runtime.transport import BatchSchema, Transport
from streams.settings import Settings

#: A member hears of a rebalance in the answer to its next heartbeat, so this is what the whole group waits for when a worker stops or
#: dies: at 2 s a clean stop took 1.8-2.6 s until the partitions put out again [assay bench failover]. Costs a request of 100 bytes.
_HEARTBEAT_S: Final = 0.3
#: The group waits this long for a member to give up its partitions.
_REBALANCE_S: Final = 10.0
#: Restores may take long, and nothing is polled meanwhile; that partitions progress is the watchdog's business.
_MAX_POLL_INTERVAL_S: Final = 24 * 3600.0

OnRebalance = Callable[..., Awaitable[None]]


class _Boot(BootStrategy):
    """Consumer, agents and conductor only: no web server, no producer (ours are transactional), no sensors."""

    enable_web = False
    enable_kafka_producer = False


class _NoTables(TableManager):
    """Faust's table manager without its pause for tables to register: there are none, state is ours."""

    async def on_start(self) -> None:
        """Start at once."""
        await self._update_channels()
        await self.recovery.start()


class _App(faust.App):
    """A Faust app over the batch transport."""

    BootStrategy = _Boot

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)


def build_app(
    settings: Settings,
    task: str,
    sources: Sequence[str],
    folder: Path,
    member_id: str,
    on_batch: Callable[[int, Fetched], None],
    on_revoked: OnRebalance,
    on_assigned: OnRebalance,
) -> faust.App:
    """An app whose one agent hands each fetched batch of ``sources`` to ``on_batch(partition, batch)``, which must not raise.

    ``member_id`` names the worker in its group in every life of it (static membership): one that was killed and comes back takes its
    own place, rather than wait with its partitions until the session of its former self has timed out.
    ``on_revoked`` and ``on_assigned`` get (app, partitions) and are awaited within the rebalance. ``folder`` is Faust's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    app = _App(
        group_id(settings, task),
        version=1,
        broker=broker_urls(settings),
        broker_credentials=broker_credentials(settings),
        consumer_group_instance_id=member_id,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(_HEARTBEAT_S, settings.session_timeout_s / 4),
        broker_max_poll_interval=_MAX_POLL_INTERVAL_S,
        broker_rebalance_timeout=max(settings.session_timeout_s, _REBALANCE_S),
        broker_max_poll_records=settings.max_poll_records,
        broker_commit_interval=1.0,
        broker_check_crcs=False,
        consumer_max_fetch_size=4 * 1024 * 1024,
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=settings.partitions,
        worker_redirect_stdouts=False,
        web_enabled=False,
        store="memory://",
        TableManager=_NoTables,
        # We keep standbys ourselves. With Faust's own (one, by default) a worker that joins may be left without a partition: those who
        # are there keep up to ceil(partitions / workers) of them, without down to the floor of it.
        table_standby_replicas=0,
        datadir=str(folder),
        autodiscover=False,
    )
    topic = app.topic(*sources, schema=BatchSchema(), partitions=settings.partitions, acks=True)

    async def batches(stream: Any) -> None:
        async for event in stream.noack().events():
            on_batch(event.message.partition, event.value)

    app.agent(topic, name=f"{task}.batches")(batches)
    app.on_partitions_revoked.connect(on_revoked, weak=False)
    app.on_partitions_assigned.connect(on_assigned, weak=False)
    return app
