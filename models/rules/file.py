"""What a file of business rules may say. ``models.rules.reading`` reads one, ``models.rules.book`` applies it to a catalogue."""

from __future__ import annotations

import hashlib
import math
import re
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.profiles import milliseconds
from schemas.base import MAX_UNIT_PRICE, TIME_PATTERN, Currency, Label, Sku

#: Rules of one kind in a file.
RULE_LIMIT: Final = 1_000
#: Places in the longest list that a worker makes (setting ``k``).
PLACE_LIMIT: Final = 100
#: Names the region of shoppers none of whose events named a country.
UNKNOWN_REGION: Final = "unknown"
_TIME: Final = re.compile(TIME_PATTERN)


def _several(value: Any) -> Any:
    """One name may stand for a list of one."""
    return (value,) if isinstance(value, str) and value else value


def _none_at_all(value: Any) -> Any:
    """A heading with nothing under it holds no rules."""
    return () if value is None or value == "" else value


def _zoned(value: Any) -> Any:
    # Pydantic alone would also take a bare number and other spellings of a time.
    if isinstance(value, str) and _TIME.fullmatch(value) is None:
        raise PydanticCustomError("time_invalid", "write a time as 2026-03-01T00:00:00+01:00, with its seconds and its zone", {})
    return value


def _check_price(value: Decimal) -> Decimal:
    if not 0 <= value <= MAX_UNIT_PRICE:
        raise PydanticCustomError("price_invalid", "a price lies in 0..{limit}", {"limit": str(MAX_UNIT_PRICE)})
    return value


Names = Annotated[tuple[Label, ...], Field(min_length=1), BeforeValidator(_several)]
Skus = Annotated[tuple[Sku, ...], Field(min_length=1), BeforeValidator(_several)]
Bound = Annotated[Decimal, AfterValidator(_check_price)]
Moment = Annotated[AwareDatetime, BeforeValidator(_zoned)]


class _Part(BaseModel):
    """Base of all parts of a file. Scalars may be texts: the file's reader makes no guess at their type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Audience(_Part):
    """Which shoppers a rule is for: all that is given must fit, of a list one suffices.

    ``regions``: countries as the shopper's events name them, upper or lower case; ``unknown`` where none did. ``categories``: the
    shopper's newest item lies in one of them (before any item, the category page that they liked best).
    """

    regions: Names = ()
    categories: Names = ()

    @model_validator(mode="after")
    def _says_whom(self) -> Self:
        if not self.regions and not self.categories:
            raise PydanticCustomError("audience_missing", "say for whom: regions, categories or both; leave `for` out for everyone", {})
        return self


class _Rule(_Part):
    """What rules of all kinds have in common. ``name`` is for people. A rule holds from ``from`` until just before ``until``."""

    name: Label | None = None
    audience: Audience | None = Field(None, alias="for")
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise PydanticCustomError("time_order", "until must be later than from", {})
        return self

    @property
    def span_ms(self) -> tuple[float, float]:
        """From when until just before when it holds, in ms since the epoch; infinite where nothing is said."""
        return (
            -math.inf if self.since is None else milliseconds(self.since),
            math.inf if self.until is None else milliseconds(self.until),
        )


class Pin(_Rule):
    """The product ``sku`` at ``position`` (from 1) of the list."""

    sku: Sku
    position: Annotated[int, Field(ge=1, le=PLACE_LIMIT)]


class Condition(_Rule):
    """Which products a rule is about: all that is given must fit, of a list one suffices.

    ``categories``: a path such as ``Kitchen > Mugs`` or one part of it, wherever it stands in the product's path; upper or lower case.
    ``price_from`` <= price < ``price_below``, in ``currency`` if that is given; products without a price do not fit. ``stock_below``:
    the stock is known and smaller.
    """

    skus: Skus = ()
    categories: Names = ()
    brands: Names = ()
    price_from: Bound | None = None
    price_below: Bound | None = None
    currency: Currency | None = None
    stock_below: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not (self.skus or self.categories or self.brands or self.has_price or self.currency or self.stock_below):
            raise PydanticCustomError(
                "condition_missing", "say which products: skus, categories, brands, price_from, price_below, currency or stock_below", {}
            )
        if self.price_from is not None and self.price_below is not None and self.price_below <= self.price_from:
            raise PydanticCustomError("price_order", "price_below must be greater than price_from", {})
        return self

    @property
    def has_price(self) -> bool:
        """Whether it asks for a price."""
        return self.price_from is not None or self.price_below is not None


class Exclude(Condition):
    """Products that are in no list."""


class Bury(Condition):
    """Products whose score is multiplied by ``factor``, or that come behind all others (``to_end``)."""

    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    to_end: bool = False

    @model_validator(mode="after")
    def _says_how(self) -> Self:
        if (self.factor is None) != self.to_end:
            raise PydanticCustomError("bury_how", "give either a factor between 0 and 1 or to_end: true", {})
        return self


class ExposureCap(_Rule):
    """At most ``at_most`` items of a category or brand in a list, or ``share`` of the list's k places (rounded down, but one at least).

    ``level``: so many leading parts of the path make a category; without it the whole path. ``only``: the categories (as in
    ``Condition``) or brands that are held in check, each by itself; without it each of them all. What has none is not held in check.
    """

    per: Literal["category", "brand"]
    level: Annotated[int, Field(ge=1)] | None = None
    only: Names = ()
    at_most: Annotated[int, Field(ge=1)] | None = None
    share: Annotated[Decimal, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if self.at_most is None and self.share is None:
            raise PydanticCustomError("cap_missing", "say how many: at_most (items) or share (of the list), or both", {})
        if self.level is not None and self.per == "brand":
            raise PydanticCustomError("level_useless", "a brand has no level; leave it out", {})
        return self

    def limit(self, k: int) -> int:
        """Items of one category or brand that a list of ``k`` places may hold."""
        limits = [] if self.at_most is None else [self.at_most]
        if self.share is not None:
            limits.append(max(1, int(self.share * k)))
        return min(limits)


class BusinessRules(_Part):
    """A whole file. Where rules contradict each other, an exclusion wins over a pin, a pin over an exposure cap, and of two pins the
    earlier in the file.
    """

    pin: Annotated[tuple[Pin, ...], Field(max_length=RULE_LIMIT), BeforeValidator(_none_at_all)] = ()
    bury: Annotated[tuple[Bury, ...], Field(max_length=RULE_LIMIT), BeforeValidator(_none_at_all)] = ()
    exclude: Annotated[tuple[Exclude, ...], Field(max_length=RULE_LIMIT), BeforeValidator(_none_at_all)] = ()
    exposure_caps: Annotated[tuple[ExposureCap, ...], Field(max_length=RULE_LIMIT), BeforeValidator(_none_at_all)] = ()

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits that tell one set of rules from another, whatever the file's comments and layout."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()[:12]

    @property
    def count(self) -> int:
        """Rules of all kinds."""
        return len(self.pin) + len(self.bury) + len(self.exclude) + len(self.exposure_caps)
