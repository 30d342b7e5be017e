"""The graph: hierarchical navigable small worlds (Malkov and Yashunin, 2016, arXiv:1603.09320)."""

from __future__ import annotations

from typing import Any, Final

import faiss

from models.index.base import Float32, Int64
from models.index.cpu import CpuStructure, FaissPart

#: Links a node: 32 is the usual choice for some hundred dimensions.
LINKS: Final = 32
#: Beam widths while building and searching: narrower ones lose blends of interests. [tests/benchmarks/index_twins.py]
BUILD_WIDTH: Final = 200
SEARCH_WIDTH: Final = 256


class HnswPart(FaissPart):
    """Full floats and the graph over them."""

    kind = "hnsw"

    def _search_all(self, queries: Float32, k: int, selector: Any) -> tuple[Float32, Int64]:
        storage = faiss.downcast_index(self.index.storage)
        scores, positions = storage.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return scores, positions


class HnswStructure(CpuStructure):
    """Approximate search over full floats; the slowest to build, so it grows by ``extend``."""

    part = HnswPart

    def empty(self, vectors: Float32) -> Any:
        """See ``CpuStructure.empty``."""
        index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.hnsw.efSearch = SEARCH_WIDTH
        return index
