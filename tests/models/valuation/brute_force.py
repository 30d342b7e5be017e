"""Shapley values by their definition, for games small enough to look at every coalition, and the utilities that are played for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

Utility = Callable[[tuple[int, ...]], float]


def shapley(players: int, utility: Utility) -> NDArray[np.float64]:
    """Each player's mean marginal contribution, over all coalitions of the others, weighted by the orders that they stand for."""
    worth = {members: utility(members) for members in coalitions(players)}
    values = np.zeros(players)
    for members, of_members in worth.items():
        for player in range(players):
            if player not in members:
                weight = math.factorial(len(members)) * math.factorial(players - 1 - len(members)) / math.factorial(players)
                values[player] += weight * (worth[tuple(sorted((*members, player)))] - of_members)
    return values


def coalitions(players: int) -> list[tuple[int, ...]]:
    return [tuple(i for i, inside in enumerate(chosen) if inside) for chosen in product((False, True), repeat=players)]


def vote(match: Sequence[float], k: int) -> Utility:
    """Matches among the min(k, |S|) nearest / k; rows are numbered nearest first."""
    return lambda members: sum(match[i] for i in sorted(members)[:k]) / k


def vote_of_those_there(match: Sequence[float], k: int, guess: float) -> Utility:
    """The same / min(k, |S|)."""
    return lambda members: sum(match[i] for i in sorted(members)[:k]) / min(k, len(members)) if members else guess


def vote_within(match: Sequence[float], within: Sequence[bool], guess: float) -> Utility:
    """The share of matches among the rows within the radius."""

    def utility(members: tuple[int, ...]) -> float:
        inside = [match[i] for i in members if within[i]]
        return sum(inside) / len(inside) if inside else guess

    return utility


def lift_of_assets(owner: Sequence[int], match: Sequence[float], k: int, beyond: Sequence[Sequence[float]]) -> Utility:
    """The lift of the assets' vote over their own popularity, where ``beyond`` lists the match of every row of an asset that is not in
    the head: the mean over all choices of the rows beyond that fill up the vote."""

    def utility(members: tuple[int, ...]) -> float:
        head = [m for asset, m in zip(owner, match, strict=True) if asset in members]
        outside = [m for asset in members for m in beyond[asset]]
        rows = len(head) + len(outside)
        if not rows:
            return 0.0
        fillings = list(combinations(outside, min(max(0, k - len(head)), len(outside))))
        filled = sum(sum(filling) for filling in fillings) / len(fillings)
        return (sum(head[:k]) + filled) / min(k, rows) - (sum(head) + sum(outside)) / rows

    return utility
