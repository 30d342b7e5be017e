"""By what the tests of a log are told apart: event type, category, age of the item, position in the visit, repeats."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from models.valuation.assets import UNCATEGORISED, AssetBound

COLD: Final = "cold"
#: Ages of items by their first touch, and the ms from which on each holds.
_HOUR_MS: Final = 3_600_000
_AGE_STARTS: Final = (_HOUR_MS, 24 * _HOUR_MS, 7 * 24 * _HOUR_MS, 28 * 24 * _HOUR_MS)
AGES: Final = (COLD, "under 1 hour", "1 to 24 hours", "1 to 7 days", "1 to 4 weeks", "over 4 weeks")
#: Positions in the visit, and where each begins.
_POSITION_STARTS: Final = (2, 3, 4, 6, 11, 21)
POSITIONS: Final = ("1", "2", "3", "4 to 5", "6 to 10", "11 to 20", "over 20")
#: Whether the shopper had touched the item before.
IN_VISIT: Final = "in this visit"
EARLIER: Final = "in an earlier visit"
NEVER: Final = "never before"
REPEATS: Final = (IN_VISIT, EARLIER, NEVER)
TYPE: Final = "event_type"
CATEGORY: Final = "category"
AGE: Final = "item_age"
POSITION: Final = "position"
REPEAT: Final = "repeat"
#: Dimension -> its groups, in the order of a report; those of types and categories have names of the log's own.
DIMENSIONS: Final[dict[str, tuple[str, ...]]] = {TYPE: (), CATEGORY: (), AGE: AGES, POSITION: POSITIONS, REPEAT: REPEATS}

#: Items of a shopper that are remembered.
_OWN: Final = 128
#: Items of a visit that rules look back at.
WINDOW: Final = 10


@dataclass(slots=True)
class Trail:
    """What one shopper touched: ``own``, items with the number of the visit that touched them last, newest at the end; ``newest``, the last
    ``WINDOW`` of the visit, newest first; ``position`` of the last of them in the visit.
    """

    visit: int = 0
    last_ms: int = 0
    position: int = 0
    own: dict[int, int] = field(default_factory=dict)
    newest: list[int] = field(default_factory=list)

    def last(self) -> int | None:
        """The item touched last, in whatever visit."""
        return next(reversed(self.own), None)

    def last_items(self, limit: int) -> list[int]:
        """Distinct items, newest first."""
        return list(islice(reversed(self.own), limit))

    def move_on(self, at_ms: int, gap_ms: int) -> None:
        """Something is touched at ``at_ms``: after a pause of more than ``gap_ms`` in a new visit."""
        if at_ms - self.last_ms > gap_ms:
            self.visit += 1
            self.position = 0
            self.newest = []
        self.position += 1
        self.last_ms = max(self.last_ms, at_ms)

    def touch(self, item: int) -> None:
        """``item`` is what was touched."""
        self.own.pop(item, None)
        self.own[item] = self.visit
        if len(self.own) > _OWN:
            del self.own[next(iter(self.own))]
        self.newest = [item, *self.newest[: WINDOW - 1]]


class Splits:
    """Names the group of a test in every one of ``DIMENSIONS``. Of categories the first 64 that come are told apart, the rest ``other``."""

    def __init__(self) -> None:
        self._categories = AssetBound()

    def groups(self, outcome: Mapping[str, Any], item: int, age: str, trail: Trail) -> tuple[str, ...]:
        """Of the touch of ``item`` for which ``trail`` has moved on, but which it does not hold yet."""
        visit = trail.own.get(item)
        return (
            outcome["type"],
            self._categories.kept(CATEGORY, outcome.get("category") or UNCATEGORISED),
            age,
            POSITIONS[bisect(_POSITION_STARTS, trail.position)],
            NEVER if visit is None else IN_VISIT if visit == trail.visit else EARLIER,
        )


def age_of(first_ms: int | None, at_ms: int) -> str:
    """One of ``AGES``, by when the item was touched first, if it was."""
    return COLD if first_ms is None else AGES[1 + bisect(_AGE_STARTS, at_ms - first_ms)]
