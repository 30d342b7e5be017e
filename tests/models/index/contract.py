"""What every twin of the vector index promises, on data whose right answer is computed by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.index.base import SnapshotError, VectorIndex, VectorIndexError

DIMENSIONS = 32


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around common centres, as product texts are; rounded to half floats, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIMENSIONS))
    vectors = centres[rng.integers(0, 40, count)] + 0.6 * rng.normal(size=(count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def exact(vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    return ids[order]


def recall(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(r)) / len(r) for f, r in zip(found.tolist(), right.tolist(), strict=True)]))


class IndexContract:
    """Inherited by one test class for each twin, which says how to make it and what recall@20 it owes."""

    minimum_recall = 1.0
    kind = ""

    def make(self) -> VectorIndex:
        raise NotImplementedError

    def filled(self, count: int = 3000, seed: int = 0) -> tuple[VectorIndex, np.ndarray, np.ndarray]:
        """A merged index with ids that are not positions."""
        index = self.make()
        ids = np.random.default_rng(seed).permutation(2 * count)[:count].astype(np.int64)
        vectors = clustered(count, seed)
        index.upsert(ids, vectors)
        index.merge()
        assert index.kind == self.kind
        return index, ids, vectors

    def test_an_empty_index_answers_with_padding(self) -> None:
        index = self.make()
        scores, ids = index.search(clustered(3), 5)
        assert ids.tolist() == [[-1] * 5] * 3
        assert np.isneginf(scores).all()
        assert (scores.dtype, ids.dtype) == (np.float32, np.int64)
        index.merge()
        assert len(index) == 0

    def test_no_queries_give_no_rows(self) -> None:
        index, _, _ = self.filled(50)
        scores, ids = index.search(np.zeros((0, DIMENSIONS), dtype=np.float32), 5)
        assert scores.shape == ids.shape == (0, 5)

    def test_a_batch_answers_as_its_single_queries_do(self) -> None:
        index, ids, _ = self.filled()
        index.upsert(np.arange(10_000, 10_020), clustered(20, seed=9))
        index.delete(ids[:100])
        queries = clustered(64, seed=1)
        scores, found = index.search(queries, 10)
        for row in range(len(queries)):
            one_scores, one = index.search(queries[row : row + 1], 10)
            np.testing.assert_allclose(one_scores[0], scores[row], atol=1e-3 if self.kind.endswith("gpu") else 1e-5)
            if not self.kind.endswith("gpu"):
                assert set(one[0].tolist()) == set(found[row].tolist())

    def test_scores_are_inner_products_best_first(self) -> None:
        index, ids, vectors = self.filled()
        queries = clustered(16, seed=2)
        scores, found = index.search(queries, 10)
        assert (np.diff(scores, axis=1) <= 0).all()
        by_id = dict(zip(ids.tolist(), vectors, strict=True))
        right = np.array([[q @ by_id[i] for i in row] for q, row in zip(queries, found.tolist(), strict=True)])
        np.testing.assert_allclose(scores, right, atol=2e-3)

    def test_recall_against_an_exact_scan(self) -> None:
        index, ids, vectors = self.filled(6000)
        queries = clustered(200, seed=3)
        assert recall(index.search(queries, 20)[1], exact(vectors, ids, queries, 20)) >= self.minimum_recall

    def test_k_larger_than_the_catalogue_returns_all_of_it(self) -> None:
        index, ids, _ = self.filled(300)
        index.delete(ids[:10])
        scores, found = index.search(clustered(3, seed=4), 400)
        for row in range(3):
            assert sorted(found[row, :290].tolist()) == sorted(ids[10:].tolist())
        assert (found[:, 290:] == -1).all()
        assert np.isneginf(scores[:, 290:]).all()

    @pytest.mark.parametrize("merged", [False, True])
    def test_an_upsert_replaces(self, merged: bool) -> None:
        index, ids, vectors = self.filled(500)
        moved = -vectors[:1]
        index.upsert(ids[:1], moved)
        assert len(index) == 500
        if merged:
            index.merge()
        scores, found = index.search(moved, 1)
        assert found[0, 0] == ids[0]
        assert scores[0, 0] == pytest.approx(float(moved[0] @ moved[0]), abs=2e-3)
        everything = index.search(vectors[:1], 600)[1][0]
        assert np.count_nonzero(everything == ids[0]) == 1
        assert everything[499] == ids[0], "the opposite of its former self comes last"

    def test_of_an_id_given_twice_the_last_counts(self) -> None:
        index = self.make()
        vectors = clustered(2)
        index.upsert(np.array([7, 7]), vectors)
        scores, found = index.search(vectors[1:], 2)
        assert found.tolist() == [[7, -1]]
        assert scores[0, 0] == pytest.approx(float(vectors[1] @ vectors[1]), abs=1e-3)

    def test_an_upsert_is_found_by_the_next_search(self) -> None:
        index, _, _ = self.filled(500)
        new = clustered(1, seed=5)
        index.upsert(np.array([90_000]), new)
        assert index.search(new, 1)[1].tolist() == [[90_000]]
        assert index.search_fresh(new, 2)[1].tolist() == [[90_000, -1]]

    def test_a_deleted_id_never_returns(self) -> None:
        index, ids, vectors = self.filled(1000)
        gone = set(ids[::2].tolist())
        index.delete(ids[::2])
        index.delete(np.array([123_456]))
        assert len(index) == 500
        for _ in range(2):
            found = index.search(vectors, 30)[1]
            assert not gone & set(found.ravel().tolist())
            assert (found >= 0).all(), "live results make up for the deleted ones"
            index.merge()
        assert len(index) == 500

    def test_a_whole_neighbourhood_deleted_still_leaves_k_results(self) -> None:
        index, ids, vectors = self.filled(6000)
        query = vectors[:1]
        nearest = exact(vectors, ids, query, 2000)[0]
        index.delete(nearest)
        living = ~np.isin(ids, nearest)
        found = index.search(query, 20)[1]
        assert recall(found, exact(vectors[living], ids[living], query, 20)) >= self.minimum_recall - 0.1
        assert (found >= 0).all()

    def test_what_was_deleted_may_come_back(self) -> None:
        index, ids, vectors = self.filled(500)
        index.delete(ids[:3])
        index.upsert(ids[:2], vectors[:2])
        assert index.fresh_count == 0, "the same vector only lifts the tombstone"
        index.upsert(ids[2:3], -vectors[2:3])
        assert index.fresh_count == 1
        assert index.search(vectors[:2], 1)[1][:, 0].tolist() == ids[:2].tolist()
        assert index.search(-vectors[2:3], 1)[1].tolist() == [[ids[2]]]
        assert len(index) == 500

    def test_a_merge_changes_no_answer(self) -> None:
        index, ids, _ = self.filled(2000)
        index.upsert(np.arange(50_000, 50_200), clustered(200, seed=6))
        index.delete(ids[:700])
        queries = clustered(50, seed=7)
        before_scores, before = index.search(queries, 10)
        generation = index.generation
        index.merge()
        after_scores, after = index.search(queries, 10)
        assert index.generation == generation + 1
        assert index.fresh_count == 0
        assert len(index) == 1500
        assert recall(after, before) >= min(self.minimum_recall, 0.999) - 0.05
        if self.minimum_recall == 1.0:
            np.testing.assert_allclose(after_scores, before_scores, atol=2e-3)

    def test_changes_during_a_merge_stay_in_force(self) -> None:
        index, ids, vectors = self.filled(500)
        new = clustered(4, seed=8)
        index.upsert(np.array([9000, 9001, 9002, 9003]), new)
        plan = index.prepare_merge()
        index.delete(np.array([9000, ids[0]]))
        index.upsert(np.array([9001]), -new[1:2])
        plan.build()
        index.upsert(np.array([ids[1]]), -vectors[1:2])
        index.apply_merge(plan)
        assert len(index) == 502
        everything = index.search(new[:1], 1000)[1][0]
        assert not {9000, int(ids[0])} & set(everything.tolist())
        assert len(set(everything[:502].tolist())) == 502
        assert index.search(-new[1:2], 1)[1].tolist() == [[9001]]
        assert index.search(-vectors[1:2], 1)[1].tolist() == [[ids[1]]]
        assert index.search(new[2:], 1)[1].tolist() == [[9002], [9003]]

    def test_a_plan_is_void_after_another_was_applied(self) -> None:
        index, _, _ = self.filled(100)
        index.upsert(np.array([5000]), clustered(1))
        first, second = index.prepare_merge(), index.prepare_merge()
        for plan in (first, second):
            plan.build()
        index.apply_merge(first)
        with pytest.raises(VectorIndexError, match="void"):
            index.apply_merge(second)
        with pytest.raises(VectorIndexError, match="not built"):
            index.apply_merge(index.prepare_merge())

    def test_save_and_load_give_the_same_answers(self, tmp_path: Path) -> None:
        index, ids, vectors = self.filled(1000)
        index.upsert(np.array([7000]), clustered(1, seed=10))
        index.delete(ids[:50])
        index.save(tmp_path / "index", {"encoder": "minilm@1"})
        other = self.make()
        assert other.load(tmp_path / "index") == {"encoder": "minilm@1"}
        assert (len(other), other.fresh_count, other.kind) == (len(index), 1, self.kind)
        assert other.generation > index.generation
        queries = clustered(20, seed=11)
        np.testing.assert_array_equal(other.search(queries, 10)[1], index.search(queries, 10)[1])
        other.upsert(ids[:1], vectors[:1])
        other.delete(np.array([7000]))
        other.merge()
        assert len(other) == 951
        assert [path.name for path in tmp_path.iterdir()] == ["index"]

    def test_an_empty_index_can_be_saved_and_loaded(self, tmp_path: Path) -> None:
        self.make().save(tmp_path / "index")
        other = self.make()
        assert other.load(tmp_path / "index") == {}
        assert len(other) == 0

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "foreign"])
    def test_a_damaged_snapshot_is_refused_and_changes_nothing(self, tmp_path: Path, damage: str) -> None:
        index, ids, vectors = self.filled(200)
        path = tmp_path / "index"
        index.save(path)
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        elif damage == "truncated":
            data = data[:-9]
        elif damage == "empty":
            data = bytearray()
        else:
            data = bytearray(b"PK\x03\x04" * 100)
        path.write_bytes(data)
        with pytest.raises(SnapshotError, match="delete the file"):
            index.load(path)
        assert index.search(vectors[:1], 1)[1].tolist() == [[ids[0]]]

    def test_a_snapshot_brings_its_dimensions(self, tmp_path: Path) -> None:
        index, ids, vectors = self.filled(100)
        index.save(tmp_path / "index")
        other = self.make()
        other.reset(DIMENSIONS + 1)
        other.load(tmp_path / "index")
        assert other.dimensions == DIMENSIONS
        assert other.search(vectors[:1], 1)[1].tolist() == [[ids[0]]]

    def test_a_reset_empties_and_takes_other_dimensions(self) -> None:
        index, _, _ = self.filled(100)
        generation = index.generation
        plan = index.prepare_merge()
        plan.build()
        index.reset(2)
        assert (len(index), index.dimensions, index.generation) == (0, 2, generation + 1)
        with pytest.raises(VectorIndexError, match="void"):
            index.apply_merge(plan)
        index.upsert(np.array([3]), np.array([[1.0, 0.0]], dtype=np.float32))
        index.merge()
        assert index.search(np.array([[1.0, 0.0]], dtype=np.float32), 2)[1].tolist() == [[3, -1]]

    def test_a_suspended_index_hides_all_but_what_is_confirmed(self) -> None:
        index, ids, vectors = self.filled(500)
        index.suspend()
        assert len(index) == 0
        assert index.search(vectors[:1], 3)[1].tolist() == [[-1, -1, -1]]
        assert not index.needs_merge
        index.upsert(ids[:400], vectors[:400])
        index.upsert(ids[400:401], -vectors[400:401])
        assert (len(index), index.fresh_count) == (401, 1)
        index.merge()
        assert len(index) == 401
        found = set(index.search(vectors[:1], 500)[1][0].tolist()) - {-1}
        assert found == set(ids[:401].tolist())

    @pytest.mark.parametrize(
        ("ids", "shape"), [([1, 2], (1, DIMENSIONS)), ([1], (1, DIMENSIONS + 1)), ([-1], (1, DIMENSIONS)), ([1], (DIMENSIONS,))]
    )
    def test_arrays_that_do_not_fit_are_refused(self, ids: list[int], shape: tuple[int, ...]) -> None:
        index = self.make()
        with pytest.raises(ValueError, match=r"fit|negative"):
            index.upsert(np.array(ids), np.ones(shape, dtype=np.float32))
        with pytest.raises(ValueError, match="k must be"):
            index.search(clustered(1), 0)
