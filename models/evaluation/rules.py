"""Rules between pairs of items, counted over whole sessions: the baselines that a neighbour model has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.dataset import Sequences
from models.retrieval.columns import keep_best

_CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class Rules:
    """For each item what goes with it: ``rows`` int32 and ``weights`` float32 from ``starts[item]`` to ``starts[item + 1]``."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.starts.nbytes + self.rows.nbytes + self.weights.nbytes


def count_rules(sessions: Sequences, items: int, *, window: int, both_ways: bool, by_distance: bool) -> Rules:
    """Pairs of items at most ``window`` positions apart; ``by_distance``: each counts 1 / distance, else 1.

    ``both_ways``: association rules, between different items; else from the earlier item to the later, which may be the same come back:
    sequential rules (Kamehkhosh et al., RecTemp 2017).
    """
    keys: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float32]] = []
    for first in range(0, len(sessions), _CHUNK):
        part = sessions.slice(first, min(first + _CHUNK, len(sessions)))
        lengths = np.diff(part.starts)
        left = np.repeat(part.starts[1:], lengths) - np.arange(len(part.rows))
        for distance in range(1, min(window, int(lengths.max(initial=0))) + 1):
            at = np.flatnonzero(left > distance)
            before, after = part.rows[at].astype(np.int64), part.rows[at + distance].astype(np.int64)
            if both_ways:
                other = before != after
                before, after = before[other], after[other]
            weight = np.full(len(before), 1.0 / distance if by_distance else 1.0, dtype=np.float32)
            keys.append(before * items + after)
            weights.append(weight)
            if both_ways:
                keys.append(after * items + before)
                weights.append(weight)
    key = np.concatenate(keys) if keys else np.empty(0, np.int64)
    unique, inverse = np.unique(key, return_inverse=True)
    summed = np.bincount(inverse, weights=np.concatenate(weights) if weights else None, minlength=len(unique)).astype(np.float32)
    starts = np.searchsorted(unique, np.arange(items + 1, dtype=np.int64) * items)
    return Rules(starts.astype(np.int64), (unique % max(items, 1)).astype(np.int32), summed)


class RuleVotes:
    """Adds the rules of a prefix's newest items up: the newest counts 1, each one before it ``decay`` times that."""

    def __init__(self, rules: Rules, items: int, *, recent: int, decay: float) -> None:
        self._rules = rules
        self._recent = recent
        self._decay = decay
        self._place = np.full(items, -1, dtype=np.int64)
        self._base = 0

    def vote(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows int32[n, limit], best first (-1: no more), and their scores float32[n, limit]."""
        rows = np.full((len(prefixes), limit), -1, dtype=np.int32)
        scores = np.zeros((len(prefixes), limit), dtype=np.float32)
        self._base = _vote(
            prefixes.starts, prefixes.rows, self._recent, self._decay,
            self._rules.starts, self._rules.rows, self._rules.weights, self._place, self._base, rows, scores,
        )  # fmt: skip
        return rows, scores


@compiled
def _vote(starts, prefix_rows, recent, decay, rule_starts, rule_rows, rule_weights, place, base, out_rows, out_scores):  # type: ignore[no-untyped-def]
    rows = np.empty(len(place), np.int32)
    scores = np.empty(len(place), np.float32)
    for i in range(len(starts) - 1):
        count = 0
        weight = np.float32(1.0)
        for p in range(starts[i + 1] - 1, max(starts[i], starts[i + 1] - recent) - 1, -1):
            item = prefix_rows[p]
            if item + 1 < len(rule_starts):
                for j in range(rule_starts[item], rule_starts[item + 1]):
                    row = rule_rows[j]
                    at = place[row]
                    if at < base:
                        at = base + count
                        place[row] = at
                        rows[count] = row
                        scores[count] = 0.0
                        count += 1
                    scores[at - base] += weight * rule_weights[j]
            weight *= np.float32(decay)
        for j in range(keep_best(scores, count, out_rows[i])):
            out_scores[i, j] = scores[out_rows[i, j]]
            out_rows[i, j] = rows[out_rows[i, j]]
        base += count + 1
    return base
