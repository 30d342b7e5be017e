"""What the shop earns where nobody tells, by category: shares of revenue, and what a click is taken to be worth that is not bought yet."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.catalog.items import CATEGORY_SEPARATOR
from models.files import read_yaml
from models.valuation.money import EXACT, Margin, rounded
from schemas.base import AMOUNT_DECIMALS, MAX_UNIT_PRICE, Currency

Share = Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)]
ClickMargin = Annotated[Decimal, Field(ge=0, le=MAX_UNIT_PRICE, decimal_places=AMOUNT_DECIMALS)]

_LOOKS_LIKE: Final = "it looks like this: {default: 0.3, categories: {Kitchen: 0.4, Kitchen > Mugs: 0.45}}"
_CLICKS_LOOK_LIKE: Final = "it looks like this: {currency: GBP, default: 0.04, categories: {Kitchen: 0.10}}"


class MarginsError(ValueError):
    """A file that holds no shares."""


class MarginShares(BaseModel):
    """The margin as a share (0..1) of revenue: that of the category, or of the nearest one above it; else ``default``; where there is none,
    nothing is modelled.

    >>> shares = MarginShares(default="0.3", categories={"Kitchen": "0.45"})
    >>> shares.margin(Decimal(20), None, "Kitchen > Mugs"), shares.margin(Decimal(20), Decimal(7), "Kitchen > Mugs")
    (Margin(amount=Decimal('9.000000'), modelled=True), Margin(amount=Decimal('7'), modelled=False))
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Share | None = None
    categories: dict[str, Share] = Field(default_factory=dict)

    def margin(self, revenue: Decimal, told: Decimal | None, category: str | None) -> Margin | None:
        """What ``revenue`` earns: what is ``told``, else by the share; None where there is none. Below 0 where money went back."""
        if told is not None:
            return Margin(told)
        share = _nearest(self.categories, category, self.default)
        return None if share is None else Margin(rounded(EXACT.multiply(revenue, share)), modelled=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file. Raises ``MarginsError`` that says what is wrong where."""
        return read_yaml(path, cls, MarginsError, "say what share of revenue is margin", _LOOKS_LIKE)


class ClickMargins(BaseModel):
    """The margin that a click on a recommended item brings on average while nobody knows whether the item will be bought: that of its
    category, or of the nearest one above it; else ``default``; where there is none, clicks are worth nothing.

    >>> clicks = ClickMargins(currency="GBP", categories={"Kitchen": "0.10"})
    >>> clicks.margin("Kitchen > Mugs"), clicks.margin("Garden")
    (Decimal('0.10'), None)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: Currency = "XXX"
    default: ClickMargin | None = None
    categories: dict[str, ClickMargin] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_a_currency(self) -> Self:
        if self.currency == "XXX" and (self.default is not None or self.categories):
            raise ValueError("amounts need a currency")
        return self

    def margin(self, category: str | None) -> Decimal | None:
        """Of one click, in ``currency``; None where nothing is said of it, or it is nothing."""
        return _nearest(self.categories, category, self.default) or None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file. Raises ``MarginsError`` that says what is wrong where."""
        return read_yaml(path, cls, MarginsError, "say what a click is worth", _CLICKS_LOOK_LIKE)


def _nearest(amounts: Mapping[str, Decimal], category: str | None, default: Decimal | None) -> Decimal | None:
    """That of the category, or of the nearest one above it."""
    name = category or ""
    while name:
        if name in amounts:
            return amounts[name]
        name = name.rpartition(CATEGORY_SEPARATOR)[0]
    return default
