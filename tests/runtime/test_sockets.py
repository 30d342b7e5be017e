"""A connection that is lost while somebody writes to it: aiokafka must hear of a lost connection, not of an error that is nobody's."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams.runtime.sockets import ConsumerLoop


async def send_into_a_lost_connection() -> None:
    """Connect, lose the connection, and send before the reader has heard of that."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        connection = AIOKafkaConnection("127.0.0.1", server.sockets[0].getsockname()[1], request_timeout_ms=5_000)
        # Without the exchange of versions, which nobody here would answer.
        connection._do_version_lookup = lambda: asyncio.sleep(0)  # type: ignore[method-assign]
        await connection.connect()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        connection._versions = {3: (0, 5)}
        try:
            await connection.send(MetadataRequest([]))
        finally:
            connection.close()


def test_uvloop_alone_raises_what_aiokafka_does_not_know() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError, match="handler is closed"):
        runner.run(send_into_a_lost_connection())


def test_a_request_into_a_lost_connection_fails_as_a_lost_connection() -> None:
    with asyncio.Runner(loop_factory=ConsumerLoop) as runner, pytest.raises(KafkaConnectionError):
        runner.run(send_into_a_lost_connection())
