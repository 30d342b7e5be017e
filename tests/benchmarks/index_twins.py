"""The vector index twins on vectors spread as product texts are: recall, latency, upserts beside searches, memory, and how each grows.

assay bench index [--events VECTORS]: sizes by factors of ten from 10,000 up to a million, or up to VECTORS.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

import faiss
import numpy as np
import psutil
from numpy.typing import NDArray

from models.encoder.encoder import TextEncoder
from models.encoder.text import product_text
from models.index.base import MergePlan, VectorIndex
from models.index.factory import IndexKind, create_index
from models.index.gpu import gpu_available
from models.simulation.catalogue import generate_catalogue
from tests.benchmarks.report import Report, medians

Float32 = NDArray[np.float32]
#: Real texts behind the vectors; the encoder takes a few seconds for them.
SEEDS = 2_000
QUERIES = 512
K = 20
SIZES = (10_000, 100_000, 1_000_000)
#: On one thread a graph of 384 dimensions takes about 2 ms a vector.
HNSW_LIMIT = 200_000
_BLOCK = 50_000
#: Queries of a search that takes turns with upserts.
_ASKED = 64


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One twin at one size. ``recall_of_blends``: queries are means of two products, as interests are; ``recall_after_changes``: with
    a fresh part and tombstones. Milliseconds are means over 200 queries or more; ``megabytes`` is the main part serialised,
    ``rss_megabytes`` what the process grew by from the empty index to the built one.

    ``upserts_while_searching``: upserts/s, 100 at a time in turn with searches of 64 queries, as a worker's compute thread does, merges
    being built in another thread; ``ms_query_meanwhile`` is a query of those searches.
    """

    kind: str
    device: str
    vectors: int
    threads: int
    recall_at_20: float
    recall_of_blends: float
    recall_after_changes: float
    ms_query_batch_1: float
    ms_query_batch_256: float
    build_s: float
    upserts_per_second: float
    upserts_while_searching: float
    ms_query_meanwhile: float
    megabytes: float
    rss_megabytes: float
    system: str = "assay"
    job: str = "20 nearest of 384 dimensions"
    guarantee: str = ""
    unit: str = "ms a query"


def seed_vectors(threads: int = 1) -> Float32:
    """float32[SEEDS, 384]: MiniLM's vectors of the simulated storefront's product texts."""
    products = generate_catalogue(np.random.default_rng(0), SEEDS).products
    return TextEncoder("minilm", threads=threads).encode([product_text(product) for product in products])


def spread(seeds: Float32, count: int, seed: int) -> Float32:
    """``count`` unit vectors between neighbouring seeds, off by a little noise: the manifold of the texts, filled more densely."""
    rng = np.random.default_rng(seed)
    near = np.argsort(-(seeds @ seeds.T), axis=1)[:, 1:11]
    vectors = np.empty((count, seeds.shape[1]), np.float32)
    # In blocks: a million vectors take 1.5 GB, and each of the temporaries would take that much again.
    for start in range(0, count, _BLOCK):
        block = vectors[start : start + _BLOCK]
        first = rng.integers(0, len(seeds), len(block))
        second = near[first, rng.integers(0, near.shape[1], len(block))]
        weight = rng.random((len(block), 1), dtype=np.float32)
        block[:] = seeds[first] * weight + seeds[second] * (1 - weight)
        block += rng.normal(scale=0.015, size=block.shape).astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        block[:] = block.astype(np.float16)
    return vectors


def run(*, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Every kind at each size up to a million vectors (or ``events``), medians of ``repetitions``, on CPU and GPU, if there is one."""
    del bootstrap_servers  # no broker is involved
    seeds = seed_vectors()
    most = events or SIZES[-1]
    sizes = sorted({min(size, most) for size in SIZES})
    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda") if gpu_available() else ("cpu",)
    rows = [asdict(row) for _ in range(repetitions) for device in devices for row in measure(sizes, 1, device, seeds)]
    merged = medians(rows, ("kind", "device", "vectors"))
    remarks = [f"spread between {SEEDS} MiniLM vectors of simulated products; 1 thread; recall against an exact scan", *_growth(merged)]
    if most > HNSW_LIMIT:
        remarks.append(f"no graph beyond {HNSW_LIMIT:,} vectors: on one thread it would take the better part of an hour to build")
    return Report("index", merged, remarks)


def _growth(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """For each twin, what a query, the build and the memory are multiplied by from each size to the next."""
    before: dict[tuple[object, object], Mapping[str, object]] = {}
    for row in rows:
        twin = str(row["kind"]), row["device"]
        smaller = before.get(twin)
        if smaller is not None:
            grown = [
                f"{what} x {float(str(row[name])) / max(1e-9, float(str(smaller[name]))):.1f}"
                for name, what in (("ms_query_batch_256", "a query"), ("build_s", "the build"), ("rss_megabytes", "memory"))
            ]
            yield f"{row['kind']} on {row['device']}, {smaller['vectors']:,.0f} -> {row['vectors']:,.0f} vectors: {', '.join(grown)}"
        before[twin] = row


def measure(
    sizes: Sequence[int] = SIZES, threads: int = 1, device: Literal["cpu", "cuda"] = "cpu", seeds: Float32 | None = None
) -> Iterator[IndexRow]:
    """One row for each kind and size. On ``cuda``, and beyond ``HNSW_LIMIT``, there is no HNSW."""
    seeds = seed_vectors(threads) if seeds is None else seeds
    kinds: tuple[IndexKind, ...] = ("flat", "ivf") if device == "cuda" else ("flat", "hnsw", "ivf")
    for size in sizes:
        vectors, queries = spread(seeds, size, 1), spread(seeds, QUERIES, 2)
        for kind in kinds:
            if kind == "hnsw" and size > HNSW_LIMIT:
                continue
            yield _measure(kind, device, threads, vectors, queries)


def _measure(kind: IndexKind, device: Literal["cpu", "cuda"], threads: int, vectors: Float32, queries: Float32) -> IndexRow:
    size = len(vectors)
    empty_rss = _rss()
    index = create_index(kind, vectors.shape[1], device, threads)
    index.upsert(np.arange(size), vectors)
    started = time.perf_counter()
    index.merge()
    build_s = time.perf_counter() - started
    grown_rss = _rss() - empty_rss
    blends = queries[: QUERIES // 2] + queries[QUERIES // 2 :]
    recall, recall_of_blends = (_recall(index.search(asked, K)[1], _exact(asked, vectors, np.arange(size))) for asked in (queries, blends))

    single = min(200, QUERIES)
    started = time.perf_counter()
    for row in range(single):
        index.search(queries[row : row + 1], K)
    ms_1 = (time.perf_counter() - started) / single * 1000
    started = time.perf_counter()
    for start in range(0, QUERIES, 256):
        index.search(queries[start : start + 256], K)
    ms_256 = (time.perf_counter() - started) / QUERIES * 1000

    moved = np.arange(min(2_000, size // 5))
    started = time.perf_counter()
    for start in range(0, len(moved), 100):
        index.upsert(moved[start : start + 100], -vectors[moved[start : start + 100]])
    upserts = len(moved) / (time.perf_counter() - started)
    index.upsert(moved, vectors[moved])
    meanwhile, ms_meanwhile = _upserts_beside_searches(index, moved, vectors, queries)
    index.delete(moved[::2])
    index.upsert(moved[1::4] + size, vectors[moved[1::4]])
    living = np.setdiff1d(np.arange(size), moved[::2])
    ids, held = np.concatenate([living, moved[1::4] + size]), np.concatenate([vectors[living], vectors[moved[1::4]]])
    changed = _recall(index.search(queries, K)[1], _exact(queries, held, ids))
    return IndexRow(
        index.kind,
        device,
        size,
        threads,
        round(recall, 4),
        round(recall_of_blends, 4),
        round(changed, 4),
        round(ms_1, 3),
        round(ms_256, 4),
        round(build_s, 2),
        round(upserts),
        round(meanwhile),
        round(ms_meanwhile, 3),
        round(_bytes(index) / 1e6, 1),
        round(grown_rss / 1e6, 1),
    )


def _upserts_beside_searches(index: VectorIndex, ids: NDArray[np.int64], vectors: Float32, queries: Float32) -> tuple[float, float]:
    """(upserts/s, ms of a query) while both take turns in this thread; a merge that falls due is built in another."""
    building: tuple[MergePlan, Future[None]] | None = None
    searching, asked = 0.0, 0
    with ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        for number, start in enumerate(range(0, len(ids), 100)):
            index.upsert(ids[start : start + 100], vectors[ids[start : start + 100]])
            began = time.perf_counter()
            place = number * _ASKED % (len(queries) - _ASKED + 1)
            index.search(queries[place : place + _ASKED], K)
            searching, asked = searching + time.perf_counter() - began, asked + _ASKED
            if building is None and index.needs_merge:
                plan = index.prepare_merge()
                building = plan, pool.submit(plan.build)
            elif building is not None and building[1].done():
                building[1].result()
                index.apply_merge(building[0])
                building = None
        took = time.perf_counter() - started
        if building is not None:
            building[1].result()
            index.apply_merge(building[0])
    return len(ids) / took, searching / asked * 1000


def _rss() -> int:
    """Bytes of memory that the process holds, what is free but not given back aside."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def _exact(queries: Float32, vectors: Float32, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    _, places = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)
    return ids[places]


def _recall(found: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(f) & set(r)) / K for f, r in zip(found.tolist(), right.tolist(), strict=True)]))


def _bytes(index: VectorIndex) -> int:
    class Counter:
        total = 0

        def write(self, data: bytes) -> int:
            self.total += len(data)
            return len(data)

    counter = Counter()
    index.capture().main.write(counter)  # type: ignore[attr-defined]
    return counter.total
