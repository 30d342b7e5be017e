"""The session index as the stream teaches it: every click through a broker into a worker's live sessions, and whether its lists are those
of the same file learned without one. It is the topic, its reader and the index that are judged: no recommend worker parts the sessions,
writes the records, or asks.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.evaluation import Sequences, SessionDataset
from models.evaluation.judge import CUTOFF
from models.evaluation.methods import ALONE, SESSION_STEP, SessionIndexMethod
from models.retrieval import LiveSessions
from models.retrieval.session_votes import SessionParameters
from schemas.topics import SESSIONS
from streams.agents.deltas import read_deltas
from streams.agents.emission import session_delta
from streams.agents.shoppers import SessionGrowth
from streams.broker import EmbeddedBroker
from streams.broker.embedded import PARTITIONS
from streams.runtime.broadcast import BroadcastReader
from streams.runtime.errors import RecordsLost
from streams.runtime.partitioner import murmur2_partition
from streams.runtime.processor import Output, Record
from streams.runtime.task import Broadcast
from streams.settings import Settings

#: Clicks sent before the reader must have caught up: a fraction of what the embedded broker holds of a partition.
_SENT_AT_ONCE: Final = 5_000
_PATIENCE_S: Final = 60.0
#: Tests asked at once.
_BATCH: Final = 2_000


class StreamedSessionIndex(SessionIndexMethod):
    """The live session index as a worker holds it. Each click is a record of the topic ``sessions``, as the recommend worker writes it,
    in the partition of its session's key; a reader like every worker's takes the topic up. ``parameters`` are by default those of the
    index alone, and anchors the protocol's, so that lists can be set beside ``SessionIndexMethod``'s; a worker blends by others.

    ``partitions``: of the embedded broker's 4, how many are used. One keeps the order of the file; with more, sessions of different
    partitions overtake each other, as in any topic.
    """

    name = "session-index, streamed"

    def __init__(self, settings: Settings, *, partitions: int = PARTITIONS, parameters: SessionParameters = ALONE) -> None:
        super().__init__(parameters)
        self._settings = settings
        self._partitions = partitions
        self._arrivals = _Arrivals()

    def learn(self, sessions: Sequences, items: int) -> None:
        """Send every session, click by click, oldest first, and take the clicks up as they arrive.

        Raises ``RecordsLost`` where the broker lost one, ``ValueError`` where there are more sessions than the setting
        ``live_sessions`` lets a worker hold.
        """
        table = ItemTable(dimensions=1)
        live = LiveSessions(table.intern, self._settings.trending_half_life_s * 1000, self._settings.live_sessions)
        live.index.parameters = self._parameters
        self._arrivals = _Arrivals()

        def apply(records: Sequence[Record]) -> None:
            deltas = list(read_deltas(records))
            for delta in deltas:
                self._arrivals.add(int(delta.shopper), list(map(int, delta.skus)), delta.at_ms)
            live.apply(deltas)

        self._send(_records(sessions, self._partitions), apply)
        if len(live) < len(sessions):
            raise ValueError(
                f"a worker holds {len(live):,} of the {len(sessions):,} sessions: set ASSAY_LIVE_SESSIONS to their number at least, "
                f"and to a quarter of their {len(sessions.rows):,} clicks"
            )
        self.index = live.index
        self._now = len(sessions) * SESSION_STEP
        self._live_rows = np.array([table.intern(str(row)) for row in range(items)], dtype=np.int32)
        self._file_rows = np.array([int(sku) for sku in table.skus], dtype=np.int32)

    def _send(self, outputs: Iterator[Output], apply: Callable[[Sequence[Record]], None]) -> None:
        sent = 0
        with EmbeddedBroker([SESSIONS.name]) as broker:
            config = {"bootstrap.servers": broker.bootstrap_servers}
            producer = Producer(config | {"enable.idempotence": True, "log_level": 3})
            # What ends the reader is raised by ``catch_up``.
            reader = BroadcastReader(config, "evaluate", [Broadcast(SESSIONS.name, apply)], {SESSIONS.name: SESSIONS.name}, lambda _: None)
            try:
                reader.start()
                while part := list(islice(outputs, _SENT_AT_ONCE)):
                    for output in part:
                        producer.produce(output.topic, output.value, output.key, output.partition)
                    producer.flush(_PATIENCE_S)
                    reader.catch_up(_PATIENCE_S)
                    sent += len(part)
                    if len(self._arrivals) != sent:
                        raise RecordsLost(f"of {sent:,} clicks sent {len(self._arrivals):,} arrived")
            finally:
                reader.stop()

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The votes of the most similar sessions, in the file's rows."""
        rows, scores = super().candidates(Sequences(prefixes.starts, self._live_rows[prefixes.rows]), limit)
        return np.where(rows >= 0, self._file_rows[rows], np.int32(-1)), scores

    def in_order_of_arrival(self) -> SessionIndexMethod:
        """What the clicks teach without a broker, in the order in which they arrived."""
        method = SessionIndexMethod(self._parameters)
        method.take_up(*self._arrivals.columns(), self._now)
        return method

    @property
    def overtaken(self) -> int:
        """Clicks that arrived after one of a session that is later in the file."""
        numbers = self._arrivals.columns()[0]
        return int((numbers < np.maximum.accumulate(numbers)).sum())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Lists of 20 for ``tests`` prefixes, row by row: how many are ``differing`` from the file's, and ``unexplained``, not those of the
    file in the order of arrival either. ``clicks`` were sent, ``overtaken`` of them arrived after one of a later session.
    """

    tests: int
    differing: int
    unexplained: int
    clicks: int
    overtaken: int


def compare(streamed: StreamedSessionIndex, from_file: SessionIndexMethod, dataset: SessionDataset) -> Comparison:
    """``streamed`` beside ``from_file``, both taught the training sessions of ``dataset``, on each of its tests."""
    arrived = streamed.in_order_of_arrival()
    differing = unexplained = 0
    for first in range(0, len(dataset.prefixes), _BATCH):
        part = dataset.prefixes.slice(first, min(first + _BATCH, len(dataset.prefixes)))
        lists = streamed.recommend(part, CUTOFF)
        differing += int((lists != from_file.recommend(part, CUTOFF)).any(axis=1).sum())
        unexplained += int((lists != arrived.recommend(part, CUTOFF)).any(axis=1).sum())
    return Comparison(len(dataset.prefixes), differing, unexplained, len(dataset.train.rows), streamed.overtaken)


@dataclass(slots=True)
class _Arrivals:
    """Clicks in the order in which they came: number of the session in the file, row of the item in the file, ms."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("i"))
    at_ms: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, number: int, rows: Sequence[int], at_ms: Sequence[int]) -> None:
        self.numbers.extend([number] * len(rows))
        self.rows.extend(rows)
        self.at_ms.extend(at_ms)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        return np.array(self.numbers, np.int64), np.array(self.rows, np.int32), np.array(self.at_ms, np.int64)


def _records(sessions: Sequences, partitions: int) -> Iterator[Output]:
    """One record a click, oldest session first. Sessions are named by their number, products by their row."""
    for number in range(len(sessions)):
        shopper, at_ms = str(number), number * SESSION_STEP
        partition = murmur2_partition(shopper.encode(), partitions)
        for position, row in enumerate(sessions[number].tolist()):
            yield session_delta(shopper, SessionGrowth(at_ms, position, [(str(row), at_ms, "click")]), partition)
