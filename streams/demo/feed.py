"""What happens in the shop: simulated, or replayed from a public data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from models.simulation import Shelf, Storefront
from schemas.catalog import Product
from streams.replay import open_dataset


@dataclass(frozen=True, slots=True)
class FeedRecord:
    """One record for ``storefront.events``."""

    key: bytes | None
    value: bytes | None


class Feed(Protocol):
    """A catalogue, and events in order."""

    title: str
    products: Sequence[Product]

    def records(self) -> Iterator[FeedRecord]:
        """Records in order; endless for the simulation."""
        ...


class SimulatedFeed:
    """The simulated storefront in the closed loop: ``shelf`` gives the newest list of a shopper, which they may click through."""

    def __init__(self, seed: int, shelf: Callable[[str], Shelf | None]) -> None:
        self._shop = Storefront(seed, shelf=shelf)
        self.title = f"simulated storefront, seed {seed}"
        self.products: Sequence[Product] = self._shop.catalogue.products

    def records(self) -> Iterator[FeedRecord]:
        """See ``Feed.records``; an event never runs ahead of the wall clock."""
        for record in self._shop.records():
            while (ahead := record.occurred_ms / 1000 - time.time()) > 0:
                time.sleep(min(ahead, 0.1))
            yield FeedRecord(record.key, record.value)


class DatasetFeed:
    """A public data set, at most ``limit`` of its events. Raises ``ReplayError`` where it cannot be read."""

    def __init__(self, name: str, path: Path, limit: int | None) -> None:
        self._dataset = open_dataset(name, path)
        self._limit = limit
        self.title = f"{name} from {path.name}"
        self.products: Sequence[Product] = self._dataset.catalogue().products

    def records(self) -> Iterator[FeedRecord]:
        """See ``Feed.records``."""
        return (FeedRecord(event.key, event.value) for event in islice(self._dataset.events(), self._limit))
