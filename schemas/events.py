"""What a storefront tells us: one model for each event type, and ``Event``, their discriminated union.

Every event names its shopper: ``user_id`` when known, else the anonymous ``session_id``. The Kafka key is the same
identifier (a ``login``, which names both, is keyed by its ``session_id``: it closes that session's history).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import (
    SCHEMA_VERSION,
    Currency,
    EventTime,
    Identifier,
    Label,
    Message,
    Price,
    Quantity,
    SchemaVersion,
    Sku,
    UserId,
)

EVENT_TYPES = ("browse", "click", "add_to_cart", "purchase", "refund", "search", "impression", "login")


def _one_of(*names: str) -> dict[str, Any]:
    """JSON Schema of: at least one of these fields is there and not null."""
    return {"anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]}


_SHOPPER_SCHEMA = _one_of("user_id", "session_id")


class EventBase(Message):
    """The fields that all events share.

    ``consent``: does the shopper agree that their history is kept and used? Absent: what they said last stands, and at first yes. After
    ``false`` lists rest on the item at hand alone, until an event says ``true``.
    """

    model_config = ConfigDict(json_schema_extra={"allOf": [_SHOPPER_SCHEMA]})

    event_id: Identifier
    user_id: UserId | None = None
    session_id: Identifier | None = None
    occurred_at: EventTime
    channel: Label
    schema_version: SchemaVersion = SCHEMA_VERSION
    country: Label | None = None
    segment: Label | None = None
    consent: bool | None = None

    @model_validator(mode="after")
    def _names_a_shopper(self) -> Self:
        if self.user_id is None and self.session_id is None:
            raise PydanticCustomError("shopper_missing", "an event names a user_id or a session_id", {})
        return self

    @property
    def key(self) -> str:
        """The Kafka key: the user, or the anonymous session."""
        return self.user_id or self.session_id or ""


class _Attributed(EventBase):
    """An event that may stem from a recommendation of ours."""

    recommendation_id: Identifier | None = None
    position: Annotated[int, Field(ge=1, le=1000)] | None = None


class _Priced(_Attributed):
    """An event about a quantity of one product at one price."""

    sku: Sku
    quantity: Quantity = 1
    unit_price: Price
    currency: Currency


class Browse(_Attributed):
    """A product page, or a category page when only ``category`` is given."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_SHOPPER_SCHEMA, _one_of("sku", "category")]})

    type: Literal["browse"]
    sku: Sku | None = None
    category: Label | None = None

    @model_validator(mode="after")
    def _names_a_page(self) -> Self:
        if self.sku is None and self.category is None:
            raise PydanticCustomError("field_missing", "a browse names a sku or a category", {})
        return self


class Click(_Attributed):
    """A product opened from a list (search result, category page, recommendation)."""

    type: Literal["click"]
    sku: Sku


class AddToCart(_Attributed):
    """A product put in the basket; price and currency come together or not at all."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _SHOPPER_SCHEMA,
                {"if": _one_of("unit_price"), "then": _one_of("currency")},
                {"if": _one_of("currency"), "then": _one_of("unit_price")},
            ]
        }
    )

    type: Literal["add_to_cart"]
    sku: Sku
    quantity: Quantity = 1
    unit_price: Price | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _price_has_currency(self) -> Self:
        if (self.unit_price is None) != (self.currency is None):
            raise PydanticCustomError("currency_missing", "unit_price and currency come together", {})
        return self


class Purchase(_Priced):
    """One line of an order."""

    type: Literal["purchase"]
    order_id: Identifier


class Refund(_Priced):
    """One line of a return; quantity and price are positive, the type carries the sign."""

    type: Literal["refund"]
    order_id: Identifier


class Search(EventBase):
    """A query typed by the shopper."""

    type: Literal["search"]
    query: Annotated[str, Field(min_length=1, max_length=512)]


class Impression(_Attributed):
    """A product shown to the shopper."""

    type: Literal["impression"]
    sku: Sku


class Login(EventBase):
    """The anonymous ``session_id`` turned out to be ``user_id``. Keyed by the session, whose history it hands over."""

    type: Literal["login"]
    user_id: UserId
    session_id: Identifier

    @property
    def key(self) -> str:
        """The Kafka key: the session, because its partition holds the history that is handed over."""
        return self.session_id


Event = Annotated[Browse | Click | AddToCart | Purchase | Refund | Search | Impression | Login, Field(discriminator="type")]
EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
