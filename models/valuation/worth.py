"""What the data was worth to the predictions of one pane, asset by asset: exact sums that add up whatever the order.

The game of each test (VALUATION section 3) gives floats; they are rounded to ``QUANTUM`` once, where they arise, and added up as
decimals ever after. So the sums of a pane depend on its tests alone, not on how the log was cut, and are the same byte by byte after
any crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from models.valuation.intervals import BatchLadder, LadderRecord, ReplicateSums
from models.valuation.money import EXACT, ZERO
from models.valuation.sums import NEVER

#: Utility points are rounded to this many decimals, once a test: a pane of a million tests is off by 1e-9 at most, 1e-12 as a rule.
DECIMALS: Final = 15
QUANTUM: Final = 10**DECIMALS
#: Rows of which an asset has but a part, likewise: a sum of 64 bits holds a thousand tests of windows of millions.
ROW_DECIMALS: Final = 9
ROW_QUANTUM: Final = 10**ROW_DECIMALS
#: Sums of money of an asset that have replicates: the first by name, which are the same however the stream was cut. They are some 400 to
#: 800 bytes each, and a record of state must hold those of all assets.
REPLICATED: Final = 8


class Credit(msgspec.Struct, array_like=True):
    """What one asset is credited with, as sums over tests.

    ``tests``: those that could draw on an event of the asset. ``rows``: what it had of the rows in the window, each as large a part as it
    has of the row's events, and ``owned``: the rows that are its own in the games whose players are assets; both added up over tests.
    ``points``, ``player``, ``leave_one_out``: utility points, the three numbers of VALUATION section 3. ``money``: by name of the sum
    (``money.MONEY_NAMES``), each test's points times what its purchase brought.
    ``ladder``: points by time since the beginning, in the total alone. ``replicates``: of the money of ``REPLICATED`` names at most, to
    10^-6 a purchase; not in minutes, of which there are too many.
    """

    tests: int = 0
    rows: Decimal = ZERO
    owned: int = 0
    points: Decimal = ZERO
    player: Decimal = ZERO
    leave_one_out: Decimal = ZERO
    money: dict[str, Decimal] = {}
    ladder: LadderRecord | None = None
    replicates: dict[str, ReplicateSums] = {}

    @classmethod
    def merged(cls, parts: Sequence[Credit]) -> Credit:
        """The exact sum; the parts stay as they are."""
        if len(parts) == 1:
            return parts[0]
        money: dict[str, Decimal] = {}
        ladder: LadderRecord | None = None
        replicates: dict[str, list[ReplicateSums]] = {}
        for part in parts:
            add_money(money, part.money)
            ladder = _joined(ladder, part.ladder)
            for name, sums in part.replicates.items():
                replicates.setdefault(name, []).append(sums)
        return cls(
            sum(part.tests for part in parts),
            total(part.rows for part in parts),
            sum(part.owned for part in parts),
            total(part.points for part in parts),
            total(part.player for part in parts),
            total(part.leave_one_out for part in parts),
            money,
            ladder,
            {name: ReplicateSums.merged(replicates[name]) for name in sorted(replicates)[:REPLICATED]},
        )


class Worth(msgspec.Struct, array_like=True):
    """One pane of one dimension: ``tests``, the sums over them of the utility reached and of the popularity baseline, the offsets of the
    first and the last test, and every asset's credit. ``ladder``: tests by time since the beginning, in the total alone. ``most_rows``: of
    the test in which most took part.
    """

    tests: int = 0
    utility: Decimal = ZERO
    baseline: Decimal = ZERO
    offset_low: int = NEVER
    offset_high: int = -1
    money: dict[str, Decimal] = {}
    credits: dict[str, Credit] = {}
    ladder: LadderRecord | None = None
    most_rows: int = 0

    @property
    def lift(self) -> Decimal:
        """Utility above the baseline, summed over tests: what the credits add up to."""
        return EXACT.subtract(self.utility, self.baseline)

    def residual(self) -> Decimal:
        """By how much the assets' points miss the lift, summed over tests, or their values as players if those miss it by more: the
        rounding, and nothing else.
        """
        credits = self.credits.values()
        sums = total(credit.points for credit in credits), total(credit.player for credit in credits)
        return max((EXACT.subtract(part, self.lift) for part in sums), key=abs)

    def renamed(self, name_of: Callable[[str], str]) -> Worth:
        """The same with other names; credits of assets that get one name are added up."""
        credits: dict[str, Credit] = {}
        for asset, credit in self.credits.items():
            name = name_of(asset)
            credits[name] = Credit.merged([credits[name], credit]) if name in credits else credit
        return msgspec.structs.replace(self, credits=credits)

    def with_ladder(self, at_ms: int) -> Worth:
        """The same, all of whose tests were in one minute, that of ``at_ms``, with every asset's points on a ladder."""
        credits = {}
        for asset, credit in self.credits.items():
            ladder = BatchLadder()
            if credit.tests:
                ladder.add(at_ms, credit.points, 0)
            credits[asset] = msgspec.structs.replace(credit, ladder=ladder.to_record())
        tests = BatchLadder()
        if self.tests:
            tests.add(at_ms, ZERO, self.tests)
        return msgspec.structs.replace(self, credits=credits, ladder=tests.to_record())

    def with_replicates(self, replicates: Mapping[str, Mapping[str, ReplicateSums]]) -> Worth:
        """The same with replicates of the money of assets, by their names and those of the sums."""
        credits = dict(self.credits)
        for asset, held in replicates.items():
            few = {name: held[name] for name in sorted(held)[:REPLICATED]}
            credits[asset] = msgspec.structs.replace(credits[asset], replicates=few)
        return msgspec.structs.replace(self, credits=credits)

    def ordered(self) -> Worth:
        """The same, names ascending: equal sums are then equal bytes, whatever came first."""
        credits = {
            asset: msgspec.structs.replace(
                credit, money=dict(sorted(credit.money.items())), replicates=dict(sorted(credit.replicates.items()))
            )
            for asset, credit in sorted(self.credits.items())
        }
        return msgspec.structs.replace(self, money=dict(sorted(self.money.items())), credits=credits)


def _joined(one: LadderRecord | None, other: LadderRecord | None) -> LadderRecord | None:
    if one is None or other is None:
        return one or other
    ladder = BatchLadder.from_record(one)
    ladder.merge(BatchLadder.from_record(other))
    return ladder.to_record()


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def add_money(into: dict[str, Decimal], other: Mapping[str, Decimal]) -> None:
    """Add ``other`` to ``into``, currency by currency."""
    for currency, amount in other.items():
        into[currency] = EXACT.add(into.get(currency, ZERO), amount)


def add_worth(into: dict[str, Worth], dimension: str, worth: Worth) -> None:
    """Add to what is held of a dimension, if anything is."""
    into[dimension] = merged([into[dimension], worth]) if dimension in into else worth


def merged(parts: Iterable[Worth]) -> Worth:
    """The sums of disjoint sets of tests; the parts stay as they are."""
    whole, add = Worth(money={}), EXACT.add
    credits: dict[str, list[Credit]] = {}
    for part in parts:
        whole.tests += part.tests
        whole.utility = add(whole.utility, part.utility)
        whole.baseline = add(whole.baseline, part.baseline)
        whole.offset_low = min(whole.offset_low, part.offset_low)
        whole.offset_high = max(whole.offset_high, part.offset_high)
        whole.ladder = _joined(whole.ladder, part.ladder)
        whole.most_rows = max(whole.most_rows, part.most_rows)
        add_money(whole.money, part.money)
        for asset, credit in part.credits.items():
            credits.setdefault(asset, []).append(credit)
    whole.credits = {asset: Credit.merged(held) for asset, held in credits.items()}
    return whole


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Worth)


def to_bytes(worth: Worth) -> bytes:
    """For state: some 50 bytes an asset, and in hours and the total its replicates."""
    return _ENCODER.encode(worth.ordered())


def from_bytes(data: bytes) -> Worth:
    """Read what ``to_bytes`` wrote."""
    return _DECODER.decode(data)
