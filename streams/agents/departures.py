"""Shoppers whose visit is over: they are due a list for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from streams.agents.shoppers import CLOCK_KEY, LIST_PREFIX, Shopper, decode_list, decode_time, shopper_of_key
from streams.runtime.processor import State

#: Most shoppers named by one call: some 50 ms of ranking, once a second.
DUE_LIMIT: Final = 500
#: Keys read by one call while the lists of a partition that came are gone through.
SLICE: Final = 2_000


@dataclass(slots=True)
class _Partition:
    """``clock_ms`` was the partition's clock when the wall clock said ``wall_ms``. ``start``: the key to read on from, None: all read.

    Whoever came within the gap is held, at a busy shop a million: by state keys and whole seconds each takes 144 bytes, where a heap of
    shoppers took 245.
    """

    clock_ms: int = 0
    wall_ms: int = 0
    start: bytes | None = LIST_PREFIX
    # State key -> the second in which they were last heard.
    last_heard: dict[bytes, int] = field(default_factory=dict)
    # Second -> who waits in it, each in one, and moved on when met if they were heard again since; and these seconds as a heap.
    waiting: dict[int, list[bytes]] = field(default_factory=dict)
    seconds: list[int] = field(default_factory=list)

    def wait(self, key: bytes, seen_ms: int) -> None:
        """They were heard at ``seen_ms``, which counts as the end of its second."""
        second = -(-seen_ms // 1000)
        if key not in self.last_heard:
            self._place(key, second)
        self.last_heard[key] = second

    def over(self, border_ms: int) -> Iterator[bytes]:
        """Whoever was not heard since ``border_ms``, by the second longest waiting first, forgotten once named."""
        while self.seconds and self.seconds[0] * 1000 <= border_ms:
            second = self.seconds[0]
            together = self.waiting[second]
            while together:
                key = together.pop()
                newest = self.last_heard[key]
                if newest > second:
                    self._place(key, newest)
                else:
                    del self.last_heard[key]
                    yield key
            heappop(self.seconds)
            del self.waiting[second]

    def _place(self, key: bytes, second: int) -> None:
        together = self.waiting.get(second)
        if together is None:
            together = self.waiting[second] = []
            heappush(self.seconds, second)
        together.append(key)


class Departures:
    """A visit is over once the partition's clock is ``gap_ms`` past the shopper's last event. That clock is the broker's time of the
    events applied so far, which runs on with the wall clock while none come: so a backlog ends no visit whose events wait in it.

    What is kept here is memory only: when a partition comes, the lists in its state tell who was left waiting.
    """

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self._partitions: dict[int, _Partition] = {}

    def opened(self, partition: int) -> None:
        """Begin anew with a partition."""
        self._partitions[partition] = _Partition()

    def lost(self, partition: int) -> None:
        """Forget it."""
        self._partitions.pop(partition, None)

    def heard(self, partition: int, shoppers: Iterator[Shopper], seen_ms: int, now_ms: int) -> None:
        """These shoppers had events in a batch that moved the partition's clock to ``seen_ms``."""
        held = self._partitions.setdefault(partition, _Partition())
        held.clock_ms, held.wall_ms = max(held.clock_ms, seen_ms), now_ms
        for shopper in shoppers:
            held.wait(shopper.state_key, seen_ms)

    def due(self, state: State, partition: int, now_ms: int) -> list[Shopper]:
        """Whose visit has ended since the last call, at most ``DUE_LIMIT`` of them, longest waiting first. Each is named once."""
        held = self._partitions.setdefault(partition, _Partition())
        if held.wall_ms == 0:
            clock = state.get_many([CLOCK_KEY])[0]
            held.clock_ms, held.wall_ms = decode_time(clock) if clock else 0, now_ms
        if held.start is not None:
            held.start = self._read(held, state, held.start)
        # One producer's wrong time may have pushed the clock ahead.
        border = min(held.clock_ms + now_ms - held.wall_ms, now_ms) - self._gap_ms
        return [shopper_of_key(key) for key in islice(held.over(border), DUE_LIMIT)]

    def _read(self, held: _Partition, state: State, start: bytes) -> bytes | None:
        """Who was left waiting, among the next ``SLICE`` lists. Returns where to go on."""
        for count, (key, value) in enumerate(state.scan(LIST_PREFIX, start)):
            if count == SLICE:
                return key
            emitted = decode_list(value)
            waiting = key.removeprefix(LIST_PREFIX)
            if emitted.seen_ms and not emitted.next_visit and waiting not in held.last_heard:
                held.wait(waiting, emitted.seen_ms)
        return None
