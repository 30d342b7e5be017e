"""The embed role: products become vectors, and products that are no more lose theirs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from models.catalog.vectors import pack
from models.encoder.encoder import Encoder, TextEncoder
from models.encoder.text import product_text, text_hash
from schemas.base import SCHEMA_VERSION
from schemas.catalog import Product
from schemas.decoding import InvalidRecord, decode_product
from schemas.topics import CATALOG, EMBEDDINGS
from streams.runtime.dead_letter import dead_letter
from streams.runtime.processor import Batch, Output, Record, State, Step
from streams.runtime.task import Task
from streams.settings import Settings

#: Before a SKU, which may begin with any character, the runtime's own zero byte included.
_HASH_PREFIX: Final = b"h|"
_LOG: Final = logging.getLogger(__name__)


class EmbedProcessor:
    """``storefront.catalog`` to ``catalog.embeddings``. State: ``h|`` + sku -> hash of the text and the encoder behind its present vector.

    Of a product's records in one batch the last valid one counts. A null value is a tombstone, and so is a text that has become
    empty; an unchanged text is not embedded again; all the others go through the encoder in one call. Should that raise, the
    batch is halved until the text that it fails on stands alone: its record is dead-lettered (``embedding_failed``), its former
    vector and hash stay, and the product goes on being recommended without a new one. Nothing is dropped: a replayed dead
    letter, or the product's next upsert, is embedded then.
    """

    def __init__(self, encoder: Encoder, max_bytes: int = 1_048_576) -> None:
        self._encoder = encoder
        self._max_bytes = max_bytes

    def process(self, state: State, batch: Batch) -> Step:
        """Embed what changed; see the class."""
        step = Step()
        newest: dict[bytes, tuple[Record, Product | None]] = {}
        for record in batch.records:
            try:
                newest[record.key or b""] = record, decode_product(record.key, record.value, max_bytes=self._max_bytes)
            except InvalidRecord as bad:
                step.outputs.append(dead_letter(record, bad.code, bad.path, bad.message))
        changed: list[tuple[Record, str, str]] = []
        known = dict(zip(newest, state.get_many([_HASH_PREFIX + key for key in newest]), strict=True))
        for key, (record, product) in newest.items():
            text = "" if product is None else product_text(product)
            if text:
                digest = text_hash(text, self._encoder.version)
                if known[key] != digest.encode():
                    changed.append((record, text, digest))
            elif product is None or known[key] is not None:
                step.outputs.append(Output(EMBEDDINGS.name, key, None))
                step.writes[_HASH_PREFIX + key] = None
        vectors = self._encode([text for _, text, _ in changed])
        failed = [(record.key, vector) for (record, _, _), vector in zip(changed, vectors, strict=True) if isinstance(vector, Exception)]
        if failed:
            _LOG.error("the encoder failed on %d of %d texts, the first that of product %r: %s", len(failed), len(changed), *failed[0])
        for (record, _, digest), vector in zip(changed, vectors, strict=True):
            if isinstance(vector, Exception):
                step.outputs.append(dead_letter(record, "embedding_failed", "", f"{type(vector).__name__}: {vector}"))
                continue
            key = record.key or b""
            step.outputs.append(Output(EMBEDDINGS.name, key, self._embedding(key.decode(), vector, digest)))
            step.writes[_HASH_PREFIX + key] = digest.encode()
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Nothing happens without a record."""
        return None

    def opened(self, state: State, partition: int) -> None:
        """Nothing is cached."""

    def lost(self, partition: int) -> None:
        """Nothing is cached."""

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32] | Exception]:
        """One vector or one error for each text, by one call of the encoder while that goes well."""
        if not texts:
            return []
        try:
            return list(self._encoder.encode(texts))
        except (RuntimeError, ValueError, MemoryError) as error:  # EncoderError and torch's errors are RuntimeErrors
            if len(texts) == 1:
                return [error]
            middle = len(texts) // 2
            return self._encode(texts[:middle]) + self._encode(texts[middle:])

    def _embedding(self, sku: str, vector: NDArray[np.float32], digest: str) -> bytes:
        """A ``schemas.catalog.Embedding`` as JSON."""
        return orjson.dumps(
            {
                "sku": sku,
                "encoder": self._encoder.version,
                "dimensions": len(vector),
                "vector": pack(vector),
                "text_hash": digest,
                "schema_version": SCHEMA_VERSION,
            }
        )


def tasks(settings: Settings) -> list[Task]:
    """The one task of the role. Loads the encoder now: without it the worker refuses to start (``EncoderUnavailableError``)."""
    encoder = TextEncoder(settings.encoder, settings.device, threads=settings.threads)
    return [Task("embed", (CATALOG.name,), EmbedProcessor(encoder, settings.max_event_bytes))]
