"""An anonymous session's history joined to its user's."""

from __future__ import annotations

from operator import itemgetter

from models.profiles.history import AFFINITY_HALF_LIFE_MS, forget_history
from models.profiles.profile import (
    AFFINITY_LIMIT,
    ALIAS_LIMIT,
    BOUGHT,
    BOUGHT_LIMIT,
    EVENT_ID_LIMIT,
    FLAG_ITEM_ONLY,
    RECENT_LIMIT,
    RECENT_SIZE,
    SEEN,
    SEEN_LIMIT,
    TYPE_BITS,
    TYPE_CODES,
    UINT32_MAX,
    Profile,
    bought_entries,
    channels_of_recent,
    recent_entries,
    seen_entries,
    set_channels_of_recent,
)


def merge(user: Profile, session: Profile, session_id: str | None = None) -> Profile:
    """A new profile with both histories; neither argument changes.

    Recent items are brought into the order of their times (the user's first where equal), purchases add up, category weights are
    brought to one time and added, the session that lasted longest into the present goes on, the country is that of
    whichever was seen last, the search the newer of the two. Consent is what was last said of it, in either; said both ways at once, it is
    withdrawn. ``session_id`` is remembered as an alias of the user.
    """
    if user.events == 0:
        merged = Profile(first_ms=session.first_ms)
    elif session.events == 0:
        merged = Profile(first_ms=user.first_ms)
    else:
        merged = Profile(first_ms=min(user.first_ms, session.first_ms))
    merged.flags = (user.flags | session.flags) & ~FLAG_ITEM_ONLY
    merged.last_ms = max(user.last_ms, session.last_ms)
    merged.events = user.events + session.events
    later = session if session.session_length and session.session_last_ms >= user.session_last_ms else user
    merged.session_start_ms, merged.session_last_ms = later.session_start_ms, later.session_last_ms
    merged.session_length = later.session_length
    merged.event_ids = _join_event_ids(user.event_ids, session.event_ids)
    _merge_recent(merged, user, session)
    _merge_bought(merged, user, session)
    _merge_seen(merged, user, session)
    _merge_affinities(merged, user, session)
    aliases = dict.fromkeys([*user.aliases, *session.aliases])
    if session_id is not None:
        aliases.pop(session_id, None)
        aliases[session_id] = None
    merged.aliases = list(aliases)[-ALIAS_LIMIT:]
    newer, older = (session, user) if session.last_ms >= user.last_ms else (user, session)
    merged.country = newer.country or older.country
    asked = session if session.query_ms > user.query_ms else user
    merged.query, merged.query_ms = asked.query, asked.query_ms
    merged.consent_ms = max(user.consent_ms, session.consent_ms)
    if any(side.flags & FLAG_ITEM_ONLY and side.consent_ms == merged.consent_ms for side in (user, session)):
        merged.flags |= FLAG_ITEM_ONLY
        forget_history(merged)
    return merged


def _join_event_ids(user: bytes, session: bytes) -> bytes:
    """The user's, then the session's, each trimmed so that neither crowds the other out."""
    limit = EVENT_ID_LIMIT * 8
    share = max(limit // 2, limit - len(session))
    kept = user[-share:]
    return kept + session[-(limit - len(kept)) :]


def _merge_recent(merged: Profile, user: Profile, session: Profile) -> None:
    both = [
        (*entry, channel) for side in (user, session) for entry, channel in zip(recent_entries(side), channels_of_recent(side), strict=True)
    ]
    both = sorted(both, key=itemgetter(1))[-RECENT_LIMIT:]
    merged.recent_skus = [sku for sku, _, _, _ in both]
    merged.recent = b"".join((at << TYPE_BITS | TYPE_CODES[kind]).to_bytes(RECENT_SIZE, "little", signed=True) for _, at, kind, _ in both)
    set_channels_of_recent(merged, [channel for *_, channel in both])


def _merge_bought(merged: Profile, user: Profile, session: Profile) -> None:
    table: dict[str, tuple[int, int, int]] = {}
    for sku, purchases, units, at in [*bought_entries(user), *bought_entries(session)]:
        former = table.get(sku, (0, 0, 0))
        table[sku] = (min(former[0] + purchases, UINT32_MAX), min(former[1] + units, UINT32_MAX), max(former[2], at))
    kept = sorted(table.items(), key=lambda entry: entry[1][2])[-BOUGHT_LIMIT:]
    merged.bought_skus = [sku for sku, _ in kept]
    merged.bought = b"".join(BOUGHT.pack(*entry) for _, entry in kept)


def _merge_seen(merged: Profile, user: Profile, session: Profile) -> None:
    table: dict[str, int] = {}
    for sku, at in [*seen_entries(user), *seen_entries(session)]:
        table[sku] = max(table.get(sku, 0), at)
    kept = sorted(table.items(), key=itemgetter(1))[-SEEN_LIMIT:]
    merged.seen_skus = [sku for sku, _ in kept]
    merged.seen = b"".join(SEEN.pack(at) for _, at in kept)


def _merge_affinities(merged: Profile, user: Profile, session: Profile) -> None:
    merged.affinity_ms = max(user.affinity_ms, session.affinity_ms)
    table: dict[str, float] = {}
    for side in (user, session):
        fade = 0.5 ** ((merged.affinity_ms - side.affinity_ms) / AFFINITY_HALF_LIFE_MS)
        for category, weight in zip(side.categories, side.affinities, strict=True):
            table[category] = table.get(category, 0.0) + weight * fade
    kept = sorted(table.items(), key=itemgetter(1), reverse=True)[:AFFINITY_LIMIT]
    merged.categories = [category for category, _ in kept]
    merged.affinities = [weight for _, weight in kept]
