"""Finding mislabelled rows without a clean validation set: each row of a noisy set valued by all others' outcomes."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import f1_score, roc_auc_score

from models.valuation import knn_shapley

#: As in OpenDataVal's noisy label detection (Jiang et al., NeurIPS 2023).
NOISE: Final = 0.2
SETS: Final = {"digits": load_digits, "breast_cancer": load_breast_cancer}


class Triage(NamedTuple):
    """How well low values point at flipped labels: ``auroc``, and ``f1`` of the lower of two clusters of values."""

    auroc: float
    f1: float


def self_values(x: NDArray[np.float64], y: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """float64[n]: the mean KNN-Shapley value of each row of ``x`` [n, d], the tests being all other rows of the same set."""
    rows = len(x)
    squares = (x**2).sum(axis=1)
    distances = squares[:, None] - 2 * (x @ x.T) + squares
    np.fill_diagonal(distances, np.inf)  # last, and cut off: no row values itself
    order = np.argsort(distances, axis=1, kind="stable")[:, :-1]
    values = knn_shapley(y[order] == y[:, None], k)
    return np.bincount(order.ravel(), values.ravel(), minlength=rows) / (rows - 1)


def triage(name: str, k: int, seed: int) -> Triage:
    """``NOISE`` of the labels of a set of scikit-learn's (``SETS``) flipped to another class, and found again."""
    x, y = SETS[name](return_X_y=True)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0) if name == "breast_cancer" else x
    chance = np.random.default_rng(seed)
    flipped = np.zeros(len(y), bool)
    flipped[chance.choice(len(y), round(NOISE * len(y)), replace=False)] = True
    classes = y.max() + 1
    noisy = np.where(flipped, (y + chance.integers(1, classes, size=len(y))) % classes, y)
    values = self_values(x, noisy, k)
    clusters = KMeans(n_clusters=2, n_init=5, random_state=seed).fit(values[:, None])
    lower = clusters.labels_ == np.argmin(clusters.cluster_centers_.ravel())
    return Triage(float(roc_auc_score(flipped, -values)), float(f1_score(flipped, lower)))
