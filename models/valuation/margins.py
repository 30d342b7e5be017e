"""What the shop earns where nobody tells: shares of revenue by category."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from models.catalog.items import CATEGORY_SEPARATOR
from models.files import read_yaml
from models.valuation.money import EXACT, Margin, rounded

Share = Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)]

_LOOKS_LIKE: Final = "it looks like this: {default: 0.3, categories: {Kitchen: 0.4, Kitchen > Mugs: 0.45}}"


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
        share, name = self.default, category or ""
        while name:
            if name in self.categories:
                share = self.categories[name]
                break
            name = name.rpartition(CATEGORY_SEPARATOR)[0]
        return None if share is None else Margin(rounded(EXACT.multiply(revenue, share)), modelled=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file. Raises ``MarginsError`` that says what is wrong where."""
        return read_yaml(path, cls, MarginsError, "say what share of revenue is margin", _LOOKS_LIKE)
