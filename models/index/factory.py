"""One way to make a vector index, whatever its kind and device."""

from __future__ import annotations

from typing import Literal

from models.index.base import VectorIndex

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
Device = Literal["auto", "cpu", "cuda"]


def create_index(kind: IndexKind = "auto", dimensions: int = 384, device: Device = "auto", threads: int = 1, generation: int = 0) -> VectorIndex:
    """An empty index. ``auto`` picks the kind by size at each merge, and the device by what is there.

    ``generation`` is where its counter starts. Raises ``IndexConfigurationError`` when the device or the kind cannot be had.
    """
    from models.index.segmented import SegmentedIndex
    from models.index.structure import choose_structure

    return SegmentedIndex(dimensions, choose_structure(kind, dimensions, device, threads), generation=generation)
