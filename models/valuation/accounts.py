"""What each shopper brought, in arms of experiments and before: the accounts from which the sums of arms are booked.

What a shopper brought before the experiment met them is fixed when it does, as the covariate of CUPED (``experiments.effects``). This past
is what they brought while in no arm, for what is spent in an arm is the arm's doing. It is kept by ``PERIOD_MS`` of event time, of the
newest period and ``PERIODS`` before it. Who brought nothing in them has a past of 0.

The accounts of one book of an experiment, and of one period, have keys that begin alike. When the book is closed, or the period is kept no
more, nothing asks for them again, nor do new ones come there: no number of a book is given twice. So there is time to delete them a few at
a step (``Running.clear``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from decimal import Decimal
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

import msgspec

from models.valuation.arms import ArmSums, Moments, book_of, is_over
from models.valuation.money import EXACT, ZERO

#: Pasts are kept by 28 days, a whole number of weeks, for what is brought on which day of the week differs; and for 12 to 16 weeks in all,
#: because purchases are rare: of a shorter time fewer shoppers have any.
PERIOD_MS: Final = 28 * 86_400_000
PERIODS: Final = 3

_ACCOUNT: Final = b"account"
_PAST: Final = b"past"
#: Of a book or a period; of fixed width, so any name of a shopper will do.
_NUMBER: Final = struct.Struct(">I")

#: Finds what is held under keys that begin with the first argument and are not below the second, in the order of keys.
Scan: TypeAlias = Callable[[bytes, bytes], Iterable[tuple[bytes, bytes]]]


class Account(msgspec.Struct, array_like=True):
    """What one shopper brought in an arm, less refunds, by name of the sum; ``past``: what before they were first met there, which stays as
    it is. Of what is brought in no arm there is an account for each period, with a past of its own in none.
    """

    money: dict[str, Decimal] = {}
    past: dict[str, Decimal] = {}

    def opened(self) -> dict[str, Moments]:
        """By what the arm's moments move when the shopper is first met.

        >>> Account(past={"GBP": Decimal("3")}).opened()["GBP"].past_squares
        Decimal('9')
        """
        return {name: Moments(past=amount, past_squares=EXACT.multiply(amount, amount)) for name, amount in self.past.items()}

    def spent(self, currency: str, amount: Decimal) -> tuple[Account, Moments]:
        """The account after ``amount`` more (below 0: less), and by what the arm's moments move.

        >>> account, _ = Account(past={"GBP": Decimal("5")}).spent("GBP", Decimal("3"))
        >>> moments = account.spent("GBP", Decimal("2"))[1]
        >>> moments.total, moments.squares, moments.products  # squares from 9 to 25, products from 15 to 25
        (Decimal('2'), Decimal('16'), Decimal('10'))
        """
        before = self.money.get(currency, ZERO)
        after = EXACT.add(before, amount)
        squares = EXACT.subtract(EXACT.multiply(after, after), EXACT.multiply(before, before))
        products = EXACT.multiply(self.past.get(currency, ZERO), amount)
        return Account({**self.money, currency: after}, self.past), Moments(amount, squares, products=products)


def account_place(book: int) -> bytes:
    """What the keys of the accounts in a book begin with, by its number (``Running.heard``)."""
    return _ACCOUNT + _NUMBER.pack(book)


def past_place(period: int) -> bytes:
    """What the keys begin with of what shoppers in no arm brought in a period."""
    return _PAST + _NUMBER.pack(period)


def past_places(newest: int) -> list[bytes]:
    """The same of all periods that are kept when ``newest`` is the newest."""
    return [past_place(period) for period in range(max(0, newest - PERIODS), newest + 1)]


def period_of(at_ms: int) -> int:
    """The period, by its number since 1970, that a time lies in."""
    return at_ms // PERIOD_MS


class Running(msgspec.Struct):
    """Which accounts there may be. ``newest``: the experiments that have books, by the time of their newest outcome; ``watermark_ms``: the
    newest time of all outcomes since one has; in ms. ``period``: the newest period of all outcomes, -1 before the first.

    ``books``: the numbers of the books, by name (``book_of``); ``opened``: how many there ever were. ``closed``: the places whose accounts
    are to be deleted, each with the last key that was.
    """

    newest: dict[str, int] = {}
    watermark_ms: int = 0
    period: int = -1
    books: dict[str, int] = {}
    opened: int = 0
    closed: list[tuple[bytes, bytes]] = []

    def places(self) -> tuple[bytes, ...]:
        """What the keys of a shopper's accounts can begin with, those that are about to be deleted included."""
        return (*past_places(self.period), *map(account_place, self.books.values()), *(place for place, _ in self.closed))

    def lapse(self, at_ms: int) -> None:
        """The periods that are kept no more once an outcome of ``at_ms`` was heard are closed."""
        before, self.period = self.period, max(self.period, period_of(at_ms))
        for period in range(max(0, before - PERIODS), min(before + 1, max(0, self.period - PERIODS))):
            self.closed.append((past_place(period), b""))

    def keeps(self, at_ms: int) -> bool:
        """Whether ``at_ms`` lies in a period that is kept."""
        return period_of(at_ms) >= self.period - PERIODS

    def ended(self, at_ms: int) -> list[str]:
        """The experiments that are over once an outcome of ``at_ms`` was heard. They are no longer among those that run, and their books
        are closed.
        """
        if not self.newest:
            return []
        self.watermark_ms = max(self.watermark_ms, at_ms)
        over = sorted(name for name, newest_ms in self.newest.items() if is_over(newest_ms, self.watermark_ms))
        for name in over:
            del self.newest[name]
            for book in [book for book in self.books if book.startswith(book_of(name, ""))]:
                self.closed.append((account_place(self.books.pop(book)), b""))
        if not self.newest:
            self.watermark_ms = 0
        return over

    def heard(self, experiment: str, arm: str, at_ms: int) -> int:
        """An outcome in ``arm`` of ``experiment``; the number of its book, which is opened where there is none."""
        self.newest[experiment] = max(self.newest.get(experiment, 0), at_ms)
        self.watermark_ms = max(self.watermark_ms, at_ms)
        book = book_of(experiment, arm)
        if book not in self.books:
            self.books[book] = self.opened
            self.opened += 1
        return self.books[book]

    def clear(self, scan: Scan, limit: int) -> list[bytes]:
        """The keys of the next accounts in places that are closed, at most ``limit``, which are to be deleted. The next call goes on behind
        them.
        """
        keys: list[bytes] = []
        while self.closed and len(keys) < limit:
            place, behind = self.closed[0]
            found = [key for key, _ in islice(scan(place, behind), limit - len(keys))]
            keys += found
            if len(keys) < limit:
                del self.closed[0]
            else:
                self.closed[0] = place, found[-1]
        return keys


class Spending(NamedTuple):
    """One outcome of a shopper in ``arm`` of ``experiment``, at ``at_ms``; ``money`` that came in, by name of the sum, below
    0 what went back. ``period``: the newest of all outcomes until then. ``book``: the number of the arm's book.
    """

    shopper: str
    experiment: str
    arm: str
    at_ms: int
    money: Mapping[str, Decimal]
    period: int
    book: int

    @property
    def keys(self) -> list[bytes]:
        """The key of the account that it changes."""
        return [account_place(self.book) + self.shopper.encode()]

    @property
    def pasts(self) -> list[bytes]:
        """The keys of what the shopper's past is made of, should they be new."""
        return [place + self.shopper.encode() for place in past_places(self.period)]


class Brought(NamedTuple):
    """One outcome of a shopper in no arm, with its ``money`` as in ``Spending``, in a ``period`` that is kept."""

    shopper: str
    period: int
    money: Mapping[str, Decimal]

    @property
    def keys(self) -> list[bytes]:
        """The key of the account that it changes."""
        return [past_place(self.period) + self.shopper.encode()]


class Forgotten(NamedTuple):
    """The accounts of this shopper are closed, of what they brought before, too; who comes back afterwards is a new one. ``places``: where
    there may be any (``Running.places``).
    """

    shopper: str
    places: tuple[bytes, ...]

    @property
    def keys(self) -> list[bytes]:
        """The keys of the accounts that it deletes."""
        return [place + self.shopper.encode() for place in self.places]


class Ended(NamedTuple):
    """The books of this experiment are closed; should anything be heard of it again, they begin anew."""

    experiment: str


Entry: TypeAlias = Spending | Brought | Forgotten | Ended


def booked(
    accounts: MutableMapping[bytes, Account | None], held: MutableMapping[str, ArmSums], entries: Iterable[Entry]
) -> dict[str, ArmSums]:
    """By what the sums of the books move, entry after entry. ``accounts`` (None or absent: there is none) and ``held``, the sums of
    all that was booked before by name of the book, are brought up to date.
    """
    moved: dict[str, ArmSums] = {}

    def move(book: str, change: ArmSums) -> None:
        moved[book] = moved[book].plus(change) if book in moved else change

    for entry in entries:
        if isinstance(entry, Ended):
            for book in [book for book in held if book.startswith(book_of(entry.experiment, ""))]:
                move(book, held.pop(book).negated())
            continue
        if isinstance(entry, Forgotten):
            accounts.update((key, None) for key in entry.keys)
            continue
        (key,) = entry.keys
        account = accounts.get(key)
        if isinstance(entry, Brought):
            account = account or Account()
            for name, amount in entry.money.items():
                account, _ = account.spent(name, amount)
            accounts[key] = account
            continue
        change = ArmSums(int(account is None), {}, entry.at_ms)
        if account is None:
            account = Account(past=_past(accounts, entry.pasts))
            change.money.update(account.opened())
        for name, amount in entry.money.items():
            account, moments = account.spent(name, amount)
            change.money[name] = change.money[name].plus(moments) if name in change.money else moments
        accounts[key] = account
        book = book_of(entry.experiment, entry.arm)
        held[book] = held[book].plus(change) if book in held else change
        move(book, change)
    return moved


def _past(accounts: Mapping[bytes, Account | None], keys: Iterable[bytes]) -> dict[str, Decimal]:
    """What a shopper brought in all periods together, by name of the sum, ascending."""
    past: dict[str, Decimal] = {}
    for key in keys:
        account = accounts.get(key)
        for name, amount in account.money.items() if account is not None else ():
            past[name] = EXACT.add(past.get(name, ZERO), amount)
    return {name: amount for name, amount in sorted(past.items()) if amount}
