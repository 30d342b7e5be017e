"""A trained ranker as a folder: trees, what their scores mean, and a card; loaded beside the one in use when it has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.files import write_whole
from models.ranking.candidates import NAMES
from models.ranking.learned import LearnedRanker
from models.ranking.purchases import PurchaseModel
from models.ranking.weights import reciprocal_ranks
from models.watching import WatchedFolder

_TREES: Final = "ranker.txt"
_PURCHASES: Final = "purchases.txt"
_CARD: Final = "ranker.json"
_FORMAT: Final = 2


class RankerFileError(ValueError):
    """A folder that holds no ranker of this version."""


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """``learned`` orders candidates; ``score_knots`` and ``probability_knots`` float64[q], both rising, say how probable a score makes it
    that the shopper's next event is about the item; ``buying``, that the shopper buys it before the visit is over (None where the log held
    too few purchases). ``name`` goes into every record that it made.
    """

    learned: LearnedRanker
    score_knots: NDArray[np.float64]
    probability_knots: NDArray[np.float64]
    name: str
    buying: PurchaseModel | None = None

    @classmethod
    def of(
        cls, learned: LearnedRanker, features: NDArray[np.float32], right: NDArray[np.bool_], buying: PurchaseModel | None = None
    ) -> Self:
        """Calibrated on candidates that ``learned`` was neither fitted to nor stopped by: isotonic regression (Zadrozny and Elkan, KDD
        2002).
        """
        texts = [learned.to_text(), *([] if buying is None else [buying.to_text()])]
        return cls(learned, *calibrate(learned.score(features), right), _name_of("".join(texts)), buying)

    @classmethod
    def fit(
        cls,
        starts: NDArray[np.int64],
        features: NDArray[np.float32],
        right: NDArray[np.bool_],
        threads: int = 1,
        bought: NDArray[np.bool_] | None = None,
    ) -> tuple[Self, dict[str, float]]:
        """Trained on n lists, oldest first (see ``LearnedRanker.fit``). Of the newest fifth the older half says when to stop; the newer
        half, which had no say in the order, what scores mean and what the order is worth. ``bought`` bool[c] makes it tell purchases too
        (see ``PurchaseModel.fit``). Also: what the newer half (``held_out`` lists) says of the ranker, of the blend, of the gain in MRR
        from one to the other with its 95 % interval, and of purchases. Raises ``ValueError`` if there is too little to learn from.
        """
        # Torch and FAISS come with it, which a worker may do without.
        from models.evaluation.intervals import batch_means

        lists = len(starts) - 1
        border = lists - lists // 5
        middle = border + (lists - border) // 2
        if middle == border:
            raise ValueError(f"{lists} lists are too few: there is nothing to learn from")
        first, last = int(starts[border]), int(starts[middle])
        learned = LearnedRanker.fit(NAMES, starts[: middle + 1], features[:last], right[:last], threads, border)
        buying = None if bought is None else PurchaseModel.fit(features, bought, first, last, threads)
        bounds, held, told = starts[middle:] - last, features[last:], right[last:]
        trained = cls.of(learned, held, told, None if buying is None else buying[0])
        ranked = reciprocal_ranks(bounds, learned.score(held), told)
        blended = reciprocal_ranks(bounds, held[:, NAMES.index("blend")].astype(np.float64), told)
        gains = ranked - blended
        low, high = batch_means(gains.tolist(), -1.0)
        return trained, {
            "lists": lists,
            "held_out": lists - middle,
            "mrr_at_20": round(float(ranked.mean()), 4),
            "mrr_at_20_blend": round(float(blended.mean()), 4),
            "gain": round(float(gains.mean()), 4),
            "gain_low": round(low, 4),
            "gain_high": round(high, 4),
            **({} if buying is None else buying[1]),
        }

    def judge(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(scores, probabilities) float64[c] of ``features`` float32[c, f], whose columns are ``candidates.NAMES``."""
        scores = self.learned.score(features)
        return scores, np.interp(scores, self.score_knots, self.probability_knots)

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write trees, then the card, which makes them valid."""
        folder.mkdir(parents=True, exist_ok=True)
        text = self.learned.to_text()
        write_whole(folder / _TREES, text)
        purchases = None if self.buying is None else self.buying.to_text()
        if purchases is not None:
            write_whole(folder / _PURCHASES, purchases)
        document = {
            "format": _FORMAT, "name": self.name, "digest": _digest(text), "purchases_digest": _digest(purchases),
            "features": list(NAMES),
            "score_knots": self.score_knots.tolist(), "probability_knots": self.probability_knots.tolist(), **card,
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
        try:
            purchases = (folder / _PURCHASES).read_text(encoding="utf-8") if card.get("purchases_digest") is not None else None
        except (OSError, ValueError) as error:
            raise RankerFileError(f"{folder} holds half a ranker ({error}); copy {_PURCHASES} too, or train anew") from None
        for name, content, digest in ((_TREES, text, card.get("digest")), (_PURCHASES, purchases, card.get("purchases_digest"))):
            if digest != _digest(content):
                raise RankerFileError(f"{folder}: {name} is not the file that {_CARD} speaks of; copy both, or train anew")
        try:
            learned = LearnedRanker.from_text(text)
            buying = None if purchases is None else PurchaseModel.from_text(purchases)
            knots = np.array(card["score_knots"], dtype=np.float64), np.array(card["probability_knots"], dtype=np.float64)
        except (KeyError, ValueError, TypeError) as error:
            raise RankerFileError(f"{folder} holds a damaged ranker ({error}); train it anew") from None
        return cls(learned, *knots, str(card["name"]), buying)


def watch_ranker(folder: Path) -> WatchedFolder[TrainedRanker]:
    """The ranker of ``folder``, and those that come after it. Raises ``RankerFileError`` if there is none to begin with."""
    return WatchedFolder(folder, _CARD, TrainedRanker.load, RankerFileError)


def calibrate(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(score, probability) knots, both rising, between which to interpolate: the means of the isotonic regression's blocks."""
    from scipy.optimize import isotonic_regression  # which a worker needs no more than LightGBM

    order = np.argsort(scores, kind="stable")
    found = isotonic_regression(right[order].astype(np.float64))
    blocks = np.asarray(found.blocks)
    sums = np.add.reduceat(scores[order], blocks[:-1])
    return sums / np.diff(blocks), np.asarray(found.x)[blocks[:-1]]


def _digest(text: str | None) -> str | None:
    return None if text is None else xxhash.xxh3_128_hexdigest(text.encode())


def _name_of(text: str) -> str:
    return f"ranker-{xxhash.xxh3_64_hexdigest(text.encode())[:8]}"
