"""Queries to vectors: each encoded once, several at once, and one that fails takes no other with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from models.encoder.encoder import TextEncoder
from models.encoder.source import EncoderError
from streams.serve.queries import QueryEncoder
from tests.serve.conftest import DEADLINE_S, GatedEncoder


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", precision="fp32", threads=1)


@contextmanager
def encoding(encoder: GatedEncoder, remembered: int = 10) -> Iterator[Callable[..., list[np.ndarray]]]:
    """Asks for queries in turn and then waits for all."""
    queries = QueryEncoder(encoder, remembered)

    def ask(*texts: str) -> list[np.ndarray]:
        futures = [queries.vector(text) for text in texts]
        encoder.gate.set()
        return [future.result(DEADLINE_S) for future in futures]

    yield ask
    encoder.gate.set()
    queries.stop()


def test_a_vector_is_the_encoders(minilm: TextEncoder) -> None:
    with encoding(GatedEncoder(minilm)) as ask:
        np.testing.assert_allclose(ask("red mug")[0], minilm.encode(["red mug"])[0], atol=1e-4)


def test_a_query_is_encoded_once_while_it_is_remembered(minilm: TextEncoder) -> None:
    encoder = GatedEncoder(minilm)
    with encoding(encoder, remembered=2) as ask:
        ask("a")
        ask("b")
        ask("a")
        assert encoder.calls == [["a"], ["b"]]
        ask("c")  # "b" was asked for longest ago
        ask("a")
        assert encoder.calls == [["a"], ["b"], ["c"]]
        ask("b")
        assert encoder.calls[3:] == [["b"]]


def test_what_waits_is_encoded_in_one_call_and_each_query_once(minilm: TextEncoder) -> None:
    encoder = GatedEncoder(minilm, shut=True)
    queries = QueryEncoder(encoder)
    first = queries.vector("first")
    assert encoder.entered.wait(DEADLINE_S)
    others = [queries.vector(text) for text in ("red mug", "pan", "red mug")]
    encoder.gate.set()
    vectors = [future.result(DEADLINE_S) for future in (first, *others)]
    queries.stop()
    assert encoder.calls == [["first"], ["red mug", "pan"]]
    np.testing.assert_array_equal(vectors[1], vectors[3])
    np.testing.assert_allclose(vectors[2], minilm.encode(["pan"])[0], atol=1e-4)


def test_a_query_that_fails_fails_alone_and_is_tried_anew(minilm: TextEncoder) -> None:
    encoder = GatedEncoder(minilm, shut=True, fails_on="bad")
    queries = QueryEncoder(encoder)
    first = queries.vector("first")
    assert encoder.entered.wait(DEADLINE_S)
    good, bad = queries.vector("good"), queries.vector("bad")
    encoder.gate.set()
    np.testing.assert_allclose(good.result(DEADLINE_S), minilm.encode(["good"])[0], atol=1e-4)
    assert first.result(DEADLINE_S).shape == (minilm.dimensions,)
    with pytest.raises(EncoderError):
        bad.result(DEADLINE_S)
    encoder.fails_on = None
    assert queries.vector("bad").result(DEADLINE_S).shape == (minilm.dimensions,)
    queries.stop()


def test_nobody_takes_a_vector_from_those_who_wait_with_them(minilm: TextEncoder) -> None:
    encoder = GatedEncoder(minilm, shut=True)
    queries = QueryEncoder(encoder)
    mine, theirs = queries.vector("mug"), queries.vector("mug")
    assert not mine.cancel()
    encoder.gate.set()
    assert theirs.result(DEADLINE_S).shape == (minilm.dimensions,)
    queries.stop()


def test_stopping_encodes_what_waits(minilm: TextEncoder) -> None:
    encoder = GatedEncoder(minilm, shut=True)
    queries = QueryEncoder(encoder)
    waiting = [queries.vector(text) for text in ("a", "b", "c")]
    threading.Timer(0.05, encoder.gate.set).start()
    queries.stop()
    assert all(future.done() for future in waiting)
