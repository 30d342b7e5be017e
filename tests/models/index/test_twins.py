from __future__ import annotations

from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from models.index.base import IndexConfigurationError, VectorIndex
from models.index.factory import create_index
from models.index.flat import FlatStructure
from models.index.gpu import GpuStructure, gpu_available
from models.index.hnsw import HnswStructure
from models.index.ivf import IvfStructure, list_count
from models.index.segmented import FRESH_MINIMUM, SegmentedIndex
from models.index.structure import AutoStructure
from tests.models.index.contract import DIMENSIONS, IndexContract, clustered


class TestFlat(IndexContract):
    kind = "flat"

    def make(self) -> VectorIndex:
        return create_index("flat", DIMENSIONS, device="cpu")


class TestHnsw(IndexContract):
    kind = "hnsw"
    minimum_recall = 0.98

    def make(self) -> VectorIndex:
        return create_index("hnsw", DIMENSIONS, device="cpu")


class TestIvf(IndexContract):
    kind = "ivf"
    minimum_recall = 0.9

    def make(self) -> VectorIndex:
        return create_index("ivf", DIMENSIONS, device="cpu")


class TestAuto(IndexContract):
    kind = "flat"

    def make(self) -> VectorIndex:
        return create_index("auto", DIMENSIONS, device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_available(), reason="FAISS sees no GPU")
class TestFlatOnGpu(IndexContract):
    kind = "flat-gpu"
    minimum_recall = 0.99

    def make(self) -> VectorIndex:
        return create_index("flat", DIMENSIONS, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_available(), reason="FAISS sees no GPU")
class TestIvfOnGpu(IndexContract):
    kind = "ivf-gpu"
    minimum_recall = 0.9

    def make(self) -> VectorIndex:
        return create_index("ivf", DIMENSIONS, device="cuda")


class Card:
    """What FAISS has of a GPU: copies of an index, which answer ``searches`` times before the card's memory is used up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, searches: int) -> None:
        self.searches = searches
        self.copies = self.asked = 0
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: SimpleNamespace(setTempMemory=lambda _: None), raising=False)
        monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self.copy, raising=False)

    def copy(self, _resources: object, _card: int, index: faiss.Index, _options: object) -> SimpleNamespace:
        self.copies += 1

        def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            self.asked += 1
            if self.asked > self.searches:
                raise RuntimeError("Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(): out of memory")
            return index.search(queries, k)

        return SimpleNamespace(search=search)


def test_a_gpu_that_has_no_memory_for_a_copy_leaves_the_answers_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> None:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")

    monkeypatch.setattr(faiss, "StandardGpuResources", full, raising=False)
    index = SegmentedIndex(DIMENSIONS, GpuStructure(FlatStructure(1)))
    vectors = clustered(300)
    index.upsert(np.arange(300), vectors)
    index.merge()
    for _ in range(2):
        assert index.search(vectors, 1)[1][:, 0].tolist() == list(range(300))
    assert index.kind == "flat-gpu"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_gpu_that_runs_out_of_memory_while_its_copy_is_searched_leaves_the_answers_to_the_cpu_until_the_next_merge(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = Card(monkeypatch, searches=1)
    index = SegmentedIndex(DIMENSIONS, GpuStructure(FlatStructure(1)))
    vectors = clustered(300)
    index.upsert(np.arange(290), vectors[:290])
    index.merge()
    for _ in range(3):
        assert index.search(vectors[:290], 1)[1][:, 0].tolist() == list(range(290))
    # The second search failed on the copy that had answered the first; the third did not try.
    assert (card.copies, card.asked) == (1, 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    card.searches = 9
    index.upsert(np.arange(290, 300), vectors[290:])
    index.merge()
    assert index.search(vectors, 1)[1][:, 0].tolist() == list(range(300))
    assert (card.copies, card.asked) == (2, 3)


def test_auto_takes_a_larger_kind_as_the_catalogue_grows_and_a_smaller_one_as_it_shrinks() -> None:
    structures = FlatStructure(1), HnswStructure(1), IvfStructure(1)
    steps = tuple(zip((100.0, 300.0, np.inf), ("flat", "hnsw", "ivf"), structures, strict=True))
    index = SegmentedIndex(DIMENSIONS, AutoStructure(steps))
    vectors = clustered(500)
    kinds = []
    for end in (80, 250, 500):
        index.upsert(np.arange(end), vectors[:end])
        index.merge()
        kinds.append(index.kind)
        assert index.search(vectors[:end], 1)[1][:, 0].tolist() == list(range(end))
    index.delete(np.arange(50, 500))
    index.merge()
    assert [*kinds, index.kind] == ["flat", "hnsw", "ivf", "flat"]


def test_a_snapshot_of_another_kind_is_loaded_as_the_kind_in_force(tmp_path) -> None:
    vectors = clustered(300)
    index = create_index("hnsw", DIMENSIONS, device="cpu")
    index.upsert(np.arange(300), vectors)
    index.merge()
    index.save(tmp_path / "index")
    for kind in ("flat", "ivf"):
        other = create_index(kind, DIMENSIONS, device="cpu")
        other.load(tmp_path / "index")
        assert other.kind == kind
        assert other.search(vectors, 1)[1][:, 0].tolist() == list(range(300))


def test_inverted_lists_retrain_as_the_data_grows() -> None:
    index = create_index("ivf", DIMENSIONS, device="cpu")
    assert isinstance(index, SegmentedIndex)
    vectors = clustered(4000)
    lists = []
    for end in (100, 150, 4000):
        index.upsert(np.arange(end), vectors[:end])
        index.merge()
        lists.append(index._main.index.nlist)
    assert lists == [list_count(100), list_count(100), list_count(4000)]


def test_a_merge_is_asked_for_when_the_fresh_part_or_the_tombstones_have_grown() -> None:
    index = create_index("flat", DIMENSIONS, device="cpu")
    vectors = clustered(4 * FRESH_MINIMUM)
    index.upsert(np.arange(FRESH_MINIMUM - 1), vectors[: FRESH_MINIMUM - 1])
    assert not index.needs_merge
    index.upsert(np.arange(4 * FRESH_MINIMUM), vectors)
    assert index.needs_merge
    index.merge()
    assert not index.needs_merge
    index.delete(np.arange(FRESH_MINIMUM))
    assert index.needs_merge
    index.merge()
    assert not index.needs_merge
    assert len(index) == 3 * FRESH_MINIMUM


@pytest.mark.parametrize(
    ("kind", "device", "message"), [("hnsw", "cuda", "no GPU twin"), ("tree", "cpu", "kind 'tree'"), ("flat", "tpu", "device 'tpu'")]
)
def test_what_cannot_be_had_is_refused_in_words(kind: str, device: str, message: str) -> None:
    with pytest.raises(IndexConfigurationError, match=message):
        create_index(kind, DIMENSIONS, device=device)  # type: ignore[arg-type]


@pytest.mark.skipif(gpu_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(IndexConfigurationError, match="sees no GPU"):
        create_index("flat", DIMENSIONS, device="cuda")
