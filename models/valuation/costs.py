"""What data costs, and what is left of what it brought."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from models.files import read_yaml
from models.valuation.assets import DIMENSIONS
from schemas.base import Currency
from schemas.valuation import Cost, ValueMoney


class CostsError(ValueError):
    """A file that does not say what data costs."""


class AssetCost(BaseModel):
    """What a thousand events of an asset cost, in ``currency``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acquire: Decimal = Field(Decimal(0), ge=0)
    store: Decimal = Field(Decimal(0), ge=0)
    compute: Decimal = Field(Decimal(0), ge=0)
    currency: Currency

    def of(self, events: int, money: Iterable[ValueMoney]) -> Cost:
        """What ``events`` events cost, beside the ``money`` that the asset is credited with.

        >>> AssetCost(acquire=2, currency="GBP").of(500, [ValueMoney(currency="GBP", attributable=3.5)]).net
        2.5
        """
        acquire, store, compute = (float(amount * events / 1_000) for amount in (self.acquire, self.store, self.compute))
        earned = [amount for amount in money if amount.basis != "clicks"]
        net = None
        if not why_no_net(self.currency, earned):
            net = sum(amount.attributable for amount in earned) - (acquire + store + compute)
        return Cost(currency=self.currency, acquire=acquire, store=store, compute=compute, net=net)


def why_no_net(currency: str, money: Iterable[ValueMoney]) -> str:
    """Why costs in ``currency`` cannot be set against ``money``; "" where they can.

    >>> why_no_net("GBP", [ValueMoney(currency="EUR", attributable=3.5)])
    'brought in EUR'
    >>> why_no_net("GBP", [ValueMoney(currency="GBP", basis=basis, attributable=3.5) for basis in ("margin", "revenue")])
    'part margin, part revenue'
    """
    earned = {(amount.currency, amount.basis) for amount in money if amount.basis != "clicks"}
    if others := sorted({other for other, _ in earned} - {currency}):
        return f"brought in {', '.join(others)}"
    # Margin and revenue are not one sum: the cost is of all events, those whose margin is not known among them.
    return "part margin, part revenue" if len(earned) > 1 else ""


class Costs(RootModel[dict[str, dict[str, AssetCost]]]):
    """Costs by dimension and asset. A dimension has some if its assets have records of their own (``DIMENSIONS``)."""

    model_config = ConfigDict(frozen=True)

    root: dict[str, dict[str, AssetCost]] = {}

    @model_validator(mode="after")
    def _names_dimensions(self) -> Self:
        # What is said of any other would be read and never charged.
        if strange := self.root.keys() - set(DIMENSIONS):
            raise ValueError(f"no dimension that has costs is called {', '.join(sorted(strange))}; choose from {', '.join(DIMENSIONS)}")
        return self

    def find(self, dimension: str, asset: str) -> AssetCost | None:
        """That of one asset, None where nothing is said of it."""
        return self.root.get(dimension, {}).get(asset)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file. Raises ``CostsError`` that says what is wrong where."""
        return read_yaml(path, cls, CostsError, "say what data costs")
