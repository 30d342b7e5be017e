"""Was what a list showed taken up? A model of it, judged on the newest part of a log, by blocked cross-validation and by training size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.blocks import Split, blocked_folds, newest_part
from models.evaluation.classification import Area, Confusion, area, best_threshold, confusion
from models.evaluation.responders import Responder

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Fit = Callable[[Float32, Bool], Responder]

#: Shares of the training part, its newest, at which the curves of P_train and P_test have a point.
SIZES: Final = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class TooFewResponses(ValueError):
    """A part of the lists holds no item that was taken up, or none that was not: there is nothing to learn, or to judge."""


@dataclass(frozen=True, slots=True)
class Shown:
    """n lists at rising times ``at_ms`` int64[n]: list i showed the items with ``features[starts[i] : starts[i + 1]]`` float32[c, f], of
    which those ``taken`` bool[c] were clicked or bought next.
    """

    at_ms: Int64
    starts: Int64
    features: Float32
    taken: Bool

    def __len__(self) -> int:
        """Lists."""
        return len(self.at_ms)

    def of(self, lists: Int64) -> tuple[Float32, Bool]:
        """Features and labels of some of the lists, end to end."""
        chosen = np.zeros(len(self), np.bool_)
        chosen[lists] = True
        rows = np.repeat(chosen, np.diff(self.starts))
        return self.features[rows], self.taken[rows]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A model taught ``train_lists`` and judged on ``lists`` others, with ``rows`` items shown. ``p_train`` and ``p_test`` are AUC, on the
    rows that it learned from and on the others; ``threshold`` is the one of the best F1 on the former, unless it was given.
    """

    protocol: str
    train_lists: int
    lists: int
    rows: int
    taken: int
    p_train: float
    p_test: Area
    threshold: float
    confusion: Confusion
    scores: Float64
    labels: Bool


def judge_split(shown: Shown, split: Split, fit: Fit, protocol: str, threshold: float | None = None) -> Judgement:
    """Teach and judge. Raises ``TooFewResponses``."""
    (taught, known), (asked, labels) = shown.of(split.train), shown.of(split.test)
    for part, of_part in (("learned from", known), ("judged", labels)):
        if not of_part.any() or of_part.all():
            raise TooFewResponses(
                f"{protocol}: of the {len(of_part):,} items shown that are {part}, {int(of_part.sum()):,} were taken up: take more of "
                "the log"
            )
    respond = fit(taught, known)
    before, after = respond(taught), respond(asked)
    limit = best_threshold(before, known) if threshold is None else threshold
    return Judgement(
        protocol, len(split.train), len(split.test), len(labels), int(labels.sum()), area(before, known).auc, area(after, labels), limit,
        confusion(after, labels, limit), after, labels,
    )  # fmt: skip


def judge_replay(shown: Shown, fit: Fit, share: float, gap: float, threshold: float | None = None) -> Judgement:
    """The newest ``share`` of the lists, by what the older ones teach; the ``gap``, a share of the time that they span, lies between."""
    return judge_split(shown, newest_part(shown.at_ms, share, gap_ms(shown, gap)), fit, "replay", threshold)


def judge_folds(shown: Shown, fit: Fit, folds: int, gap: float, threshold: float | None = None) -> Iterator[Judgement]:
    """Each of ``folds`` blocks of time, by what all others teach but for a ``gap`` on either side."""
    for number, split in enumerate(blocked_folds(shown.at_ms, folds, gap_ms(shown, gap)), 1):
        yield judge_split(shown, split, fit, f"fold {number}", threshold)


def learning_curve(shown: Shown, fit: Fit, share: float, gap: float, sizes: Sequence[float] = SIZES) -> Iterator[Judgement]:
    """The replay taught the newest ``sizes`` of its training part; of a part without a yes or a no there is no point."""
    train, test = newest_part(shown.at_ms, share, gap_ms(shown, gap))
    for size in sizes:
        part = train[len(train) - round(len(train) * size) :]
        _, known = shown.of(part)
        if known.any() and not known.all():
            yield judge_split(shown, Split(part, test), fit, f"newest {size:.0%}")


def gap_ms(shown: Shown, gap: float) -> int:
    """A share of the time that the lists span, in ms."""
    return round(gap * float(shown.at_ms[-1] - shown.at_ms[0])) if len(shown) else 0
