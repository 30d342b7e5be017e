"""From a batch of outcomes to sums per asset and pane, in one vectorised pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.metrics import DEPTH
from models.valuation.money import Takings, add_takings, takings_of
from models.valuation.panes import HOUR_S, LATE_MS, MINUTE_S, TOTAL, PaneId
from models.valuation.sums import (
    AFTER_RANKS,
    CLICKS,
    COLUMNS,
    CONVERSIONS,
    COUNTED_TYPES,
    LATE,
    NAMED,
    NAMED_FIELDS,
    POPULARITY_RANKS,
    RANKS,
    TESTS,
    TYPES,
    PaneSums,
)

#: Types whose item is foretold: an impression is what we showed, a refund undoes, a search and a login name no item.
TESTED_TYPES: Final = frozenset({"browse", "click", "add_to_cart", "purchase"})
_TYPE_COLUMNS: Final = {name: TYPES + i for i, name in enumerate(COUNTED_TYPES)}
_OTHER_TYPE: Final = _TYPE_COLUMNS["other"]
#: One more column, cut off at the end, takes what does not count, so that every outcome has as many entries.
_NOWHERE: Final = COLUMNS


class OutcomeRow(NamedTuple):
    """What valuation reads of one outcome. ``assets``: its number in each dimension (``AssetNumbers``), one a dimension.

    ``rank``, ``rank_after``, ``popularity_rank``: from 1, 0 where the item was not in the list. ``named``: which of
    ``NAMED_FIELDS`` it has.
    """

    offset: int
    at_ms: int
    type: str
    assets: tuple[int, ...]
    listed: bool
    rank: int
    rank_after: int
    popularity_rank: int
    attributed: bool
    revenue: Decimal | None
    currency: str | None
    named: tuple[bool, ...] = (False,) * len(NAMED_FIELDS)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums of a batch by (asset number, pane), and the partition's watermark after it (ms)."""

    sums: dict[tuple[int, PaneId], PaneSums]
    watermark_ms: int


def tally(rows: Sequence[OutcomeRow], watermark_ms: int) -> Tally:
    """Sum ``rows`` (in source order, at least one, from one partition) by asset, per minute, per hour and in total.

    ``watermark_ms`` is the largest outcome time seen before; an outcome more than ``LATE_MS`` behind the largest before
    *it* counts as late, so lateness does not depend on where batches were cut.
    """
    at = np.array([row.at_ms for row in rows], np.int64)
    offsets = np.array([row.offset for row in rows], np.int64)
    before = np.maximum.accumulate(np.concatenate(([watermark_ms], at)))
    entries = _entries(rows, at < before[:-1] - LATE_MS)

    widths = np.array([len(row.assets) for row in rows])
    owner = np.repeat(np.arange(len(rows)), widths)
    assets = np.array([asset for row in rows for asset in row.assets], np.int64)
    minutes = at // (MINUTE_S * 1000)
    base = int(minutes.min())
    span = int(minutes.max()) - base + 1
    keys, group = np.unique(assets * span + (minutes - base)[owner], return_inverse=True)

    flat = group[:, None] * (COLUMNS + 1) + entries[owner]
    counts = np.bincount(flat.ravel(), minlength=len(keys) * (COLUMNS + 1)).reshape(len(keys), COLUMNS + 1)[:, :COLUMNS]
    by_group = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[by_group], np.arange(len(keys)))
    level = _Level(
        asset=keys // span,
        minute=keys % span + base,
        counts=counts,
        low=np.minimum.reduceat(offsets[owner][by_group], starts),
        high=np.maximum.reduceat(offsets[owner][by_group], starts),
        first=np.minimum.reduceat(at[owner][by_group], starts),
    )
    sums: dict[tuple[int, PaneId], PaneSums] = {}
    for minutes_per_pane in (1, HOUR_S // MINUTE_S, 0):
        level = level.folded(minutes_per_pane)
        level.write_into(sums, minutes_per_pane * MINUTE_S)
    _add_money(rows, sums)
    return Tally(sums, int(before[-1]))


def _entries(rows: Sequence[OutcomeRow], late: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Shape (n, 12): the columns in which each outcome counts one."""
    entries = np.full((len(rows), 8 + len(NAMED_FIELDS)), _NOWHERE, np.int64)
    listed = [row.listed and row.type in TESTED_TYPES for row in rows]
    tested = np.array(listed, bool)
    entries[:, 0] = [_TYPE_COLUMNS.get(row.type, _OTHER_TYPE) for row in rows]
    entries[tested, 1] = TESTS
    entries[late, 2] = LATE
    for column, first, ranks in (
        (3, RANKS, [row.rank for row in rows]),
        (4, POPULARITY_RANKS, [row.popularity_rank for row in rows]),
        (5, AFTER_RANKS, [row.rank_after for row in rows]),
    ):
        rank = np.array(ranks, np.int64)
        hit = tested & (rank >= 1) & (rank <= DEPTH)
        entries[hit, column] = first + rank[hit] - 1
    # A rank alone is what outcomes of older workers say of a click on an item of the newest list.
    recommended = [row.attributed or row.rank > 0 for row in rows]
    entries[[hit and row.type == "click" for hit, row in zip(recommended, rows, strict=True)], 6] = CLICKS
    entries[[row.attributed and row.type == "purchase" for row in rows], 7] = CONVERSIONS
    columns = np.arange(NAMED, NAMED + len(NAMED_FIELDS))
    entries[:, 8:] = np.where(np.array([row.named for row in rows]), columns, _NOWHERE)
    return entries


@dataclass(frozen=True, slots=True)
class _Level:
    """Sums by (asset, pane), sorted by both; one row a group."""

    asset: NDArray[np.int64]
    minute: NDArray[np.int64]  # first minute of the pane
    counts: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    first: NDArray[np.int64]

    def folded(self, minutes_per_pane: int) -> _Level:
        """The same sums over longer panes (0 = one pane for all time)."""
        minute = self.minute - self.minute % minutes_per_pane if minutes_per_pane else np.zeros_like(self.minute)
        changed = np.r_[True, (self.asset[1:] != self.asset[:-1]) | (minute[1:] != minute[:-1])]
        starts = np.flatnonzero(changed)
        return _Level(
            self.asset[starts],
            minute[starts],
            np.add.reduceat(self.counts, starts, axis=0),
            np.minimum.reduceat(self.low, starts),
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.first, starts),
        )

    def write_into(self, sums: dict[tuple[int, PaneId], PaneSums], length_s: int) -> None:
        """Add a ``PaneSums`` for each group."""
        starts = self.minute * (MINUTE_S * 1000)
        columns = (column.tolist() for column in (self.asset, starts, self.low, self.high, self.first))
        for counts, asset, start, low, high, first in zip(self.counts, *columns, strict=True):
            sums[asset, PaneId(length_s, start)] = PaneSums(counts, offset_low=low, offset_high=high, first_ms=first)


def _add_money(rows: Sequence[OutcomeRow], sums: dict[tuple[int, PaneId], PaneSums]) -> None:
    """Add the takings: outcome by outcome into minutes, whose sums then go into hours and totals."""
    minutes: dict[tuple[int, int, str], Takings] = {}
    for row in rows:
        if row.revenue is None or row.currency is None:
            continue
        takings = takings_of(row.revenue, attributed=row.attributed)
        start = row.at_ms - row.at_ms % (MINUTE_S * 1000)
        for asset in row.assets:
            known = minutes.get((asset, start, row.currency))
            minutes[asset, start, row.currency] = takings if known is None else known.plus(takings)
    for (asset, start, currency), takings in minutes.items():
        for pane in (PaneId(MINUTE_S, start), PaneId(HOUR_S, start - start % (HOUR_S * 1000)), TOTAL):
            add_takings(sums[asset, pane].money, {currency: takings})
