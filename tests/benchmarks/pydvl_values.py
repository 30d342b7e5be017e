"""pyDVL's KNN-Shapley on given data: values to compare with ours, or what they cost. Runs in an environment of pyDVL's own.

    python pydvl_values.py IN.npz OUT.npz

IN holds ``x`` [n, d], ``y`` [n], ``x_test`` [t, d], ``y_test`` [t] and ``k``; OUT gets ``values`` float64[n], the mean over the tests,
and the seconds that it took: ``whole_s`` with distances; ``sort_s`` with distances given; ``values_s`` with the order given too.
Nothing of ours is imported, and pyDVL never is where ours runs: its pins are not ours.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from pydvl.valuation import Dataset, KNNShapleyValuation
from sklearn.neighbors import KNeighborsClassifier


class GivenOrder:
    """In the place of a fitted classifier: neighbours from an order, or from distances, that is there already."""

    def __init__(self, k: int, order: np.ndarray | None, distances: np.ndarray) -> None:
        self.k, self.order, self.distances = k, order, distances

    def get_params(self) -> dict[str, int]:
        return {"n_neighbors": self.k}

    def kneighbors(self, _tests: np.ndarray, **_options: object) -> np.ndarray:
        return np.argsort(self.distances, axis=1, kind="stable") if self.order is None else self.order


def main(source: str, target: str) -> None:
    given = np.load(source)
    x, y, x_test, y_test, k = given["x"], given["y"], given["x_test"], given["y_test"], int(given["k"])
    distances = ((x_test[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")
    compute = KNNShapleyValuation._compute_values_for_test_points
    seconds = {}
    for name, known in (("values_s", order), ("sort_s", None)):
        start = time.process_time()
        compute(GivenOrder(k, known, distances), x_test, y_test, y)
        seconds[name] = time.process_time() - start
    start = time.process_time()
    valuation = KNNShapleyValuation(KNeighborsClassifier(n_neighbors=k), Dataset(x_test, y_test), progress=False)
    valuation.fit(Dataset(x, y))
    seconds["whole_s"] = time.process_time() - start
    np.savez(target, values=np.asarray(valuation.result.values), **seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
