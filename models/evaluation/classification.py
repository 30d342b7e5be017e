"""How well scores tell yes from no: ROC curve, the area under it with its interval, and what a threshold makes of them."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Clusters of consecutive rows whose dependence the interval allows for.
_CLUSTERS: Final = 30


class Roc(NamedTuple):
    """Points of the curve, from (0, 0) to (1, 1): ``false_positive`` and ``true_positive`` rates float64[p] of the rows that score at
    least ``thresholds`` float64[p] (the first, infinity, lets none pass).
    """

    false_positive: Float64
    true_positive: Float64
    thresholds: Float64


class Area(NamedTuple):
    """Area under the ROC curve, the chance that a yes scores above a no (ties: half), and its 95 % interval."""

    auc: float
    low: float
    high: float


class Confusion(NamedTuple):
    """Rows by what was said and what was so."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        """Share of those said yes that were; 0 where none was said."""
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the yeses that were said; 0 where there were none."""
        return self.true_positives / max(1, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 where nothing was hit."""
        return 2 * self.true_positives / max(1, 2 * self.true_positives + self.false_positives + self.false_negatives)


def roc(scores: Float64, labels: Bool) -> Roc:
    """The curve of float64[n] ``scores`` (higher: more likely yes) against bool[n] ``labels``; one point for each distinct score.

    >>> roc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False]))[:2]
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-math.inf))
    hits = np.cumsum(labels[order])[ends]
    yes, no = int(labels.sum()), int((~labels).sum())
    return Roc(
        np.concatenate([[0.0], (ends + 1 - hits) / max(1, no)]),
        np.concatenate([[0.0], hits / max(1, yes)]),
        np.concatenate([[math.inf], scores[order][ends]]),
    )


def area(scores: Float64, labels: Bool) -> Area:
    """AUC of rows in the order of time. The interval allows for rows that depend on their neighbours in time: the variance is that of
    thirty clusters of consecutive rows (Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics 53, 1997), with a
    t quantile. Without a yes, or without a no, nothing is known: 1/2 in 0..1.

    >>> area(np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, True, False, False])).auc
    0.75
    """
    yes, no = int(labels.sum()), int((~labels).sum())
    if not yes or not no:
        return Area(0.5, 0.0, 1.0)
    ranks = rankdata(scores)
    # Of each yes the share of noes below it, of each no the share of yeses above it.
    placement = np.empty(len(scores))
    placement[labels] = (ranks[labels] - rankdata(scores[labels])) / no
    placement[~labels] = 1 - (ranks[~labels] - rankdata(scores[~labels])) / yes
    auc = float(placement[labels].mean())
    if len(scores) < 2 * _CLUSTERS:
        return Area(auc, 0.0, 1.0)
    influence = np.where(labels, (placement - auc) / yes, (placement - auc) / no)
    starts = np.linspace(0, len(scores), _CLUSTERS, endpoint=False).astype(int)
    clusters = np.add.reduceat(influence, starts)
    half = float(stdtrit(_CLUSTERS - 1, 0.975)) * math.sqrt(_CLUSTERS / (_CLUSTERS - 1) * float((clusters**2).sum()))
    return Area(auc, max(0.0, auc - half), min(1.0, auc + half))


def confusion(scores: Float64, labels: Bool, threshold: float) -> Confusion:
    """What saying yes from ``threshold`` on comes to.

    >>> found = confusion(np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, True, False, False]), 0.5)
    >>> found, found.precision, found.recall, found.f1
    (Confusion(true_positives=1, false_positives=1, false_negatives=1, true_negatives=1), 0.5, 0.5, 0.5)
    """
    said = scores >= threshold
    counts: Any = (said & labels, said & ~labels, ~said & labels, ~said & ~labels)
    return Confusion(*(int(part.sum()) for part in counts))


def best_threshold(scores: Float64, labels: Bool) -> float:
    """The threshold of the highest F1, the largest of equal ones: to be chosen on training rows, never on those to be judged.

    >>> best_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, True]))
    0.1
    """
    curve = roc(scores, labels)
    yes, no = int(labels.sum()), int((~labels).sum())
    hits, said = curve.true_positive * yes, curve.true_positive * yes + curve.false_positive * no
    return float(curve.thresholds[1:][np.argmax((2 * hits / np.maximum(1, said + yes))[1:])]) if len(scores) else math.inf
