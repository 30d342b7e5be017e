"""A vector on the wire (base64 half floats) and a column of vectors in memory."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack(vector: NDArray[np.floating]) -> str:
    """Encode floating[d] as base64 of little-endian IEEE half floats (2 bytes a dimension; |error| <= 2^-11 relative).

    Example:
        >>> pack(np.array([1.0, -0.5], dtype=np.float32))
        'ADwAuA=='

    """
    return base64.b64encode(np.ascontiguousarray(vector, dtype="<f2").tobytes()).decode("ascii")


def unpack(text: str, dimensions: int) -> NDArray[np.float32]:
    """Decode ``pack``'s text to float32[dimensions]. Raises ``ValueError`` when it is not that many finite half floats.

    Example:
        >>> unpack("ADwAuA==", 2)
        array([ 1. , -0.5], dtype=float32)

    """
    vector: NDArray[np.float32] = unpack_many([text], dimensions)[0]
    return vector


def unpack_many(texts: Sequence[str], dimensions: int) -> NDArray[np.float32]:
    """Decode n texts of ``pack`` to float32[n, dimensions]. Raises ``ValueError`` as ``unpack`` does."""
    try:
        raw = [binascii.a2b_base64(text, strict_mode=True) for text in texts]
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"vector is not base64: {error}") from None
    for blob in raw:
        if len(blob) != 2 * dimensions:
            raise ValueError(f"vector has {len(blob)} bytes, {dimensions} half floats have {2 * dimensions}")
    values = np.frombuffer(b"".join(raw), dtype="<f2").reshape(len(raw), dimensions).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("vector holds a NaN or an infinity")
    return values


class VectorColumn:
    """Vectors of one encoder by row: ``values`` float32[capacity, d] and ``present`` bool[capacity]; grows by doubling."""

    def __init__(self, dimensions: int, capacity: int = 0) -> None:
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        self.dimensions = dimensions
        self.values: NDArray[np.float32] = np.zeros((capacity, dimensions), dtype=np.float32)
        self.present: NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.count = 0

    def reserve(self, capacity: int) -> None:
        """Make room for rows below ``capacity``."""
        extra = capacity - len(self.present)
        if extra > 0:
            self.values = np.concatenate([self.values, np.zeros((extra, self.dimensions), dtype=np.float32)])
            self.present = np.concatenate([self.present, np.zeros(extra, dtype=np.bool_)])

    def set(self, row: int, vector: NDArray[np.float32]) -> None:
        """Store float32[d] at ``row``. Raises ``ValueError`` on another shape."""
        if vector.shape != (self.dimensions,):
            raise ValueError(f"a vector of shape {vector.shape} does not fit a column of {self.dimensions} dimensions")
        if row >= len(self.present):
            self.reserve(max(2 * len(self.present), row + 1))
        self.count += not self.present[row]
        self.values[row] = vector
        self.present[row] = True

    def retain(self, kept: NDArray[np.bool_]) -> None:
        """Forget all vectors but those at rows where bool[n] ``kept`` holds; rows from n on are forgotten too."""
        mask = np.zeros(len(self.present), dtype=np.bool_)
        width = min(len(mask), len(kept))
        mask[:width] = kept[:width]
        self.values[~mask] = 0.0
        self.present &= mask
        self.count = int(self.present.sum())

    def drop(self, row: int) -> None:
        """Forget the vector at ``row``, if there is one."""
        if row < len(self.present) and self.present[row]:
            self.values[row] = 0.0
            self.present[row] = False
            self.count -= 1
