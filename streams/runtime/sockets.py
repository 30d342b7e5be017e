"""uvloop's event loop, whose connections keep asyncio's promise about a peer that has gone."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop


class _Forgiving:
    """A transport that swallows what is written to a connection that is lost, as asyncio's do."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write ``data``, unless nobody is there to get it: ``connection_lost`` is on its way."""
        if not self._transport.is_closing():
            self._transport.write(data)


class ConsumerLoop(uvloop.Loop):
    """For aiokafka's connections.

    A connection that the peer resets is closed at once, and its reader hears of it an iteration later. What writes in between goes
    unanswered with asyncio, and fails with the connection; uvloop raises ``RuntimeError``, which no one takes for a lost connection.
    """

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """uvloop's, with a forgiving transport."""
        transport, protocol = await super().create_connection(*arguments, **options)
        return _Forgiving(transport), protocol
