"""How the main part of an index is organised: what it must answer, and the recipe that picks its kind by size."""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from models.index.base import Float32, Int64


class MainPart(Protocol):
    """Vectors at positions 0..size-1, immutable once built, so that worker threads may read it while it answers."""

    kind: str
    size: int

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """The k best positions, perhaps approximately: (scores float32[b, k], positions int64[b, k]), padded with -1."""
        ...

    def search_among(self, queries: Float32, k: int, allowed: NDArray[np.bool_]) -> tuple[Float32, Int64]:
        """As ``search``, exactly, over the positions where bool[size] ``allowed`` holds."""
        ...

    def reconstruct(self, positions: Int64) -> Float32:
        """The stored float32[n, d] vectors (IVF keeps half floats, which embeddings are to begin with)."""
        ...

    def write(self, sink: Any) -> None:
        """Serialise into anything that has ``write(bytes)``."""
        ...

    def activate(self) -> None:
        """Take up what searching needs beyond main memory (a copy on the GPU). Called in the searching thread."""
        ...

    def release(self) -> None:
        """Give that back."""
        ...


class Structure(Protocol):
    """A recipe for main parts; it holds settings, no vectors."""

    def build(self, vectors: Float32) -> MainPart:
        """A part over float32[n, d], n >= 1."""
        ...

    def extend(self, part: MainPart, vectors: Float32) -> MainPart:
        """A new part with ``vectors`` behind those of ``part``, which stays as it is."""
        ...

    def read(self, kind: str, source: BinaryIO) -> MainPart:
        """What ``MainPart.write`` wrote. A part of a kind that this recipe would not make is rebuilt as one that it would."""
        ...


class AutoStructure:
    """Picks by size: the smallest of ``steps`` (upper size, structure) that holds the vectors, anew at each merge."""

    def __init__(self, steps: tuple[tuple[float, str, Structure], ...]) -> None:
        self._steps = steps

    def _for(self, size: int) -> tuple[str, Structure]:
        return next((kind, structure) for limit, kind, structure in self._steps if size <= limit)

    def build(self, vectors: Float32) -> MainPart:
        """See ``Structure.build``."""
        return self._for(len(vectors))[1].build(vectors)

    def extend(self, part: MainPart, vectors: Float32) -> MainPart:
        """See ``Structure.extend``."""
        kind, structure = self._for(part.size + len(vectors))
        if part.kind == kind:
            return structure.extend(part, vectors)
        former = part.reconstruct(np.arange(part.size, dtype=np.int64))
        return structure.build(np.concatenate([former, vectors]))

    def read(self, kind: str, source: BinaryIO) -> MainPart:
        """See ``Structure.read``."""
        structure = next((structure for _, own, structure in self._steps if own == kind), self._steps[0][2])
        return structure.read(kind, source)
