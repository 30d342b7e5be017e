"""GPU twins: a CPU part that stays the master copy in main memory, and its explicit clone on the GPU that answers searches."""

from __future__ import annotations

import logging
from typing import Any, BinaryIO, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from models.index.base import Float32, Int64
from models.index.cpu import CpuStructure, FaissPart
from models.index.structure import MainPart

_LOG: Final = logging.getLogger(__name__)
#: FAISS's GPU selection handles no more neighbours than this; larger requests go to the master copy.
MAX_K: Final = 2048
#: Scratch memory on the GPU. FAISS takes 1.5 GB or more by default, which an encoder on the same card would miss.
SCRATCH_BYTES: Final = 256 * 1024 * 1024


def gpu_available() -> bool:
    """Whether this build of FAISS can use a GPU and sees one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


class GpuPart:
    """A ``MainPart`` on GPU 0. Every answer that needs exactness over a mask, or the vectors back, comes from the master copy, and
    so does every answer once the GPU has failed (out of memory, say).
    """

    def __init__(self, master: FaissPart) -> None:
        self.master = master
        self.kind = f"{master.kind}-gpu"
        self.size = master.size
        self._resources: Any = None
        self._clone: Any = None
        self._given_up = False

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """See ``MainPart.search``."""
        if k > MAX_K or self._given_up:
            return self.master.search(queries, k)
        try:
            self.activate()
            scores, positions = self._clone.search(queries, k)
        except RuntimeError as error:  # FAISS's word for a card that is out of memory
            self.release()
            self._given_up = True
            _LOG.warning("the GPU failed on an index of %d vectors; the CPU answers until the next merge: %s", self.size, error)
            return self.master.search(queries, k)
        return scores, positions

    def search_among(self, queries: Float32, k: int, allowed: NDArray[np.bool_]) -> tuple[Float32, Int64]:
        """See ``MainPart.search_among``."""
        return self.master.search_among(queries, k, allowed)

    def reconstruct(self, positions: Int64) -> Float32:
        """See ``MainPart.reconstruct``."""
        return self.master.reconstruct(positions)

    def write(self, sink: Any) -> None:
        """See ``MainPart.write``."""
        self.master.write(sink)

    def activate(self) -> None:
        """Copy to the GPU, flat vectors as half floats, unless that is done. FAISS's GPU resources belong to the searching thread."""
        if self._clone is None:
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(SCRATCH_BYTES)
            options = faiss.GpuClonerOptions()
            options.useFloat16 = True
            if hasattr(options, "use_cuvs"):
                options.use_cuvs = False  # builds with cuVS have no half-float lists
            self._clone = faiss.index_cpu_to_gpu(self._resources, 0, self.master.index, options)

    def release(self) -> None:
        """Free the copy on the GPU; the next search makes it again."""
        self._clone = None
        self._resources = None


class GpuStructure:
    """The GPU twin of a CPU recipe: built on the CPU (in a worker thread, if need be), cloned when first searched."""

    def __init__(self, inner: CpuStructure) -> None:
        self._inner = inner

    def build(self, vectors: Float32) -> MainPart:
        """See ``Structure.build``."""
        return self._wrap(self._inner.build(vectors))

    def extend(self, part: MainPart, vectors: Float32) -> MainPart:
        """See ``Structure.extend``."""
        return self._wrap(self._inner.extend(part.master if isinstance(part, GpuPart) else part, vectors))

    def read(self, kind: str, source: BinaryIO) -> MainPart:
        """See ``Structure.read``."""
        return self._wrap(self._inner.read(kind, source))

    @staticmethod
    def _wrap(part: MainPart) -> GpuPart:
        assert isinstance(part, FaissPart)
        return GpuPart(part)
