"""What a log may teach: touches of items, but for the histories of those who do not agree to one, or were erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from models.profiles.profile import TYPE_CODES
from streams.agents.shoppers import Shopper
from streams.evaluation.touches import named, read_fields
from streams.replay.record import ReplayEvent


class Touch(NamedTuple):
    """What ``shopper`` did with an item; ``kind`` is the event's type."""

    shopper: Shopper
    sku: str
    kind: str
    at_ms: int


class Forgotten(NamedTuple):
    """No touch of ``shopper`` that came before may be learned."""

    shopper: Shopper


class _Word(NamedTuple):
    """What was last said of consent, and when; of two at once the withdrawal is the greater."""

    at_ms: int = 0
    withdrawn: bool = False


def learnable(events: Iterable[ReplayEvent]) -> Iterator[Touch | Forgotten]:
    """Touches of items in the order of the log, and whose are to be forgotten, as the recommend worker does it: whoever withdraws consent,
    by themselves or by the login of a session that did, is forgotten, and nothing more is told of them until they give it. So is the user
    of an erasure (``schemas.operations.Erasure``) that stands in the log. The anonymous sessions that a user logged in from go along.
    Records that are no valid JSON object or name nobody are passed over.
    """
    consents = _Consents()
    for event in events:
        fields = read_fields(event.value)
        shopper = None if fields is None else named(fields)
        if fields is None or shopper is None:
            continue
        kind = fields.get("type")
        if kind is None:
            if not shopper.anonymous and "request_id" in fields and "requested_at" in fields:
                yield from consents.erase(shopper)
        elif kind == "login":
            yield from consents.login(shopper, fields, event.at_ms)
        else:
            yield from consents.hear(shopper, fields, event.at_ms)
            if kind in TYPE_CODES and isinstance(fields.get("sku"), str) and not consents.withdrawn(shopper):
                yield Touch(shopper, fields["sku"], kind, event.at_ms)


class _Consents:
    """Who said what, and from which sessions users logged in."""

    def __init__(self) -> None:
        self._words: dict[Shopper, _Word] = {}
        self._sessions: dict[Shopper, list[Shopper]] = {}

    def withdrawn(self, shopper: Shopper) -> bool:
        return self._words.get(shopper, _Word()).withdrawn

    def hear(self, shopper: Shopper, fields: dict[str, Any], at_ms: int) -> Iterator[Forgotten]:
        """An event of ``shopper``."""
        consent = fields.get("consent")
        if isinstance(consent, bool):
            yield from self._take(shopper, _Word(at_ms, not consent))

    def login(self, user: Shopper, fields: dict[str, Any], at_ms: int) -> Iterator[Forgotten]:
        """What a login says of consent is the session's word, which goes to the user."""
        session = named({"session_id": fields.get("session_id")})
        if user.anonymous or session is None:
            return
        yield from self.hear(session, fields, at_ms)
        self._sessions.setdefault(user, []).append(session)
        yield from self._take(user, max(self._words.get(session, _Word()), self._words.get(user, _Word())))

    def erase(self, user: Shopper) -> Iterator[Forgotten]:
        """Who comes back later is new."""
        self._words.pop(user, None)
        yield from self._forget(user)
        self._sessions.pop(user, None)

    def _take(self, shopper: Shopper, word: _Word) -> Iterator[Forgotten]:
        if word.at_ms >= self._words.get(shopper, _Word()).at_ms:
            self._words[shopper] = word
            if word.withdrawn:
                yield from self._forget(shopper)

    def _forget(self, shopper: Shopper) -> Iterator[Forgotten]:
        return map(Forgotten, (shopper, *self._sessions.get(shopper, ())))
