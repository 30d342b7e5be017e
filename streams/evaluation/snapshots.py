"""Snapshots of what a trained ranker would have been given, taken from a log, with what the shopper did next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

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
    """Teach ``shop`` a log in micro-batches of ``batch`` events. Before each, of every shopper known so far whose next event in it is of
    ``types``, a snapshot: as many as the worker would have made, of the state that it would have made them of.
    """
    kinds = frozenset(types)
    found = Snapshots(limit)
    stream, done = iter(events), 0
    while chunk := list(islice(stream, batch)):
        wanted: dict[Shopper, str] = {}
        for event in chunk:
            meant = touched(event.value, kinds)
            if meant is not None:
                wanted.setdefault(*meant)
        for candidates, sku in zip(shop.candidates(list(wanted), chunk[-1].at_ms), wanted.values(), strict=True):
            if candidates is not None:
                rows, features = candidates
                found.add(features, rows == shop.catalogue.table.row(sku))
        shop.learn(chunk, batch)
        done += len(chunk)
        progress(done)
    return found
