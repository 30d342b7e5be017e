"""What each arm of an experiment brought, as sums over shoppers that add up over the stream: the third layer of VALUATION, section 1.

The unit is the shopper, so a sum of squares is needed of each shopper's total. When a total moves from a to b the sum of squares
moves by b^2 - a^2: differences that add up like everything else, exactly.

Each experiment has books of its own (``book_of``). They are closed when nothing was heard of it for ``HORIZON_MS`` of event time: what they
hold is taken back from the sums, and its shoppers' accounts are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import msgspec

from models.experiments.effects import incremental_margin, welch
from models.valuation.money import EXACT, ZERO, Basis, bases, modelled_fraction, name_of
from models.valuation.panes import WINDOWS

#: The arm of those who are held out (``Outcome.arm``).
HOLDOUT: Final = "holdout"
#: Shoppers in the smaller arm below which nothing is said: a mean of fewer is no normal variable.
LEAST_SHOPPERS: Final = 30
#: How long an experiment of which nothing is heard keeps its books: the longest window of the records.
HORIZON_MS: Final = 1_000 * WINDOWS["7d"].length_s * WINDOWS["7d"].panes

_ACCOUNT: Final = b"account"


class Moments(msgspec.Struct, array_like=True):
    """Over the shoppers of one arm, of one sum of money: the sum of what each spent, and of its square."""

    total: Decimal = ZERO
    squares: Decimal = ZERO

    def plus(self, other: Moments) -> Moments:
        """The exact sum."""
        return Moments(EXACT.add(self.total, other.total), EXACT.add(self.squares, other.squares))

    def negated(self) -> Moments:
        """What takes them back."""
        return Moments(self.total.copy_negate(), self.squares.copy_negate())


class ArmSums(msgspec.Struct, array_like=True):
    """One arm: how many shoppers it has, their moments by name of the sum (``money.MONEY_NAMES``), and the time of its newest outcome."""

    shoppers: int = 0
    money: dict[str, Moments] = {}
    newest_ms: int = 0

    def plus(self, other: ArmSums) -> ArmSums:
        """The sums of disjoint parts of the stream."""
        money = dict(self.money)
        for currency, moments in other.money.items():
            money[currency] = money[currency].plus(moments) if currency in money else moments
        return ArmSums(self.shoppers + other.shoppers, money, max(self.newest_ms, other.newest_ms))

    def negated(self) -> ArmSums:
        """What takes them back."""
        money = {currency: moments.negated() for currency, moments in self.money.items()}
        return ArmSums(-self.shoppers, money, self.newest_ms)


class Account(msgspec.Struct, array_like=True):
    """What one shopper brought in an arm, less refunds, by name of the sum."""

    money: dict[str, Decimal] = {}

    def spent(self, currency: str, amount: Decimal) -> tuple[Account, Moments]:
        """The account after ``amount`` more (below 0: less), and by what the arm's moments move.

        >>> account, _ = Account().spent("GBP", Decimal("3"))
        >>> account.spent("GBP", Decimal("2"))[1]  # from 9 to 25
        Moments(total=Decimal('2'), squares=Decimal('16'))
        """
        before = self.money.get(currency, ZERO)
        after = EXACT.add(before, amount)
        squares = EXACT.subtract(EXACT.multiply(after, after), EXACT.multiply(before, before))
        return Account({**self.money, currency: after}), Moments(amount, squares)


def book_of(experiment: str, arm: str) -> str:
    """The name under which an arm of an experiment (``Experiment.identity``; empty where none is named) is added up.

    >>> book_of("9f2c", "holdout")
    '9f2c:holdout'
    """
    return f"{experiment}:{arm}"


def account_key(shopper: str, *place: str) -> bytes:
    """Where the account of a shopper is kept; ``place``: experiment and arm. Without them, what all accounts of the shopper begin with."""
    return b"\0".join((_ACCOUNT, shopper.encode(), *(name.encode() for name in place or ("",))))


class Running(msgspec.Struct):
    """The experiments that have books, by the time of their newest outcome, and the newest time of all outcomes since one has; in ms."""

    newest: dict[str, int] = {}
    watermark_ms: int = 0

    def ended(self, at_ms: int) -> list[str]:
        """The experiments that are over once an outcome of ``at_ms`` was heard. They are no longer among those that run."""
        if not self.newest:
            return []
        self.watermark_ms = max(self.watermark_ms, at_ms)
        over = sorted(name for name, newest_ms in self.newest.items() if is_over(newest_ms, self.watermark_ms))
        for name in over:
            del self.newest[name]
        if not self.newest:
            self.watermark_ms = 0
        return over

    def heard(self, experiment: str, at_ms: int) -> None:
        """An outcome of ``experiment``."""
        self.newest[experiment] = max(self.newest.get(experiment, 0), at_ms)
        self.watermark_ms = max(self.watermark_ms, at_ms)


def is_over(newest_ms: int, watermark_ms: int) -> bool:
    """Whether an experiment of which nothing was heard since ``newest_ms`` has no books any more."""
    return newest_ms < watermark_ms - HORIZON_MS


class Spending(NamedTuple):
    """One outcome of a shopper in ``arm`` of ``experiment``, at ``at_ms``; ``money`` that came in, by name of the sum, below
    0 what went back.
    """

    shopper: str
    experiment: str
    arm: str
    at_ms: int
    money: Mapping[str, Decimal]

    @property
    def account(self) -> bytes:
        """The key of the shopper's account in the arm."""
        return account_key(self.shopper, self.experiment, self.arm)


class Forgotten(NamedTuple):
    """The accounts of this shopper are closed; who comes back afterwards is a new one."""

    shopper: str

    @property
    def prefix(self) -> bytes:
        """What the keys of the accounts begin with."""
        return account_key(self.shopper)

    def holds(self, key: bytes) -> bool:
        """Whether the account with this key is one of them."""
        return key.startswith(self.prefix)


class Ended(NamedTuple):
    """The books of this experiment are closed; should anything be heard of it again, they begin anew."""

    experiment: str

    @property
    def prefix(self) -> bytes:
        """What the keys of the accounts begin with, among others."""
        return _ACCOUNT + b"\0"

    def holds(self, key: bytes) -> bool:
        """Whether the account with this key is in them."""
        return key.startswith(self.prefix) and key.rsplit(b"\0", 2)[1] == self.experiment.encode()


Entry: TypeAlias = Spending | Forgotten | Ended


def booked(
    accounts: MutableMapping[bytes, Account | None], held: MutableMapping[str, ArmSums], entries: Iterable[Entry]
) -> dict[str, ArmSums]:
    """By what the sums of the books move, entry after entry. ``accounts`` (None or absent: the shopper is new) and ``held``, the sums of
    all that was booked before by name of the book, are brought up to date.
    """
    moved: dict[str, ArmSums] = {}

    def move(book: str, change: ArmSums) -> None:
        moved[book] = moved[book].plus(change) if book in moved else change

    for entry in entries:
        if isinstance(entry, Forgotten | Ended):
            accounts.update((key, None) for key in accounts if entry.holds(key))
            if isinstance(entry, Ended):
                for book in [book for book in held if book.startswith(book_of(entry.experiment, ""))]:
                    move(book, held.pop(book).negated())
            continue
        account, book = accounts.get(entry.account), book_of(entry.experiment, entry.arm)
        change = ArmSums(int(account is None), {}, entry.at_ms)
        account = account or Account()
        for name, amount in entry.money.items():
            account, moments = account.spent(name, amount)
            change.money[name] = moments
        accounts[entry.account] = account
        held[book] = held[book].plus(change) if book in held else change
        move(book, change)
    return moved


def added(one: Mapping[str, ArmSums], other: Mapping[str, ArmSums]) -> dict[str, ArmSums]:
    """The sums of disjoint parts of the stream, by book."""
    both = {
        book: one[book].plus(other[book]) if book in one and book in other else one.get(book) or other[book]
        for book in one.keys() | other.keys()
    }
    return dict(sorted(both.items()))


class Incremental(NamedTuple):
    """What the treated shoppers of ``experiment`` brought because they were treated, in ``currency``, with its 95 % interval: in
    ``margin``, of which ``modelled_fraction`` is modelled, or, where no margin is known, in ``revenue``.
    """

    experiment: str
    currency: str
    basis: Basis
    modelled_fraction: float | None
    treated: int
    held_out: int
    amount: float
    low: float
    high: float


def incremental(books: Mapping[str, ArmSums], watermark_ms: int, level: float = 0.95) -> list[Incremental]:
    """Difference of means between treated and held-out shoppers x treated shoppers, by experiment, currency and basis
    (``experiments.effects``).

    Treated are all that were not held out, by whichever weights their lists were made. Nothing is said of an experiment without a
    hold-out, while either arm has fewer than ``LEAST_SHOPPERS`` shoppers, nor of one that is over at ``watermark_ms``.
    """
    experiments: dict[str, dict[str, ArmSums]] = {}
    for book, sums in sorted(books.items()):
        experiment, _, arm = book.partition(":")
        experiments.setdefault(experiment, {})[arm] = sums
    return [
        found
        for experiment, arms in experiments.items()
        if not is_over(max(sums.newest_ms for sums in arms.values()), watermark_ms)
        for found in _incremental(experiment, arms, level)
    ]


def _incremental(experiment: str, arms: Mapping[str, ArmSums], level: float) -> Iterator[Incremental]:
    held_out, treated = arms.get(HOLDOUT, ArmSums()), ArmSums()
    for arm, sums in arms.items():
        if arm != HOLDOUT:
            treated = treated.plus(sums)
    shoppers = treated.shoppers, held_out.shoppers
    if min(shoppers) < LEAST_SHOPPERS:
        return
    totals = {name: moments.total for name, moments in treated.plus(held_out).money.items()}
    for currency, basis in bases(totals):
        means, variances = zip(*(_mean(arm, name_of(currency, basis)) for arm in (treated, held_out)), strict=True)
        margin = incremental_margin(welch(means[0] - means[1], variances, shoppers, level), treated.shoppers)
        fraction = modelled_fraction(currency, basis, totals)
        yield Incremental(experiment, currency, basis, fraction, *shoppers, margin.amount, margin.low, margin.high)


def _mean(arm: ArmSums, name: str) -> tuple[float, float]:
    """The mean over all shoppers of the arm, those who spent nothing included, and the variance of that mean."""
    moments = arm.money.get(name, Moments())
    # Exact until here: the difference of two large sums is where floats would lose everything.
    spread = EXACT.subtract(EXACT.multiply(moments.squares, Decimal(arm.shoppers)), EXACT.multiply(moments.total, moments.total))
    count = arm.shoppers
    return float(moments.total) / count, float(spread) / count / (count - 1) / count
