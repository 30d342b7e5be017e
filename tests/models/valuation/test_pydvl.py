"""The same data valued by pyDVL, in an environment of its own, for its pins are not ours.

    python3 -m venv /tmp/pydvl
    /tmp/pydvl/bin/pip install pydvl==0.10.0
    ASSAY_PYDVL_PYTHON=/tmp/pydvl/bin/python .venv/bin/python -m pytest tests/models/valuation/test_pydvl.py

Skipped where the variable names no python with it; nothing of ours makes that environment.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.valuation import knn_shapley
from tests.benchmarks.peers import PYDVL_PYTHON, PYDVL_SETUP, pydvl_command


@pytest.mark.parametrize(("rows", "k", "classes"), [(12, 12, 2), (300, 1, 2), (300, 5, 10), (1_000, 10, 3)])
def test_values_are_those_of_pydvl(rows: int, k: int, classes: int, tmp_path: Path) -> None:
    if PYDVL_PYTHON not in os.environ:
        pytest.skip(f"set {PYDVL_PYTHON} to the python of an environment with pyDVL ({PYDVL_SETUP})")
    chance = np.random.default_rng(rows)
    x, y, x_test, y_test = (
        chance.normal(size=(rows, 8)), chance.integers(0, classes, rows), chance.normal(size=(20, 8)), chance.integers(0, classes, 20),
    )  # fmt: skip
    np.savez(tmp_path / "in.npz", x=x, y=y, x_test=x_test, y_test=y_test, k=k)
    subprocess.run(pydvl_command(tmp_path / "in.npz", tmp_path / "out.npz"), check=True, timeout=250)

    order = np.argsort(((x_test[:, None] - x) ** 2).sum(axis=2), axis=1, kind="stable")
    ours = np.empty((20, rows))
    np.put_along_axis(ours, order, knn_shapley(y[order] == y_test[:, None], k), axis=1)
    np.testing.assert_allclose(ours.mean(axis=0), np.load(tmp_path / "out.npz")["values"], rtol=0, atol=1e-9)
