"""The index: an immutable main part under tombstones, a small exact fresh part, and the merge that folds one into the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.index.base import Float32, Int64, VectorIndexError
from models.index.base import MergePlan as MergePlanContract
from models.index.fresh import FreshPart
from models.index.snapshot import IndexImage, read_image
from models.index.structure import MainPart, Structure

#: A fresh part below this is scanned in a fraction of a millisecond: no merge pays.
FRESH_MINIMUM: Final = 2_048
#: Fresh vectors, as a share of the main part, that make a merge worth its work (each one copies the main part once).
FRESH_SHARE: Final = 1 / 16
#: Dead entries, as a share of the main part, at which a merge rebuilds it without them.
DEAD_SHARE: Final = 1 / 4
#: Over-fetching beyond this costs more than one exact scan of the living.
OVERFETCH_LIMIT: Final = 1_024


@dataclass(slots=True)
class MergePlan:
    """See ``models.index.base.MergePlan``: the positions of ``base`` to keep, and the fresh entries to put behind them."""

    structure: Structure
    base: MainPart | None
    epoch: object
    kept: Int64
    fresh_ids: Int64
    fresh_vectors: Float32
    stamp: int
    built: bool = False
    result: MainPart | None = None

    def build(self) -> None:
        """See ``models.index.base.MergePlan.build``."""
        if self.base is not None and len(self.kept) == self.base.size:
            self.result = self.structure.extend(self.base, self.fresh_vectors) if len(self.fresh_ids) else self.base
        else:
            vectors = self.fresh_vectors
            if self.base is not None:
                vectors = np.concatenate([self.base.reconstruct(self.kept), vectors])
            self.result = self.structure.build(vectors) if len(vectors) else None
        self.built = True


class SegmentedIndex:
    """See ``models.index.base.VectorIndex`` for the contract, ``models.index.factory`` for the twins.

    A deleted or replaced vector of the main part stays in it under a tombstone. A search asks for more than k to make up for the
    tombstones, asks again for the queries that came back short, and at last scans the living exactly: k live results always
    come back where there are k. Setting an id to the very vector that lies under its tombstone only lifts the tombstone, so
    stock that comes and goes costs no merge; and after ``suspend`` (a snapshot just loaded, none of it confirmed) the records
    that confirm it do so at that price.
    """

    def __init__(self, dimensions: int, structure: Structure) -> None:
        self.dimensions = dimensions
        self.generation = 0
        self._structure = structure
        self._main: MainPart | None = None
        self._ids: Int64 = np.zeros(0, dtype=np.int64)
        self._live: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._suspended: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._live_count = 0
        self._suspended_count = 0
        self._position: Int64 = np.full(0, -1, dtype=np.int64)
        self._fresh = FreshPart(dimensions)
        self._stamp = 0
        self._epoch = object()

    @property
    def kind(self) -> str:
        """See ``VectorIndex.kind``; empty while nothing has been merged."""
        return "" if self._main is None else self._main.kind

    @property
    def fresh_count(self) -> int:
        """See ``VectorIndex.fresh_count``."""
        return self._fresh.count

    @property
    def needs_merge(self) -> bool:
        """See ``VectorIndex.needs_merge``."""
        size = len(self._ids)
        return self._fresh.count >= max(FRESH_MINIMUM, size * FRESH_SHARE) or self._dead_count >= max(FRESH_MINIMUM, size * DEAD_SHARE)

    @property
    def _dead_count(self) -> int:
        return len(self._ids) - self._live_count - self._suspended_count

    def __len__(self) -> int:
        """See ``VectorIndex.__len__``."""
        return self._live_count + self._fresh.count

    def upsert(self, ids: Int64, vectors: Float32) -> None:
        """See ``VectorIndex.upsert``."""
        ids = np.asarray(ids, dtype=np.int64)
        vectors = self._checked(vectors)
        if ids.ndim != 1 or len(ids) != len(vectors):
            raise ValueError(f"{ids.shape} ids do not fit {vectors.shape} vectors")
        if not len(ids):
            return
        if ids.min() < 0:
            raise ValueError("ids must not be negative")
        _, last = np.unique(ids[::-1], return_index=True)
        if len(last) < len(ids):
            keep = len(ids) - 1 - last
            ids, vectors = ids[keep], vectors[keep]
        self._stamp += 1
        positions = self._positions(ids)
        merged = np.flatnonzero(positions >= 0)
        stale = np.ones(len(ids), dtype=np.bool_)
        if len(merged) and self._main is not None:
            stored = self._main.reconstruct(positions[merged])
            same = (stored.astype(np.float16) == vectors[merged].astype(np.float16)).all(axis=1)
            self._set_live(positions[merged], same)
            self._fresh.remove(ids[merged[same]])
            stale[merged[same]] = False
        self._fresh.put(ids[stale], vectors[stale], self._stamp)

    def delete(self, ids: Int64) -> None:
        """See ``VectorIndex.delete``."""
        ids = np.unique(np.asarray(ids, dtype=np.int64))
        positions = self._positions(ids)
        self._set_live(positions[positions >= 0], np.False_)
        self._fresh.remove(ids)

    def suspend(self) -> None:
        """Hide everything until it is upserted again. Suspended vectors survive merges, and count neither as live nor as dead."""
        self._suspended |= self._live
        self._live = np.zeros_like(self._live)
        self._live_count, self._suspended_count = 0, int(self._suspended.sum())
        self._fresh = FreshPart(self.dimensions)

    def reset(self, dimensions: int) -> None:
        """See ``VectorIndex.reset``."""
        self._replace_main(None)
        self.dimensions = dimensions
        self._ids = np.zeros(0, dtype=np.int64)
        self._live, self._suspended = np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)
        self._fresh = FreshPart(dimensions)
        self._recount()

    def search(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """See ``VectorIndex.search``."""
        queries = self._checked(queries)
        fresh_scores, fresh_ids = self.search_fresh(queries, k)
        if not self._live_count or not len(queries):
            return fresh_scores, fresh_ids
        scores, ids = self._search_main(queries, k)
        if not self._fresh.count:
            return scores, ids
        scores = np.concatenate([scores, fresh_scores], axis=1)
        ids = np.concatenate([ids, fresh_ids], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)

    def search_fresh(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """See ``VectorIndex.search_fresh``."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return self._fresh.search(self._checked(queries), k)

    def prepare_merge(self) -> MergePlan:
        """See ``VectorIndex.prepare_merge``."""
        dead = ~self._live & ~self._suspended
        rebuild = dead.sum() >= max(1, len(self._ids) * DEAD_SHARE)
        kept = np.flatnonzero(~dead) if rebuild else np.arange(len(self._ids))
        return MergePlan(self._structure, self._main, self._epoch, kept, self._fresh.ids.copy(), self._fresh.vectors.copy(), self._stamp)

    def apply_merge(self, plan: MergePlanContract) -> None:
        """See ``VectorIndex.apply_merge``. Raises ``VectorIndexError`` when the plan is void or not built."""
        if not isinstance(plan, MergePlan) or plan.epoch is not self._epoch or not plan.built:
            raise VectorIndexError("the merge plan is void (another was applied since) or not built")
        unchanged = self._fresh.written_by(plan.fresh_ids, plan.stamp)
        # Dead when the plan was made, which leaves them out, and set to that very vector again since.
        revived = np.setdiff1d(np.flatnonzero(self._live), plan.kept)
        revived_ids = self._ids[revived]
        revived_vectors = self._main.reconstruct(revived) if self._main is not None and len(revived) else None
        self._replace_main(plan.result)
        self._ids = np.concatenate([self._ids[plan.kept], plan.fresh_ids])
        self._live = np.concatenate([self._live[plan.kept], unchanged])
        self._suspended = np.concatenate([self._suspended[plan.kept], np.zeros(len(unchanged), dtype=np.bool_)])
        self._fresh.remove(plan.fresh_ids[unchanged])
        if revived_vectors is not None:
            self._fresh.put(revived_ids, revived_vectors, self._stamp)
        self._recount()

    def merge(self) -> None:
        """See ``VectorIndex.merge``."""
        plan = self.prepare_merge()
        plan.build()
        self.apply_merge(plan)

    def capture(self, metadata: Mapping[str, str] | None = None) -> IndexImage:
        """A consistent image, cheap to take; ``IndexImage.write`` may then run in another thread."""
        arrays = {
            "ids": self._ids.copy(),
            "live": self._live.copy(),
            "suspended": self._suspended.copy(),
            "fresh_ids": self._fresh.ids.copy(),
            "fresh_vectors": self._fresh.vectors.copy(),
        }
        return IndexImage(self.dimensions, self.generation, self._main, arrays, metadata or {})

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """See ``VectorIndex.save``."""
        self.capture(metadata).write(path)

    def load(self, path: Path) -> dict[str, str]:
        """See ``VectorIndex.load``. The generation only ever goes up."""
        image = read_image(path, self._structure)
        self._replace_main(image.main)
        self.dimensions = image.dimensions
        self._ids, self._live, self._suspended = image.arrays["ids"], image.arrays["live"], image.arrays["suspended"]
        self._fresh = FreshPart(image.dimensions)
        self._fresh.put(image.arrays["fresh_ids"], image.arrays["fresh_vectors"], self._stamp)
        self._recount()
        self.generation = max(self.generation, image.generation + 1)
        return dict(image.metadata)

    def _replace_main(self, main: MainPart | None) -> None:
        """Take another main part; merge plans made before are void."""
        if self._main is not None and self._main is not main:
            self._main.release()
        self._main = main
        self._epoch = object()
        self.generation += 1

    def _search_main(self, queries: Float32, k: int) -> tuple[Float32, Int64]:
        assert self._main is not None
        size, hidden = len(self._ids), len(self._ids) - self._live_count
        wanted = min(k, self._live_count)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        short = np.arange(len(queries))
        fetch = min(size, k + math.ceil(k * hidden / self._live_count)) if hidden else min(size, k)
        while len(short):
            exact = fetch > max(k, OVERFETCH_LIMIT)
            asked = queries[short]
            found, positions = self._main.search_among(asked, wanted, self._live) if exact else self._main.search(asked, fetch)
            usable = positions >= 0
            usable[usable] = self._live[positions[usable]]
            order = np.argsort(~usable, axis=1, kind="stable")[:, :wanted]
            usable = np.take_along_axis(usable, order, axis=1)
            positions = np.where(usable, np.take_along_axis(positions, order, axis=1), 0)
            width = order.shape[1]
            scores[short, :width] = np.where(usable, np.take_along_axis(found, order, axis=1), -np.inf)
            ids[short, :width] = np.where(usable, self._ids[positions], -1)
            if exact:
                break
            short = short[usable.sum(axis=1) < wanted]
            fetch = fetch * 8 if fetch < size else max(k, OVERFETCH_LIMIT) + 1
        return scores, ids

    def _checked(self, vectors: Float32) -> Float32:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise ValueError(f"vectors of shape {vectors.shape} do not fit an index of {self.dimensions} dimensions")
        return vectors

    def _positions(self, ids: Int64) -> Int64:
        """Main positions of ids (-1: none): the newest entry of each, live or not."""
        inside = (ids >= 0) & (ids < len(self._position))
        positions = np.full(len(ids), -1, dtype=np.int64)
        positions[inside] = self._position[ids[inside]]
        return positions

    def _set_live(self, positions: Int64, live: NDArray[np.bool_] | np.bool_) -> None:
        """Set distinct positions live or dead; either way they are no longer suspended."""
        before = int(self._live[positions].sum())
        self._live[positions] = live
        self._live_count += int(self._live[positions].sum()) - before
        self._suspended_count -= int(self._suspended[positions].sum())
        self._suspended[positions] = False

    def _recount(self) -> None:
        self._live_count, self._suspended_count = int(self._live.sum()), int(self._suspended.sum())
        self._position = np.full(int(self._ids.max()) + 1 if len(self._ids) else 0, -1, dtype=np.int64)
        # Of an id's entries the one in force comes last (assignment with repeated indices keeps the last); the others are dead.
        for in_force in (~(self._live | self._suspended), self._live | self._suspended):
            places = np.flatnonzero(in_force)
            self._position[self._ids[places]] = places
