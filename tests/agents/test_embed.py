from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np
import pytest

from models.catalog.vectors import unpack
from models.encoder.encoder import TextEncoder
from models.encoder.source import EncoderError, EncoderUnavailableError
from models.encoder.text import product_text, text_hash
from schemas.catalog import Embedding, Product
from schemas.operations import DeadLetter
from streams.agents.embed import EmbedProcessor, tasks
from streams.runtime.marker import RESERVED
from streams.runtime.processor import Batch, DictState, Output, SourceRecord, Step
from streams.settings import Settings


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", threads=1)


class Spy:
    """A real encoder that counts its calls and fails where a test says."""

    def __init__(self, encoder: TextEncoder, *, fails_on: str = "\x00", largest: int = 10**9, version: str | None = None) -> None:
        self.version = version or encoder.version
        self.dimensions = encoder.dimensions
        self.calls: list[int] = []
        self._encoder, self._fails_on, self._largest = encoder, fails_on, largest

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(texts))
        if len(texts) > self._largest or any(self._fails_on in text for text in texts):
            raise EncoderError("out of memory")
        return self._encoder.encode(texts)


class Shop:
    """A processor, its state, and the topic it writes, compacted."""

    def __init__(self, encoder: Spy) -> None:
        self.encoder = encoder
        self.processor = EmbedProcessor(encoder)
        self.state = DictState()
        self.topic: dict[str, Embedding] = {}
        self.letters: list[DeadLetter] = []
        self.offset = 0

    def publish(self, *records: tuple[bytes | None, bytes | None]) -> Step:
        batch = [SourceRecord("storefront.catalog", 1, self.offset + i, 1000, key, value) for i, (key, value) in enumerate(records)]
        self.offset += len(batch)
        step = self.processor.process(self.state, Batch(1, batch, now_ms=0))
        again = self.processor.process(self.state, Batch(1, batch, now_ms=0))
        assert step == again, "a step may be repeated"
        self.state.apply(step.writes)
        for output in step.outputs:
            self._take(output)
        return step

    def _take(self, output: Output) -> None:
        if output.topic == "events.dead-letter":
            assert output.value is not None
            self.letters.append(DeadLetter.model_validate_json(output.value))
            return
        assert (output.topic, output.partition) == ("catalog.embeddings", None)
        assert output.key is not None
        if output.value is None:
            self.topic.pop(output.key.decode(), None)
        else:
            embedding = Embedding.model_validate_json(output.value)
            assert embedding.sku.encode() == output.key
            self.topic[embedding.sku] = embedding


def record(sku: str, title: str = "", **facts: object) -> tuple[bytes, bytes]:
    return sku.encode(), Product(sku=sku, title=title, **facts).to_json()  # type: ignore[arg-type]


@pytest.fixture
def shop(minilm: TextEncoder) -> Shop:
    return Shop(Spy(minilm))


def test_a_batch_of_products_is_embedded_by_one_call(shop: Shop, minilm: TextEncoder) -> None:
    products = [Product(sku=str(i), title=f"Mug number {i}", brand="Acme", category_path=("Home", "Mugs")) for i in range(5)]
    step = shop.publish(*[(product.sku.encode(), product.to_json()) for product in products])
    assert shop.encoder.calls == [5, 5], "once for the step and once for its repetition"
    assert len(step.outputs) == 5
    for product in products:
        embedding = shop.topic[product.sku]
        assert (embedding.encoder, embedding.dimensions) == (minilm.version, 384)
        assert embedding.text_hash == text_hash(product_text(product), minilm.version)
        received = unpack(embedding.vector, 384)
        assert float(received @ minilm.encode([product_text(product)])[0]) > 0.9999
        assert float(received @ received) == pytest.approx(1, abs=2e-3)


def test_an_unchanged_text_is_not_embedded_again(shop: Shop) -> None:
    shop.publish(record("a", "Red mug"), record("b", "Blue mug"))
    shop.encoder.calls.clear()
    step = shop.publish(record("a", "Red mug", stock=3), record("b", "Green mug"))
    assert shop.encoder.calls == [1, 1]
    assert [output.key for output in step.outputs] == [b"b"]
    assert shop.publish(record("a", " Red  mug ")).outputs == []


def test_another_encoder_embeds_everything_anew(shop: Shop, minilm: TextEncoder) -> None:
    shop.publish(record("a", "Red mug"))
    shop.processor = EmbedProcessor(Spy(minilm, version="house@2"))
    shop.publish(record("a", "Red mug"))
    assert shop.topic["a"].encoder == "house@2"


def test_a_deleted_product_loses_its_vector_also_when_it_was_never_seen(shop: Shop) -> None:
    shop.publish(record("a", "Red mug"))
    step = shop.publish((b"a", None), (b"never-seen", None))
    assert [(output.key, output.value) for output in step.outputs] == [(b"a", None), (b"never-seen", None)]
    assert (shop.topic, shop.state.data) == ({}, {})
    shop.publish(record("a", "Red mug"))
    assert "a" in shop.topic, "it is embedded again when it comes back"


def test_a_sku_may_begin_with_what_the_runtime_reserves_for_itself(shop: Shop) -> None:
    step = shop.publish(record("\x00position", "Red mug"), (b"\x00gone", None))
    assert not [key for key in step.writes if key.startswith(RESERVED)]
    assert not shop.letters
    assert set(shop.topic) == {"\x00position"}


def test_a_product_without_text_has_no_vector(shop: Shop) -> None:
    assert shop.publish(record("a"), record("b", " \n ")).outputs == []
    shop.publish(record("a", "Red mug"))
    step = shop.publish(record("a"))
    assert [(output.key, output.value) for output in step.outputs] == [(b"a", None)]
    assert (shop.topic, shop.state.data) == ({}, {})


def test_of_one_product_s_records_in_a_batch_the_last_valid_one_counts(shop: Shop, minilm: TextEncoder) -> None:
    shop.publish(record("a", "Red mug"), (b"a", None), record("a", "Blue mug"), (b"a", b"{"), record("b", "Hat"), (b"b", None))
    assert list(shop.topic) == ["a"]
    assert shop.topic["a"].text_hash == text_hash("Blue mug", minilm.version)
    assert [letter.code for letter in shop.letters] == ["json_invalid"]


@pytest.mark.parametrize(
    ("key", "value", "code", "path"),
    [
        (b"a", b"{", "json_invalid", ""),
        (b"a", b"\xff\xfe", "encoding_invalid", ""),
        (b"a", b"[]", "object_expected", ""),
        (b"a", b'{"title":"x"}', "field_missing", "sku"),
        (b"a", b'{"sku":"a","title":7}', "field_invalid", "title"),
        (b"a", b'{"sku":"a","price":"-1","currency":"GBP"}', "price_invalid", "price"),
        (b"a", b'{"sku":"a","price":1.5,"currency":"GBP"}', "amount_invalid", "price"),
        (b"a", b'{"sku":"a","price":"NaN","currency":"GBP"}', "amount_invalid", "price"),
        (b"a", b'{"sku":"a","category_path":["x",3]}', "field_invalid", "category_path.1"),
        (b"a", b'{"sku":"a","schema_version":"2.0","title":7}', "version_unsupported", "schema_version"),
        (b"b", b'{"sku":"a"}', "key_mismatch", ""),
        (None, b'{"sku":"a"}', "key_missing", ""),
        (None, None, "key_missing", ""),
        (b"\xff", None, "encoding_invalid", ""),
        (b"a", b'{"sku":"a","description":"' + b"x" * 2_000_000 + b'"}', "value_too_large", ""),
    ],
)
def test_a_bad_record_is_a_dead_letter_and_blocks_nothing(shop: Shop, key: bytes | None, value: bytes | None, code: str, path: str) -> None:
    shop.publish(record("good", "Red mug"), (key, value), record("better", "Blue mug"))
    assert sorted(shop.topic) == ["better", "good"]
    [letter] = shop.letters
    assert (letter.code, letter.path, letter.topic, letter.partition, letter.offset) == (code, path, "storefront.catalog", 1, 1)
    if value is not None and letter.truncated_bytes == 0:
        assert base64.b64decode(letter.value or "") == value


def test_a_newer_minor_version_with_unknown_fields_is_taken(shop: Shop) -> None:
    value = json.dumps({"sku": "a", "title": "Red mug", "schema_version": "1.9", "colour": "red"}).encode()
    shop.publish((b"a", value))
    assert "a" in shop.topic


def test_an_encoder_that_fails_on_one_text_costs_that_text_only(minilm: TextEncoder) -> None:
    shop = Shop(Spy(minilm, fails_on="cursed"))
    shop.publish(*[record(str(i), f"Mug {i}") for i in range(8)])
    before = shop.topic["3"]
    shop.encoder.calls.clear()
    shop.publish(*[record(str(i), "cursed mug" if i == 3 else f"Cup {i}") for i in range(8)])
    assert shop.encoder.calls[: len(shop.encoder.calls) // 2] == [8, 4, 2, 2, 1, 1, 4]
    [letter] = shop.letters
    assert (letter.code, letter.offset) == ("embedding_failed", 8 + 3)
    assert shop.topic["3"] == before, "the former vector stays"
    assert {shop.topic[str(i)].text_hash for i in range(8) if i != 3} == {text_hash(f"Cup {i}", minilm.version) for i in range(8) if i != 3}
    shop.processor = EmbedProcessor(Spy(minilm))
    shop.publish((b"3", base64.b64decode(letter.value or "")))
    assert shop.topic["3"].text_hash == text_hash("cursed mug", minilm.version), "a replayed dead letter mends it"


def test_an_encoder_short_of_memory_embeds_in_smaller_batches_and_loses_nothing(minilm: TextEncoder) -> None:
    shop = Shop(Spy(minilm, largest=3))
    shop.publish(*[record(str(i), f"Mug {i}") for i in range(16)])
    assert len(shop.topic) == 16
    assert shop.letters == []


def test_an_encoder_that_always_fails_loses_no_product(minilm: TextEncoder) -> None:
    shop = Shop(Spy(minilm, largest=0))
    shop.publish(*[record(str(i), f"Mug {i}") for i in range(5)], (b"gone", None))
    assert [letter.code for letter in shop.letters] == ["embedding_failed"] * 5
    assert shop.state.data == {}, "so the next upsert, or a replay, is embedded"


def test_the_role_is_one_task_over_the_catalogue(tmp_path) -> None:
    [task] = tasks(Settings(data_dir=tmp_path, device="cpu", threads=1))
    assert (task.name, task.sources, task.broadcasts) == ("embed", ("storefront.catalog",), ())
    with pytest.raises(EncoderUnavailableError, match="no such folder"):
        tasks(Settings(data_dir=tmp_path, encoder=str(tmp_path / "missing")))
