"""Who a record is about: names on topics, keys in state, and one shopper's part of a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import msgspec
import xxhash

from models.attribution import Memory, ShownLists
from models.profiles import Profile
from models.profiles.profile import FLAG_ITEM_ONLY
from schemas.base import SESSION_PREFIX
from schemas.events import Event, Login
from streams.runtime.processor import Record

#: Prefixes of state keys: profiles, the list last emitted beside each, and when a user was erased.
PROFILE_PREFIX: Final = b"p|"
LIST_PREFIX: Final = b"l|"
#: The lists of anonymous sessions.
ANONYMOUS_LISTS: Final = LIST_PREFIX + b"s|"
ERASED_PREFIX: Final = b"e|"
#: ``Handed`` of a session whose history went to its user: what its producer sends again still counts once.
HANDED_PREFIX: Final = b"h|"
#: The partition's clock: the latest broker time of its events so far, or up to ``CLOCK_STEP_MS`` before.
CLOCK_KEY: Final = b"c|"
#: The partition's event-time clock: the newest time of its events so far, not after the broker's, or up to ``CLOCK_STEP_MS`` before.
EVENT_CLOCK_KEY: Final = b"w|"
#: The channels whose impressions tell what they show.
IMPRESSING_KEY: Final = b"i|"
#: By event time, who waits for the window of what they were shown to be over.
TIMER_PREFIX: Final = b"t|"
_TIME_SIZE: Final = 8
#: The clocks are written no more often than this, as one more write a batch would be felt where batches are small.
CLOCK_STEP_MS: Final = 60_000
#: Longest name in a message; leaves room for what is appended to it within an ``Identifier`` (256).
_NAME_LIMIT: Final = 220


class Shopper(NamedTuple):
    """A user, or an anonymous session while ``anonymous``. State keys tell user "x" from session "x"."""

    identifier: str
    anonymous: bool

    @property
    def state_key(self) -> bytes:
        """The part of a state key behind its prefix."""
        return (b"s|" if self.anonymous else b"u|") + self.identifier.encode()

    @property
    def profile_key(self) -> bytes:
        """Where the profile is kept."""
        return PROFILE_PREFIX + self.state_key

    @property
    def list_key(self) -> bytes:
        """Where the list last emitted is kept."""
        return LIST_PREFIX + self.state_key

    def timer_key(self, wake_s: int) -> bytes:
        """Where it is kept that the shopper's lists shown are to be looked at once the event-time clock is past ``wake_s``."""
        return TIMER_PREFIX + wake_s.to_bytes(_TIME_SIZE, "big") + self.state_key

    @property
    def erased_key(self) -> bytes:
        """Where the time of an erasure is kept, for as long as the state: a hash, because the identifier itself is to be forgotten."""
        return ERASED_PREFIX + xxhash.xxh3_128_digest(self.state_key)

    @property
    def handed_key(self) -> bytes:
        """Where the event ids of an anonymous session stay after its login: hashes under a hash, which tell nothing of the shopper."""
        return HANDED_PREFIX + xxhash.xxh3_128_digest(self.state_key)

    @property
    def topic_key(self) -> bytes:
        """Key of the topic ``recommendations``."""
        return (SESSION_PREFIX + self.identifier if self.anonymous else self.identifier).encode()

    @property
    def name(self) -> str:
        """In outcomes and session deltas: as ``topic_key``, but a name too long for them ends in a hash of the whole."""
        name = SESSION_PREFIX + self.identifier if self.anonymous else self.identifier
        return name if len(name) <= _NAME_LIMIT else f"{name[: _NAME_LIMIT - 17]}#{xxhash.xxh3_64_hexdigest(name.encode())}"


def shopper_of_key(state_key: bytes) -> Shopper:
    """Invert ``Shopper.state_key``."""
    kind, _, identifier = state_key.partition(b"|")
    return Shopper(identifier.decode(), kind == b"s")


def read_timer(key: bytes) -> tuple[int, Shopper]:
    """Invert ``Shopper.timer_key``."""
    start = len(TIMER_PREFIX)
    end = start + _TIME_SIZE
    return int.from_bytes(key[start:end], "big"), shopper_of_key(key[end:])


def shopper_of(event: Event) -> Shopper:
    """Whose profile an event belongs to (a login closes the anonymous session's)."""
    if event.user_id is None or isinstance(event, Login):
        return Shopper(event.session_id or "", True)
    return Shopper(event.user_id, False)


class EmittedList(msgspec.Struct, array_like=True):
    """The list last emitted to a shopper: what the next event is judged against, with what is remembered of those before it.

    ``seen_ms``: the partition's clock when the shopper was last heard of (``CLOCK_KEY``; 0: not kept then). ``next_visit``: it was made
    when the visit was over. ``made_s``: the shopper's newest event time that it rests on. ``shown``: lists that were shown before it.
    """

    recommendation_id: str = ""
    skus: list[str] = []
    memory: Memory = Memory()
    seen_ms: int = 0
    next_visit: bool = False
    made_s: int = 0
    shown: ShownLists = ShownLists()

    def rank(self, sku: str | None) -> int | None:
        """Place of ``sku`` from 1, None if it was not in the list."""
        return self.skus.index(sku) + 1 if sku in self.skus else None


class _BareList(msgspec.Struct, array_like=True):
    """What ``EmittedList`` begins with in every version."""

    recommendation_id: str
    skus: list[str]


_LISTS: Final = msgspec.msgpack.Decoder(EmittedList)
_BARE_LISTS: Final = msgspec.msgpack.Decoder(_BareList)
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode_list(emitted: EmittedList) -> bytes:
    """Bytes for the state."""
    return _ENCODER.encode(emitted)


def decode_list(data: bytes | None) -> EmittedList:
    """Invert ``encode_list``; None is the empty list of a shopper who was sent none. Earlier versions remembered no more than the list."""
    if data is None:
        return EmittedList()
    try:
        return _LISTS.decode(data)
    except msgspec.ValidationError:
        bare = _BARE_LISTS.decode(data)
        return EmittedList(bare.recommendation_id, bare.skus)


class Handed(msgspec.Struct, array_like=True):
    """What stays of a session whose history went to its user: event ids and its word on consent (as in ``Profile``), for its storefront may
    go on with it, and the partition's clock at its login.
    """

    event_ids: bytes = b""
    seen_ms: int = 0
    item_only: bool = False
    consent_ms: int = 0

    @classmethod
    def of(cls, profile: Profile, seen_ms: int = 0) -> Self:
        """What stays of ``profile``."""
        return cls(profile.event_ids, seen_ms, bool(profile.flags & FLAG_ITEM_ONLY), profile.consent_ms)

    def profile(self) -> Profile:
        """What the session begins anew with."""
        return Profile(flags=FLAG_ITEM_ONLY * self.item_only, event_ids=self.event_ids, consent_ms=self.consent_ms)


_HANDED: Final = msgspec.msgpack.Decoder(Handed)


def encode_handed(handed: Handed) -> bytes:
    """Bytes for the state."""
    return _ENCODER.encode(handed)


def decode_handed(data: bytes | None) -> Handed:
    """Invert ``encode_handed``; None is that of a session that never logged in. Earlier versions kept the bare event ids."""
    if data is None:
        return Handed()
    try:
        return _HANDED.decode(data)
    except msgspec.DecodeError:
        return Handed(data)


def encode_time(at_ms: int) -> bytes:
    """Bytes for the state of a broker's time (of an erasure, of the clock), ms since the epoch."""
    return at_ms.to_bytes(8, "big", signed=True)


def decode_time(data: bytes) -> int:
    """Invert ``encode_time``."""
    return int.from_bytes(data, "big", signed=True)


@dataclass(slots=True)
class SessionGrowth:
    """Items that the batch appended to one session; ``position`` is the place of the first in the session. They came alike: ``source`` is
    channel, country and segment of their events.
    """

    start_ms: int
    position: int
    items: list[tuple[str, int, str]] = field(default_factory=list)
    source: tuple[str | None, str | None, str | None] = (None, None, None)


@dataclass(slots=True)
class Visit:
    """One shopper's records of one topic in a micro-batch, and what became of them. ``login`` ends an anonymous history.

    ``events``: each with when it happened (``clocks.happened_ms``). ``handed``: what sessions that became this user were sent and shown.
    ``withheld``: offsets of the events that came while the shopper agreed to no history.
    """

    shopper: Shopper
    profile: Profile
    emitted: EmittedList
    topic: str
    first_offset: int = -1
    last_offset: int = -1
    records: int = 0
    events: list[tuple[Record, Event, int]] = field(default_factory=list)
    sessions: list[SessionGrowth] = field(default_factory=list)
    login: tuple[Record, Login] | None = None
    handed: list[tuple[Memory, ShownLists]] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)

    @property
    def followed(self) -> ShownLists:
        """What was shown before and is followed: nothing once consent was withdrawn, though it may have come back since."""
        return ShownLists() if self.withheld else self.emitted.shown

    def rest_on(self, record: Record) -> None:
        """Count ``record`` among those that this visit's list rests on."""
        if self.first_offset < 0:
            self.first_offset = record.offset
        self.last_offset = record.offset
        self.records += 1
