"""The data assets that are accounted for, dimension by dimension, and the bounded table that numbers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Every outcome counts once in each dimension that it names. ``overall`` has the one asset ``ALL``.
DIMENSIONS = ("overall", "channel", "event_type", "category", "country", "segment")
ALL = "all"
#: The category of what has none (a search, a product outside the tree), so that categories sum to the whole.
UNCATEGORISED = "uncategorised"
#: Where assets beyond the bound of their dimension are counted together.
OTHER = "other"
#: Assets per dimension that are told apart. A window costs about 60 minute and 168 hour panes an asset, some 100 bytes each.
ASSET_LIMIT = 64


class AssetTable:
    """Numbers for (dimension, asset) pairs, in order of first appearance; at most ``limit`` assets a dimension.

    Beyond the bound an asset is counted under ``OTHER``; so a dimension always sums to the whole. The table belongs to one
    partition of the stream: which assets are told apart beyond the bound depends on who came first there.

    >>> table = AssetTable(limit=1)
    >>> table.number("channel", "web"), table.number("channel", "app"), table.number("channel", "kiosk"), table.pairs
    (0, 1, 1, [('channel', 'web'), ('channel', 'other')])
    """

    def __init__(self, pairs: Iterable[Sequence[str]] = (), limit: int = ASSET_LIMIT) -> None:
        self.limit = limit
        self.pairs: list[tuple[str, str]] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._sizes: dict[str, int] = {}
        for dimension, asset in pairs:
            self._append(dimension, asset)

    def __len__(self) -> int:
        return len(self.pairs)

    def number(self, dimension: str, asset: str) -> int:
        """The number of an asset, given now if it is new; that of ``OTHER`` when the dimension is full."""
        known = self._numbers.get((dimension, asset))
        if known is not None:
            return known
        if self._sizes.get(dimension, 0) >= self.limit and asset != OTHER:
            return self.number(dimension, OTHER)
        return self._append(dimension, asset)

    def _append(self, dimension: str, asset: str) -> int:
        number = len(self.pairs)
        self.pairs.append((dimension, asset))
        self._numbers[dimension, asset] = number
        if asset != OTHER:
            self._sizes[dimension] = self._sizes.get(dimension, 0) + 1
        return number
