"""The business rules behind single answers: who is under which, and what an answer under them looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.retrieval.popularity import Popularity, TopListing
from models.rules.arranging import Placed, arrange
from models.rules.arrays import NO_RULES, RuleArrays
from models.rules.book import RuleBook
from models.rules.reach import Reach
from streams.agents.rules import RulesFile
from streams.serve.replies import MAX_K
from streams.settings import Settings

#: Products to choose from where caps pass some over.
_DEPTH: Final = 4 * MAX_K


class Ruled(NamedTuple):
    """What an answer of ``k`` products is made of: what is ``eligible`` bool[rows], and the listing of what is ``trending`` among that."""

    eligible: NDArray[np.bool_]
    trending: TopListing | Popularity
    rules: RuleArrays
    k: int
    items: ItemTable

    @property
    def depth(self) -> int:
        """How many candidates are enough."""
        return _DEPTH if len(self.rules.cap_limits) or len(self.rules.demotion) else self.k + len(self.rules.pin_rows)

    def arrange(self, candidates: Sequence[tuple[int, float]]) -> list[Placed]:
        """``models.rules.arranging.arrange`` of eligible (row, score), best first."""
        return arrange(self.rules, candidates, self.k, self.items.category, self.items.brand)


class ServedRules:
    """The rules of the file that ``settings`` name over ``items``; none where they name none. Raises ``RulesWrong``."""

    def __init__(self, settings: Settings, items: ItemTable, trending: Popularity) -> None:
        self._file = None if settings.business_rules is None else RulesFile(settings.business_rules)
        self._items = items
        self._trending = trending
        self._listings: WeakKeyDictionary[Reach, TopListing] = WeakKeyDictionary()
        self._book: RuleBook | None = None
        self._enforce()

    @property
    def digest(self) -> str | None:
        """Of the rules in force."""
        return None if self._file is None else self._file.rules.digest

    def note(self, rows: Sequence[int]) -> None:
        """The products of ``rows`` were set or deleted."""
        if self._book is not None:
            self._book.note(rows)

    def poll(self) -> None:
        """Take up the file's rules if they have changed."""
        if self._file is not None and self._file.poll() is not None:
            self._enforce()

    def of(self, category: int, country: str, k: int, now_ms: int, without: int = -1) -> Ruled:
        """For somebody in ``country`` (empty: unknown) who looks at the code ``category`` (-1: at none), at the time ``now_ms``; the row
        ``without`` is not for them.
        """
        items = self._items
        on_sale = items.active[: len(items)].copy()
        if without >= 0:
            on_sale[without] = False
        if self._book is None:
            return Ruled(on_sale, self._trending, NO_RULES, k, items)
        self._book.refresh(now_ms)
        ((_, ruling),) = self._book.rulings([country], np.array([category], dtype=np.int32))
        eligible = on_sale & ruling.reach.allowed
        listing = self._listings.get(ruling.reach)
        if listing is None:
            listing = self._listings[ruling.reach] = self._trending.listing()
        return Ruled(eligible, listing, ruling.arrays(eligible, k)[0], k, items)

    def _enforce(self) -> None:
        self._book = None if self._file is None else RuleBook(self._file.rules, self._items, MAX_K)
