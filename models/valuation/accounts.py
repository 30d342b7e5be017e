"""What each shopper brought, in arms of experiments and before: the accounts from which the sums of arms are booked.

What a shopper brought before the experiment met them is fixed when it does, as the covariate of CUPED (``experiments.effects``). This past
is what they brought while in no arm, for what is spent in an arm is the arm's doing. It is kept by ``PERIOD_MS`` of event time, of the
newest period and ``PERIODS`` before it. Who brought nothing in them has a past of 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, MutableMapping
from decimal import Decimal
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
#: The period is a number of fixed width, so any name of a shopper will do.
_PERIOD: Final = struct.Struct(">I")


class Account(msgspec.Struct, array_like=True):
    """What one shopper brought in an arm, less refunds, by name of the sum; ``past``: what before they were first met there, which stays as
    it is. Of what is brought in no arm there is an account for each period (``past_key``), with a past of its own in none.
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


def account_key(shopper: str, *place: str) -> bytes:
    """Where the account of a shopper is kept; ``place``: experiment and arm. Without them, what all accounts of the shopper begin with."""
    return b"\0".join((_ACCOUNT, shopper.encode(), *(name.encode() for name in place or ("",))))


def period_of(at_ms: int) -> int:
    """The period, by its number since 1970, that a time lies in."""
    return at_ms // PERIOD_MS


def past_key(shopper: str, period: int) -> bytes:
    """Where it is kept what a shopper in no arm brought in a period."""
    return _PAST + _PERIOD.pack(period) + shopper.encode()


def past_keys(shopper: str, newest: int) -> list[bytes]:
    """The same of all periods that are kept when ``newest`` is the newest."""
    return [past_key(shopper, period) for period in range(max(0, newest - PERIODS), newest + 1)]


class Running(msgspec.Struct):
    """The experiments that have books, by the time of their newest outcome, and the newest time of all outcomes since one has; in ms.
    ``period``: the newest period of all outcomes.
    """

    newest: dict[str, int] = {}
    watermark_ms: int = 0
    period: int = 0

    def lapsed(self, at_ms: int) -> range:
        """The periods that are kept no more once an outcome of ``at_ms`` was heard."""
        before, self.period = self.period, max(self.period, period_of(at_ms))
        return range(max(0, before - PERIODS), min(before + 1, max(0, self.period - PERIODS)))

    def keeps(self, at_ms: int) -> bool:
        """Whether ``at_ms`` lies in a period that is kept."""
        return period_of(at_ms) >= self.period - PERIODS

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


class Spending(NamedTuple):
    """One outcome of a shopper in ``arm`` of ``experiment``, at ``at_ms``; ``money`` that came in, by name of the sum, below
    0 what went back. ``period``: the newest of all outcomes until then.
    """

    shopper: str
    experiment: str
    arm: str
    at_ms: int
    money: Mapping[str, Decimal]
    period: int = 0

    @property
    def account(self) -> bytes:
        """The key of the shopper's account in the arm."""
        return account_key(self.shopper, self.experiment, self.arm)

    @property
    def keys(self) -> list[bytes]:
        """The keys of the accounts that it changes."""
        return [self.account]

    @property
    def pasts(self) -> list[bytes]:
        """The keys of what the shopper's past is made of, should they be new."""
        return past_keys(self.shopper, self.period)


class Brought(NamedTuple):
    """One outcome of a shopper in no arm, with its ``money`` as in ``Spending``, in a ``period`` that is kept."""

    shopper: str
    period: int
    money: Mapping[str, Decimal]

    @property
    def keys(self) -> list[bytes]:
        """The keys of the accounts that it changes."""
        return [past_key(self.shopper, self.period)]


class Forgotten(NamedTuple):
    """The accounts of this shopper are closed, of what they brought before, too; who comes back afterwards is a new one. ``period`` as in
    ``Spending``.
    """

    shopper: str
    period: int = 0

    @property
    def keys(self) -> list[bytes]:
        """The keys of the accounts that it changes, but for those that have its ``prefix``."""
        return past_keys(self.shopper, self.period)

    @property
    def prefix(self) -> bytes:
        """What the keys of the accounts in arms begin with."""
        return account_key(self.shopper)

    def holds(self, key: bytes) -> bool:
        """Whether the account with this key is one of them."""
        return key.startswith(self.prefix) or (key.startswith(_PAST) and key[len(_PAST) + _PERIOD.size :] == self.shopper.encode())


class Ended(NamedTuple):
    """The books of this experiment are closed; should anything be heard of it again, they begin anew."""

    experiment: str

    @property
    def keys(self) -> list[bytes]:
        """None but those that have its ``prefix``."""
        return []

    @property
    def prefix(self) -> bytes:
        """What the keys of the accounts begin with, among others."""
        return _ACCOUNT + b"\0"

    def holds(self, key: bytes) -> bool:
        """Whether the account with this key is in them."""
        return key.startswith(self.prefix) and key.rsplit(b"\0", 2)[1] == self.experiment.encode()


class Lapsed(NamedTuple):
    """What was brought in this period is kept no more."""

    period: int

    @property
    def keys(self) -> list[bytes]:
        """None but those that have its ``prefix``."""
        return []

    @property
    def prefix(self) -> bytes:
        """What the keys of the accounts begin with."""
        return _PAST + _PERIOD.pack(self.period)

    def holds(self, key: bytes) -> bool:
        """Whether the account with this key is of the period."""
        return key.startswith(self.prefix)


Entry: TypeAlias = Spending | Brought | Forgotten | Ended | Lapsed


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
        if isinstance(entry, Forgotten | Ended | Lapsed):
            accounts.update((key, None) for key in accounts if entry.holds(key))
            if isinstance(entry, Ended):
                for book in [book for book in held if book.startswith(book_of(entry.experiment, ""))]:
                    move(book, held.pop(book).negated())
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
