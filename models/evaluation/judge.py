"""Protocol S: every prefix of every test session against the full set of items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.dataset import SessionDataset
from models.evaluation.intervals import of_mean, wilson
from models.evaluation.methods import Method
from models.metrics import ABSENT, MRR, HitRate, RankCounts

CUTOFF: Final = 20
#: Prefixes asked at once; the answers do not depend on it.
_BATCH: Final = 2_000
#: Prefixes asked one by one, for the time of a single recommendation.
_TIMED: Final = 3_000


@dataclass(frozen=True, slots=True)
class SessionResult:
    """One row of the table. Rates in percent; ``low`` and ``high``: 95 % intervals; times of a recommendation of one thread.
    ``train_seconds`` counts the training of models that were found ready, as long as it took then.
    """

    method: str
    hit_rate_at_20: float
    hit_rate_low: float
    hit_rate_high: float
    mrr_at_20: float
    mrr_low: float
    mrr_high: float
    tests: int
    p50_us: float
    p99_us: float
    train_seconds: float
    memory_mb: float


def judge(method: Method, dataset: SessionDataset, progress: Callable[[int], None] = lambda done: None) -> SessionResult:
    """Teach ``method`` the training sessions and ask it for every prefix. No item is left out of the lists for being in the prefix.

    ``progress`` is told how many prefixes are done.
    """
    items = len(dataset.names)
    # Compiled loops are compiled on their first call, which would count as learning and as a slow recommendation.
    method.warm_up(dataset.train.slice(0, 1), items, dataset.prefixes.slice(0, 1))
    began = time.perf_counter()
    method.learn(dataset.train, items)
    learned = time.perf_counter() - began + method.trained_seconds
    counts = RankCounts()
    took = []
    with _one_thread():
        for first in range(0, len(dataset.prefixes), _BATCH):
            part = dataset.prefixes.slice(first, min(first + _BATCH, len(dataset.prefixes)))
            counts.update_many(ranks(method.recommend(part, CUTOFF), dataset.targets[first : first + len(part)]))
            progress(first + len(part))
        for index in range(0, len(dataset.prefixes), max(1, len(dataset.prefixes) // _TIMED)):
            single = dataset.prefixes.slice(index, index + 1)
            before = time.perf_counter_ns()
            method.recommend(single, CUTOFF)
            took.append((time.perf_counter_ns() - before) / 1_000)
    hit_rate = HitRate(CUTOFF, counts).get()
    hits = wilson(hit_rate, counts.tests)
    mrr = MRR(CUTOFF, counts).get()
    squares = float(counts.by_rank @ (1.0 / np.arange(1, len(counts.by_rank) + 1) ** 2)) / max(1, counts.tests)
    reciprocal = of_mean(mrr, squares, counts.tests)
    at_50, at_99 = np.percentile(took, (50, 99)).tolist()
    return SessionResult(
        method.name, _percent(hit_rate), _percent(hits[0]), _percent(hits[1]),
        _percent(mrr), _percent(reciprocal[0]), _percent(reciprocal[1]), counts.tests,
        round(at_50, 1), round(at_99, 1), round(learned, 2), round(method.nbytes / 1e6, 1),
    )  # fmt: skip


def _percent(share: float) -> float:
    return round(100 * share, 2)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch and FAISS take as many threads as there are cores, else."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


def ranks(lists: NDArray[np.int32], targets: NDArray[np.int32]) -> NDArray[np.int64]:
    """int64[n]: the place of each target in its list int32[n, k], from 1; ``ABSENT`` if it is not there or unknown."""
    hit = (lists == targets[:, None]) & (targets[:, None] >= 0)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, ABSENT)
