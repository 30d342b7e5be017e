"""Anonymous shoppers who do not come back are forgotten: a slice of the state at a time, between batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from streams.agents import emission
from streams.agents.shoppers import (
    ANONYMOUS_LISTS,
    CLOCK_KEY,
    HANDED_PREFIX,
    EmittedList,
    Shopper,
    decode_handed,
    decode_list,
    decode_time,
    encode_handed,
    encode_list,
)
from streams.runtime.processor import State, Step

#: Most keys looked at in one call: below a millisecond of work, and some 17 million keys a day.
SLICE: Final = 200
#: A pass begins once the clock has moved on by this part of the time to live, so that a small state is not read over and over.
_PASSES: Final = 256


@dataclass(slots=True)
class _Pass:
    """One reading of a partition's anonymous state. ``start``: the key to go on from, None once it is through."""

    began_ms: int
    start: bytes | None = b""


class Expiry:
    """What became of the anonymous sessions of a partition is judged by the partition's own clock (``CLOCK_KEY``: the broker's time of
    the events applied so far), not the machine's: a backlog of events cannot make a session look abandoned whose events wait in it.

    Where a pass has got to is kept in memory only. A deletion that did not commit is met again by the next pass, because its key is
    still there.
    """

    def __init__(self, ttl_s: float, let_go: Callable[[Step, int, Shopper, EmittedList, int], None]) -> None:
        """``let_go``: adds to the step what else goes with a shopper of a partition whose last list is given, at a time in ms."""
        self._ttl_ms = int(ttl_s * 1000)
        self._let_go = let_go
        self._passes: dict[int, _Pass] = {}

    def begin_anew(self, partition: int) -> None:
        """The partition came or went."""
        self._passes.pop(partition, None)

    def sweep(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Look at the next ``SLICE`` keys; tombstones for what was not seen within the time to live, in state and ``recommendations``.

        ``now_ms`` bounds the clock, which one producer's wrong time may have pushed ahead.
        """
        clock = state.get_many([CLOCK_KEY])[0] if self._ttl_ms else None
        if clock is None:
            return None
        at_ms = min(decode_time(clock), now_ms)
        current = self._passes.get(partition)
        if current is None or (current.start is None and at_ms >= current.began_ms + self._ttl_ms // _PASSES):
            current = self._passes[partition] = _Pass(at_ms)
        if current.start is None:
            return None
        step = Step()
        current.start = self._look(step, state, partition, at_ms, current.start)
        return step

    def _look(self, step: Step, state: State, partition: int, at_ms: int, start: bytes) -> bytes | None:
        """Where to go on, None at the end."""
        looked = 0
        for prefix, judge in ((HANDED_PREFIX, self._judge_handed), (ANONYMOUS_LISTS, self._judge_list)):
            for key, value in state.scan(prefix, start):
                if looked == SLICE:
                    return key
                looked += 1
                judge(step, partition, at_ms, key, value)
        return None

    def _judge_handed(self, step: Step, partition: int, at_ms: int, key: bytes, value: bytes) -> None:
        handed = decode_handed(value)
        if handed.seen_ms == 0:  # written before times were kept: its time begins now
            step.writes[key] = encode_handed(msgspec.structs.replace(handed, seen_ms=at_ms))
        elif self._is_over(handed.seen_ms, at_ms):
            step.writes[key] = None

    def _judge_list(self, step: Step, partition: int, at_ms: int, key: bytes, value: bytes) -> None:
        emitted = decode_list(value)
        if emitted.seen_ms == 0:
            step.writes[key] = encode_list(msgspec.structs.replace(emitted, seen_ms=at_ms))
        elif self._is_over(emitted.seen_ms, at_ms):
            shopper = Shopper(key.removeprefix(ANONYMOUS_LISTS).decode(), True)
            step.writes[key] = None
            step.writes[shopper.profile_key] = None
            self._let_go(step, partition, shopper, emitted, at_ms)
            step.outputs.append(emission.withdrawal(shopper, partition))

    def _is_over(self, seen_ms: int, at_ms: int) -> bool:
        return at_ms - seen_ms > self._ttl_ms
