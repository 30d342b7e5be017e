"""Every compiled loop once, before the first event: compiling takes seconds, and would be paid by a shopper who waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from models.catalog.items import ItemTable
from models.factors.model import FactorModel
from models.factors.source import FactorSource
from models.index.factory import create_index
from models.profiles import Profile, apply
from models.ranking.ranker import Ranker
from models.ranking.trained import TrainedRanker
from models.ranking.writing import ListWriter
from models.retrieval import LiveSessions, SessionItems, TextNeighbours
from schemas.catalog import Product
from schemas.events import Click

if TYPE_CHECKING:  # torch comes with it, which most workers do without
    from models.sequence.source import NamedModel


def rehearse(
    trained: TrainedRanker | None = None, sequence: NamedModel | None = None, *, factors: bool = False, explain_sessions: int = 0
) -> None:
    """Rank one shopper in a shop of two products, from every source that will be there, and write the list.

    ``trained`` and ``sequence`` as the worker begins with; ``factors`` and ``explain_sessions``: will there be any?
    """
    items = ItemTable(2)
    index = create_index("flat", 2, "cpu")
    sessions = LiveSessions(items.intern, half_life_ms=1.0, with_sources=True)
    ranker = Ranker(items, sessions, TextNeighbours(index), k=2, trained=trained, explain_sessions=explain_sessions)
    if sequence is not None:
        from models.sequence.source import SequenceSource

        ranker.sequence = SequenceSource(sequence, items, gap_ms=1)
    if factors:
        ranker.factors = FactorSource(FactorModel(np.eye(2, dtype=np.float32), ["a", "b"], regularization=1.0, alpha=1.0), items)
    for sku in ("a", "b"):
        row = items.upsert(Product(sku=sku, category_path=("c",)))
        items.set_vector(sku, np.array([1.0, 0.0], dtype=np.float32))
        index.upsert(np.array([row]), items.vectors[[row]])
        ranker.note_products([row])
    sessions.apply([SessionItems("u@0", "u", 0, ("a", "b"), (0, 0), ("click", "click"))])
    sessions.weigh(lambda _source: 0.5)
    profile = Profile()
    apply(profile, Click(event_id="e", type="click", user_id="u", occurred_at=datetime(2026, 1, 1, tzinfo=UTC), channel="web", sku="a"))
    ranker.baseline(0)
    ListWriter(items).write(ranker.rank([profile], 0))
    ranker.rank([profile], 0, ["u"], next_visit=True)
    ranker.popular([profile], 0)
    sessions.erase("u")
