"""What one pane holds for one asset: integer counts, exact money, a sketch, and the offsets that it rests on.

All of it adds: the sums of two disjoint parts of the stream are the sums of the whole, whatever the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.metrics import DEPTH, CatalogueCoverage, FunnelCounts, RankCounts
from models.valuation.money import Takings, add_takings
from schemas.events import EVENT_TYPES

#: Types told apart; a type of a later minor version counts as ``other``.
COUNTED_TYPES: Final = (*EVENT_TYPES, "other")

# Columns of the count vector.
TESTS, LATE, CLICKS, CONVERSIONS = range(4)
TYPES: Final = 4
RANKS: Final = TYPES + len(COUNTED_TYPES)
POPULARITY_RANKS: Final = RANKS + DEPTH
AFTER_RANKS: Final = POPULARITY_RANKS + DEPTH
NAMED: Final = AFTER_RANKS + DEPTH
#: What an outcome may have filled in: a column each.
NAMED_FIELDS: Final = ("category", "country", "segment", "margin")
COLUMNS: Final = NAMED + len(NAMED_FIELDS)
#: An offset above all offsets and a time after all times: the lower bounds of nothing.
NEVER: Final = 2**62


class PaneRecord(msgspec.Struct, omit_defaults=True):
    """``PaneSums`` as it is written: msgpack in state, JSON in ``PanePartial.assets``. Lists end at the last non-zero count."""

    offsets: tuple[int, int] = (NEVER, -1)
    first_ms: int = NEVER
    tests: int = 0
    late: int = 0
    clicks: int = 0
    conversions: int = 0
    types: dict[str, int] = {}
    ranks: list[int] = []
    popularity_ranks: list[int] = []
    after_ranks: list[int] = []
    named: list[int] = []
    money: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
    items: bytes = b""
    served: tuple[int, str, str, int] | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(PaneRecord)


@dataclass(slots=True)
class PaneSums:
    """Sums over the outcomes of one asset in one pane, from one partition or merged over several.

    ``counts``: int64, shape (COLUMNS,). ``items``: sketch of the distinct items recommended (``overall`` only).
    ``offset_low``, ``offset_high``: first and last record counted, in one partition. ``first_ms``: earliest event time.
    ``served``: (event time in ms, encoder, model, size of the catalogue) of the newest exposure.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(COLUMNS, np.int64))
    money: dict[str, Takings] = field(default_factory=dict)
    items: bytes = b""
    offset_low: int = NEVER
    offset_high: int = -1
    first_ms: int = NEVER
    served: tuple[int, str, str, int] | None = None

    @classmethod
    def merged(cls, parts: Sequence[PaneSums]) -> PaneSums:
        """The sums of disjoint parts of the stream; the parts stay as they are."""
        if len(parts) == 1:
            return parts[0]
        whole = cls()
        if not parts:
            return whole
        whole.counts = np.sum([part.counts for part in parts], axis=0, dtype=np.int64)
        coverage: CatalogueCoverage | None = None
        for part in parts:
            if part.money:
                add_takings(whole.money, part.money)
            if part.items:
                coverage = (coverage or CatalogueCoverage()).merge_sketch(part.items)
            if part.served is not None and (whole.served is None or part.served > whole.served):
                whole.served = part.served
        whole.items = coverage.to_bytes() if coverage else b""
        whole.offset_low = min(part.offset_low for part in parts)
        whole.offset_high = max(part.offset_high for part in parts)
        whole.first_ms = min(part.first_ms for part in parts)
        return whole

    @property
    def tests(self) -> int:
        """Outcomes that were judged against a list."""
        return int(self.counts[TESTS])

    @property
    def late(self) -> int:
        """Outcomes that came late (``panes.LATE_MS``)."""
        return int(self.counts[LATE])

    @property
    def named(self) -> dict[str, int]:
        """How many outcomes name each of ``NAMED_FIELDS``."""
        return dict(zip(NAMED_FIELDS, self.counts[NAMED:].tolist(), strict=True))

    def ranks(self, first_column: int) -> RankCounts:
        """The rank counts that start at ``RANKS``, ``POPULARITY_RANKS`` or ``AFTER_RANKS``."""
        return RankCounts(self.tests, self.counts[first_column : first_column + DEPTH])

    def funnel(self) -> FunnelCounts:
        """Events by type, clicks and conversions."""
        funnel = FunnelCounts()
        funnel.by_type = {name: int(n) for name, n in zip(COUNTED_TYPES, self.counts[TYPES:RANKS], strict=True) if n}
        funnel.clicks = int(self.counts[CLICKS])
        funnel.conversions = int(self.counts[CONVERSIONS])
        return funnel

    def record(self) -> PaneRecord:
        """These sums in the form in which they are written."""
        counts = self.counts.tolist()
        return PaneRecord(
            offsets=(self.offset_low, self.offset_high),
            first_ms=self.first_ms,
            tests=counts[TESTS],
            late=counts[LATE],
            clicks=counts[CLICKS],
            conversions=counts[CONVERSIONS],
            types={name: n for name, n in zip(COUNTED_TYPES, counts[TYPES:RANKS], strict=True) if n},
            ranks=_trimmed(counts[RANKS:POPULARITY_RANKS]),
            popularity_ranks=_trimmed(counts[POPULARITY_RANKS:AFTER_RANKS]),
            after_ranks=_trimmed(counts[AFTER_RANKS:NAMED]),
            named=_trimmed(counts[NAMED:]),
            money={currency: tuple(takings) for currency, takings in self.money.items()},  # type: ignore[misc]
            items=self.items,
            served=self.served,
        )

    @classmethod
    def from_record(cls, record: PaneRecord) -> PaneSums:
        """Read what ``record`` wrote."""
        counts = np.zeros(COLUMNS, np.int64)
        counts[:TYPES] = record.tests, record.late, record.clicks, record.conversions
        for name, n in record.types.items():
            counts[TYPES + COUNTED_TYPES.index(name)] = n
        counts[RANKS : RANKS + len(record.ranks)] = record.ranks
        counts[POPULARITY_RANKS : POPULARITY_RANKS + len(record.popularity_ranks)] = record.popularity_ranks
        counts[AFTER_RANKS : AFTER_RANKS + len(record.after_ranks)] = record.after_ranks
        counts[NAMED : NAMED + len(record.named)] = record.named
        return cls(
            counts,
            {currency: Takings(*amounts) for currency, amounts in record.money.items()},
            record.items,
            *record.offsets,
            record.first_ms,
            record.served,
        )

    def to_bytes(self) -> bytes:
        """These sums for state: some 60 to 150 bytes, and a sketch of at most 2 KiB for ``overall``."""
        return _ENCODER.encode(self.record())

    @classmethod
    def from_bytes(cls, data: bytes) -> PaneSums:
        """Read what ``to_bytes`` wrote."""
        return cls.from_record(_DECODER.decode(data))


def _trimmed(counts: list[int]) -> list[int]:
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return counts[:end]
