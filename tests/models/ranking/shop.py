"""A tiny shop for ranking tests: products by letter, unit vectors on request, sessions as strings."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from models.catalog.items import ItemTable
from models.index.factory import create_index
from models.profiles import Profile, apply
from models.ranking import ListWriter, RankedLists, Ranker
from models.retrieval import LiveSessions, SessionItems, TextNeighbours
from schemas.catalog import Product
from schemas.recommendation import RecommendedItem
from tests.models.profiles.events import event

DIMENSIONS = 8


class Shop:
    def __init__(self, products: str = "", half_life_ms: float = 1e12, **options: Any) -> None:
        self.table = ItemTable(DIMENSIONS)
        self.index = create_index("flat", DIMENSIONS, "cpu", 1)
        self.sessions = LiveSessions(self.table.intern, half_life_ms)
        self.neighbours = TextNeighbours(self.index)
        self.ranker = Ranker(self.table, self.sessions, self.neighbours, **{"diversity": 0.0, **options})
        self.writer = ListWriter(self.table)
        for sku in products:
            self.product(sku)

    def product(self, sku: str, **fields: Any) -> None:
        row = self.table.upsert(Product(**{"sku": sku, "title": f"Title {sku}", "category_path": ("All",), **fields}))
        self.ranker.note_products([row])

    def vector(self, sku: str, *values: float) -> None:
        vector = np.zeros(DIMENSIONS, dtype=np.float32)
        vector[: len(values)] = values
        row = self.table.set_vector(sku, vector / np.linalg.norm(vector))
        self.index.upsert(np.array([row]), self.table.vectors[[row]])
        self.ranker.note_vectors([row])

    def session(self, name: str, skus: str, kind: str = "click", at_ms: int = 0) -> None:
        self.sessions.apply([SessionItems(f"{name}@0", name, 0, tuple(skus), (at_ms,) * len(skus), (kind,) * len(skus))])

    def rank(self, *profiles: Profile) -> RankedLists:
        return self.ranker.rank(profiles, now_ms=0)

    def skus(self, lists: RankedLists, place: int = 0) -> list[str]:
        return [self.table.skus[row] for row in lists.rows[place] if row >= 0]

    def items(self, lists: RankedLists, place: int = 0) -> list[RecommendedItem]:
        return [RecommendedItem.model_validate_json(orjson.dumps(item)) for item in orjson.loads(self.writer.write(lists)[place])]


def shopper(*steps: tuple[str, str], minute: float = 0.0) -> Profile:
    """A profile after (type, sku) steps, a minute apart, the last at ``minute``."""
    profile = Profile()
    for number, (kind, sku) in enumerate(steps):
        apply(profile, event(kind, number, minute=minute - len(steps) + number + 1, sku=sku))
    return profile
