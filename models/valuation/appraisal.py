"""What the rows of a window were worth to the tests that came after them, row by row and asset by asset.

A row is a past session. A test is an item event with at least one event before it in its session: its neighbours are the sessions that the
recommender's own similarity puts nearest, its label the item that came. It is scored before it enters. The value of a row is its share
in ``v(N) - p`` (VALUATION section 3): ``v(N)`` is how many of the K nearest rows hold the label, ``p`` how many of all rows do. (Of the
other provider of neighbours, ``shown_appraisal``, rows are items shown; all but the finding of neighbours is this code.)

A row belongs to the assets of its events. What it earns for holding the label goes to its events of that item, in equal parts; what
it pays, because others held it or because anybody would have guessed it, is borne by all its events in equal parts. So an asset's rows
are counted by such parts, too. In the games whose players are assets a row is one asset's as a whole: that of most of its events, the
earliest where there are as many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from heapq import heapify, heappop, heappush
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from models.valuation.assets import ALL, DIMENSIONS, OTHER
from models.valuation.games import play
from models.valuation.margins import ClickMargins, MarginShares
from models.valuation.minute_worth import Appraisal, MinuteWorth, Purchase
from models.valuation.money import EXACT, ZERO, Margin
from models.valuation.neighbours import Neighbours, NeighbourWindow, SessionNeighbours
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL, PaneId, pane_start
from models.valuation.row_table import EVENT_LIMIT, RowTable
from models.valuation.tally import TESTED_TYPES
from models.valuation.worth import Worth, add_worth

#: Dimensions in which events are told apart; a row's age is a dimension of its own.
OVERALL, *_OF_EVENTS = DIMENSIONS
EVENT_DIMENSIONS: Final = tuple(_OF_EVENTS)
AGE: Final = "age_bucket"
WORTH_DIMENSIONS: Final = (*EVENT_DIMENSIONS, AGE, OVERALL)
#: Where an event names no asset of a dimension: all of a row must be somewhere, or nothing would add up.
UNKNOWN: Final = "unknown"
#: Names of age buckets and their upper bounds in s, by the newest event of a row.
AGES: Final = (
    ("under 1 h", 3_600),
    ("1 h to 1 d", 86_400),
    ("1 to 7 d", 7 * 86_400),
    ("7 to 30 d", 30 * 86_400),
    ("30 to 90 d", 90 * 86_400),
)
OLDEST: Final = "over 90 d"
#: Assets of a dimension that one partition tells apart.
NAME_LIMIT: Final = 128
#: Assets that are there from the beginning, in the order of their numbers.
FIXED_NAMES: Final = (
    (OVERALL, (ALL,)),
    (AGE, (*(name for name, _ in AGES), OLDEST)),
    *((dimension, (OTHER,)) for dimension in EVENT_DIMENSIONS),
)
_ALL: Final = 0
_CATEGORY: Final = EVENT_DIMENSIONS.index("category")
_PACK: Final = msgspec.msgpack.Encoder()
_POINTS: Final = msgspec.msgpack.Decoder(dict[int, int])
#: Clicks that wait, below which the heap is not looked through for those that do no more.
_FEW_CLICKS: Final = 1_024
_AGE_BOUNDS_MS: Final = np.array([seconds * 1000 for _, seconds in AGES], np.int64)


class Rules(NamedTuple):
    """``k``: neighbours that vote. ``head``: the nearest rows that are put in order. ``rows``: the window. ``gap_ms``: ends a session.
    ``margins``: what purchases earn whose margin nobody tells. ``neighbours``: what rows are, past sessions or items shown. ``clicks``:
    what those are worth that are not bought yet, within ``click_window_ms``.
    """

    k: int = 10
    head: int = 256
    rows: int = 10_000
    gap_ms: int = 30 * 60_000
    margins: MarginShares = MarginShares()
    neighbours: Literal["sessions", "embeddings"] = "sessions"
    clicks: ClickMargins = ClickMargins()
    click_window_ms: int = 7 * 86_400_000


#: Which purchase of which line: where its points by asset are kept (``Appraiser.changes``), since only a refund asks for them again.
PurchaseKey: TypeAlias = tuple[int, int]


class Line(msgspec.Struct, array_like=True):
    """A row as it is written. ``events``: SKU, asset numbers in the order of ``EVENT_DIMENSIONS``, and which event of the window it was:
    neighbours are looked for among the sessions that touched an item last, so the order over all rows is part of the window.

    Of an item shown also the resolution that told of it (``shown``), whether it was ``taken`` up, and its vector as it was when the row
    entered: little-endian half floats, of ``encoder``.
    """

    shopper: str
    newest_ms: int
    events: list[tuple[str, tuple[int, ...], int]]
    purchases: list[Purchase]
    shown: str = ""
    taken: bool = False
    encoder: str = ""
    vector: bytes = b""


class Changes(NamedTuple):
    """What became of a window. ``names``: all names of assets where there are new ones, else None. ``lines`` by their number and
    ``points`` (of purchases, packed) by their key: None for what is gone.
    """

    names: list[tuple[str, str]] | None
    lines: dict[int, Line | None]
    points: dict[PurchaseKey, bytes | None]


class Players(NamedTuple):
    """Who plays for what (see ``games.play``), int64 each. Of the ages none stands for others: they are too few for that."""

    dimension_of: NDArray[np.int64]
    place_of: NDArray[np.int64]
    rest_of: NDArray[np.int64]


class Happening(NamedTuple):
    """An event with an item. ``names``: its asset in each of ``EVENT_DIMENSIONS``. ``amount``: what came in,
    below 0 what went back, and ``margin`` what it earns. ``credited``: whether it is to be shared out among what foretold it; what is not
    is kept for the refunds that take it back.

    ``tested``: whether it says how good predictions were; the lists of those who are held out rest on none, so they only teach.
    """

    at_ms: int
    type: str
    shopper: str
    sku: str
    names: tuple[str | None, ...]
    amount: Decimal | None = None
    currency: str | None = None
    tested: bool = True
    margin: Margin | None = None
    credited: bool = True


class RowAppraiser(ABC):
    """The window of one partition, and the games of its tests. What it holds is a function of what it was given, in order.

    ``sums`` and ``changes`` tell what came of it since they were last called. ``load`` brings a window back from what ``changes`` told.
    ``stored`` finds the points of a purchase that were told, None where they are gone. Its providers give it one happening at a time.
    """

    #: The one asset of a row in there is its slot in our table.
    _window: NeighbourWindow

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.stored: Callable[[PurchaseKey], bytes | None] = lambda _key: None
        self._points: dict[PurchaseKey, bytes | None] = {}
        self._table = RowTable(len(EVENT_DIMENSIONS))
        self._items = _Items()
        self._lines: OrderedDict[int, Line] = OrderedDict()
        self._slots: dict[int, int] = {}
        self._of_shopper: dict[str, list[int]] = {}
        self._next = 0
        self._events = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._pairs: list[tuple[str, str]] = []
        self._players: Players | None = None
        self._of_dimension: dict[str, list[int]] = {dimension: [] for dimension in WORTH_DIMENSIONS}
        for dimension, names in FIXED_NAMES:
            for name in names:
                self._number(dimension, name)
        self._known = len(self._pairs)
        self._fixed = self._known
        self._digammas = digamma(np.arange(max(self.rules.rows, self.rules.k) + 2) + 1.0)
        self._changed: set[int] = set()
        self._minutes: dict[int, MinuteWorth] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def load(self, names: Iterable[Sequence[str]], lines: Iterable[tuple[int, Line]]) -> None:
        """Bring back an empty window: the names of ``changes``, and its lines by their number, ascending."""
        for dimension, name in names:
            self._number(dimension, name)
        self._known = len(self._pairs)
        happened: list[tuple[int, int, str, tuple[int, ...], int]] = []
        for number, line in lines:
            self._open(number, msgspec.structs.replace(line, newest_ms=0, events=[]))
            happened += [(place, number, sku, assets, line.newest_ms) for sku, assets, place in line.events]
        for place, number, sku, assets, newest_ms in sorted(happened):
            self._events = place
            self._append(number, sku, assets, newest_ms)
        self._changed.clear()

    def changes(self) -> Changes:
        """What changed since the last call."""
        names = self._pairs[self._fixed :] if len(self._pairs) > self._known else None
        self._known = len(self._pairs)
        lines = {number: self._lines.get(number) for number in sorted(self._changed)}
        self._changed.clear()
        points, self._points = self._points, {}
        return Changes(names, lines, points)

    def sums(self) -> dict[PaneId, dict[str, Worth]]:
        """What the tests since the last call were worth, by pane and dimension: per minute, per hour and in total."""
        panes: dict[PaneId, dict[str, Worth]] = {}
        for start_ms, minute in sorted(self._minutes.items()):
            replicates = minute.replicates(self._pairs)
            for dimension, worth in minute.worths(self._pairs, WORTH_DIMENSIONS).items():
                drawn = worth.with_replicates(replicates.get(dimension, {}))
                add_worth(panes.setdefault(PaneId(MINUTE_S, start_ms), {}), dimension, worth)
                add_worth(panes.setdefault(PaneId(HOUR_S, pane_start(start_ms, HOUR_S)), {}), dimension, drawn)
                add_worth(panes.setdefault(TOTAL, {}), dimension, drawn.with_ladder(start_ms))
        self._minutes.clear()
        return panes

    def witness(self, offset: int, at_ms: int) -> None:
        """One outcome that the books of its minute rest on, test or not."""
        self._minute(at_ms, offset)

    def erase(self, shopper: str) -> None:
        """Forget every row of a shopper's. What it was credited with stays, in sums that name nobody."""
        self._window.erase(shopper)
        for number in list(self._of_shopper.get(shopper, ())):
            self._drop(number)

    # The window.

    def _number(self, dimension: str, name: str) -> int:
        known = self._numbers.get((dimension, name))
        if known is not None:
            return known
        held = self._of_dimension[dimension]
        if len(held) >= NAME_LIMIT:
            return self._numbers[dimension, OTHER]
        number = self._numbers[dimension, name] = len(self._pairs)
        self._pairs.append((dimension, name))
        self._table.reserve(len(self._pairs))
        held.append(number)
        self._players = None
        return number

    @abstractmethod
    def _enter(self, number: int, slot: int) -> None:
        """The window of neighbours learns the newest event of a line, whose slot in the table is ``slot``."""

    @staticmethod
    @abstractmethod
    def _label(line: Line, sku: str) -> str:
        """What a row holds by an event with ``sku``: a test of that label it matches."""

    def _learn(
        self,
        number: int,
        offset: int,
        sku: str,
        names: Sequence[str | None],
        at_ms: int,
        sales: Iterable[Happening],
        appraisal: Appraisal | None,
    ) -> None:
        """A line that is open gets its next event, whose assets have ``names``, and what came in by it, credited as ``appraisal`` says.
        Then the oldest goes, where there are too many.
        """
        assets = tuple(self._number(dimension, name or UNKNOWN) for dimension, name in zip(EVENT_DIMENSIONS, names, strict=True))
        self._append(number, sku, assets, at_ms)
        for sale in sales:
            self._buy(number, offset, sale, appraisal)
        if len(self._lines) > self.rules.rows:
            oldest = next(iter(self._lines))
            self._take_back(offset, at_ms, [(oldest, place) for place in range(len(self._lines[oldest].purchases))])
            self._drop(oldest)

    def _open(self, number: int, line: Line) -> None:
        self._next = number + 1
        self._lines[number] = line
        self._slots[number] = self._table.new()
        self._of_shopper.setdefault(line.shopper, []).append(number)

    def _append(self, number: int, sku: str, assets: tuple[int, ...], at_ms: int) -> None:
        line, slot = self._lines[number], self._slots[number]
        line.events.append((sku, assets, self._events))
        self._events += 1
        line.newest_ms = max(line.newest_ms, at_ms)
        self._table.append(slot, self._items.hold(self._label(line, sku)), assets, at_ms)
        self._enter(number, slot)
        self._changed.add(number)

    def _drop(self, number: int) -> None:
        """Of a row that the window of neighbours has let go already."""
        line = self._lines.pop(number)
        self._table.drop(self._slots.pop(number))
        for sku, _, _ in line.events:
            self._items.let_go(self._label(line, sku))
        self._points.update(((number, place), None) for place in range(len(line.purchases)))
        numbers = self._of_shopper[line.shopper]
        numbers.remove(number)
        if not numbers:
            del self._of_shopper[line.shopper]
        self._changed.add(number)

    # The games.

    def _others(self, shopper: str) -> int:
        """How many rows are not the shopper's."""
        return len(self._lines) - len(self._of_shopper.get(shopper, ()))

    def _play(self, shopper: str, found: Neighbours, label: str, at_ms: int, offset: int) -> Appraisal:
        """The games of a test of ``shopper``, which turned out to be ``label``, over the neighbours ``found`` for it."""
        own, others = np.array([self._slots[number] for number in self._of_shopper.get(shopper, ())], np.int64), self._others(shopper)
        table, size = self._table, len(self._pairs)
        minute = self._minute(at_ms, offset)
        utility, baseline, points = play(
            found.rows, found.match, found.beyond, *self._window.lookup, own, others, self.rules.k, self._digammas,
            self._items.known(label), at_ms, table.skus, table.assets, table.counts, table.owners, table.newest_ms,
            table.weights, table.rows, _AGE_BOUNDS_MS, self._of_dimension[AGE][0], *self._players_now(), _ALL, minute.sums(size),
        )  # fmt: skip
        appraisal = Appraisal(utility, baseline, points)
        minute.add(appraisal, others)
        return appraisal

    def _players_now(self) -> Players:
        if self._players is None:
            dimensions = {dimension: number for number, dimension in enumerate((*EVENT_DIMENSIONS, AGE))}
            dimension_of = np.array([dimensions.get(dimension, -1) for dimension, _ in self._pairs], np.int64)
            place_of = np.empty(len(self._pairs), np.int64)
            place_of[sorted(range(len(self._pairs)), key=self._pairs.__getitem__)] = np.arange(len(self._pairs))
            rest_of = np.array([self._of_dimension[dimension][0] for dimension in dimensions], np.int64)
            self._players = Players(dimension_of, place_of, rest_of)
        return self._players

    # Money.

    def _buy(self, number: int, offset: int, happening: Happening, appraisal: Appraisal | None, clicked_ms: int = 0) -> None:
        """``appraisal`` None: nothing foretold it, or nothing is credited with it. A refund of it must not take back another purchase.
        ``clicked_ms``: see ``Purchase``.
        """
        assert happening.amount is not None
        assert happening.currency is not None
        purchases = self._lines[number].purchases
        margin, lift = happening.margin, 0 if appraisal is None else appraisal.utility - appraisal.baseline
        bought = Purchase(happening.sku, happening.amount, happening.currency, lift, clicked_ms=clicked_ms)
        if margin is not None:
            bought.margin, bought.modelled = margin
        points: dict[int, int] = {}
        if appraisal is not None:
            numbers = np.flatnonzero(appraisal.points)
            points = dict(zip(numbers.tolist(), appraisal.points[numbers].tolist(), strict=True))
        self._points[number, len(purchases)] = _PACK.encode(points)
        purchases.append(bought)
        if appraisal is not None:
            self._minute(happening.at_ms, offset).pay(happening.shopper, bought, points, bought.left())

    def _refund(self, offset: int, happening: Happening, numbers: Sequence[int]) -> None:
        """Take back what the newest purchases of the item in the lines ``numbers``, ascending, were credited with, if anything, up to what
        was refunded.
        """
        left = happening.amount.copy_negate() if happening.amount else ZERO
        for number in reversed(numbers):
            purchases = self._lines[number].purchases
            for place in range(len(purchases) - 1, -1, -1):
                bought = purchases[place]
                if left <= 0:
                    return
                if bought.sku != happening.sku or bought.currency != happening.currency or bought.amount <= 0 or bought.clicked_ms:
                    continue
                key = number, place
                packed = self._points[key] if key in self._points else self.stored(key)
                if packed is None:
                    continue
                taken = min(left, bought.amount)
                left = EXACT.subtract(left, taken)
                points, back = _POINTS.decode(packed), bought.given_back(taken)
                if points or bought.lift:
                    self._minute(happening.at_ms, offset).pay(happening.shopper, bought, points, back)
                self._changed.add(number)

    def _take_back(self, offset: int, at_ms: int, keys: Iterable[PurchaseKey]) -> None:
        """Of those that are clicks, and still counted, what they count."""
        for key in keys:
            line = self._lines.get(key[0])
            click = None if line is None else line.purchases[key[1]]
            if line is None or click is None or not click.clicked_ms or not click.amount:
                continue
            packed = self._points[key] if key in self._points else self.stored(key)
            back = click.given_back(click.amount)
            self._minute(at_ms, offset).pay(line.shopper, click, _POINTS.decode(packed) if packed else {}, back)
            self._changed.add(key[0])

    def _minute(self, at_ms: int, offset: int) -> MinuteWorth:
        minute = self._minutes.setdefault(pane_start(at_ms, MINUTE_S), MinuteWorth())
        minute.low, minute.high = min(minute.low, offset), max(minute.high, offset)
        return minute


class Appraiser(RowAppraiser):
    """Rows are past sessions. ``take`` one happening at a time."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules or Rules())
        self._window: SessionNeighbours = SessionNeighbours(self.rules.rows, head=self.rules.head, dimensions=1)
        # Clicks that are not bought yet, a heap of (ms, line, place among its purchases); some of them may be no more.
        self._clicks: list[tuple[int, int, int]] = []
        self._clicks_limit = _FEW_CLICKS

    def load(self, names: Iterable[Sequence[str]], lines: Iterable[tuple[int, Line]]) -> None:
        """See ``RowAppraiser.load``."""
        super().load(names, lines)
        self._gather_clicks()

    def _gather_clicks(self) -> None:
        """The heap anew: without those that were bought, erased or let go, which would stay for as long as the window of a click is."""
        self._clicks = [
            (bought.clicked_ms, number, place)
            for number, line in self._lines.items()
            for place, bought in enumerate(line.purchases)
            if bought.clicked_ms and bought.amount
        ]
        heapify(self._clicks)
        self._clicks_limit = max(_FEW_CLICKS, 2 * len(self._clicks))

    def take(self, offset: int, happening: Happening) -> None:
        """One event with an item: a test first, where its session has begun, and then part of the window."""
        if happening.type == "refund":
            self._refund(offset, happening, self._of_shopper.get(happening.shopper, ()))
        if happening.type not in TESTED_TYPES:
            return
        self._settle_clicks(offset, happening)
        number = self._session_of(happening)
        if number is None:
            number, appraisal = self._next, None
            self._open(number, Line(happening.shopper, 0, [], []))
        elif len(self._lines[number].events) >= EVENT_LIMIT:
            return
        else:
            appraisal = self._appraise(self._lines[number], happening, offset) if happening.tested else None
        sales = [happening] if happening.type == "purchase" and happening.amount and happening.currency else []
        credited = appraisal if happening.credited else None
        self._learn(number, offset, happening.sku, happening.names, happening.at_ms, sales, credited)
        if happening.type == "click" and credited is not None:
            self._expect(number, offset, happening, credited)

    # Clicks that are not bought yet.

    def _expect(self, number: int, offset: int, happening: Happening, appraisal: Appraisal) -> None:
        """A click may be worth something, as long as the item is not bought. Another click on it is no further hope."""
        clicks = self.rules.clicks
        amount = clicks.margin(happening.names[_CATEGORY])
        if amount is None or any(self._lines[line].purchases[place].amount for line, place in self._clicks_of(happening)):
            return
        self._buy(number, offset, happening._replace(amount=amount, currency=clicks.currency, margin=None), appraisal, happening.at_ms)
        heappush(self._clicks, (happening.at_ms, number, len(self._lines[number].purchases) - 1))
        if len(self._clicks) > self._clicks_limit:
            self._gather_clicks()

    def _settle_clicks(self, offset: int, happening: Happening) -> None:
        """What a click was taken to be worth is so no more when its window is over, and when the item is bought: then it is known."""
        over: list[PurchaseKey] = []
        while self._clicks and self._clicks[0][0] + self.rules.click_window_ms < happening.at_ms:
            _, number, place = heappop(self._clicks)
            over.append((number, place))
        self._take_back(offset, happening.at_ms, [*over, *(self._clicks_of(happening) if happening.type == "purchase" else ())])

    def _clicks_of(self, happening: Happening) -> list[PurchaseKey]:
        """The clicks of the shopper on the item that are held."""
        return [
            (number, place)
            for number in self._of_shopper.get(happening.shopper, ())
            for place, bought in enumerate(self._lines[number].purchases)
            if bought.clicked_ms and bought.sku == happening.sku
        ]

    def _session_of(self, happening: Happening) -> int | None:
        """The shopper's newest row, if it is of this session. A record that comes late belongs to what was there when it came."""
        numbers = self._of_shopper.get(happening.shopper)
        if not numbers or happening.at_ms - self._lines[numbers[-1]].newest_ms > self.rules.gap_ms:
            return None
        return numbers[-1]

    def _enter(self, number: int, slot: int) -> None:
        line = self._lines[number]
        self._window.add(str(number), line.shopper, (line.events[-1][0],), line.newest_ms, (slot,))

    @staticmethod
    def _label(line: Line, sku: str) -> str:
        return sku

    def _appraise(self, line: Line, happening: Happening, offset: int) -> Appraisal | None:
        if not self._others(line.shopper):
            return None
        query = [sku for sku, _, _ in reversed(line.events)]
        found = self._window.neighbours(None, line.shopper, query, happening.sku, happening.at_ms)
        return self._play(line.shopper, found, happening.sku, happening.at_ms, offset)


class _Items:
    """Numbers of the SKUs that rows hold; one that no row holds any more gives its number back."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._holds: list[int] = []
        self._free: list[int] = []

    def known(self, sku: str) -> int:
        """Its number, -1 where no row holds it."""
        return self._numbers.get(sku, -1)

    def hold(self, sku: str) -> int:
        """Its number; one more event holds it."""
        number = self._numbers.get(sku)
        if number is None:
            number = self._numbers[sku] = self._free.pop() if self._free else len(self._holds)
            if number == len(self._holds):
                self._holds.append(0)
        self._holds[number] += 1
        return number

    def let_go(self, sku: str) -> None:
        """One event less holds it."""
        number = self._numbers[sku]
        self._holds[number] -= 1
        if not self._holds[number]:
            del self._numbers[sku]
            self._free.append(number)
