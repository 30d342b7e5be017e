"""What exclusions and demotions make of each row of the item table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.rules.file import Bury, Exclude
from models.rules.matching import Selection


class Reach:
    """What exclusions and demotions make of each row, kept current by the rows that changed.

    ``allowed`` bool[rows]; ``demotion`` float32[rows] as in ``RuleArrays``, empty without a rule that buries.
    """

    def __init__(self, exclude: Sequence[Exclude], bury: Sequence[Bury], items: ItemTable) -> None:
        self._items = items
        self._excluded = [Selection(rule, items) for rule in exclude]
        self._buried = [(Selection(rule, items), np.float32(rule.factor or 1.0), rule.to_end) for rule in bury]
        self._rows = 0
        self._allowed = np.ones(0, dtype=np.bool_)
        self._demotion = np.ones(0, dtype=np.float32)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """As of the last ``update``."""
        return self._allowed[: self._rows]

    @property
    def demotion(self) -> NDArray[np.float32]:
        """As of the last ``update``."""
        return self._demotion[: self._rows if self._buried else 0]

    def update(self, changed: NDArray[np.int32]) -> None:
        """Look at the rows ``changed`` int32[n], and at those that came since the last time."""
        rows = len(self._items)
        if rows > len(self._allowed):
            extra = self._items.capacity - len(self._allowed)
            self._allowed = np.concatenate([self._allowed, np.ones(extra, dtype=np.bool_)])
            if self._buried:
                self._demotion = np.concatenate([self._demotion, np.ones(extra, dtype=np.float32)])
        looked_at = np.concatenate([changed[changed < self._rows], np.arange(self._rows, rows, dtype=np.int32)])
        self._rows = rows
        if len(looked_at) == 0:
            return
        allowed = np.ones(len(looked_at), dtype=np.bool_)
        for excluded in self._excluded:
            allowed &= ~excluded.of(looked_at)
        self._allowed[looked_at] = allowed
        if not self._buried:
            return
        factors = np.ones(len(looked_at), dtype=np.float32)
        last = np.zeros(len(looked_at), dtype=np.bool_)
        for buried, factor, to_end in self._buried:
            fits = buried.of(looked_at)
            factors[fits] *= factor
            if to_end:
                last |= fits
        factors = np.maximum(factors, np.finfo(np.float32).tiny)  # so that a sign can be told
        self._demotion[looked_at] = np.where(last, -factors, factors)
