"""Training of item factors: alternating least squares by the library ``implicit``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.factors.interactions import ALPHA, Interactions
from models.factors.model import FactorModel, FactorsError

#: Newest share of the touches by which a training is judged before all of them are learned.
HELD_OUT: Final = 0.05
_CUTOFF: Final = 20
#: Shoppers judged at once: their scores of all items lie in memory.
_CHUNK: Final = 256


@dataclass(frozen=True, slots=True)
class FactorOptions:
    """``factors``: width of the vectors. ``alpha``: confidence that a touch adds. Defaults were chosen on the
    newest of the first 160,000 touches of Online Retail, where wider vectors foretell hardly more.
    """

    factors: int = 64
    regularization: float = 1.0
    alpha: float = ALPHA
    iterations: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("factors", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("regularization", "alpha"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")


def train_factors(interactions: Interactions, options: FactorOptions, threads: int = 1) -> FactorModel:
    """Factors of all items. Equal interactions, options and ``threads`` give equal factors. Raises ``FactorsError`` if there is nothing to
    learn from.
    """
    if interactions.user_count < 2 or len(interactions.skus) < 2:
        raise FactorsError("fewer than two shoppers or items were touched: there is nothing to learn from")
    # The library's threads are its own; BLAS would start as many again for each of them.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=options.factors, regularization=options.regularization, alpha=1.0, iterations=options.iterations,
            num_threads=threads, random_state=options.seed,
        )  # fmt: skip
        model.fit(interactions.confidences(interactions.user_count, options.alpha), show_progress=False)
    return FactorModel(np.asarray(model.item_factors), interactions.skus, options.regularization, options.alpha)


def judge_factors(interactions: Interactions, options: FactorOptions, threads: int = 1) -> dict[str, float]:
    """Trained on all but the newest ``HELD_OUT`` of the touches: is what each shopper touches next there, of those known by then, among the
    20 best? Hit rate and MRR at 20, beside those of what was touched most. Raises ``FactorsError`` if there is no such shopper.
    """
    cut = round(len(interactions.users) * (1 - HELD_OUT))
    head = interactions.part(slice(0, cut))
    trained = train_factors(head, options, threads)
    known = np.unique(head.users)
    tail = interactions.part(slice(cut, None))
    users, first = np.unique(tail.users, return_index=True)
    here = np.isin(users, known)
    users, wanted = users[here], tail.items[first[here]]
    if not len(users):
        raise FactorsError("nobody of the older touches is among the newest: there is nobody to judge by")
    matrix = head.confidences(interactions.user_count, options.alpha)[users]
    vectors = trained.fold_in(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)
    popular = np.bincount(head.items, minlength=len(head.skus)).astype(np.float32)
    ranks = np.concatenate([
        _ranks(vectors[at : at + _CHUNK] @ trained.vectors.T, wanted[at : at + _CHUNK]) for at in range(0, len(users), _CHUNK)
    ])  # fmt: skip
    by_popularity = _ranks(np.broadcast_to(popular, (1, len(popular))), wanted)
    return {"shoppers": len(users)} | _rates("", ranks) | _rates("_popular", by_popularity)


def _ranks(scores: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.int64]:
    """Places from 1 of the items ``wanted`` int32[n] by falling ``scores`` float32[n or 1, m]; of equal ones all count as before it."""
    own = scores[np.arange(len(wanted)) % len(scores), wanted]
    return np.asarray((scores >= own[:, None]).sum(axis=1), dtype=np.int64)


def _rates(ending: str, ranks: NDArray[np.int64]) -> dict[str, float]:
    found = ranks <= _CUTOFF
    return {
        f"hit_rate_at_20{ending}": round(float(found.mean()), 4),
        f"mrr_at_20{ending}": round(float((1.0 / ranks[found]).sum() / len(ranks)), 4),
    }
