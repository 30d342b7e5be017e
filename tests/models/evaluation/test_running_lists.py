from __future__ import annotations

import doctest

import numpy as np
import pytest

from models.evaluation import running_lists
from models.evaluation.running_lists import RunningLists


def test_the_docstring_holds() -> None:
    assert doctest.testmod(running_lists).failed == 0


@pytest.mark.parametrize("tests", [1, 99, 100, 101, 5_000])
def test_curves_end_with_the_last_test_and_add_up_to_the_whole(tests: int) -> None:
    rng = np.random.default_rng(0)
    made = RunningLists(catalogue_size=1_000)
    for _ in range(tests):
        items = rng.integers(0, 1_000, 3).tolist()
        made.add(items, novelty=float(rng.random()), hit=True, repeat=bool(rng.random() < 0.4))
    for curve, whole in ((made.novelty_curve(), made.novelty()), (made.repeats_curve(), made.repeats())):
        assert curve[-1][0] == tests
        assert len(curve) <= 101
        sizes = np.diff([0, *(so_far for so_far, _ in curve)])
        assert np.average([value for _, value in curve], weights=sizes) == pytest.approx(whole)
    covered = [share for _, share in made.coverage_curve()]
    assert covered == sorted(covered)
    assert covered[-1] == made.coverage()


def test_nothing_is_said_of_nothing() -> None:
    made = RunningLists(catalogue_size=0)
    made.add([], novelty=0.0, hit=False, repeat=False)
    assert (made.coverage(), made.novelty(), made.repeats()) == (None, None, None)
    assert (made.coverage_curve(), made.novelty_curve(), made.repeats_curve()) == ([], [], [])


def test_lists_of_what_is_no_longer_sold_do_not_cover_more_than_all() -> None:
    made = RunningLists(catalogue_size=2)
    made.add([1, 2, 3], novelty=1.0, hit=False, repeat=False)
    assert made.coverage() == 1.0
    assert made.coverage_curve() == [(1, 1.0)]
