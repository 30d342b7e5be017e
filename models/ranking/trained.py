"""A trained ranker as a folder: trees, what their scores mean, and a card; loaded beside the one in use when it has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import lightgbm
import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from models.files import write_whole
from models.ranking.candidates import NAMES
from models.ranking.learned import LearnedRanker
from models.ranking.weights import mean_reciprocal_rank
from models.watching import WatchedFolder

_TREES: Final = "ranker.txt"
_CARD: Final = "ranker.json"
_FORMAT: Final = 2
_KNOTS: Final = ("score_knots", "probability_knots", "bought_score_knots", "bought_probability_knots")
#: Purchases among the candidates that are held out, below which nothing is said of how probable one is.
PURCHASES_NEEDED: Final = 20


class RankerFileError(ValueError):
    """A folder that holds no ranker of this version."""


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """``learned`` orders candidates; ``score_knots`` and ``probability_knots`` float64[q], both rising, say how probable a score makes it
    that the shopper's next event is about the item; ``bought_score_knots`` and ``bought_probability_knots``, likewise, that the shopper
    buys it before the visit is over (empty where the log held too few purchases). ``name`` goes into every record that it made.
    """

    learned: LearnedRanker
    score_knots: NDArray[np.float64]
    probability_knots: NDArray[np.float64]
    name: str
    bought_score_knots: NDArray[np.float64]
    bought_probability_knots: NDArray[np.float64]

    @classmethod
    def of(
        cls, learned: LearnedRanker, features: NDArray[np.float32], right: NDArray[np.bool_], bought: NDArray[np.bool_] | None = None
    ) -> Self:
        """Calibrated on candidates that ``learned`` was not fitted to: isotonic regression (Zadrozny and Elkan, KDD 2002)."""
        scores = learned.score(features)
        told = bought is not None and int(bought.sum()) >= PURCHASES_NEEDED
        return cls(
            learned, *calibrate(scores, right), _name_of(learned.to_text()),
            *(calibrate(scores, bought) if told and bought is not None else (np.empty(0), np.empty(0))),
        )  # fmt: skip

    @classmethod
    def fit(
        cls,
        starts: NDArray[np.int64],
        features: NDArray[np.float32],
        right: NDArray[np.bool_],
        threads: int = 1,
        bought: NDArray[np.bool_] | None = None,
    ) -> tuple[Self, dict[str, float]]:
        """Trained on n lists, oldest first (see ``LearnedRanker.fit``); the newest fifth says when to stop and what scores mean,
        for what comes next and for what is ``bought`` bool[c]. Also: what that fifth says of the ranker and of the blend. Raises
        ``ValueError`` if there is too little to learn from.
        """
        lists = len(starts) - 1
        border = lists - lists // 5
        learned = LearnedRanker.fit(NAMES, starts, features, right, threads, border)
        held = slice(int(starts[border]), None)
        bounds = starts[border:] - starts[border]
        trained = cls.of(learned, features[held], right[held], None if bought is None else bought[held])
        scores = learned.score(features[held])
        purchases = {} if not len(trained.bought_score_knots) or bought is None else judge_calibration(scores, bought[held])
        return trained, {
            "lists": lists,
            "held_out": lists - border,
            "mrr_at_20": round(mean_reciprocal_rank(bounds, scores, right[held]), 4),
            "mrr_at_20_blend": round(
                mean_reciprocal_rank(bounds, features[held][:, NAMES.index("blend")].astype(np.float64), right[held]), 4
            ),
            **purchases,
        }

    def judge(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(scores, probabilities) float64[c] of ``features`` float32[c, f], whose columns are ``candidates.NAMES``."""
        scores = self.learned.score(features)
        return scores, np.interp(scores, self.score_knots, self.probability_knots)

    def purchases(self, scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Probabilities float64[c] that items of these ``scores`` are bought before the visit is over; None where it is not known."""
        if not len(self.bought_score_knots):
            return None
        return np.asarray(np.interp(scores, self.bought_score_knots, self.bought_probability_knots))

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write trees, then the card, which makes them valid."""
        folder.mkdir(parents=True, exist_ok=True)
        text = self.learned.to_text()
        write_whole(folder / _TREES, text)
        document = {
            "format": _FORMAT, "name": self.name, "digest": xxhash.xxh3_128_hexdigest(text.encode()), "features": list(NAMES),
            "score_knots": self.score_knots.tolist(), "probability_knots": self.probability_knots.tolist(),
            "bought_score_knots": self.bought_score_knots.tolist(),
            "bought_probability_knots": self.bought_probability_knots.tolist(), **card,
        }  # fmt: skip
        write_whole(folder / _CARD, json.dumps(document, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As ``save`` wrote it. Raises ``RankerFileError`` that says what to do."""
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            text = (folder / _TREES).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RankerFileError(f"{folder} holds no ranker ({error}); make one with: assay train ranker --out {folder}") from None
        if not isinstance(card, dict) or card.get("format") != _FORMAT or card.get("features") != list(NAMES):
            raise RankerFileError(f"{folder} holds a ranker of another version of Assay; train it anew: assay train ranker --out {folder}")
        if card.get("digest") != xxhash.xxh3_128_hexdigest(text.encode()):
            raise RankerFileError(f"{folder}: {_TREES} is not the file that {_CARD} speaks of; copy both, or train anew")
        try:
            learned = LearnedRanker.from_text(text)
            knots = [np.array(card[name], dtype=np.float64) for name in _KNOTS]
        except (lightgbm.basic.LightGBMError, KeyError, ValueError, TypeError) as error:
            raise RankerFileError(f"{folder} holds a damaged ranker ({error}); train it anew") from None
        return cls(learned, knots[0], knots[1], str(card["name"]), knots[2], knots[3])


def watch_ranker(folder: Path) -> WatchedFolder[TrainedRanker]:
    """The ranker of ``folder``, and those that come after it. Raises ``RankerFileError`` if there is none to begin with."""
    return WatchedFolder(folder, _CARD, TrainedRanker.load, RankerFileError)


def calibrate(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(score, probability) knots, both rising, between which to interpolate: the means of the isotonic regression's blocks."""
    order = np.argsort(scores, kind="stable")
    found = isotonic_regression(right[order].astype(np.float64))
    blocks = np.asarray(found.blocks)
    sums = np.add.reduceat(scores[order], blocks[:-1])
    return sums / np.diff(blocks), np.asarray(found.x)[blocks[:-1]]


def judge_calibration(scores: NDArray[np.float64], bought: NDArray[np.bool_]) -> dict[str, float]:
    """How well a calibration of ``scores`` float64[c] on their older half tells what is ``bought`` bool[c] in the newer one: the Brier
    score (mean squared error) beside that of the older half's frequency, mean probability beside frequency, and how many were bought.
    """
    half = len(scores) // 2
    found = np.interp(scores[half:], *calibrate(scores[:half], bought[:half]))
    told = bought[half:].astype(np.float64)
    return {
        "purchases": int(bought.sum()),
        "purchase_brier": round(float(((found - told) ** 2).mean()), 6),
        "purchase_brier_constant": round(float(((bought[:half].mean() - told) ** 2).mean()), 6),
        "purchase_probability": round(float(found.mean()), 6),
        "purchase_frequency": round(float(told.mean()), 6),
    }


def _name_of(text: str) -> str:
    return f"ranker-{xxhash.xxh3_64_hexdigest(text.encode())[:8]}"
