"""Rules between pairs of items, counted as the items come: the baselines of a log that is judged event by event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Items that are held to follow one item: of twice as many, those that weigh most stay.
_FOLLOWERS: Final = 128


class OnlineRules:
    """From each of the last ``window`` items before it to an item, by 1 / distance: sequential rules (Kamehkhosh et al., RecTemp 2017), as
    ``rules.count_rules`` counts them over whole sessions; with a window of 1 what followed an item at once. Items are numbers.

    An item that more than 256 others followed keeps the 128 that weigh most, so memory grows with the items and no further.

    >>> rules = OnlineRules(window=2)
    >>> for before, item in (([], 7), ([7], 8), ([8, 7], 9), ([9, 8], 7)):
    ...     rules.learn(before, item)
    >>> rules.following(7, 20), rules.following(8, 20)
    ([8, 9], [9, 7])
    """

    def __init__(self, window: int) -> None:
        self._weights = [1.0 / distance for distance in range(1, window + 1)]
        self._followers: dict[int, dict[int, float]] = {}

    def learn(self, before: Sequence[int], item: int) -> None:
        """``item`` comes after ``before``, newest first."""
        for other, weight in zip(before, self._weights, strict=False):
            followers = self._followers.get(other)
            if followers is None:
                self._followers[other] = {item: weight}
            elif item in followers:
                followers[item] += weight
            else:
                followers[item] = weight
                if len(followers) > 2 * _FOLLOWERS:
                    self._followers[other] = {kept: followers[kept] for kept in _strongest(followers, _FOLLOWERS)}

    def following(self, item: int, limit: int) -> list[int]:
        """The items that follow ``item`` most, best first; of equal ones the one that did so earlier."""
        return _strongest(self._followers.get(item, {}), limit)


def _strongest(weights: dict[int, float], limit: int) -> list[int]:
    return sorted(weights, key=weights.__getitem__, reverse=True)[:limit]
