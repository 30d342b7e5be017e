"""The catalogue as every worker holds it: products, their vectors, and the index over those that may be shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from models.catalog.encoders import EncoderColumns, EncoderKey
from models.catalog.items import ItemTable
from models.catalog.vectors import unpack
from models.index.base import Float32, Int64, MergePlan, SnapshotError, VectorIndex
from models.index.factory import Device, IndexKind, create_index
from schemas.catalog import Embedding, Product
from schemas.decoding import InvalidRecord, decode_product

_LOG: Final = logging.getLogger(__name__)
#: Until the first vector says otherwise: MiniLM's width.
_DIMENSIONS: Final = 384
Keyed = tuple[bytes | None, bytes | None]
Follower = Callable[[Mapping[int, Product | None]], None]


class Catalogue:
    """``ItemTable`` and ``VectorIndex``, fed by the records of ``storefront.catalog`` and ``catalog.embeddings`` in either order.

    The index holds exactly the rows that are active (``ItemTable.active``) and have a vector, as soon as an ``apply_...`` returns:
    a product is recommendable at once after its upsert and never after its delete. A vector without a product waits for it; a
    product without a vector (no text, or not yet embedded) is active all the same, for sources that need no vector.

    ``encoder`` is the version of the vectors served, None before the first. When vectors of another encoder (or width) arrive,
    the old ones are served until the new ones are nearly complete, then all change at once (``models.catalog.encoders``): then
    ``index.generation`` goes up and ``encoder_changes`` counts. ``table`` and ``index`` stay the same objects throughout.

    Records that break their contract are left out: of products the embed worker makes dead letters; ``rejected`` counts both kinds.

    ``executor`` (one thread) takes merges and snapshots off the calling thread; without it they happen inside ``background``.
    """

    def __init__(
        self,
        kind: IndexKind = "auto",
        device: Device = "auto",
        threads: int = 1,
        *,
        executor: Executor | None = None,
        snapshot: Path | None = None,
        snapshot_s: float = 300.0,
        max_bytes: int = 1_048_576,
    ) -> None:
        self.table = ItemTable(_DIMENSIONS)
        self.index: VectorIndex = create_index(kind, _DIMENSIONS, device, threads)
        self.rejected = 0
        self.encoder_changes = 0
        self._columns = EncoderColumns(self.table)
        self._executor = executor
        self._snapshot = snapshot
        self._snapshot_ms = snapshot_s * 1000
        self._max_bytes = max_bytes
        self._follower: Follower | None = None
        self._plan: MergePlan | None = None
        self._building: Future[None] | None = None
        self._saving: Future[None] | None = None
        self._saved_ms: int | None = None
        self._changed_since_save = False

    @property
    def encoder(self) -> str | None:
        """Version of the encoder whose vectors are served."""
        serving = self._columns.serving
        return None if serving is None else serving.version

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of products as soon as the table has them: row -> product, None for one deleted. The table keeps no texts.

        Raises ``ValueError`` once there are products: the follower would not know them.
        """
        if len(self.table):
            raise ValueError("a catalogue is followed before any record is applied")
        self._follower = follower

    def apply_product(self, key: bytes | None, value: bytes | None) -> int:
        """Apply one record of ``storefront.catalog``. Returns the product's row, -1 for a record that is left out."""
        rows = self.apply_products([(key, value)])
        return rows[0] if rows else -1

    def apply_embedding(self, key: bytes | None, value: bytes | None) -> int:
        """Apply one record of ``catalog.embeddings``. Returns the row whose served vector changed, -1 if none did."""
        rows = self.apply_embeddings([(key, value)])
        return rows[0] if rows else -1

    def apply_products(self, records: Iterable[Keyed]) -> list[int]:
        """Apply (key, value) records of ``storefront.catalog``, in order. Returns the rows of the products set or deleted."""
        rows: list[int] = []
        taken: dict[int, Product | None] = {}
        for key, value in records:
            try:
                product = decode_product(key, value, max_bytes=self._max_bytes)
            except InvalidRecord as bad:
                self._reject("storefront.catalog", key, bad)
                continue
            if product is not None:
                rows.append(self.table.upsert(product))
            elif key is not None:
                self.table.delete(key.decode())
                rows.append(self.table.row(key.decode()))
            if self._follower is not None:
                taken[rows[-1]] = product
        self._reindex(rows)
        if self._follower is not None:
            self._follower(taken)
        return rows

    def apply_embeddings(self, records: Iterable[Keyed]) -> list[int]:
        """Apply (key, value) records of ``catalog.embeddings``, in order. Returns the rows whose served vector was set or dropped."""
        rows: list[int] = []
        for key, value in records:
            try:
                row = self._apply_vector(key, value)
            except (ValidationError, ValueError) as bad:
                self._reject("catalog.embeddings", key, bad)
                continue
            if row >= 0:
                rows.append(row)
        self._reindex(rows)
        return rows

    def background(self, now_ms: int) -> None:
        """Call about once a second, between batches: change encoders, merge, snapshot. ``now_ms`` is any clock that moves on.

        Raises what a merge in the executor raised. A snapshot that cannot be written is logged: it would only have saved time.
        """
        if self._columns.take_over():
            self._serve_anew()
        self._finish_merge()
        if self._plan is None and self.index.needs_merge:
            self._plan = self.index.prepare_merge()
            self._building = self._run(self._plan.build)
            self._finish_merge()
        self._take_snapshot(now_ms)

    def load_snapshot(self) -> bool:
        """Warm the index from the snapshot, before any record is applied. Nothing of it is shown until a record confirms it.

        False: there is none, or it cannot be used (logged), and the topic alone will fill the index.
        """
        if self._snapshot is None or not self._snapshot.exists():
            return False
        if len(self.table):
            raise ValueError("a snapshot is loaded before any record is applied")
        try:
            metadata = self.index.load(self._snapshot)
            skus, encoder = json.loads(metadata["skus"]), metadata["encoder"]
        except (SnapshotError, OSError, KeyError, ValueError) as error:
            self.index.reset(_DIMENSIONS)
            _LOG.warning("starting without the index snapshot: %s", error)
            return False
        for sku in skus:
            self.table.intern(sku)
        self.index.suspend()
        self._columns.serve(EncoderKey(encoder, self.index.dimensions))
        return True

    def close(self) -> None:
        """Wait for what is being merged or written, and shut the executor down."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def _apply_vector(self, key: bytes | None, value: bytes | None) -> int:
        if not key:
            raise ValueError("null or empty key")
        if value is None:
            return self._columns.drop(key.decode())
        embedding = Embedding.model_validate_json(value)
        if embedding.sku.encode() != key:
            raise ValueError(f"key {key[:80]!r}, the embedding's is {embedding.sku!r}")
        vector = unpack(embedding.vector, embedding.dimensions)
        encoder = EncoderKey(embedding.encoder, embedding.dimensions)
        first = self._columns.serving is None
        row = self._columns.put(encoder, embedding.sku, vector)
        if first:
            self.index.reset(embedding.dimensions)
        return row

    def _reindex(self, rows: list[int]) -> None:
        """Make the index agree with the table about ``rows``."""
        if not rows:
            return
        self._changed_since_save = True
        distinct = np.unique(np.array(rows, dtype=np.int64))
        shown = self.table.active[distinct] & self.table.has_vector[distinct]
        self.index.delete(distinct[~shown])
        self._index_rows(distinct[shown])

    def _index_rows(self, rows: Int64) -> None:
        vectors: Float32 = self.table.vectors[rows]
        self.index.upsert(rows, vectors)

    def _serve_anew(self) -> None:
        self._plan = None
        self.index.reset(self.table.dimensions)
        size = len(self.table)
        self._index_rows(np.flatnonzero(self.table.active[:size] & self.table.has_vector[:size]))
        self.encoder_changes += 1
        self._changed_since_save = True

    def _run(self, work: Callable[[], None]) -> Future[None]:
        if self._executor is not None:
            return self._executor.submit(work)
        done: Future[None] = Future()
        try:
            work()
            done.set_result(None)
        except Exception as error:  # handed on as an executor would: whoever reads the future meets it
            done.set_exception(error)
        return done

    def _finish_merge(self) -> None:
        if self._building is None or not self._building.done():
            return
        self._building.result()
        self._building = None
        if self._plan is not None:
            self.index.apply_merge(self._plan)
            self._plan = None

    def _take_snapshot(self, now_ms: int) -> None:
        if self._saving is not None and self._saving.done():
            error = self._saving.exception()
            if error is not None:
                _LOG.warning("the index snapshot %s was not written: %s", self._snapshot, error)
            self._saving = None
        if self._snapshot is None or not self._snapshot_ms or self.encoder is None:
            return
        if self._saved_ms is None:
            self._saved_ms = now_ms  # the first one is due a whole interval after the start: until then, the loaded one is as good
        due = now_ms - self._saved_ms >= self._snapshot_ms
        if not due or not self._changed_since_save or self._plan is not None or self._saving is not None:
            return
        image = self.index.capture({"encoder": self.encoder, "skus": json.dumps(self.table.skus)})
        path = self._snapshot
        self._saved_ms, self._changed_since_save = now_ms, False
        self._saving = self._run(lambda: image.write(path))

    def _reject(self, topic: str, key: bytes | None, reason: Exception) -> None:
        self.rejected += 1
        if self.rejected & (self.rejected - 1) == 0:  # 1, 2, 4, 8...: a flood of bad records is no flood of log lines
            first_line, shown = str(reason).splitlines()[0], key if key is None else key[:80]
            _LOG.warning("left out a record of %s with key %r (%d so far): %s", topic, shown, self.rejected, first_line)
