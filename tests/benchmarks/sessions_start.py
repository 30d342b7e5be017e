"""How quickly a start reads the topic ``sessions`` into the live index: records a second through the embedded broker.

python -m tests.benchmarks.sessions_start [DELTAS]
"""

from __future__ import annotations

import random
import sys
import time

from confluent_kafka import Producer

from models.catalog.items import ItemTable
from models.retrieval import LiveSessions
from schemas.internal import SessionDelta, SessionItem
from schemas.topics import SESSIONS
from streams.agents.deltas import sessions_broadcast
from streams.broker import EmbeddedBroker
from streams.runtime.broadcast import BroadcastReader

_CLICKS = 6
_ITEMS = 10_000
_RUNS = 4


def _publish(bootstrap: str, deltas: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    chance = random.Random(1)
    for i in range(deltas):
        item = SessionItem(sku=f"s{chance.randrange(_ITEMS)}", at=1_700_000_000_000 + i, type="click")
        session = f"q{i // _CLICKS}"
        delta = SessionDelta(session=session, shopper=f"u{i // _CLICKS}", start=i % _CLICKS, items=(item,))
        producer.produce(SESSIONS.name, delta.to_json(), session.encode())
        producer.poll(0)
    producer.flush(60)


def _start(bootstrap: str) -> float:
    """Seconds from the first fetch to the end of the topic."""
    sessions = LiveSessions(ItemTable(1).intern, 14 * 86_400_000.0)
    failures: list[BaseException] = []
    reader = BroadcastReader(
        {"bootstrap.servers": bootstrap}, "bench", [sessions_broadcast(sessions)], {SESSIONS.name: SESSIONS.name}, failures.append
    )
    try:
        reader.start()
        began = time.perf_counter()
        reader.catch_up(60.0, while_moving=True)
        return time.perf_counter() - began
    finally:
        reader.stop()


def main() -> None:
    """Print the rate of each run; the first one compiles."""
    deltas = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    with EmbeddedBroker([SESSIONS.name]) as broker:
        _publish(broker.bootstrap_servers, deltas)
        for _ in range(_RUNS):
            seconds = _start(broker.bootstrap_servers)
            print(f"{deltas:,} deltas in {seconds:.2f} s: {deltas / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
