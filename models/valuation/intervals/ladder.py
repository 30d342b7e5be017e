"""The means of a stream's batches since its beginning, in bounded space: what is left of panes that are long gone."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeAlias

from models.valuation.intervals.batch_means import LEAST_OUTCOMES, LEAST_PANES, Interval, of_batches
from models.valuation.money import EXACT, ZERO
from models.valuation.panes import MINUTE_S

#: Bins at most. A bin takes some 20 bytes when written, so a ladder some 600.
BINS: Final = 32

#: As it is written: the doublings of the bin length, and (number of the bin, sum, outcomes) in the order of time.
LadderRecord: TypeAlias = tuple[int, tuple[tuple[int, Decimal, int], ...]]


class BatchLadder:
    """Sums and counts by event time in at most ``BINS`` bins, whose length doubles whenever there would be more.

    A bin is 2^k minutes long, bin ``i`` being [i 2^k, (i + 1) 2^k) minutes since the epoch, and only bins that hold something are
    kept. k is the least for which they are no more than ``BINS``; it depends on the set of the minutes alone, and sums are exact
    (``models.valuation.money``). Hence the ladder of a stream is the same, to the byte, in whatever order the outcomes come and
    wherever batches are cut, and merging is associative and commutative. A stray time takes up a bin and leaves the others as they are.

    Values are decimals. A value computed in floats must be rounded to a fixed number of decimals (say 12) first: a float has up to
    a thousand digits as a decimal, and a sum that does not fit into a hundred raises ``decimal.Inexact``.

    >>> early, late = BatchLadder(), BatchLadder()
    >>> early.add(1_700_000_040_000, Decimal("0.5"), 2)
    >>> late.add(1_700_000_100_000, Decimal("0.25"), 1)
    >>> late.merge(early)
    >>> late.to_record()
    (0, ((28333334, Decimal('0.5'), 2), (28333335, Decimal('0.25'), 1)))
    """

    __slots__ = ("_bins", "_doublings")

    def __init__(self) -> None:
        self._doublings = 0
        self._bins: dict[int, tuple[Decimal, int]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchLadder) and self.to_record() == other.to_record()

    __hash__ = None  # type: ignore[assignment]

    @property
    def bin_minutes(self) -> int:
        """The length of a bin in minutes."""
        return 1 << self._doublings

    @property
    def outcomes(self) -> int:
        """How many outcomes were added."""
        return sum(count for _, count in self._bins.values())

    @property
    def total(self) -> Decimal:
        """The exact sum of all that was added."""
        total = ZERO
        for value, _ in self._bins.values():
            total = EXACT.add(total, value)
        return total

    def add(self, at_ms: int, value: Decimal, outcomes: int = 1) -> None:
        """Add ``value``, the sum over ``outcomes`` outcomes of the minute that holds ``at_ms`` (ms since the epoch).

        Raises ``ValueError`` for a negative number of outcomes or a value that is no finite number.
        """
        if outcomes < 0 or not value.is_finite():
            raise ValueError(f"{outcomes} outcomes with the sum {value} cannot be added")
        # A sum of 0 has a bin, too: parts of it that cancel out may have come one by one.
        self._put(at_ms // (MINUTE_S * 1000) >> self._doublings, value, outcomes)
        self._fit()

    def merge(self, other: BatchLadder) -> None:
        """Add what ``other`` holds, which stays as it is; the two must be of disjoint parts of the stream."""
        while self._doublings < other._doublings:
            self._double()
        shift = self._doublings - other._doublings
        for number, (value, outcomes) in other._bins.items():
            self._put(number >> shift, value, outcomes)
        self._fit()

    def interval(self, level: float = 0.95) -> Interval:
        """The mean of all outcomes with an interval, bins being the batches. See ``batch_means`` for what it covers.

        Bins longer than a minute say that there were more than ``BINS`` minutes, so those are enough.
        """
        bins = [self._bins[number] for number in sorted(self._bins)]
        few = (self._doublings == 0 and len(bins) < LEAST_PANES) or self.outcomes < LEAST_OUTCOMES
        return of_batches([(float(value), outcomes) for value, outcomes in bins], level, insufficient=few)

    def to_record(self) -> LadderRecord:
        """The ladder as plain tuples, which msgspec writes as JSON or msgpack with the sums as strings."""
        return self._doublings, tuple((number, *self._bins[number]) for number in sorted(self._bins))

    @classmethod
    def from_record(cls, record: LadderRecord) -> BatchLadder:
        """Read what ``to_record`` wrote."""
        ladder = cls()
        ladder._doublings, bins = record
        ladder._bins = {number: (value, outcomes) for number, value, outcomes in bins}
        return ladder

    def _put(self, number: int, value: Decimal, outcomes: int) -> None:
        held, count = self._bins.get(number, (ZERO, 0))
        self._bins[number] = EXACT.add(held, value), count + outcomes

    def _fit(self) -> None:
        while len(self._bins) > BINS:
            self._double()

    def _double(self) -> None:
        bins, self._bins = self._bins, {}
        self._doublings += 1
        for number, (value, outcomes) in bins.items():
            self._put(number >> 1, value, outcomes)
