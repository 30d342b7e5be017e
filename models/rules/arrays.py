"""What the compiled loops of ranking know of rules, and how exposure caps are kept in them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled


class RuleArrays(NamedTuple):
    """The rules of some shoppers as arrays; each is empty where no rule of its kind holds.

    ``demotion`` float32[rows]: the factor of each row's score, negative if the row comes behind all others. ``pin_rows`` int32[p] at
    the distinct ``pin_places`` int64[p], from 0 and rising. Cap c counts by brand where ``cap_by_brand`` bool[c], else by category;
    ``cap_groups`` int32[c, codes + 1] is the group of each code, -1 (and in the last column, that of the code -1) where none;
    ``cap_limits`` int64[c] items of each group.
    """

    demotion: NDArray[np.float32]
    pin_rows: NDArray[np.int32]
    pin_places: NDArray[np.int64]
    cap_by_brand: NDArray[np.bool_]
    cap_groups: NDArray[np.int32]
    cap_limits: NDArray[np.int64]


NO_RULES: Final = RuleArrays(
    np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int64),
    np.empty(0, np.bool_), np.empty((0, 0), np.int32), np.empty(0, np.int64),
)  # fmt: skip


@compiled
def cap_group(rules, c, row, category, brand):  # type: ignore[no-untyped-def]
    """The group of ``row`` under cap ``c``, -1: not held in check."""
    code = brand[row] if rules.cap_by_brand[c] else category[row]
    return rules.cap_groups[c, code]


@compiled
def count_group(rules, c, group, rows, count, category, brand):  # type: ignore[no-untyped-def]
    """How many of ``rows[:count]`` belong to ``group`` of cap ``c``."""
    found = 0
    for j in range(count):
        if cap_group(rules, c, rows[j], category, brand) == group:
            found += 1
    return found


@compiled
def keep_within(rules, factor, scores, count, rows, taken, taken_count, category, brand, best):  # type: ignore[no-untyped-def]
    """Like ``keep_best`` (into ``best`` the places of the highest of ``scores[:count]``, best first; returns how many), but at most
    ``factor`` times a cap's limit of one of its groups, ``taken[:taken_count]`` included. ``rows`` are those of the places.
    """
    held = np.empty(taken_count + len(best), np.int32)
    held[:taken_count] = taken[:taken_count]
    kept = 0
    order = np.argsort(-scores[:count], kind="mergesort")
    for at in range(count):
        if kept == len(best):
            break
        row = rows[order[at]]
        room = True
        for c in range(len(rules.cap_limits)):
            group = cap_group(rules, c, row, category, brand)
            if group >= 0 and count_group(rules, c, group, held, taken_count + kept, category, brand) >= factor * rules.cap_limits[c]:
                room = False
                break
        if room:
            best[kept] = order[at]
            held[taken_count + kept] = row
            kept += 1
    return kept


@compiled
def close_full(rules, row, taken, count, candidates, scores, size, category, brand):  # type: ignore[no-untyped-def]
    """Now that ``row`` is among ``taken[:count]``: candidates of groups that are full by it get a score of -1."""
    for c in range(len(rules.cap_limits)):
        group = cap_group(rules, c, row, category, brand)
        if group < 0 or count_group(rules, c, group, taken, count, category, brand) < rules.cap_limits[c]:
            continue
        for j in range(size):
            if cap_group(rules, c, candidates[j], category, brand) == group:
                scores[j] = -1.0
