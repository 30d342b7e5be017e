"""The books of experiments, in the state of one partition: what shoppers brought in their arms, and before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from models.valuation.accounts import Account, Brought, Ended, Entry, Forgotten, Running, Spending, booked, period_of
from models.valuation.arms import ArmSums, added
from models.valuation.margins import MarginShares
from models.valuation.messages import ForgottenMessage, OutcomeMessage
from models.valuation.money import amounts_of
from streams.agents.sources import Source
from streams.runtime.processor import State, Step

#: Accounts that are kept no more, deleted in one step: fewer than the outcomes of a batch may open.
CLEARED_LIMIT: Final = 1_000

#: Which books there are, what was booked in them, and by what that moved since it was sent. Accounts have keys of their own (``accounts``).
_RUNNING, _BOOKS, _MOVED = b"running", b"books", b"moved"
_PACK: Final = msgspec.msgpack.Encoder()
_ACCOUNT_DECODER: Final = msgspec.msgpack.Decoder(Account)
_ARMS_DECODER: Final = msgspec.msgpack.Decoder(dict[str, ArmSums])
_RUNNING_DECODER: Final = msgspec.msgpack.Decoder(Running)

#: The place of the source that it comes of, and what is to be booked.
PlacedEntry: TypeAlias = tuple[int, Entry]


def book(state: State, step: Step, sources: Iterable[Source], shares: MarginShares) -> list[PlacedEntry]:
    """Book what shoppers of experiments spent, and what those in no arm brought; by what the sums of the books moved is added to what
    waits to be sent. What was booked is returned.
    """
    known, booked_before, waiting = state.get_many([_RUNNING, _BOOKS, _MOVED])
    running = _RUNNING_DECODER.decode(known) if known else Running()
    # Of what was closed before: what this step closes may have accounts that it only writes.
    step.writes.update(dict.fromkeys(running.clear(state.scan, CLEARED_LIMIT)))
    placed = list(entries_of(sources, running, shares))
    if (packed := _PACK.encode(running)) != known:
        step.writes[_RUNNING] = packed
    if not placed:
        return placed
    entries = [entry for _, entry in placed]
    held = _accounts_for(state, entries)
    accounts = dict(held)
    books = _ARMS_DECODER.decode(booked_before) if booked_before else {}
    moved = booked(accounts, books, entries)
    step.writes.update(
        (key, None if account is None else _PACK.encode(account)) for key, account in accounts.items() if account is not held.get(key)
    )
    if moved:
        step.writes[_BOOKS] = _PACK.encode(dict(sorted(books.items())))
        step.writes[_MOVED] = _PACK.encode(added(_ARMS_DECODER.decode(waiting) if waiting else {}, moved))
    return placed


def clear(state: State, step: Step) -> None:
    """Go on deleting accounts that are kept no more."""
    known = state.get_many([_RUNNING])[0]
    running = _RUNNING_DECODER.decode(known) if known else Running()
    if running.closed:
        step.writes.update(dict.fromkeys(running.clear(state.scan, CLEARED_LIMIT)))
        step.writes[_RUNNING] = _PACK.encode(running)


def take_moved(state: State, step: Step) -> dict[str, ArmSums]:
    """By what the sums of the books moved since it was last taken, this step included. It is forgotten by the step."""
    moved = step.writes.get(_MOVED) or state.get_many([_MOVED])[0]
    step.writes[_MOVED] = None
    return _ARMS_DECODER.decode(moved) if moved else {}


def entries_of(sources: Iterable[Source], running: Running, shares: MarginShares) -> Iterator[PlacedEntry]:
    """What is to be booked of experiments, in order: what shoppers in an arm did and those in none brought, who is to be forgotten, and
    which experiments are over.

    ``running``, what is known of experiments before, is brought up to date.
    """
    for offset, at_ms, message in sources:
        if isinstance(message, ForgottenMessage):
            yield from ((offset, Forgotten(shopper, running.places())) for shopper in message.shoppers)
        elif isinstance(message, OutcomeMessage):
            running.lapse(at_ms)
            yield from ((offset, Ended(experiment)) for experiment in running.ended(at_ms))
            if not message.consent:
                yield offset, Forgotten(message.shopper, running.places())
                continue
            money = _money_of(message, shares)
            if message.arm is not None:
                experiment = message.experiment or ""
                book = running.heard(experiment, message.arm, at_ms)
                yield offset, Spending(message.shopper, experiment, message.arm, at_ms, money, running.period, book)
            elif any(money.values()) and running.keeps(at_ms):
                yield offset, Brought(message.shopper, period_of(at_ms), money)


def closing(entries: Iterable[PlacedEntry]) -> frozenset[int]:
    """Offsets of the outcomes that closed the books of an experiment: what is published rests on them, whatever else they say."""
    return frozenset(offset for offset, entry in entries if isinstance(entry, Ended))


def _accounts_for(state: State, entries: Sequence[Entry]) -> dict[bytes, Account | None]:
    """The accounts that booking the entries looks at, None where there is none."""

    def read(keys: Iterable[bytes]) -> dict[bytes, Account | None]:
        asked = list(dict.fromkeys(keys))
        return {key: _ACCOUNT_DECODER.decode(data) if data else None for key, data in zip(asked, state.get_many(asked), strict=True)}

    accounts = read(key for entry in entries if not isinstance(entry, Ended) for key in entry.keys)
    forgotten = {entry.shopper for entry in entries if isinstance(entry, Forgotten)}
    # Pasts are asked for where a shopper is, or in this batch may become, new to an experiment.
    spending = [
        entry for entry in entries
        if isinstance(entry, Spending) and (entry.shopper in forgotten or accounts[entry.keys[0]] is None)
    ]  # fmt: skip
    return accounts | read(key for entry in spending for key in entry.pasts if key not in accounts)


def _money_of(message: OutcomeMessage, shares: MarginShares) -> dict[str, Decimal]:
    if message.currency is None or message.revenue is None:
        return {}
    return amounts_of(message.currency, message.revenue, shares.margin(message.revenue, message.margin, message.category))
