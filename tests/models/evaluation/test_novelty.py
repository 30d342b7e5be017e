from __future__ import annotations

import doctest

import pytest

from models.evaluation import novelty
from models.evaluation.novelty import Novelty


def test_the_docstring_holds() -> None:
    assert doctest.testmod(novelty).failed == 0


def test_a_list_is_more_novel_the_less_its_items_were_touched() -> None:
    found = Novelty()
    for item, touches in enumerate((50, 5, 0)):
        found.know(item + 1)
        for _ in range(touches):
            found.touch(item)
    assert found.of([0]) < found.of([0, 1]) < found.of([1]) < found.of([1, 2]) < found.of([2])
    before = found.of([1])
    found.touch(0)
    assert found.of([1]) > before


def test_items_that_are_touched_alike_tell_as_much_as_there_are_of_them() -> None:
    found = Novelty()
    for item in [*range(8)] * 3:
        found.touch(item)
    assert found.of(range(8)) == pytest.approx(3.0)
