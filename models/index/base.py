"""The contract of a vector index, which every twin keeps, and its errors.

VectorIndexError
├── IndexConfigurationError   a kind or device that cannot be had here
└── SnapshotError             a snapshot that is damaged, of another version, or not one of ours
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class VectorIndexError(RuntimeError):
    """Base of this package's errors."""


class IndexConfigurationError(VectorIndexError, ValueError):
    """The kind of index or the device asked for cannot be had here."""


class SnapshotError(VectorIndexError):
    """A snapshot that cannot be loaded; delete the file, the index is rebuilt from ``catalog.embeddings``."""


class VectorIndex(Protocol):
    """Nearest neighbours by inner product, under live upserts and deletes.

    A big *main* part (exact or approximate, immutable between merges) and a small exact *fresh* part are searched as one.
    An upsert lands in the fresh part and is found by the next search; a delete hides at once. ``merge`` folds fresh into main.
    Ids are small non-negative integers (rows of an ``ItemTable``): memory is proportional to the largest. Not thread-safe,
    except that ``MergePlan.build`` may run in another thread.
    """

    @property
    def dimensions(self) -> int:
        """Width of every vector."""
        ...

    @property
    def kind(self) -> str:
        """What the main part is at present: flat, hnsw or ivf, with ``-gpu`` behind it on a GPU."""
        ...

    @property
    def generation(self) -> int:
        """Goes up when the main part changes by a merge. While it stands still, a neighbour list found in the main part stays
        right but for ids since deleted or upserted anew: those, ``search_fresh`` finds or the caller's own filter drops.
        """
        ...

    @property
    def fresh_count(self) -> int:
        """Vectors in the fresh part."""
        ...

    @property
    def needs_merge(self) -> bool:
        """Whether the fresh part or the share of dead entries has grown enough to be worth a merge."""
        ...

    def __len__(self) -> int:
        """Vectors that a search may return."""
        ...

    def upsert(self, ids: Int64, vectors: Float32) -> None:
        """Set int64[n] ids to float32[n, d] vectors; of an id given twice the last counts. ``ValueError`` on shapes that do not fit."""
        ...

    def delete(self, ids: Int64) -> None:
        """Hide int64[n] ids; unknown ones are no error."""
        ...

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """The k best of float32[b, d] queries: (scores float32[b, k], ids int64[b, k]), best first, padded with -inf and -1."""
        ...

    def search_fresh(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """As ``search``, over the fresh part alone."""
        ...

    def suspend(self) -> None:
        """Hide everything until it is upserted again (a snapshot just loaded, none of it confirmed yet)."""
        ...

    def reset(self, dimensions: int) -> None:
        """Empty it, for vectors of ``dimensions``; the generation goes up."""
        ...

    def prepare_merge(self) -> MergePlan:
        """Note what a merge would fold in (cheap). One plan at a time: a plan is void once another was applied, or the content replaced."""
        ...

    def apply_merge(self, plan: MergePlan) -> None:
        """Swap in what ``plan.build()`` made; changes made since ``prepare_merge`` stay in force."""
        ...

    def merge(self) -> None:
        """Prepare, build and apply in one go."""
        ...

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write a snapshot atomically, checksummed, with ``metadata`` (the encoder's id, say) in it."""
        ...

    def capture(self, metadata: Mapping[str, str] | None = None) -> Image:
        """What ``save`` would write: cheap to take, and its ``write(path)`` may run in another thread."""
        ...

    def load(self, path: Path) -> dict[str, str]:
        """Replace content and dimensions by a snapshot's and return its metadata. Raises ``SnapshotError``, and is then unchanged."""
        ...


class Image(Protocol):
    """A consistent copy of an index on its way to disk."""

    def write(self, path: Path) -> None:
        """Write it atomically."""
        ...


class MergePlan(Protocol):
    """A merge under way."""

    def build(self) -> None:
        """Build the new main part: the long work, safe in a worker thread while the index goes on answering."""
        ...
