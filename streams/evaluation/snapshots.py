"""Snapshots of what a trained ranker would have been given, taken from a log, with what the shopper did next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.ranking.candidates import NAMES
from streams.agents.shoppers import Shopper
from streams.evaluation.shop import InProcessShop
from streams.evaluation.touches import touched
from streams.replay.record import ReplayEvent


@dataclass(slots=True)
class Snapshots:
    """The newest ``limit`` lists, oldest first, each with the item of the shopper's next event among its candidates or not."""

    limit: int
    lists: deque[tuple[NDArray[np.float32], NDArray[np.bool_]]] = field(default_factory=deque)

    def add(self, features: NDArray[np.float32], right: NDArray[np.bool_]) -> None:
        """One list: ``features`` float32[c, f] of its candidates, the blend's best first, and which is ``right`` bool[c]."""
        self.lists.append((features, right))
        if len(self.lists) > self.limit:
            self.lists.popleft()

    def joined(self, lists: slice = slice(None)) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """(starts int64[n + 1], features float32[c, f], right bool[c]) of a part of them, end to end."""
        part = list(self.lists)[lists]
        starts = np.cumsum([0, *(len(right) for _, right in part)]).astype(np.int64)
        if not part:
            return starts, np.empty((0, len(NAMES)), np.float32), np.empty(0, np.bool_)
        return starts, np.concatenate([features for features, _ in part]), np.concatenate([right for _, right in part])


def collect(
    shop: InProcessShop,
    events: Iterable[ReplayEvent],
    types: Sequence[str],
    *,
    batch: int,
    limit: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Snapshots:
    """The newest ``limit`` of ``snapshots``. ``progress`` is told how many events are done."""
    found = Snapshots(limit)
    for one in snapshots(shop, events, types, batch=batch, progress=progress):
        found.add(one.features, one.right)
    return found


class Snapshot(NamedTuple):
    """One list: of the shopper, at the time in ms, the candidates' ``rows`` int32[c] and ``features`` float32[c, f], and which is
    ``right`` bool[c].
    """

    shopper: Shopper
    at_ms: int
    rows: NDArray[np.int32]
    features: NDArray[np.float32]
    right: NDArray[np.bool_]


def snapshots(
    shop: InProcessShop,
    events: Iterable[ReplayEvent],
    types: Sequence[str],
    *,
    batch: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Snapshot]:
    """Teach ``shop`` a log in micro-batches of ``batch`` events. Before each, of every shopper known so far whose next event in it is of
    ``types``, a snapshot: as many as the worker would have made, of the state that it would have made them of.
    """
    kinds = frozenset(types)
    stream, done = iter(events), 0
    while chunk := list(islice(stream, batch)):
        wanted: dict[Shopper, str] = {}
        for event in chunk:
            meant = touched(event.value, kinds)
            if meant is not None:
                wanted.setdefault(*meant)
        at_ms = chunk[-1].at_ms
        for (shopper, sku), candidates in zip(wanted.items(), shop.candidates(list(wanted), at_ms), strict=True):
            if candidates is not None:
                rows, features = candidates
                yield Snapshot(shopper, at_ms, rows, features, rows == shop.catalogue.table.row(sku))
        shop.learn(chunk, batch)
        done += len(chunk)
        progress(done)
