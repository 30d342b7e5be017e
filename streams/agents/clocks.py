"""Producers' clocks against the broker's."""

from __future__ import annotations

from streams.runtime.processor import Record


def happened_ms(record: Record, said_ms: int) -> int:
    """When what ``record`` tells of happened (ms since the epoch): as its producer says, but not after the broker received it.

    A client whose clock is ahead must neither push everybody else's events out of the windows nor outshine them in what is trending.
    A record without a time of receipt is believed.
    """
    return min(said_ms, record.timestamp) if record.timestamp > 0 else said_ms
