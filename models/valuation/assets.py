"""The data assets that are accounted for, dimension by dimension, and the bound on how many are told apart."""

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


class AssetNumbers:
    """Numbers for (dimension, asset) pairs, in order of first appearance.

    >>> numbers = AssetNumbers()
    >>> numbers.number("channel", "web"), numbers.number("channel", "app"), numbers.number("channel", "web"), numbers.pairs
    (0, 1, 0, [('channel', 'web'), ('channel', 'app')])
    """

    def __init__(self, pairs: Iterable[Sequence[str]] = ()) -> None:
        self.pairs: list[tuple[str, str]] = [(dimension, asset) for dimension, asset in pairs]
        self._numbers = {pair: number for number, pair in enumerate(self.pairs)}

    def __len__(self) -> int:
        return len(self.pairs)

    def number(self, dimension: str, asset: str) -> int:
        """The number of an asset, given now if it is new."""
        number = self._numbers.setdefault((dimension, asset), len(self.pairs))
        if number == len(self.pairs):
            self.pairs.append((dimension, asset))
        return number


class AssetBound:
    """Which assets are told apart: the first ``limit`` of each dimension; those that come later are ``OTHER``.

    The choice is never revised, so it must be made where all that a dimension counts comes together: then an asset that is
    told apart has all its counts, and ``OTHER`` has all the rest, exactly. First come rather than any other order, because
    a burst of garbage names then ends up in ``OTHER`` instead of crowding out the real ones.

    >>> bound = AssetBound(limit=1)
    >>> bound.kept("channel", "web"), bound.kept("channel", "app"), bound.kept("channel", "web"), bound.kept("country", "GB")
    ('web', 'other', 'web', 'GB')
    """

    def __init__(self, limit: int = ASSET_LIMIT) -> None:
        self.limit = limit
        self._kept: dict[str, set[str]] = {}

    def kept(self, dimension: str, asset: str) -> str:
        """The name under which an asset is counted, now and ever after."""
        kept = self._kept.setdefault(dimension, set())
        if asset not in kept and asset != OTHER:
            if len(kept) >= self.limit:
                return OTHER
            kept.add(asset)
        return asset
