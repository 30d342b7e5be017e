"""A steady feed into a job and a reader of what it commits: for measuring how long outputs stay away.

In the state-only job every event carries its number in its ``sku``, and outputs carry the newest ``sku``, so each names the event that it
answers.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson
from confluent_kafka import Consumer, Message, Producer

from tests.benchmarks.load import quick_consumer
from tests.benchmarks.measure import PARTITIONS

_POLL_S = 0.05


def user_key(number: int) -> bytes:
    """The key of user ``number``."""
    return b"u%d" % number


def event(user: int, number: int) -> tuple[bytes, bytes]:
    """Key and value of event ``number``, by ``user``."""
    key = user_key(user)
    return key, orjson.dumps({"event_id": f"e{number}", "type": "click", "user_id": key.decode(), "sku": f"n{number}", "channel": "web"})


def state_events(users: int) -> Iterator[tuple[bytes, bytes]]:
    """Events without end, numbered from 0, of users 0 .. ``users`` - 1: a prime stride visits all before it comes back to the first."""
    for number in itertools.count():
        yield event(number * 7_919 % users, number)


def state_answer(message: Message) -> tuple[int, int]:
    """Partition and number of the event that an output of the state-only job answers."""
    return message.partition() or 0, int(orjson.loads(message.value() or b"")["items"][-1][1:])


@dataclass(frozen=True, slots=True)
class Sighting:
    """An output: when it was read (perf_counter seconds), from which partition, and the number of the event it answers."""

    at: float
    partition: int
    number: int


class SteadyFeed:
    """Feeds ``rate`` of ``events`` a second into ``source`` and reads ``sink``, in two threads, from ``with`` to its end.

    ``answer`` tells of which partition an output is and the number of the event that it answers.
    """

    def __init__(
        self,
        bootstrap: str,
        source: str,
        sink: str,
        *,
        events: Iterator[tuple[bytes, bytes]],
        rate: float,
        answer: Callable[[Message], tuple[int, int]] = state_answer,
    ) -> None:
        self._events, self._rate, self._source, self._answer = events, rate, source, answer
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 0}
        )
        self._reader: Consumer = quick_consumer(bootstrap, sink)
        self._stopping = threading.Event()
        self._seen: list[Sighting] = []
        #: How many events were sent; the next has this number.
        self.sent = 0
        self._fault: BaseException | None = None
        self._threads = [threading.Thread(target=self._guard, args=(loop,), daemon=True) for loop in (self._send, self._read)]

    def __enter__(self) -> SteadyFeed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        self._producer.flush(10)
        self._reader.close()

    def _guard(self, loop: object) -> None:
        try:
            loop()  # type: ignore[operator]
        except BaseException as error:
            self._fault = error

    def _send(self) -> None:
        started, due = time.perf_counter(), 0.0
        while not self._stopping.is_set():
            key, value = next(self._events)
            self._producer.produce(self._source, value, key)
            self.sent += 1
            self._producer.poll(0)
            due += 1 / self._rate
            self._stopping.wait(max(0.0, started + due - time.perf_counter()))

    def _read(self) -> None:
        while not self._stopping.is_set():
            first = self._reader.poll(_POLL_S)
            if first is None:
                continue
            messages: Sequence[Message] = [first, *self._reader.consume(1_000, 0.0)]
            now = time.perf_counter()
            for message in messages:
                if message.error() is None and message.value() is not None:
                    self._seen.append(Sighting(now, *self._answer(message)))

    def sightings(self) -> Iterator[Sighting]:
        """What was read so far, in order. Raises what ended one of the threads."""
        if self._fault is not None:
            raise self._fault
        return iter(list(self._seen))

    def wait_all(self, since: int, timeout_s: float) -> dict[int, float]:
        """Partition -> when the first output was read that answers event ``since`` or a later one, once every partition has one."""
        deadline = time.perf_counter() + timeout_s
        while True:
            first: dict[int, float] = {}
            for seen in self.sightings():
                if seen.number >= since:
                    first.setdefault(seen.partition, seen.at)
            if len(first) == PARTITIONS:
                return first
            if time.perf_counter() > deadline:
                silent = sorted(set(range(PARTITIONS)) - set(first))
                raise TimeoutError(f"{self._source}: no output from partitions {silent} within {timeout_s:.0f} s")
            self._stopping.wait(0.05)

    def settled(self, since: float, timeout_s: float) -> None:
        """Return once every partition has put out something after ``since`` (perf_counter seconds)."""
        deadline = time.perf_counter() + timeout_s
        while len({seen.partition for seen in self.sightings() if seen.at > since}) < PARTITIONS:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{self._source}: some partition stayed silent for {timeout_s:.0f} s")
            self._stopping.wait(0.05)

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time between ``start`` and ``end`` (perf_counter seconds) in which some partition put out nothing, in seconds."""
        last = dict.fromkeys(range(PARTITIONS), start)
        longest = 0.0
        for seen in self.sightings():
            if start < seen.at <= end:
                longest = max(longest, seen.at - last[seen.partition])
                last[seen.partition] = seen.at
        return max(longest, *(end - at for at in last.values()))
