"""The profile of one shopper and its bytes: flat columns, so that a micro-batch of profiles joins into numpy arrays without a loop."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

#: Written first in every profile; a reader refuses what it does not know rather than misread it.
FORMAT: Final = 1

#: Item events kept, newest last: what interest is derived from.
RECENT_LIMIT: Final = 50
#: Distinct SKUs remembered as bought: people buy again, so this outlives the recent items.
BOUGHT_LIMIT: Final = 500
#: Distinct SKUs remembered as seen: only the repeats policy ``drop_seen`` reads them.
SEEN_LIMIT: Final = 200
AFFINITY_LIMIT: Final = 20
#: Channels that the recent items are told apart by.
CHANNEL_LIMIT: Final = 32
#: Event ids remembered; an event sent again within that many events of its shopper counts once.
EVENT_ID_LIMIT: Final = 256
#: Anonymous sessions known to be this user's, so that an erasure finds their traces too.
ALIAS_LIMIT: Final = 200
#: Characters kept of a shopper's last search.
QUERY_LIMIT: Final = 256

#: Codes of the event types that speak of interest in one item; the order is part of the stored format.
ITEM_TYPES: Final = ("browse", "click", "add_to_cart", "purchase")
TYPE_CODES: Final[dict[str, int]] = {name: code for code, name in enumerate(ITEM_TYPES)}

#: One recent item: time in ms shifted left by ``TYPE_BITS``, or-ed with the type's code.
TYPE_BITS: Final = 3
RECENT_SIZE: Final = 8
#: One bought SKU: purchases, units (both saturating), time of the last purchase in ms.
BOUGHT: Final = struct.Struct("<IIq")
SEEN: Final = struct.Struct("<q")
UINT32_MAX: Final = 0xFFFF_FFFF
#: In ``recent_channels``: by what channel the event came is not known (an older version wrote it, or there were too many).
UNTOLD: Final = 0xFF

#: Bit of ``flags``: a session grew past ``history.SESSION_LIMIT`` (a crawler, or a wholesaler's basket); its tail feeds no index.
FLAG_LONG_SESSION: Final = 1
#: Bit of ``flags``: the shopper does not agree to a history; only the item at hand is known.
FLAG_ITEM_ONLY: Final = 2


class ProfileError(ValueError):
    """Bytes that are no profile of a known format: state written by a newer version, or damaged."""


class Profile(msgspec.Struct, array_like=True):
    """All that is kept of one shopper. Times are ms since the epoch, on the clock of the events.

    ``recent`` is int64 per entry of ``recent_skus``, in arrival order; ``bought`` is ``BOUGHT`` per entry of ``bought_skus``, ``seen`` is
    ``SEEN`` per entry of ``seen_skus``, both in order of last use; ``affinities`` are the weights of ``categories`` as of ``affinity_ms``;
    ``event_ids`` are 64-bit xxh3 hashes, oldest first; ``country`` is the last that was named by an event which was the
    newest of its shopper when it came, empty before. ``recent_channels`` is one byte for each of the newest recent items, the place in
    ``channels`` of the channel that its event came by, or ``UNTOLD``; of items before those that it tells of, older versions kept none.
    ``query`` is what they searched for last, normalised (``models.search.query``), at ``query_ms``, empty before. ``consent_ms`` is when
    they last said whether they agree to a history, 0: never. Equal histories give equal bytes.
    """

    format: int = FORMAT
    flags: int = 0
    first_ms: int = 0
    last_ms: int = 0
    events: int = 0
    session_start_ms: int = 0
    session_last_ms: int = 0
    session_length: int = 0
    event_ids: bytes = b""
    recent_skus: list[str] = []
    recent: bytes = b""
    bought_skus: list[str] = []
    bought: bytes = b""
    seen_skus: list[str] = []
    seen: bytes = b""
    categories: list[str] = []
    affinities: list[float] = []
    affinity_ms: int = 0
    aliases: list[str] = []
    # Last, in the order in which they came, so that profiles which were written before there were any are read without.
    country: str = ""
    channels: list[str] = []
    recent_channels: bytes = b""
    query: str = ""
    query_ms: int = 0
    consent_ms: int = 0


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Profile)


def encode_profile(profile: Profile) -> bytes:
    """The profile's bytes (MessagePack); equal profiles give equal bytes."""
    return _ENCODER.encode(profile)


def decode_profile(data: bytes) -> Profile:
    """Read ``encode_profile``'s bytes. Raises ``ProfileError``."""
    try:
        profile = _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise ProfileError(f"stored profile cannot be read ({error}); `assay reset` rebuilds profiles from the events") from None
    if profile.format != FORMAT:
        raise ProfileError(f"stored profile has format {profile.format}, this version reads {FORMAT}; upgrade, or `assay reset`")
    if profile.flags & FLAG_ITEM_ONLY and not profile.consent_ms:
        # Older versions kept no time, and took the word of the newest event alone.
        profile.consent_ms = profile.last_ms
    return profile


def recent_entries(profile: Profile) -> list[tuple[str, int, str]]:
    """(sku, time in ms, type) of the recent items in arrival order."""
    packed = struct.unpack(f"<{len(profile.recent_skus)}q", profile.recent)
    mask = (1 << TYPE_BITS) - 1
    return [(sku, value >> TYPE_BITS, ITEM_TYPES[value & mask]) for sku, value in zip(profile.recent_skus, packed, strict=True)]


def channels_of_recent(profile: Profile) -> list[str]:
    """Of each recent item, in arrival order, the channel that its event came by, "" where that is not known."""
    told = [profile.channels[code] if code < len(profile.channels) else "" for code in profile.recent_channels]
    return [""] * (len(profile.recent_skus) - len(told)) + told


def set_channels_of_recent(profile: Profile, names: Sequence[str]) -> None:
    """Invert ``channels_of_recent``. The first ``CHANNEL_LIMIT`` channels are told apart; those of further ones count as not known."""
    codes = {name: code for code, name in enumerate(list(dict.fromkeys(filter(None, names)))[:CHANNEL_LIMIT])}
    profile.channels = list(codes)
    profile.recent_channels = bytes(codes.get(name, UNTOLD) for name in names)


def bought_entries(profile: Profile) -> list[tuple[str, int, int, int]]:
    """(sku, purchases, units, last purchase in ms), least recently bought first."""
    return [(sku, *entry) for sku, entry in zip(profile.bought_skus, BOUGHT.iter_unpack(profile.bought), strict=True)]


def seen_entries(profile: Profile) -> list[tuple[str, int]]:
    """(sku, last seen in ms), least recently seen first."""
    return [(sku, entry[0]) for sku, entry in zip(profile.seen_skus, SEEN.iter_unpack(profile.seen), strict=True)]
