"""The fresh part: vectors since the last merge, in one matrix, searched exactly."""

from __future__ import annotations

import faiss
import numpy as np

from models.index.base import Float32, Int64

_FIRST_CAPACITY = 256


class FreshPart:
    """``count`` vectors with their ids and the stamp of their last write; deletes move the last entry into the gap."""

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self._vectors: Float32 = np.zeros((_FIRST_CAPACITY, dimensions), dtype=np.float32)
        self._ids: Int64 = np.zeros(_FIRST_CAPACITY, dtype=np.int64)
        self._stamps: Int64 = np.zeros(_FIRST_CAPACITY, dtype=np.int64)
        self._slots: dict[int, int] = {}

    @property
    def ids(self) -> Int64:
        """int64[count]."""
        return self._ids[: self.count]

    @property
    def vectors(self) -> Float32:
        """float32[count, d]."""
        return self._vectors[: self.count]

    @property
    def stamps(self) -> Int64:
        """int64[count]: the caller's counter when each entry was written."""
        return self._stamps[: self.count]

    def put(self, ids: Int64, vectors: Float32, stamp: int) -> None:
        """Set distinct int64[n] ids to float32[n, d] vectors."""
        slots = np.empty(len(ids), dtype=np.int64)
        for place, id_ in enumerate(ids.tolist()):
            slot = self._slots.get(id_)
            if slot is None:
                slot = self._slots[id_] = len(self._slots)
            slots[place] = slot
        self.count = len(self._slots)
        self._reserve(self.count)
        self._ids[slots] = ids
        self._vectors[slots] = vectors
        self._stamps[slots] = stamp

    def remove(self, ids: Int64) -> None:
        """Take int64[n] ids out; absent ones are no error."""
        for id_ in ids.tolist():
            slot = self._slots.pop(id_, None)
            if slot is None:
                continue
            self.count -= 1
            if slot != self.count:
                moved = int(self._ids[self.count])
                self._ids[slot] = moved
                self._vectors[slot] = self._vectors[self.count]
                self._stamps[slot] = self._stamps[self.count]
                self._slots[moved] = slot

    def written_by(self, ids: Int64, stamp: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """bool[n]: which of the ids are here and were last written at or before ``stamp``."""
        found = np.zeros(len(ids), dtype=np.bool_)
        for place, id_ in enumerate(ids.tolist()):
            slot = self._slots.get(id_)
            found[place] = slot is not None and self._stamps[slot] <= stamp
        return found

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """(scores float32[b, k], ids int64[b, k]), best first, padded with -inf and -1."""
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        width = min(k, self.count)
        if width and len(queries):
            found, slots = faiss.knn(queries, self.vectors, width, metric=faiss.METRIC_INNER_PRODUCT)
            scores[:, :width] = found
            ids[:, :width] = self._ids[slots]
        return scores, ids

    def _reserve(self, count: int) -> None:
        if count > len(self._ids):
            extra = max(count, 2 * len(self._ids)) - len(self._ids)
            self._ids = np.concatenate([self._ids, np.zeros(extra, dtype=np.int64)])
            self._stamps = np.concatenate([self._stamps, np.zeros(extra, dtype=np.int64)])
            self._vectors = np.concatenate([self._vectors, np.zeros((extra, self._vectors.shape[1]), dtype=np.float32)])
