"""The exact main part: every vector is scored."""

from __future__ import annotations

from typing import Any

import faiss

from models.index.base import Float32, Int64
from models.index.cpu import CpuStructure, FaissPart


class FlatPart(FaissPart):
    """Full floats in one matrix."""

    kind = "flat"

    def _search_all(self, queries: Float32, k: int, selector: Any) -> tuple[Float32, Int64]:
        scores, positions = self.index.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return scores, positions


class FlatStructure(CpuStructure):
    """Exact search."""

    part = FlatPart

    def empty(self, vectors: Float32) -> Any:
        """See ``CpuStructure.empty``."""
        return faiss.IndexFlatIP(vectors.shape[1])
