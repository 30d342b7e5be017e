"""One way to make a vector index, whatever its kind and device."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from models.index.base import IndexConfigurationError, VectorIndex
from models.index.flat import FlatStructure
from models.index.gpu import GpuStructure, gpu_available
from models.index.hnsw import HnswStructure
from models.index.ivf import IvfStructure
from models.index.segmented import SegmentedIndex
from models.index.structure import AutoStructure, Structure

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
Device = Literal["auto", "cpu", "cuda"]

#: Up to here an exact scan on one CPU thread stays near a millisecond a query, and needs no training. Beyond, ``auto`` means
#: inverted lists and not the graph: both find all near products of a product, but the blend of a shopper's interests lies
#: between products, where at 100,000 vectors the graph (width 256) finds 93 % of the right 20 in 0.4 ms, and lists 99.9 % in
#: 0.2 ms, at half the memory and a third of the build. [tests/benchmarks/index_twins.py]
FLAT_LIMIT_CPU: Final = 20_000
#: A GPU scans millions of half-float vectors in a few milliseconds for a whole batch.
FLAT_LIMIT_GPU: Final = 2_000_000


def create_index(kind: IndexKind = "auto", dimensions: int = 384, device: Device = "auto", threads: int = 1) -> VectorIndex:
    """An empty index. ``auto`` picks the kind by size at each merge, and the device by what is there.

    Raises ``IndexConfigurationError`` when the device or the kind cannot be had.
    """
    return SegmentedIndex(dimensions, choose_structure(kind, device, threads))


def choose_structure(kind: IndexKind, device: Device, threads: int) -> Structure:
    """The recipe for a kind and a device. Raises ``IndexConfigurationError`` when either cannot be had here."""
    if kind not in ("auto", "flat", "hnsw", "ivf"):
        raise IndexConfigurationError(f"no index of kind {kind!r}; choose auto, flat, hnsw or ivf")
    if device not in ("auto", "cpu", "cuda"):
        raise IndexConfigurationError(f"no index on device {device!r}; choose auto, cpu or cuda")
    if device == "cuda" and kind == "hnsw":
        raise IndexConfigurationError("an HNSW graph has no GPU twin; choose index=flat or ivf, or device=cpu")
    if device == "cuda" and not gpu_available():
        raise IndexConfigurationError("device=cuda, but FAISS sees no GPU: install assay[gpu] in place of assay[cpu], or set device=cpu")
    flat, hnsw, ivf = FlatStructure(threads), HnswStructure(threads), IvfStructure(threads)
    if kind == "hnsw":
        return hnsw
    if device == "cuda" or (device == "auto" and gpu_available()):
        gpu_flat, gpu_ivf = GpuStructure(flat), GpuStructure(ivf)
        named: dict[str, Structure] = {"flat": gpu_flat, "ivf": gpu_ivf}
        return named.get(kind) or AutoStructure(((FLAT_LIMIT_GPU, "flat-gpu", gpu_flat), (np.inf, "ivf-gpu", gpu_ivf)))
    if kind == "flat":
        return flat
    if kind == "ivf":
        return ivf
    return AutoStructure(((FLAT_LIMIT_CPU, "flat", flat), (np.inf, "ivf", ivf)))
