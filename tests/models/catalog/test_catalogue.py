from __future__ import annotations

import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.index import segmented
from schemas.catalog import Embedding, Product

OLD, NEW = "minilm@1", "house@2"


def direction(seed: int, dimensions: int = 8) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)


def product(sku: str, **facts: object) -> tuple[bytes, bytes]:
    return sku.encode(), Product(sku=sku, title=sku, **facts).to_json()  # type: ignore[arg-type]


def embedding(sku: str, vector: np.ndarray, encoder: str = OLD) -> tuple[bytes, bytes]:
    return sku.encode(), Embedding(sku=sku, encoder=encoder, dimensions=len(vector), vector=pack(vector), text_hash="-").to_json()


def nearest(catalogue: Catalogue, vector: np.ndarray, k: int = 50) -> list[str]:
    if catalogue.encoder is None:
        return []
    ids = catalogue.index.search(vector[None, :], k)[1][0]
    return [catalogue.table.skus[row] for row in ids.tolist() if row >= 0]


def filled(count: int = 20, **options: object) -> Catalogue:
    catalogue = Catalogue("flat", "cpu", **options)  # type: ignore[arg-type]
    catalogue.apply_products([product(f"p{i}") for i in range(count)])
    catalogue.apply_embeddings([embedding(f"p{i}", direction(i)) for i in range(count)])
    return catalogue


def test_a_product_is_found_at_once_whichever_record_comes_first() -> None:
    for order in itertools.permutations(["product", "embedding"]):
        catalogue = Catalogue("flat", "cpu")
        for step in order:
            if step == "product":
                assert catalogue.apply_product(*product("mug")) == 0
            else:
                assert catalogue.apply_embedding(*embedding("mug", direction(1))) == 0
        assert nearest(catalogue, direction(1)) == ["mug"]
        assert catalogue.encoder == OLD


def test_a_deleted_product_is_never_found_whichever_record_comes_first() -> None:
    deletes = [("product", b"mug", None), ("embedding", b"mug", None), ("late", *embedding("mug", direction(2)))]
    for order in itertools.permutations(deletes):
        catalogue = filled(3)
        catalogue.apply_product(*product("mug"))
        catalogue.apply_embedding(*embedding("mug", direction(1)))
        for topic, key, value in order:
            (catalogue.apply_product if topic == "product" else catalogue.apply_embedding)(key, value)
            if any(step[0] == "product" for step in order[: order.index((topic, key, value)) + 1]):
                assert "mug" not in nearest(catalogue, direction(1))
        assert catalogue.table.known("mug")
        assert not catalogue.table.active[catalogue.table.row("mug")]


@pytest.mark.parametrize("hidden", [{"stock": 0}, {"recommendable": False}])
def test_what_may_not_be_shown_leaves_the_index_and_comes_back(hidden: dict[str, object]) -> None:
    catalogue = filled()
    catalogue.index.merge()
    catalogue.apply_product(*product("p3", **hidden))
    assert "p3" not in nearest(catalogue, direction(3))
    catalogue.apply_product(*product("p3", stock=2))
    assert nearest(catalogue, direction(3))[0] == "p3"
    assert catalogue.index.fresh_count == 0, "the tombstone was lifted, nothing was added"


def test_a_product_without_a_vector_is_active_but_in_no_index() -> None:
    catalogue = filled(2)
    row = catalogue.apply_product(*product("silent"))
    assert catalogue.table.active[row]
    assert "silent" not in nearest(catalogue, direction(0))
    assert len(catalogue.index) == 2


def test_a_new_text_replaces_the_vector_and_an_empty_one_takes_it_away() -> None:
    catalogue = filled()
    catalogue.apply_embedding(*embedding("p3", -direction(3)))
    assert nearest(catalogue, -direction(3))[0] == "p3"
    assert catalogue.apply_embedding(b"p3", None) == catalogue.table.row("p3")
    assert "p3" not in nearest(catalogue, direction(3))
    assert catalogue.apply_embedding(b"never-heard-of", None) == -1


def test_bad_records_are_left_out_counted_and_logged_without_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = filled(2)
    good = embedding("p0", direction(0))[1]
    bad = [
        (b"p0", b"{"),
        (None, good),
        (b"", None),
        (b"p1", good),
        (b"\xff", None),
        (b"p0", good.replace(b'"dimensions":8', b'"dimensions":9')),
    ]
    with caplog.at_level(logging.WARNING):
        for key, value in bad:
            assert catalogue.apply_embedding(key, value) == -1
        for key, value in [(None, None), (b"p0", b'{"sku":"p1"}'), (b"p0", b"[]"), (b"\xff", None)] * 25:
            assert catalogue.apply_product(key, value) == -1
    assert catalogue.rejected == 106
    assert len(caplog.records) == 7
    assert nearest(catalogue, direction(0))[0] == "p0"


def test_a_new_encoder_takes_over_at_once_when_it_is_complete_and_vectors_never_mix() -> None:
    catalogue = filled(20)
    catalogue.index.merge()
    for place in range(20):
        assert catalogue.apply_embedding(*embedding(f"p{place}", direction(100 + place, 12), NEW)) == -1
        if place < 19:
            catalogue.background(place)
            assert (catalogue.encoder, catalogue.index.dimensions, len(catalogue.index)) == (OLD, 8, 20)
            assert nearest(catalogue, direction(place))[0] == f"p{place}", "the old vector goes on being served"
    generation = catalogue.index.generation
    catalogue.background(20)
    assert (catalogue.encoder, catalogue.index.dimensions, catalogue.table.dimensions, catalogue.encoder_changes) == (NEW, 12, 12, 1)
    assert catalogue.index.generation > generation
    assert [nearest(catalogue, direction(100 + i, 12))[0] for i in range(20)] == [f"p{i}" for i in range(20)]


def test_a_delete_during_a_change_of_encoder_holds_on_both_sides() -> None:
    catalogue = filled(20)
    catalogue.apply_embeddings([embedding(f"p{i}", direction(100 + i), NEW) for i in range(10)])
    for sku in ("p3", "p15"):
        catalogue.apply_product(sku.encode(), None)
        catalogue.apply_embedding(sku.encode(), None)
        assert sku not in nearest(catalogue, direction(0))
    catalogue.apply_embeddings([embedding(f"p{i}", direction(100 + i), NEW) for i in range(10, 20) if i != 15])
    catalogue.background(0)
    assert catalogue.encoder == NEW
    assert sorted(nearest(catalogue, direction(0))) == sorted(f"p{i}" for i in range(20) if i not in (3, 15))


def test_a_worker_that_starts_half_way_through_a_change_serves_the_encoder_with_more_vectors() -> None:
    catalogue = Catalogue("flat", "cpu")
    catalogue.apply_products([product(f"p{i}") for i in range(20)])
    catalogue.apply_embeddings([embedding(f"p{i}", direction(i), OLD if i % 3 == 0 else NEW) for i in range(20)])
    assert catalogue.encoder == OLD, "the first that was read"
    catalogue.background(0)
    assert catalogue.encoder == NEW
    assert sorted(nearest(catalogue, direction(0))) == sorted(f"p{i}" for i in range(20) if i % 3)
    for now in range(3):
        catalogue.background(now)
    assert catalogue.encoder_changes == 1, "no going back and forth"
    catalogue.apply_embeddings([embedding(f"p{i}", direction(i), NEW) for i in range(0, 20, 3)])
    catalogue.background(9)
    assert len(nearest(catalogue, direction(0))) == 20
    assert catalogue.encoder_changes == 1


def test_a_straggler_with_the_old_encoder_does_not_turn_the_catalogue_back() -> None:
    catalogue = filled(200)
    catalogue.apply_embeddings([embedding(f"p{i}", direction(i, 12), NEW) for i in range(199)])
    catalogue.background(0)
    assert catalogue.encoder == NEW
    catalogue.apply_embeddings([embedding("p5", direction(5), OLD), embedding("p199", direction(6), OLD)])
    for now in range(1, 4):
        catalogue.background(now)
    assert (catalogue.encoder, catalogue.encoder_changes) == (NEW, 1)


def test_merges_happen_in_the_executor_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmented, "FRESH_MINIMUM", 10)
    busy = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(busy.wait, 30)
        catalogue = filled(30, executor=pool)
        before = nearest(catalogue, direction(7))
        catalogue.background(0)
        catalogue.apply_product(b"p7", None)
        assert catalogue.index.fresh_count == 29
        assert nearest(catalogue, direction(7)) == [sku for sku in before if sku != "p7"]
        busy.set()
        assert catalogue._building is not None
        catalogue._building.result(30)
        catalogue.background(1)
        assert catalogue.index.fresh_count == 0
        assert nearest(catalogue, direction(7)) == [sku for sku in before if sku != "p7"]
        catalogue.close()


def test_a_merge_that_was_under_way_when_the_encoder_changed_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmented, "FRESH_MINIMUM", 10)
    busy = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(busy.wait, 30)
        catalogue = filled(30, executor=pool)
        catalogue.background(0)
        catalogue.apply_embeddings([embedding(f"p{i}", direction(100 + i, 12), NEW) for i in range(30)])
        catalogue.background(1)
        busy.set()
        for now in range(2, 5):
            assert catalogue._building is None or catalogue._building.exception(30) is None
            catalogue.background(now)
        assert catalogue.encoder == NEW
        assert catalogue.index.fresh_count == 0
        assert nearest(catalogue, direction(104, 12))[0] == "p4"


def test_a_merge_that_failed_is_raised_by_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmented, "FRESH_MINIMUM", 10)
    catalogue = filled(30)
    monkeypatch.setattr(segmented.MergePlan, "build", lambda _: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(MemoryError, match="no room"):
        catalogue.background(0)


def restarted(path: Path) -> Catalogue:
    catalogue = Catalogue("flat", "cpu", snapshot=path, snapshot_s=10)
    assert catalogue.load_snapshot()
    return catalogue


def test_a_snapshot_shows_nothing_until_the_topics_confirm_it(tmp_path: Path) -> None:
    path = tmp_path / "index"
    catalogue = filled(20, snapshot=path, snapshot_s=10)
    catalogue.index.merge()
    catalogue.background(0)
    assert not path.exists()
    catalogue.background(10_000)
    assert path.exists()

    again = restarted(path)
    assert nearest(again, direction(1)) == []
    assert not again.table.known("p1")
    again.apply_products([product(f"p{i}") for i in range(5)])
    again.apply_embeddings([embedding(f"p{i}", direction(i)) for i in range(1, 8)])
    assert sorted(nearest(again, direction(1))) == ["p1", "p2", "p3", "p4"]
    assert again.index.fresh_count == 0, "all of them came from the snapshot"
    again.apply_embedding(*embedding("p2", -direction(2)))
    assert nearest(again, -direction(2))[0] == "p2"


def test_a_snapshot_of_another_encoder_is_given_up_for_the_vectors_that_arrive(tmp_path: Path) -> None:
    path = tmp_path / "index"
    catalogue = filled(20, snapshot=path, snapshot_s=10)
    for now in (0, 10_000):
        catalogue.background(now)
    again = restarted(path)
    again.apply_products([product(f"p{i}") for i in range(20)])
    again.apply_embeddings([embedding(f"p{i}", direction(i, 12), NEW) for i in range(20)])
    again.background(0)
    assert again.encoder == NEW
    assert len(nearest(again, direction(1, 12))) == 20


def test_a_snapshot_that_cannot_be_used_is_no_reason_not_to_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "index"
    catalogue = Catalogue("flat", "cpu", snapshot=path)
    assert not catalogue.load_snapshot()
    path.write_bytes(b"garbage" * 100)
    assert not catalogue.load_snapshot()
    assert "delete the file" in caplog.text
    catalogue.apply_product(*product("mug"))
    catalogue.apply_embedding(*embedding("mug", direction(1)))
    assert nearest(catalogue, direction(1)) == ["mug"]
    with pytest.raises(ValueError, match="before any record"):
        catalogue.load_snapshot()


def test_a_snapshot_that_cannot_be_written_is_logged_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    catalogue = filled(3, snapshot=tmp_path / "blocked" / "index", snapshot_s=10)
    for now in (0, 10_000, 10_001):
        catalogue.background(now)
    assert "was not written" in caplog.text


ACTIONS = ["sell", "hide", "delete", "embed", "embed new", "unembed", "merge", "background", "restart"]
Action = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5), st.integers(0, 3))


@settings(max_examples=150, deadline=None)
@given(st.lists(Action, max_size=40))
def test_the_index_holds_what_is_active_and_has_a_served_vector(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "index"
    catalogue = Catalogue("flat", "cpu", snapshot=path, snapshot_s=0.001)
    products: dict[bytes, bytes | None] = {}
    vectors: dict[bytes, bytes | None] = {}
    for now, (action, item, seed) in enumerate(actions):
        sku = f"p{item}"
        if action in ("sell", "hide"):
            key, value = product(sku, recommendable=action == "sell")
            products[key] = value
            catalogue.apply_product(key, value)
        elif action == "delete":
            products[sku.encode()] = None
            catalogue.apply_product(sku.encode(), None)
        elif action.startswith("embed"):
            key, value = embedding(sku, direction(seed), NEW if action.endswith("new") else OLD)
            vectors[key] = value
            catalogue.apply_embedding(key, value)
        elif action == "unembed":
            vectors[sku.encode()] = None
            catalogue.apply_embedding(sku.encode(), None)
        elif action == "merge":
            catalogue.index.merge()
        elif action == "background":
            catalogue.background(now)
        else:
            catalogue = Catalogue("flat", "cpu", snapshot=path, snapshot_s=0.001)
            catalogue.load_snapshot()
            catalogue.apply_products(products.items())
            catalogue.apply_embeddings(vectors.items())
        table = catalogue.table
        shown = {table.skus[row] for row in np.flatnonzero(table.active & table.has_vector).tolist()}
        for probe in range(2):
            found = nearest(catalogue, direction(probe))
            assert len(found) == len(set(found))
            assert set(found) == shown
        assert all(b'"recommendable":true' in (products[sku.encode()] or b"") for sku in shown)
        for row in (table.row(sku) for sku in shown):
            own = catalogue.index.search(table.vectors[row : row + 1], 50)
            assert own[0][0][own[1][0].tolist().index(row)] == pytest.approx(float(table.vectors[row] @ table.vectors[row]), abs=1e-3)
