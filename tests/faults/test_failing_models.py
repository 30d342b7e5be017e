"""Encoder and index fail, or change, under a running shop: events are answered all the same, and the record says what was missing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import orjson
import pytest

from models.catalog.vectors import pack
from models.encoder.encoder import EncoderError, TextEncoder
from models.index import factory, segmented
from models.index.segmented import SegmentedIndex
from models.profiles import Profile
from schemas.events import Event
from schemas.operations import DeadLetter
from schemas.recommendation import Recommendations
from schemas.topics import CATALOG, DEAD_LETTERS, EMBEDDINGS, OUTCOMES, RECOMMENDATIONS
from streams.agents import recommend
from streams.worker import RunningWorker
from tests.faults.habits import Arrival, Habits
from tests.faults.storefront import Storefront

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

PATIENCE_S = 120.0
DIMENSIONS = 16


@pytest.fixture
def storefront(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Storefront]:
    storefront = Storefront(kafka, topic_prefix, tmp_path, roles="recommend", habits=Habits(poison_share=0.01))
    yield storefront
    storefront.end()


def vectors(storefront: Storefront, encoder: str, seed: int) -> list[tuple[bytes, bytes]]:
    """A vector for each product, as the embed role would publish it with that encoder."""
    drawn = np.random.default_rng(seed).normal(size=(len(storefront.products), DIMENSIONS)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return [
        (sku, orjson.dumps({
            "sku": sku.decode(), "encoder": encoder, "dimensions": DIMENSIONS, "vector": pack(vector), "text_hash": "0" * 32,
            "schema_version": "1.0",
        }))
        for (sku, _), vector in zip(storefront.products, drawn, strict=True)
    ]  # fmt: skip


def lists(storefront: Storefront) -> list[Recommendations]:
    found = [message.value() for message in storefront.deployment.read(RECOMMENDATIONS.name)]
    return [Recommendations.model_validate_json(value) for value in found if value is not None]


def in_this_process(storefront: Storefront, roles: tuple[str, ...]) -> RunningWorker:
    settings = storefront.settings.model_copy(update={"data_dir": storefront.deployment.folder / "here", "session_timeout_s": 6})
    return RunningWorker(settings, roles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Error in faiss: index broken"), pytest.param(MemoryError("no memory for the neighbours"), marks=pytest.mark.slow)],
)
def test_while_the_index_raises_lists_are_made_without_it_and_say_so(
    storefront: Storefront, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    storefront.deployment.produce(EMBEDDINGS.name, vectors(storefront, "test@1", 1))
    search = SegmentedIndex.search
    failing = [True]

    def fail(index: SegmentedIndex, *arguments: object) -> object:
        if failing:
            raise error
        return search(index, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentedIndex, "search", fail)
    with in_this_process(storefront, ("recommend",)) as worker:
        worker.wait_ready(PATIENCE_S)
        storefront.feed(150)
        storefront.until(lambda: storefront.complete, "answered without the index")
        degraded = lists(storefront)
        assert {source for record in degraded for source in record.degraded} == {"similar"}
        assert all(record.items for record in degraded[20:])
        # Made of what is left, which for most shoppers has what is popular among it.
        sources = [{reason.source for item in record.items for reason in item.reasons} for record in degraded]
        assert not any("similar" in found for found in sources)
        with_trending = sum("trending" in found for found in sources)
        assert with_trending > len(sources) / 2, f"{with_trending} of {len(sources)}"
        failing.clear()
        storefront.feed(150)
        storefront.until(lambda: storefront.complete, "answered with the index")
        worker.check()
    recovered = lists(storefront)[len(degraded) :]
    assert not recovered[-1].degraded
    assert any(reason.source == "similar" for record in recovered for item in record.items for reason in item.reasons)
    verdict = storefront.judge(f"index raises {type(error).__name__}")
    print(verdict, f"degraded={sum(bool(record.degraded) for record in degraded)}")
    assert verdict.clean


@pytest.mark.parametrize("fails", ["search", pytest.param("copy", marks=pytest.mark.slow)])
def test_a_gpu_that_runs_out_of_memory_costs_no_list_its_similar_items(
    storefront: Storefront, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The card fails where FAISS says so: its CUDA errors are ``RuntimeError``, when a copy is made and when it is searched."""
    storefront.deployment.produce(EMBEDDINGS.name, vectors(storefront, "test@1", 1))
    asked = []

    def full(*_: object) -> None:
        asked.append(1)
        raise RuntimeError("Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(): CUDA error 2 out of memory")

    # So few vectors as this shop has would not be merged into an index of their own, which is what goes to the card.
    monkeypatch.setattr(segmented, "FRESH_MINIMUM", 8)
    monkeypatch.setattr(factory, "gpu_available", lambda: True)
    if fails == "copy":
        monkeypatch.setattr(faiss, "StandardGpuResources", full, raising=False)
    else:
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: SimpleNamespace(setTempMemory=lambda _: None), raising=False)
        monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda *_: SimpleNamespace(search=full), raising=False)
    with in_this_process(storefront, ("recommend",)) as worker:
        worker.wait_ready(PATIENCE_S)
        storefront.feed(150)
        storefront.until(lambda: storefront.complete, "answered by the CPU")
        worker.check()
    made = lists(storefront)
    assert asked
    assert not any(record.degraded for record in made)
    assert any(reason.source == "similar" for record in made for item in record.items for reason in item.reasons)
    verdict = storefront.judge(f"GPU out of memory for a {fails}")
    print(verdict)
    assert verdict.clean


def test_an_event_that_takes_all_memory_alone_is_refused_the_others_go_on_and_sent_again_it_counts(
    storefront: Storefront, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = recommend.apply
    cursed = {"sim-40", "sim-41", "sim-90"}
    deployment = storefront.deployment

    def fail(profile: Profile, event: Event, gap_ms: int, at_ms: int) -> bool:
        return bool(bytearray(1 << 62)) if event.event_id in cursed else apply(profile, event, gap_ms, at_ms)

    def applied() -> set[str]:
        outcomes = [orjson.loads(message.value()) for message in deployment.read(OUTCOMES.name)]
        return {outcome["event_id"] for outcome in outcomes if outcome["kind"] == "outcome"}

    with in_this_process(storefront, ("recommend",)) as worker:
        worker.wait_ready(PATIENCE_S)
        with monkeypatch.context() as patch:
            patch.setattr(recommend, "apply", fail)
            storefront.feed(150)
            storefront.until(lambda: storefront.complete, "all but three are answered, and these are refused")
        letters = [DeadLetter.model_validate_json(message.value()) for message in deployment.read(DEAD_LETTERS.name)]
        refused = [letter for letter in letters if letter.code == "memory_exhausted"]
        raw = [(letter.key, letter.value) for letter in refused]
        again = [(base64.b64decode(key or ""), base64.b64decode(value or "")) for key, value in raw]
        assert sorted(orjson.loads(value)["event_id"] for _, value in again) == sorted(cursed)
        assert refused[0].message.startswith("MemoryError")
        assert not applied() & cursed
        storefront.send(Arrival(key, value) for key, value in again)
        storefront.until(lambda: storefront.complete, "what was refused is answered")
        worker.check()
    assert len(applied()) == 150
    print(f"no memory for three events: inputs={storefront.sent} memory_exhausted={len(refused)}")


@pytest.mark.slow
def test_a_text_on_which_the_encoder_raises_costs_that_product_its_vector_and_nothing_else(
    storefront: Storefront, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = TextEncoder.encode
    cursed = storefront.products[3][0]
    title = orjson.loads(storefront.products[3][1])["title"]

    def fail(encoder: TextEncoder, texts: list[str]) -> object:
        if any(title in text for text in texts):
            raise EncoderError("a text that no encoder can bear")
        return encode(encoder, texts)

    monkeypatch.setattr(TextEncoder, "encode", fail)
    with in_this_process(storefront, ("embed", "recommend")) as worker:
        worker.wait_ready(PATIENCE_S)
        storefront.feed(300)
        storefront.deployment.embedded(len(storefront.products) - 1)
        # Without a vector a product is listed for what shoppers did with it, who must have met it first.
        listed: Callable[[], bool] = lambda: any(item.sku == cursed.decode() for record in lists(storefront) for item in record.items)  # noqa: E731
        storefront.until(listed, "the product without a vector is listed", feed=50)
        storefront.until(lambda: storefront.complete, "all are answered")
        worker.check()
    letters = [orjson.loads(message.value()) for message in storefront.deployment.read(DEAD_LETTERS.name)]
    failed = [letter for letter in letters if letter["code"] == "embedding_failed"]
    assert [(letter["topic"], letter["key"]) for letter in failed] == [(failed[0]["topic"], failed[0]["key"])]
    assert failed[0]["topic"].endswith(CATALOG.name)
    assert cursed not in {message.key() for message in storefront.deployment.read(EMBEDDINGS.name)}
    print(f"encoder raises: inputs={storefront.sent} vectors={len(storefront.products) - 1} embedding_failed={len(failed)}")


@pytest.mark.slow
def test_another_encoder_takes_over_while_shoppers_are_served(storefront: Storefront) -> None:
    worker = storefront.workers[0]
    storefront.deployment.produce(EMBEDDINGS.name, vectors(storefront, "old@1", 1))
    worker.start()
    storefront.feed(200)
    storefront.until(lambda: storefront.complete, "the old encoder's vectors are served")
    # Product by product, with events in between: until the last but one per cent the old index goes on.
    fresh = vectors(storefront, "new@2", 2)
    for batch in range(0, len(fresh), 20):
        storefront.deployment.produce(EMBEDDINGS.name, fresh[batch : batch + 20])
        storefront.feed(50)
    swapped: Callable[[], bool] = lambda: any(record.versions.encoder == "new@2" for record in lists(storefront))  # noqa: E731
    storefront.until(swapped, "lists rest on the new encoder", feed=5)
    storefront.until(lambda: storefront.complete, "all are answered")
    verdict = storefront.judge("index swap")
    encoders = [record.versions.encoder for record in lists(storefront)]
    print(verdict, f"old={encoders.count('old@1')} new={encoders.count('new@2')}")
    assert verdict.clean
    assert set(encoders) == {"old@1", "new@2"}
    assert not any(record.degraded for record in lists(storefront))
