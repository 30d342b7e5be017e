"""How one event changes a profile: exactly once by event id, in arrival order, the same for any split into batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import xxhash

from models.profiles.profile import (
    AFFINITY_LIMIT,
    BOUGHT,
    BOUGHT_LIMIT,
    EVENT_ID_LIMIT,
    FLAG_ITEM_ONLY,
    FLAG_LONG_SESSION,
    QUERY_LIMIT,
    RECENT_LIMIT,
    RECENT_SIZE,
    SEEN,
    SEEN_LIMIT,
    TYPE_BITS,
    TYPE_CODES,
    UINT32_MAX,
    Profile,
    channels_of_recent,
    set_channels_of_recent,
)
from models.search.query import normalised, words
from schemas.events import Browse, Event, Purchase, Refund, Search

#: A pause longer than this begins a new session (the convention of web analytics and of the session data sets).
SESSION_GAP_MS: Final = 1_800_000
#: Items of one session that may feed the session index; a crawler's endless session says nothing of taste.
SESSION_LIMIT: Final = 500
#: A category page visited so long ago counts half.
AFFINITY_HALF_LIFE_MS: Final = 14 * 86_400_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_HASH_SIZE: Final = 8
_PURCHASE: Final = TYPE_CODES["purchase"]


def milliseconds(moment: datetime) -> int:
    """Whole ms since the epoch of an aware datetime, exact (no float on the way)."""
    return (moment - _EPOCH) // _MILLISECOND


def knows_event(profile: Profile, digest: bytes) -> bool:
    """Whether ``digest`` (``event_digest``) is among the last 256 event ids."""
    known = profile.event_ids
    at = known.find(digest)
    while at >= 0:
        if at % _HASH_SIZE == 0:
            return True
        at = known.find(digest, at + 1)
    return False


def event_digest(event_id: str) -> bytes:
    """xxh3-64 of the id, 8 bytes. Two ids of one shopper's last 256 collide with a chance below 2e-15."""
    return xxhash.xxh3_64_digest(event_id.encode())


def apply(profile: Profile, event: Event, session_gap_ms: int = SESSION_GAP_MS, at_ms: int | None = None) -> bool:
    """Change ``profile`` by one event of its shopper; False (and no change) if its ``event_id`` was applied before. ``at_ms``: when it
    happened, where its producer's word is not to be taken for that.

    Item events (browse of a product, click, add_to_cart, purchase) enter the recent items and the session; a purchase also counts
    as bought, a refund takes units back, a category page raises that category, a search that holds a word takes the place of the one
    before. An event that lies before its session by more than the gap came too late to belong to any: it enters the history, not the
    session. An event that is the newest of its shopper says in which country they are, if it names one. Whether they agree to a history
    is what the newest says of those that tell: without consent nothing stays but event ids, the country and the item at hand, and there
    is no session.
    """
    digest = event_digest(event.event_id)
    if knows_event(profile, digest):
        return False
    profile.event_ids = (profile.event_ids + digest)[-EVENT_ID_LIMIT * _HASH_SIZE :]
    at = milliseconds(event.occurred_at) if at_ms is None else at_ms
    if profile.events == 0:
        profile.first_ms = profile.last_ms = at
    elif at > profile.last_ms:
        profile.last_ms = at
    elif at < profile.first_ms:
        profile.first_ms = at
    profile.events += 1
    if event.country is not None and (at == profile.last_ms or not profile.country):
        profile.country = event.country
    if event.consent is not None and at >= profile.consent_ms:
        profile.consent_ms = at
        profile.flags = profile.flags & ~FLAG_ITEM_ONLY if event.consent else profile.flags | FLAG_ITEM_ONLY
    _learn(profile, event, at, session_gap_ms)
    if profile.flags & FLAG_ITEM_ONLY:
        forget_history(profile)
    return True


def forget_history(profile: Profile) -> None:
    """Leave the newest of the recent items and what is no history."""
    bare = Profile()
    for field in (
        "session_start_ms", "session_last_ms", "session_length", "bought_skus", "bought", "seen_skus", "seen", "categories", "affinities",
        "affinity_ms", "query", "query_ms",
    ):  # fmt: skip
        setattr(profile, field, getattr(bare, field))
    set_channels_of_recent(profile, channels_of_recent(profile)[-1:])
    profile.recent_skus = profile.recent_skus[-1:]
    profile.recent = profile.recent[-RECENT_SIZE:]
    profile.first_ms = profile.last_ms


def _learn(profile: Profile, event: Event, at: int, session_gap_ms: int) -> None:
    code = TYPE_CODES.get(event.type)
    if code is None:
        if isinstance(event, Refund):
            _take_back(profile, event.sku, event.quantity)
        elif isinstance(event, Search):
            _search_for(profile, event.query, at)
        return
    if isinstance(event, Browse) and event.category is not None:
        _like(profile, event.category, at)
    sku: str | None = event.sku  # type: ignore[union-attr]
    if sku is None:
        return
    _remember(profile, sku, at, code, event.channel)
    _lengthen_session(profile, at, session_gap_ms)
    if code == _PURCHASE:
        assert isinstance(event, Purchase)
        _buy(profile, sku, 1, event.quantity, at)
    else:
        _see(profile, sku, at)


def _search_for(profile: Profile, typed: str, at: int) -> None:
    query = normalised(typed)[:QUERY_LIMIT].rstrip()
    if at >= profile.query_ms and words(query):
        profile.query, profile.query_ms = query, at


def _remember(profile: Profile, sku: str, at: int, code: int, channel: str) -> None:
    place = _find(profile.channels, channel)
    stays = len(profile.recent_skus) < RECENT_LIMIT or profile.recent_channels[:1] == profile.recent_channels[1:2]
    if place >= 0 and stays:
        profile.recent_channels = (profile.recent_channels + bytes((place,)))[-RECENT_LIMIT:]
    else:  # a new name, or one that may go, or come later in their order, without the oldest item
        set_channels_of_recent(profile, [*channels_of_recent(profile), channel][-RECENT_LIMIT:])
    profile.recent_skus.append(sku)
    profile.recent += (at << TYPE_BITS | code).to_bytes(RECENT_SIZE, "little", signed=True)
    if len(profile.recent_skus) > RECENT_LIMIT:
        del profile.recent_skus[0]
        profile.recent = profile.recent[RECENT_SIZE:]


def _lengthen_session(profile: Profile, at: int, gap_ms: int) -> None:
    if profile.session_length == 0 or at > profile.session_last_ms + gap_ms:
        profile.session_start_ms = profile.session_last_ms = at
        profile.session_length = 1
    elif at >= profile.session_start_ms - gap_ms:
        profile.session_last_ms = max(profile.session_last_ms, at)
        profile.session_length += 1
        if profile.session_length > SESSION_LIMIT:
            profile.flags |= FLAG_LONG_SESSION


def _find(skus: list[str], sku: str) -> int:
    try:
        return skus.index(sku)
    except ValueError:
        return -1


def _buy(profile: Profile, sku: str, purchases: int, units: int, at: int) -> None:
    place = _find(profile.bought_skus, sku)
    if place >= 0:
        former, former_units, last = BOUGHT.unpack_from(profile.bought, place * BOUGHT.size)
        purchases, units, at = former + purchases, former_units + units, max(last, at)
        _drop_bought(profile, place)
    profile.bought_skus.append(sku)
    profile.bought += BOUGHT.pack(min(purchases, UINT32_MAX), min(units, UINT32_MAX), at)
    if len(profile.bought_skus) > BOUGHT_LIMIT:
        _drop_bought(profile, 0)


def _drop_bought(profile: Profile, place: int) -> None:
    del profile.bought_skus[place]
    profile.bought = profile.bought[: place * BOUGHT.size] + profile.bought[(place + 1) * BOUGHT.size :]


def _take_back(profile: Profile, sku: str, units: int) -> None:
    """A return of all units undoes the purchase: what went back is no sign of taste."""
    place = _find(profile.bought_skus, sku)
    if place < 0:
        return
    purchases, kept, last = BOUGHT.unpack_from(profile.bought, place * BOUGHT.size)
    if units >= kept:
        _drop_bought(profile, place)
    else:
        entry = BOUGHT.pack(purchases, kept - units, last)
        profile.bought = profile.bought[: place * BOUGHT.size] + entry + profile.bought[(place + 1) * BOUGHT.size :]


def _see(profile: Profile, sku: str, at: int) -> None:
    place = _find(profile.seen_skus, sku)
    if place >= 0:
        at = max(SEEN.unpack_from(profile.seen, place * SEEN.size)[0], at)
        del profile.seen_skus[place]
        profile.seen = profile.seen[: place * SEEN.size] + profile.seen[(place + 1) * SEEN.size :]
    profile.seen_skus.append(sku)
    profile.seen += SEEN.pack(at)
    if len(profile.seen_skus) > SEEN_LIMIT:
        del profile.seen_skus[0]
        profile.seen = profile.seen[SEEN.size :]


def _like(profile: Profile, category: str, at: int) -> None:
    if at > profile.affinity_ms:
        fade = 0.5 ** ((at - profile.affinity_ms) / AFFINITY_HALF_LIFE_MS)
        profile.affinities = [weight * fade for weight in profile.affinities]
        profile.affinity_ms = at
    weight = 0.5 ** ((profile.affinity_ms - at) / AFFINITY_HALF_LIFE_MS)
    place = _find(profile.categories, category)
    if place >= 0:
        profile.affinities[place] += weight
        return
    profile.categories.append(category)
    profile.affinities.append(weight)
    if len(profile.categories) > AFFINITY_LIMIT:
        weakest = profile.affinities.index(min(profile.affinities))
        del profile.categories[weakest], profile.affinities[weakest]
