"""Inverted lists: vectors by nearest of many centroids, half floats; only the lists near a query are scanned."""

from __future__ import annotations

import math
from typing import Any, Final

import faiss

from models.index.base import Float32, Int64
from models.index.cpu import CpuStructure, FaissPart

#: Vectors a list at least: fewer than this and centroids outnumber what they divide.
LIST_MINIMUM: Final = 8
#: Training vectors a centroid: the least that FAISS recommends; more only takes longer.
TRAINING_PER_LIST: Final = 40
#: A search scans the square root of the number of lists, and never fewer than this. [tests/benchmarks/index_twins.py]
PROBE_MINIMUM: Final = 16


def list_count(size: int) -> int:
    """Lists for ``size`` vectors: 4 sqrt(n), the rule of FAISS's guidelines, with ``LIST_MINIMUM`` vectors a list or more."""
    return max(1, min(int(4 * math.sqrt(size)), size // LIST_MINIMUM))


class IvfPart(FaissPart):
    """Half floats in lists."""

    kind = "ivf"

    def _search_all(self, queries: Float32, k: int, selector: Any) -> tuple[Float32, Int64]:
        everything = faiss.SearchParametersIVF(nprobe=self.index.nlist, sel=selector)
        scores, positions = self.index.search(queries, k, params=everything)
        return scores, positions


class IvfStructure(CpuStructure):
    """Approximate search at half the memory of the graph; trains itself, anew when the data has grown fourfold."""

    part = IvfPart

    def empty(self, vectors: Float32) -> Any:
        """See ``CpuStructure.empty``."""
        lists = list_count(len(vectors))
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, vectors.shape[1], lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = TRAINING_PER_LIST
        index.train(vectors)
        index.make_direct_map(True)
        index.nprobe = min(lists, max(PROBE_MINIMUM, math.isqrt(lists)))
        return index

    def outgrown(self, part: FaissPart, size: int) -> bool:
        """Four times the vectors that its lists were made for."""
        return list_count(size) >= 2 * int(part.index.nlist)
