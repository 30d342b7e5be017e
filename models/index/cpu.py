"""What the CPU parts share: a FAISS index behind the ``MainPart`` contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from models.index.base import Float32, Int64
from models.index.structure import MainPart


class FaissPart(ABC):
    """A built FAISS index. ``threads`` is set before each call, for OpenMP keeps it by calling thread."""

    kind: str

    def __init__(self, index: Any, threads: int) -> None:
        self.index = index
        self.size: int = index.ntotal
        self._threads = threads

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """See ``MainPart.search``."""
        faiss.omp_set_num_threads(self._threads)
        scores, positions = self.index.search(queries, k)
        return scores, positions

    def search_among(self, queries: Float32, k: int, allowed: NDArray[np.bool_]) -> tuple[Float32, Int64]:
        """See ``MainPart.search_among``."""
        faiss.omp_set_num_threads(self._threads)
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        scores, positions = self._search_all(queries, k, selector)
        return scores, positions

    @abstractmethod
    def _search_all(self, queries: Float32, k: int, selector: Any) -> tuple[Float32, Int64]:
        """Scan every position that ``selector`` lets through."""

    def reconstruct(self, positions: Int64) -> Float32:
        """See ``MainPart.reconstruct``."""
        vectors: Float32 = self.index.reconstruct_batch(positions)
        return vectors

    def write(self, sink: Any) -> None:
        """See ``MainPart.write``."""
        faiss.write_index(self.index, faiss.PyCallbackIOWriter(sink.write))

    def activate(self) -> None:  # noqa: B027 - the common case
        """Nothing: main memory is all it needs."""

    def release(self) -> None:  # noqa: B027
        """Nothing to give back."""


class CpuStructure(ABC):
    """A recipe for one kind of ``FaissPart``."""

    part: type[FaissPart]

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @abstractmethod
    def empty(self, vectors: Float32) -> Any:
        """An index ready to take vectors, trained on these if its kind needs training."""

    def build(self, vectors: Float32) -> MainPart:
        """See ``Structure.build``."""
        faiss.omp_set_num_threads(self.threads)
        index = self.empty(vectors)
        index.add(vectors)
        return self.part(index, self.threads)

    def extend(self, part: MainPart, vectors: Float32) -> MainPart:
        """See ``Structure.extend``."""
        if not isinstance(part, self.part) or self.outgrown(part, part.size + len(vectors)):
            former = part.reconstruct(np.arange(part.size, dtype=np.int64))
            return self.build(np.concatenate([former, vectors]))
        faiss.omp_set_num_threads(self.threads)
        index = faiss.clone_index(part.index)
        index.add(vectors)
        return self.part(index, self.threads)

    def outgrown(self, part: FaissPart, size: int) -> bool:
        """Whether ``size`` vectors are too many for the training behind ``part``."""
        return False

    def read(self, kind: str, source: BinaryIO) -> MainPart:
        """See ``Structure.read``."""
        index = faiss.read_index(faiss.PyCallbackIOReader(source.read))
        if kind.removesuffix("-gpu") == self.part.kind:
            return self.part(index, self.threads)
        return self.build(index.reconstruct_batch(np.arange(index.ntotal, dtype=np.int64)))
