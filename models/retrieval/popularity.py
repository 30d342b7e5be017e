"""What is popular now, overall and by category: counts that halve with event time, updated in O(1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled

OVERALL_LIMIT: Final = 100
CATEGORY_LIMIT: Final = 30
#: Weight of an event by its type's code: browse, click, add_to_cart, purchase.
TRENDING_WEIGHTS: Final = (0.5, 1.0, 2.0, 3.0)
#: The baseline that lists are judged against counts clicks and purchases alike.
BASELINE_WEIGHTS: Final = (0.0, 1.0, 0.0, 1.0)
_RESCALE_AT: Final = 200.0
#: Rows listed per ms of patience: listing costs 10 to 50 ns a row, so that lists cost at most 1 % of the time.
_ROWS_PER_MS: Final = 200
_FIRST_ROWS: Final = 1024


@dataclass(frozen=True, slots=True)
class TopLists:
    """The most popular active items. ``overall`` int32[<= 100]; ``categories`` int32[c, 30] padded with -1; values are each item's
    share of the overall leader's popularity, 0..1 (0: active, but nothing is known of it yet).
    """

    overall: NDArray[np.int32]
    overall_values: NDArray[np.float32]
    categories: NDArray[np.int32]
    category_values: NDArray[np.float32]

    def up_to(self, categories: int) -> TopLists:
        """The same with a list, empty if it is new, for each of ``categories``."""
        missing = categories - len(self.categories)
        if missing <= 0:
            return self
        rows = np.pad(self.categories, ((0, missing), (0, 0)), constant_values=-1)
        return TopLists(self.overall, self.overall_values, rows, np.pad(self.category_values, ((0, missing), (0, 0))))


class Popularity:
    """score(item) = sum over its events of weight(type) * 2^((event time - origin) / half-life); the common origin cancels in any order.

    Example:
        >>> popularity = Popularity(half_life_ms=1000.0)
        >>> popularity.add(np.array([0, 1], dtype=np.int32), np.array([0, 1000]), np.array([1, 1], dtype=np.int8))
        >>> lists = popularity.lists(np.array([True, True]), np.array([0, 0], dtype=np.int32), 1, now_ms=0)
        >>> lists.overall, lists.overall_values
        (array([1, 0], dtype=int32), array([1. , 0.5], dtype=float32))

    """

    def __init__(self, half_life_ms: float, type_weights: tuple[float, float, float, float] = TRENDING_WEIGHTS) -> None:
        self._half_life = half_life_ms
        self._type_weights = np.array(type_weights, dtype=np.float64)
        self._scores = np.zeros(_FIRST_ROWS, dtype=np.float64)
        self._origin_ms: float | None = None
        self.changes = 0
        self._listing = TopListing(self)

    def add(
        self,
        rows: NDArray[np.int32],
        at_ms: NDArray[np.int64],
        types: NDArray[np.int8],
        parts: NDArray[np.float32] | None = None,
    ) -> None:
        """Count n events of items ``rows`` (>= 0) at event times ``at_ms``; ``types`` are codes of ``models.profiles`` item types. Of each
        the part ``parts`` float32[n], 0..1, counts; None: all.
        """
        if len(rows) == 0:
            return
        top = int(rows.max()) + 1
        if top > len(self._scores):
            self._scores = np.concatenate([self._scores, np.zeros(max(top, 2 * len(self._scores)) - len(self._scores))])
        if self._origin_ms is None:
            self._origin_ms = float(at_ms.min())
        exponents = (at_ms - self._origin_ms) / self._half_life
        newest = float(exponents.max())
        if newest > _RESCALE_AT:
            self._scores *= 2.0**-newest
            self._origin_ms += newest * self._half_life
            exponents = exponents - newest
        weights = self._type_weights[types] * np.exp2(np.maximum(exponents, -1000.0))
        np.add.at(self._scores, rows, weights if parts is None else parts * weights)
        self.changes += 1

    def become(
        self, other: Popularity, rows: NDArray[np.int32], at_ms: NDArray[np.float64], types: NDArray[np.int8], parts: NDArray[np.float32]
    ) -> None:
        """Be what ``other``, of the same half-life and weights, would be if of n events that it counted only ``parts`` float32[n] had."""
        self._scores, self._origin_ms = other._scores.copy(), other._origin_ms
        exponents = (at_ms - (self._origin_ms or 0.0)) / self._half_life
        less = (1.0 - parts) * self._type_weights[types] * np.exp2(np.maximum(exponents, -1000.0))
        np.subtract.at(self._scores, rows, less)
        np.maximum(self._scores, 0.0, out=self._scores)
        self.changes += 1

    def relative(self, rows: int) -> NDArray[np.float32]:
        """float32[rows]: each item's popularity over that of the most popular one, on sale or not."""
        scores = self._scores[:rows]
        found = np.zeros(rows, dtype=np.float32)
        found[: len(scores)] = scores / max(float(scores.max(initial=0.0)), 1e-300)
        return found

    def lists(
        self, active: NDArray[np.bool_], category: NDArray[np.int32], categories: int, now_ms: int, catalogue_version: int = 0
    ) -> TopLists:
        """Top lists over rows with ``active`` bool[n], by ``category`` int32[n] codes below ``categories``; see ``TopListing.lists``."""
        return self._listing.lists(active, category, categories, now_ms, catalogue_version)

    def listing(self) -> TopListing:
        """Lists of the same counts over another choice of rows, with a pace of their own."""
        return TopListing(self)

    def top(self, active: NDArray[np.bool_], category: NDArray[np.int32], categories: int) -> TopLists:
        """``lists``, made now."""
        if len(active) > len(self._scores):
            self._scores = np.concatenate([self._scores, np.zeros(len(active) - len(self._scores))])
        overall = np.full((1, OVERALL_LIMIT), -1, dtype=np.int32)
        overall_scores = np.full((1, OVERALL_LIMIT), -1.0)
        rows = np.full((categories, CATEGORY_LIMIT), -1, dtype=np.int32)
        scores = np.full((categories, CATEGORY_LIMIT), -1.0)
        _fill(self._scores, active, category, overall, overall_scores, rows, scores)
        found = int((overall[0] >= 0).sum())
        leader = overall_scores[0, 0] if found and overall_scores[0, 0] > 0 else 1.0
        return TopLists(
            overall[0, :found], (overall_scores[0, :found] / leader).astype(np.float32),
            rows, (np.maximum(scores, 0.0) / leader).astype(np.float32),
        )  # fmt: skip


class TopListing:
    """Top lists of ``popularity`` over one choice of rows, made anew at a pace that costs little."""

    def __init__(self, popularity: Popularity) -> None:
        self._popularity = popularity
        self._version = (-1, -1)
        self._looked_at = -1
        self._listed_at = 0
        self._lists: TopLists | None = None

    def lists(
        self, active: NDArray[np.bool_], category: NDArray[np.int32], categories: int, now_ms: int, catalogue_version: int = 0
    ) -> TopLists:
        """Top lists over rows with ``active`` bool[n], by ``category`` int32[n] codes below ``categories``.

        Made anew when events came in or the catalogue changed and a time in proportion to n has passed since (50 ms for 10,000
        items); ``now_ms`` is that clock. So a list may hold what was just taken off sale: whoever shows it looks once more. That of a
        category which came since is empty. A list that is half gone is made anew at once, if there may be more to list.
        """
        version = (catalogue_version, self._popularity.changes)
        fresh = version == self._version or 0 <= now_ms - self._listed_at < len(active) // _ROWS_PER_MS
        if self._lists is not None and fresh and not self._half_gone(active, catalogue_version):
            self._lists = self._lists.up_to(categories)
            return self._lists
        self._version, self._looked_at, self._listed_at = version, catalogue_version, now_ms
        self._lists = self._popularity.top(active, category, categories)
        return self._lists

    def _half_gone(self, active: NDArray[np.bool_], catalogue_version: int) -> bool:
        """Whether most of a full list was taken off sale since: a shop that sold out what was popular still has something to show.

        A list that is not full held all there was. Looked at once for each change of the catalogue.
        """
        if self._lists is None or catalogue_version == self._looked_at:
            return False
        self._looked_at = catalogue_version
        lists = self._lists
        if len(lists.overall) == OVERALL_LIMIT and 2 * int(active[lists.overall].sum()) < OVERALL_LIMIT:
            return True
        full = lists.categories[lists.categories[:, -1] >= 0]
        return bool((2 * active[full].sum(axis=1) < CATEGORY_LIMIT).any())


@compiled
def _insert(rows, scores, which, row, score):  # type: ignore[no-untyped-def]
    """Into list ``which``, sorted by falling score and full of -1 behind; of equal scores the earlier row stays ahead."""
    place = rows.shape[1] - 1
    while place > 0 and scores[which, place - 1] < score:
        rows[which, place] = rows[which, place - 1]
        scores[which, place] = scores[which, place - 1]
        place -= 1
    rows[which, place] = row
    scores[which, place] = score


@compiled
def _fill(all_scores, active, category, overall, overall_scores, rows, scores):  # type: ignore[no-untyped-def]
    weakest = overall.shape[1] - 1
    weakest_of_category = rows.shape[1] - 1
    for row in range(len(active)):
        if not active[row]:
            continue
        score = all_scores[row]
        if score > overall_scores[0, weakest]:
            _insert(overall, overall_scores, 0, row, score)
        code = category[row]
        if 0 <= code < rows.shape[0] and score > scores[code, weakest_of_category]:
            _insert(rows, scores, code, row, score)
