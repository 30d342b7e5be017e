"""The vector index twins on vectors spread as product texts are: recall, latency, upserts, memory.

assay bench index [--events VECTORS]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from models.encoder.encoder import TextEncoder
from models.encoder.text import product_text
from models.index.base import VectorIndex
from models.index.factory import IndexKind, create_index
from models.index.gpu import gpu_available
from models.simulation.catalogue import generate_catalogue
from tests.benchmarks.report import Report, medians

Float32 = NDArray[np.float32]
#: Real texts behind the vectors; the encoder takes a few seconds for them.
SEEDS = 2_000
QUERIES = 512
K = 20


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One twin at one size. ``recall_of_blends``: queries are means of two products, as interests are; ``recall_after_changes``: with
    a fresh part and tombstones. Milliseconds are means over 200 queries or more; ``megabytes`` is the main part serialised.
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
    megabytes: float


def seed_vectors(threads: int = 1) -> Float32:
    """float32[SEEDS, 384]: MiniLM's vectors of the simulated storefront's product texts."""
    products = generate_catalogue(np.random.default_rng(0), SEEDS).products
    return TextEncoder("minilm", threads=threads).encode([product_text(product) for product in products])


def spread(seeds: Float32, count: int, seed: int) -> Float32:
    """``count`` unit vectors between neighbouring seeds, off by a little noise: the manifold of the texts, filled more densely."""
    rng = np.random.default_rng(seed)
    near = np.argsort(-(seeds @ seeds.T), axis=1)[:, 1:11]
    first = rng.integers(0, len(seeds), count)
    second = near[first, rng.integers(0, near.shape[1], count)]
    weight = rng.random((count, 1), dtype=np.float32)
    vectors = seeds[first] * weight + seeds[second] * (1 - weight)
    vectors += rng.normal(scale=0.015, size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def run(*, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Every kind at 10,000 and 100,000 vectors (or ``events``), medians of ``repetitions``, on the CPU and on a GPU that is there."""
    del bootstrap_servers  # no broker is involved
    seeds = seed_vectors()
    sizes = (events,) if events else (10_000, 100_000)
    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda") if gpu_available() else ("cpu",)
    rows = [asdict(row) for _ in range(repetitions) for device in devices for row in measure(sizes, 1, device, seeds)]
    remark = f"spread between {SEEDS} MiniLM vectors of simulated products; 1 thread; recall against an exact scan"
    return Report("index", medians(rows, ("kind", "device", "vectors")), (remark,))


def measure(
    sizes: Sequence[int] = (10_000, 100_000), threads: int = 1, device: Literal["cpu", "cuda"] = "cpu", seeds: Float32 | None = None
) -> Iterator[IndexRow]:
    """One row for each kind and size. On ``cuda`` there is no HNSW."""
    seeds = seed_vectors(threads) if seeds is None else seeds
    kinds: tuple[IndexKind, ...] = ("flat", "ivf") if device == "cuda" else ("flat", "hnsw", "ivf")
    for size in sizes:
        vectors, queries = spread(seeds, size, 1), spread(seeds, QUERIES, 2)
        for kind in kinds:
            yield _measure(kind, device, threads, vectors, queries)


def _measure(kind: IndexKind, device: Literal["cpu", "cuda"], threads: int, vectors: Float32, queries: Float32) -> IndexRow:
    size = len(vectors)
    index = create_index(kind, vectors.shape[1], device, threads)
    index.upsert(np.arange(size), vectors)
    started = time.perf_counter()
    index.merge()
    build_s = time.perf_counter() - started
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
        round(_bytes(index) / 1e6, 1),
    )


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
