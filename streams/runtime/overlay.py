"""State as a processor sees it: what is on disk, under what was computed but is not yet committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streams.runtime.processor import Output
from streams.runtime.store import Store


@dataclass(slots=True)
class Pending:
    """Steps that will commit in one transaction: their outputs in order, the newest write of each key, the positions they reach.

    ``size``: bytes of the outputs' values. ``offsets``: source topic -> offset of the last record applied. ``records`` counts them;
    ``ticks`` the steps without records.
    """

    outputs: list[Output] = field(default_factory=list)
    size: int = 0
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    records: int = 0
    ticks: int = 0

    def __bool__(self) -> bool:
        return bool(self.offsets or self.ticks)


_NOTHING: Mapping[bytes, bytes | None] = {}


class Overlay:
    """``State`` over a store and up to two layers of writes: those in flight, and those that come after them.

    Read in the compute thread while a commit thread moves a layer down: a layer is looked at before the one below it, and
    taken away only once the one below holds it.
    """

    __slots__ = ("in_flight", "pending", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pending = Pending()
        self.in_flight: Pending | None = None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``State.get_many``."""
        upper = self.pending.writes
        below = self.in_flight
        lower = below.writes if below is not None else _NOTHING
        if not upper and not lower:
            return self.store.get_many(keys)
        values: list[bytes | None] = [None] * len(keys)
        places: list[int] = []
        absent: list[bytes] = []
        for place, key in enumerate(keys):
            if key in upper:
                values[place] = upper[key]
            elif key in lower:
                values[place] = lower[key]
            else:
                places.append(place)
                absent.append(key)
        if absent:
            for place, value in zip(places, self.store.get_many(absent), strict=True):
                values[place] = value
        return values

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See ``State.scan``."""
        upper = self.pending.writes
        below = self.in_flight
        written = {**(below.writes if below is not None else _NOTHING), **upper}
        layer = iter(sorted((key, value) for key, value in written.items() if key.startswith(prefix) and key >= start))
        newer = next(layer, None)
        for key, value in self.store.scan(prefix, start):
            while newer is not None and newer[0] < key:
                if newer[1] is not None:
                    yield newer[0], newer[1]
                newer = next(layer, None)
            if newer is not None and newer[0] == key:
                if newer[1] is not None:
                    yield key, newer[1]
                newer = next(layer, None)
            else:
                yield key, value
        while newer is not None:
            if newer[1] is not None:
                yield newer[0], newer[1]
            newer = next(layer, None)
