"""A partition's wait for what a broadcast topic may already hold; others have their turns meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from streams.runtime.broadcast import BroadcastReader, Place
from streams.runtime.errors import BroadcastFailed, BrokerUnreachable

logger = logging.getLogger(__name__)

#: It fails when nothing of the topic came for so long.
_PATIENCE_S: Final = 30.0
#: How long the broker may take to tell where the topic ends, before it is asked again.
_ENDS_S: Final = 5.0
_LOOK_S: Final = 0.01
#: How often a long wait says how far it is.
_SAY_S: Final = 10.0


async def read_to_end(broadcasts: BroadcastReader, topic: str, threads: Executor, stopped: Callable[[], bool]) -> bool:
    """Wait until ``topic`` (a table name) was read to the end that it has now; False where ``stopped`` came first.

    What was read is applied by whoever drains ``broadcasts`` next. The broker is asked in ``threads``. Raises ``BroadcastFailed`` once
    nothing of the topic was read for half a minute, whatever comes of others.
    """
    loop = asyncio.get_running_loop()
    began = moved = said = time.monotonic()
    ends: dict[Place, int] | None = None
    before = -1
    while not stopped():
        failure: BrokerUnreachable | None = None
        if ends is None:
            try:
                ends = await loop.run_in_executor(threads, broadcasts.ends_of, topic, _ENDS_S)
            except BrokerUnreachable as error:
                failure = error
        left = -1 if ends is None else broadcasts.to_go(ends)
        if left == 0:
            return True
        now = time.monotonic()
        if left != before:
            before, moved = left, now
        if now - moved >= _PATIENCE_S:
            what = f"{left:,} offsets are still to be read" if failure is None else str(failure)
            raise BroadcastFailed(f"topic {topic} was not read to its end, and nothing came of it for {_PATIENCE_S:.0f} s: {what}")
        if now - said >= _SAY_S:
            said = now
            logger.info("an event speaks of what %s may hold: %d offsets to go after %.0f s", topic, max(left, 0), now - began)
        await asyncio.sleep(_LOOK_S)
    return False
