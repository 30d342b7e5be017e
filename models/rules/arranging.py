"""One list under rules, outside the loops of ranking: for answers that are made one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.rules.arrays import RuleArrays


class Placed(NamedTuple):
    """An item of a list; ``pinned``: it stands where it does by a rule, whatever its score."""

    row: int
    score: float
    pinned: bool


def arrange(
    rules: RuleArrays, candidates: Sequence[tuple[int, float]], k: int, category: NDArray[np.int32], brand: NDArray[np.int32]
) -> list[Placed]:
    """A list of at most ``k`` of the distinct ``candidates`` (row, score >= 0), all of which may be listed, best first, as
    ``diversity.diversify`` would make it without diversity: pins at their places, what is buried further down, caps kept (pinned items
    count and stay). A list too short for a pin's place ends with it. Equal scores stay in their order.
    """
    pins = dict(zip(rules.pin_places.tolist(), rules.pin_rows.tolist(), strict=True))
    scores = dict(candidates)
    held = list(pins.values())
    others = _others(rules, [pair for pair in candidates if pair[0] not in held])
    listed: list[Placed] = []
    while len(listed) < k:
        row = pins.pop(len(listed), -1)
        if row < 0:
            other = next((pair for pair in others if not _is_full(rules, pair[0], held, category, brand)), None)
            if other is not None:
                held.append(other[0])
                listed.append(Placed(*other, False))
                continue
            if not pins:
                break
            row = pins.pop(min(pins))
        listed.append(Placed(row, scores.get(row, 0.0), True))
    return listed


def _others(rules: RuleArrays, candidates: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """By falling score, times the factor by which they are buried; those behind all others at the end."""
    if not len(rules.demotion):
        return iter(sorted(candidates, key=lambda pair: -pair[1]))
    factors = [float(rules.demotion[row]) for row, _ in candidates]
    moved = [(factor < 0, (row, score * abs(factor))) for factor, (row, score) in zip(factors, candidates, strict=True)]
    return iter([pair for _, pair in sorted(moved, key=lambda one: (one[0], -one[1][1]))])


def _is_full(rules: RuleArrays, row: int, held: Sequence[int], category: NDArray[np.int32], brand: NDArray[np.int32]) -> bool:
    """Whether a group of ``row`` has as many of ``held`` as its cap allows. What is full once stays so."""
    for groups, by_brand, limit in zip(rules.cap_groups, rules.cap_by_brand, rules.cap_limits, strict=True):
        codes = brand if by_brand else category
        group = groups[codes[row]]
        if group >= 0 and int((groups[codes[held]] == group).sum()) >= limit:
            return True
    return False
