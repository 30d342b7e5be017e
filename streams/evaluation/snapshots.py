"""Snapshots of what a trained ranker would have been given, taken from a log, with what the shopper did next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.profiles.profile import TYPE_CODES
from models.ranking.candidates import NAMES
from streams.agents.shoppers import Shopper
from streams.evaluation.shop import InProcessShop
from streams.evaluation.touches import read_touch
from streams.replay.record import ReplayEvent


@dataclass(slots=True)
class Snapshots:
    """The newest ``limit`` lists, oldest first, each with the item of the shopper's next event among its candidates or not."""

    limit: int
    lists: deque[tuple[NDArray[np.float32], NDArray[np.bool_]]] = field(default_factory=deque)
    bought: deque[NDArray[np.bool_]] = field(default_factory=deque)

    def add(self, features: NDArray[np.float32], right: NDArray[np.bool_], bought: NDArray[np.bool_]) -> None:
        """One list: ``features`` float32[c, f] of its candidates, the blend's best first, which is ``right`` bool[c], and which are
        ``bought`` bool[c] (see ``Snapshot``).
        """
        self.lists.append((features, right))
        self.bought.append(bought)
        if len(self.lists) > self.limit:
            self.lists.popleft()
            self.bought.popleft()

    def joined(self, lists: slice = slice(None)) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """(starts int64[n + 1], features float32[c, f], right bool[c]) of a part of them, end to end."""
        part = list(self.lists)[lists]
        starts = np.cumsum([0, *(len(right) for _, right in part)]).astype(np.int64)
        if not part:
            return starts, np.empty((0, len(NAMES)), np.float32), np.empty(0, np.bool_)
        return starts, np.concatenate([features for features, _ in part]), np.concatenate([right for _, right in part])

    def purchases(self) -> NDArray[np.bool_]:
        """bool[c]: of the candidates of all of them, end to end, which the shopper bought before the visit was over."""
        return np.concatenate([np.empty(0, np.bool_), *self.bought])


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
        found.add(one.features, one.right, one.bought)
    return found


class Snapshot(NamedTuple):
    """One list: of the shopper, at the time in ms, the candidates' ``rows`` int32[c] and ``features`` float32[c, f], and which is
    ``right`` bool[c]. ``bought`` bool[c] is filled in while the log goes on: what the shopper bought before the first pause that ends a
    visit.
    """

    shopper: Shopper
    at_ms: int
    rows: NDArray[np.int32]
    features: NDArray[np.float32]
    right: NDArray[np.bool_]
    bought: NDArray[np.bool_]


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
    visits = _Visits(round(1000 * shop.settings.session_gap_s))
    while chunk := list(islice(stream, batch)):
        touches = [(event.at_ms, touch) for event in chunk if (touch := read_touch(event.value, TYPE_CODES)) is not None]
        wanted: dict[Shopper, str] = {}
        for _, (shopper, fields) in touches:
            if fields["type"] in kinds:
                wanted.setdefault(shopper, fields["sku"])
        at_ms = chunk[-1].at_ms
        for (shopper, sku), candidates in zip(wanted.items(), shop.candidates(list(wanted), at_ms), strict=True):
            if candidates is not None:
                rows, features = candidates
                bought = np.zeros(len(rows), np.bool_)
                visits.list_for(shopper, rows, bought)
                yield Snapshot(shopper, at_ms, rows, features, rows == shop.catalogue.table.row(sku), bought)
        shop.learn(chunk, batch)
        for touched_ms, (shopper, fields) in touches:
            visits.touch(shopper, touched_ms, shop.catalogue.table.row(fields["sku"]) if fields["type"] == "purchase" else -1)
        done += len(chunk)
        progress(done)


class _Visits:
    """The lists of the visits that go on, for what is bought of them later in the visit."""

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self._last_ms: dict[Shopper, int] = {}
        self._lists: dict[Shopper, list[tuple[NDArray[np.int32], NDArray[np.bool_]]]] = {}

    def list_for(self, shopper: Shopper, rows: NDArray[np.int32], bought: NDArray[np.bool_]) -> None:
        self._lists.setdefault(shopper, []).append((rows, bought))

    def touch(self, shopper: Shopper, at_ms: int, purchased: int) -> None:
        """The shopper touched an item, and bought it if ``purchased`` is its row and not -1."""
        if at_ms - self._last_ms.get(shopper, at_ms) > self._gap_ms:
            self._lists.pop(shopper, None)
        self._last_ms[shopper] = at_ms
        if purchased >= 0:
            for rows, bought in self._lists.get(shopper, ()):
                np.logical_or(bought, rows == purchased, out=bought)
