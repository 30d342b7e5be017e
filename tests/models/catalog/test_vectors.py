from __future__ import annotations

import base64

import numpy as np
import pytest

from models.catalog.vectors import VectorColumn, pack, unpack, unpack_many


def test_a_vector_survives_the_wire_to_half_precision() -> None:
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    vector /= np.linalg.norm(vector)
    text = pack(vector)
    assert len(text) == 1024
    received = unpack(text, 384)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, vector, rtol=2**-11, atol=1e-7)
    assert pack(received) == text


def test_the_bytes_are_little_endian_half_floats() -> None:
    assert base64.b64decode(pack(np.array([1.0, -2.0]))).hex() == "003c00c0"


@pytest.mark.parametrize(
    ("text", "message"),
    [("ADwA!A==", "not base64"), ("ADw", "not base64"), ("ADw=", "2 bytes"), ("é", "not base64"), ("AHwAAA==", "NaN or an infinity")],
)
def test_what_is_no_vector_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(text, 2)


def test_many_vectors_decode_at_once() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(unpack_many([pack(row) for row in vectors], 2), vectors)


def test_a_column_counts_what_it_holds() -> None:
    column = VectorColumn(2)
    for row in (5, 0, 5):
        column.set(row, np.array([row, 1], dtype=np.float32))
    assert (column.count, len(column.present) >= 6) == (2, True)
    column.drop(0)
    column.drop(0)
    column.drop(999)
    assert column.count == 1
    column.set(3, np.ones(2, dtype=np.float32))
    column.retain(np.array([True, True, True, True]))
    assert (column.count, np.flatnonzero(column.present).tolist()) == (1, [3])
    assert not column.values[5].any()
    with pytest.raises(ValueError, match="at least 1"):
        VectorColumn(0)
