"""A shop for sources by trained models, and what they find in it."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalog.items import ItemTable
from models.profiles import Profile
from models.profiles.columns import columns_of
from models.retrieval.trained_source import TrainedSource
from schemas.catalog import Product


def table(skus: list[str]) -> ItemTable:
    items = ItemTable(2)
    for sku in skus:
        items.upsert(Product(sku=sku, title=sku))
    return items


def found(source: TrainedSource, items: ItemTable, *profiles: Profile, limit: int = 3) -> list[list[str]]:
    """SKUs for each shopper, best first."""
    votes = source.find(columns_of(profiles, items.rows, lambda name: ()), limit)
    for rows, scores, size in zip(votes.rows, votes.scores, votes.sizes, strict=True):
        assert (np.diff(scores[:size]) <= 0).all()
        assert size == 0 or scores[0] == pytest.approx(1.0)
        assert (rows[size:] == -1).all()
    return [[items.skus[row] for row in rows[:size]] for rows, size in zip(votes.rows.tolist(), votes.sizes, strict=True)]
