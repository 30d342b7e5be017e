"""The rows of a window as flat arrays, and the loop that shares out what a test was worth among their assets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled_exactly

#: What a row shares out, in whole units, so that the window's sums do not depend on the order in which rows came and went; 30,000 rows
#: have fewer than int64 holds.
UNITS: Final = 1 << 48
#: The time of a row that is not there: after all times, so that it is older than nothing.
NO_TIME: Final = 1 << 62
#: Events of a row. A session that is longer is a robot's, as a rule; its later events neither enter nor are tests.
EVENT_LIMIT: Final = 50
#: By the number of events of a row the units that each has, and how many of the first have one more.
_EACH: Final = UNITS // np.maximum(np.arange(EVENT_LIMIT + 1), 1)
_MORE: Final = UNITS % np.maximum(np.arange(EVENT_LIMIT + 1), 1)

T = TypeVar("T", bound=np.generic)


class RowTable:
    """s slots of rows with at most ``EVENT_LIMIT`` events each, which name an asset in each of ``dimensions`` dimensions.

    ``skus`` int32[s, limit], ``assets`` int32[s, limit, dimensions], ``counts`` int32[s] (0: free), ``owners`` int32[s, dimensions],
    ``newest_ms`` int64[s] (``NO_TIME``: free). ``weights`` int64[a]: units of all rows by asset; ``rows`` int64[a]: rows by owner.
    """

    def __init__(self, dimensions: int) -> None:
        self.skus = np.zeros((0, EVENT_LIMIT), np.int32)
        self.assets = np.zeros((0, EVENT_LIMIT, dimensions), np.int32)
        self.counts = np.zeros(0, np.int32)
        self.owners = np.zeros((0, dimensions), np.int32)
        self.newest_ms = np.zeros(0, np.int64)
        self.weights = np.zeros(0, np.int64)
        self.rows = np.zeros(0, np.int64)
        self._free: list[int] = []

    def new(self) -> int:
        """A slot for a row, with no events yet."""
        if not self._free:
            held = len(self.counts)
            grown = max(64, 2 * held)
            self.skus, self.assets, self.owners = (_grown(array, grown) for array in (self.skus, self.assets, self.owners))
            self.counts, self.newest_ms = _grown(self.counts, grown), _grown(self.newest_ms, grown)
            self.newest_ms[held:] = NO_TIME
            self._free = list(range(grown - 1, held - 1, -1))
        return self._free.pop()

    def reserve(self, assets: int) -> None:
        """Have room for so many assets: those that no row in here is of any more are read as well, by loops that check no bounds."""
        if assets > len(self.weights):
            self.weights, self.rows = _grown(self.weights, 2 * assets), _grown(self.rows, 2 * assets)

    def append(self, slot: int, sku: int, assets: Sequence[int], at_ms: int) -> None:
        """One more event of a row; ``assets``: one a dimension, there being room for each."""
        _append(slot, sku, tuple(assets), at_ms, self.skus, self.assets, self.counts, self.owners, self.newest_ms, self.weights, self.rows)

    def drop(self, slot: int) -> None:
        """The row is gone, its slot free."""
        if self.counts[slot]:
            _add_units(self.assets[slot], self.counts[slot], -1, self.weights)
            self.rows[self.owners[slot]] -= 1
        self.counts[slot], self.newest_ms[slot] = 0, NO_TIME
        self._free.append(slot)


def _grown(array: NDArray[T], length: int) -> NDArray[T]:
    result = np.zeros((length, *array.shape[1:]), array.dtype)
    result[: len(array)] = array
    return result


@compiled_exactly
def _append(slot, sku, event, at_ms, skus, assets, counts, owners, newest_ms, weights, rows):  # type: ignore[no-untyped-def]
    place = counts[slot]
    if place:
        _add_units(assets[slot], place, -1, weights)
    skus[slot, place] = sku
    newest_ms[slot] = max(newest_ms[slot], at_ms) if place else at_ms
    counts[slot] = place + 1
    for d in range(assets.shape[2]):
        asset = event[d]
        assets[slot, place, d] = asset
        if not place:
            owners[slot, d] = asset
            rows[asset] += 1
            continue
        owner = owners[slot, d]
        if owner != asset:
            # Only the asset of the new event has become more: it owns the row now, or it still does not. Of as many, the earliest does.
            held = held_by_owner = 0
            first = -1
            for j in range(place + 1):
                held += assets[slot, j, d] == asset
                held_by_owner += assets[slot, j, d] == owner
                if first < 0 and (assets[slot, j, d] == asset or assets[slot, j, d] == owner):
                    first = assets[slot, j, d]
            if held > held_by_owner or (held == held_by_owner and first == asset):
                rows[owner] -= 1
                rows[asset] += 1
                owners[slot, d] = asset
    _add_units(assets[slot], place + 1, 1, weights)


@compiled_exactly
def _add_units(assets, count, sign, weights):  # type: ignore[no-untyped-def]
    each, more = _EACH[count], _MORE[count]
    for j in range(count):
        for d in range(assets.shape[1]):
            weights[assets[j, d]] += sign * (each + (1 if j < more else 0))


@compiled_exactly
def take_units(assets, counts, own, weights):  # type: ignore[no-untyped-def]
    """Take the units of the rows in slots ``own`` int64[o] from ``weights`` int64[a]."""
    for i in range(len(own)):
        if counts[own[i]]:
            _add_units(assets[own[i]], counts[own[i]], -1, weights)


@compiled_exactly
def share_out(  # type: ignore[no-untyped-def]
    skus, assets, counts, weights, label, head, head_own, head_rest, matched, matched_own, own, rest, points,
):  # fmt: skip
    """Add to ``points`` float64[a] what each row earns and bears.

    ``head`` int64[m] with ``head_own`` (what a row earns by its match) and ``head_rest`` (what it bears), float64[m]; ``matched``
    int64[b]: rows beyond the head that hold ``label``, each earning ``matched_own``; all rows beyond bear ``rest``; ``own``: slots of
    rows that take no part.
    """
    for a in range(len(weights)):
        points[a] += rest * (weights[a] / UNITS)
    for i in range(len(own)):
        _bear(assets, counts, own[i], -rest, points)
    for i in range(len(head)):
        _bear(assets, counts, head[i], head_rest[i] - rest, points)
        if head_own[i] != 0.0:
            _earn(skus, assets, counts, head[i], label, head_own[i], points)
    for i in range(len(matched)):
        _earn(skus, assets, counts, matched[i], label, matched_own, points)


@compiled_exactly
def _bear(assets, counts, slot, value, points):  # type: ignore[no-untyped-def]
    count = counts[slot]
    more = _MORE[count]
    less_part, more_part = value * (_EACH[count] / UNITS), value * ((_EACH[count] + 1) / UNITS)
    for j in range(count):
        part = more_part if j < more else less_part
        for d in range(assets.shape[2]):
            points[assets[slot, j, d]] += part


@compiled_exactly
def _earn(skus, assets, counts, slot, label, value, points):  # type: ignore[no-untyped-def]
    held = 0
    for j in range(counts[slot]):
        held += skus[slot, j] == label
    for j in range(counts[slot]):
        if skus[slot, j] == label:
            for d in range(assets.shape[2]):
                points[assets[slot, j, d]] += value / held
