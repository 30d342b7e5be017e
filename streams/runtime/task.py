"""What a role hands to the runtime: a processor, its source topics, and the broadcast topics that it must have read first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from streams.runtime.processor import Processor, Record

#: What one call of the processor gets at most, in bytes of keys and values: a record that is refused goes into a dead letter whole,
#: so a burst of huge ones must not become one transaction.
STEP_BYTES: Final = 16 * 1024 * 1024


class CatchUpNeeded(Exception):
    """Raised by ``Processor.process`` when a record speaks of something that broadcast ``topic`` (table name) may already hold.

    The runtime reads that topic to its present end, while other partitions go on, and calls ``process`` again with ``batch.caught_up``
    true; so "unknown" means: not published before this record was processed.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A topic that every worker reads (table name): whole, or at least its ``newest`` offsets where it holds more than that.

    ``apply`` gets records in order, in the task's compute thread, between batches.
    """

    topic: str
    apply: Callable[[Sequence[Record]], None]
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One consumer group (``<app_id>-<name>``), one changelog topic (``<app_id>-<name>-changelog``), one compute thread.

    ``sources`` are table names of co-partitioned topics. ``background`` is called in the compute thread about once a second
    (merging, snapshots). ``close`` is called once, after the last partition is closed. ``step_bytes`` (keys and values) bounds what
    one call of the processor gets: less where a record stands for much work.
    """

    name: str
    sources: tuple[str, ...]
    processor: Processor
    broadcasts: tuple[Broadcast, ...] = ()
    background: Callable[[], None] | None = None
    close: Callable[[], None] | None = None
    step_bytes: int = STEP_BYTES
