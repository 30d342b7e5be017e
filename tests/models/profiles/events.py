"""Events for profile tests: literal in what matters, filled in where it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from schemas.events import EVENT_ADAPTER, Event

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
MINUTE_MS = 60_000


def event(kind: str, number: int = 0, *, minute: float = 0.0, **fields: Any) -> Event:
    """An event of user u, ``minute`` after ``START``; ``number`` makes its id."""
    body: dict[str, Any] = {
        "event_id": f"e{number}", "type": kind, "user_id": "u", "occurred_at": START + timedelta(minutes=minute), "channel": "web",
    }  # fmt: skip
    if kind in ("click", "add_to_cart", "impression"):
        body["sku"] = "a"
    if kind in ("purchase", "refund"):
        body |= {"sku": "a", "unit_price": "2.50", "currency": "GBP", "order_id": "o1"}
    if kind == "search":
        body["query"] = "mug"
    if kind == "login":
        body["session_id"] = "s"
    return EVENT_ADAPTER.validate_python(body | fields)


@st.composite
def histories(draw: st.DrawFn, longest: int = 80) -> list[Event]:
    """Events of one shopper, of all types, with event ids that repeat and times that jump."""
    made = []
    for _ in range(draw(st.integers(0, longest))):
        kind = draw(st.sampled_from(["browse", "click", "add_to_cart", "purchase", "refund", "search", "impression"]))
        fields: dict[str, Any] = {}
        if kind == "browse":
            fields["sku" if draw(st.booleans()) else "category"] = draw(st.sampled_from("abcdef"))
        elif kind != "search":
            fields["sku"] = draw(st.sampled_from("abcdef"))
        if kind in ("purchase", "refund"):
            fields["quantity"] = draw(st.integers(1, 5))
        country = draw(st.sampled_from([None, None, "GB", "DE"]))
        if country is not None:
            fields["country"] = country
        made.append(event(kind, draw(st.integers(0, 60)), minute=draw(st.integers(-200, 400)), **fields))
    return made
