"""What guesses, from features, whether something shown was taken up: three models of very different appetite for the training rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import faiss
import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
#: Scores float64[n] in 0..1, higher for a likelier yes, of features float32[n, f].
Responder = Callable[[Float32], Float64]

_TREES: Final = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 50, "feature_fraction": 0.8, "lambda_l2": 1.0,
    "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1, "num_threads": 1,
}  # fmt: skip
_ROUNDS: Final = 100
#: Weight of the squared weights in the loss, for each training row.
_RIDGE: Final = 1e-3


def fit_linear(features: Float32, labels: Bool) -> Responder:
    """Logistic regression on standardised features: the least of the mean of -[y log p + (1 - y) log(1 - p)], and of a ridge."""
    scaled, scale = _standardised(features)
    x = np.column_stack([np.ones(len(scaled)), scaled]).astype(np.float64)
    y = labels.astype(np.float64)

    def loss(weights: Float64) -> tuple[float, Float64]:
        z = x @ weights
        # log(1 + e^z) - y z is the cross-entropy of p = 1 / (1 + e^-z), without the logarithm of a rounded 0.
        value = float(np.mean(np.logaddexp(0.0, z) - y * z)) + _RIDGE * float(weights[1:] @ weights[1:])
        slope = x.T @ (expit(z) - y) / len(y)
        slope[1:] += 2 * _RIDGE * weights[1:]
        return value, slope

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda rows: np.asarray(expit(found[0] + scale(rows).astype(np.float64) @ found[1:]))


def fit_trees(features: Float32, labels: Bool) -> Responder:
    """A hundred small gradient-boosted trees on cross-entropy, by LightGBM."""
    booster = lightgbm.train(_TREES, lightgbm.Dataset(features, labels.astype(np.int8)), _ROUNDS)
    return lambda rows: np.asarray(booster.predict(rows, num_threads=1), dtype=np.float64)


def fit_nearest(features: Float32, labels: Bool) -> Responder:
    """What the nearest training row was, by standardised features: learns every row by heart, noise and all."""
    scaled, scale = _standardised(features)
    index = faiss.IndexFlatL2(scaled.shape[1])
    index.add(scaled)

    def guess(rows: Float32) -> Float64:
        _, nearest = index.search(scale(rows), 1)
        return np.asarray(labels[nearest[:, 0]], dtype=np.float64)

    return guess


#: Name -> how it is fitted, to features float32[n, f] and labels bool[n], n >= 1, with a yes and a no among them.
RESPONDERS: Final[dict[str, Callable[[Float32, Bool], Responder]]] = {
    "trees": fit_trees, "linear": fit_linear, "nearest": fit_nearest,
}  # fmt: skip


def _standardised(features: Float32) -> tuple[Float32, Callable[[Float32], Float32]]:
    """``features`` with mean 0 and deviation 1 in each column that varies, and what does the same to others."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1).astype(np.float32)

    def scale(rows: Float32) -> Float32:
        return np.ascontiguousarray((rows - mean) / spread, dtype=np.float32)

    return scale(features), scale
