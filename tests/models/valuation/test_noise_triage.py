"""Low values point at mislabelled rows, although the outcomes that they are judged by are as noisy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.noise_triage import self_values, triage

SEEDS = range(5)


@pytest.mark.parametrize(("name", "k", "auroc", "f1"), [("digits", 10, 0.99, 0.92), ("breast_cancer", 10, 0.98, 0.84)])
def test_flipped_labels_are_found_without_a_clean_set(name: str, k: int, auroc: float, f1: float) -> None:
    found = np.mean([triage(name, k, seed) for seed in SEEDS], axis=0)
    assert found[0] >= auroc
    assert found[1] >= f1


def test_a_hundred_votes_find_fewer_than_ten() -> None:
    """Why K is 5 to 10."""
    assert triage("digits", 100, seed=0).f1 < triage("digits", 10, seed=0).f1


def test_no_row_is_judged_by_itself() -> None:
    """By hand: the two near rows speak for each other, and nothing speaks for the third."""
    x, y = np.array([[0.0], [1.0], [2.5]]), np.array([0, 0, 1])
    assert self_values(x, y, k=1).tolist() == pytest.approx([0.5, 0.5, 0.0])
