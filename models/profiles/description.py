"""A profile as readable JSON, and back without loss: subject access, audit, and the way of a session's history to its user."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from models.profiles.history import milliseconds
from models.profiles.profile import (
    BOUGHT,
    FLAG_ITEM_ONLY,
    FLAG_LONG_SESSION,
    FORMAT,
    RECENT_SIZE,
    SEEN,
    TYPE_BITS,
    TYPE_CODES,
    Profile,
    ProfileError,
    bought_entries,
    channels_of_recent,
    recent_entries,
    seen_entries,
    set_channels_of_recent,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def describe(profile: Profile) -> dict[str, Any]:
    """Everything that is kept of the shopper, in words of the field; times as ISO 8601 with ms. ``from_description`` inverts it."""
    ids = profile.event_ids
    return {
        "format": profile.format,
        "first_seen": _iso(profile.first_ms),
        "last_seen": _iso(profile.last_ms),
        "events": profile.events,
        "long_session_seen": bool(profile.flags & FLAG_LONG_SESSION),
        "item_only": bool(profile.flags & FLAG_ITEM_ONLY),
        "consent_said": _iso(profile.consent_ms),
        "session": {
            "start": _iso(profile.session_start_ms),
            "last": _iso(profile.session_last_ms),
            "items": profile.session_length,
        },
        "recent": [
            {"sku": sku, "at": _iso(at), "type": kind, "channel": channel}
            for (sku, at, kind), channel in zip(recent_entries(profile), channels_of_recent(profile), strict=True)
        ],
        "bought": [
            {"sku": sku, "purchases": purchases, "units": units, "last": _iso(at)} for sku, purchases, units, at in bought_entries(profile)
        ],
        "seen": [{"sku": sku, "last": _iso(at)} for sku, at in seen_entries(profile)],
        "categories": {
            "as_of": _iso(profile.affinity_ms),
            "weights": [{"category": name, "weight": weight} for name, weight in zip(profile.categories, profile.affinities, strict=True)],
        },
        "sessions_joined": list(profile.aliases),
        "country": profile.country,
        "search": {"query": profile.query, "at": _iso(profile.query_ms)},
        "recent_event_id_hashes": [ids[at : at + 8].hex() for at in range(0, len(ids), 8)],
    }


def from_description(description: dict[str, Any]) -> Profile:
    """Invert ``describe``. Raises ``ProfileError`` when something is missing or malformed."""
    try:
        if description["format"] != FORMAT:
            raise ProfileError(f"profile description has format {description['format']}, this version reads {FORMAT}")
        session = description["session"]
        recent = description["recent"]
        bought = description["bought"]
        seen = description["seen"]
        weights = description["categories"]["weights"]
        search = description.get("search", {"query": "", "at": _iso(0)})  # older writers know none
        item_only = bool(description.get("item_only"))  # older writers know nothing of consent, or not when it was spoken of
        consent_said = description.get("consent_said", description["last_seen"] if item_only else _iso(0))
        profile = Profile(
            flags=FLAG_LONG_SESSION * bool(description["long_session_seen"]) | FLAG_ITEM_ONLY * item_only,
            first_ms=_ms(description["first_seen"]),
            last_ms=_ms(description["last_seen"]),
            events=int(description["events"]),
            session_start_ms=_ms(session["start"]),
            session_last_ms=_ms(session["last"]),
            session_length=int(session["items"]),
            event_ids=bytes.fromhex("".join(description["recent_event_id_hashes"])),
            recent_skus=[str(entry["sku"]) for entry in recent],
            recent=b"".join(
                (_ms(entry["at"]) << TYPE_BITS | TYPE_CODES[entry["type"]]).to_bytes(RECENT_SIZE, "little", signed=True) for entry in recent
            ),
            bought_skus=[str(entry["sku"]) for entry in bought],
            bought=b"".join(BOUGHT.pack(entry["purchases"], entry["units"], _ms(entry["last"])) for entry in bought),
            seen_skus=[str(entry["sku"]) for entry in seen],
            seen=b"".join(SEEN.pack(_ms(entry["last"])) for entry in seen),
            categories=[str(entry["category"]) for entry in weights],
            affinities=[float(entry["weight"]) for entry in weights],
            affinity_ms=_ms(description["categories"]["as_of"]),
            aliases=[str(alias) for alias in description["sessions_joined"]],
            country=str(description.get("country", "")),  # older writers know none
            query=str(search["query"]),
            query_ms=_ms(search["at"]),
            consent_ms=_ms(consent_said),
        )
        set_channels_of_recent(profile, [str(entry.get("channel", "")) for entry in recent])
        return profile
    except ProfileError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
        raise ProfileError(f"profile description is malformed: {type(error).__name__} {error}") from None


def _iso(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(text: str) -> int:
    return milliseconds(datetime.fromisoformat(text))
