"""Counts along the funnel: what shoppers did, and how much of it met what was recommended."""

from __future__ import annotations

from typing import Self


class FunnelCounts:
    """Events by type, and the clicks and purchases ("conversions") whose item had been recommended.

    >>> funnel = FunnelCounts()
    >>> _ = funnel.update("click", recommended=True).update("click").update("purchase", recommended=True)
    >>> funnel.events, funnel.clicks, funnel.conversions, funnel.by_type
    (3, 1, 1, {'click': 2, 'purchase': 1})
    """

    __slots__ = ("by_type", "clicks", "conversions")

    def __init__(self) -> None:
        self.by_type: dict[str, int] = {}
        self.clicks = 0
        self.conversions = 0

    @property
    def events(self) -> int:
        """All events, of every type."""
        return sum(self.by_type.values())

    def update(self, type_: str, *, recommended: bool = False, count: int = 1) -> Self:
        """Count ``count`` events of one type; ``recommended``: their item stood in the list last emitted."""
        self.by_type[type_] = self.by_type.get(type_, 0) + count
        if recommended and type_ == "click":
            self.clicks += count
        if recommended and type_ == "purchase":
            self.conversions += count
        return self

    def merge(self, other: FunnelCounts) -> Self:
        """Add the counts of a disjoint part of the stream."""
        for type_, count in other.by_type.items():
            self.by_type[type_] = self.by_type.get(type_, 0) + count
        self.clicks += other.clicks
        self.conversions += other.conversions
        return self

    def conversion_rate(self) -> float:
        """Recommended purchases per recommended click; 0 before the first click."""
        return self.conversions / self.clicks if self.clicks else 0.0
