"""Find by halves what fails, so that the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def failing(items: Sequence[T], attempt: Callable[[Sequence[T]], Exception | None]) -> Iterator[tuple[T, Exception]]:
    """Do ``items``, all at once if that goes; each of them with which ``attempt`` fails even alone, in order, and how it fails.

    ``attempt`` does all of what it is given or nothing, and returns what went wrong. What comes after one that fails is done once the
    caller goes on.
    """
    failure = attempt(items)
    if failure is None:
        return
    if len(items) == 1:
        yield items[0], failure
        return
    middle = len(items) // 2
    yield from failing(items[:middle], attempt)
    yield from failing(items[middle:], attempt)
