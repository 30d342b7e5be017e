"""A learned order of candidates: gradient-boosted trees that maximise NDCG (LambdaMART; Burges, 2010), by LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.ranking.trees import Trees

if TYPE_CHECKING:
    import lightgbm

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_PARAMETERS: Final = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [20],
    "lambdarank_truncation_level": 25,
    "learning_rate": 0.08,
    "num_leaves": 47,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "bagging_by_query": True,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}
_ROUNDS: Final = 600
#: Newest share of the examples that tells when more trees help no more.
_CHECKED: Final = 0.2


class LearnedRanker(Trees):
    """Scores rows of features; ``names`` are those of the columns."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        super().__init__(booster)
        self.names: list[str] = booster.feature_name()

    @classmethod
    def fit(
        cls, names: Sequence[str], starts: Int64, features: Float32, right: NDArray[np.bool_], threads: int = 1, border: int | None = None
    ) -> Self:
        """Of n lists, oldest first: the candidates of list i have ``features[starts[i] : starts[i + 1]]`` float32[c, f] and are ``right``
        bool[c] or not. Lists without a right one teach nothing and are left out. Those from list ``border`` on (default: the newest fifth
        of those that teach) tell when to stop.
        """
        sizes = np.diff(starts)
        so_far = np.concatenate([[0], np.cumsum(right)])
        telling = so_far[starts[1:]] > so_far[starts[:-1]]
        if int(telling.sum()) < 2:
            raise ValueError("fewer than two lists hold a right candidate: there is nothing to learn from")
        chosen = np.repeat(telling, sizes)
        features, right, groups = features[chosen], right[chosen], sizes[telling]
        wanted = round(len(groups) * (1 - _CHECKED)) if border is None else int(telling[:border].sum())
        cut = max(1, min(len(groups) - 1, wanted))
        end = int(groups[:cut].sum())
        training = cls.examples(names, features[:end], right[:end], groups[:cut])
        checking = cls.examples(names, features[end:], right[end:], groups[cut:], training)
        return cls.grow(_PARAMETERS, _ROUNDS, training, checking, threads)

    def score(self, features: Float32) -> NDArray[np.float64]:
        """float64[c], higher is better, of ``features`` float32[c, f]."""
        return self.predict(features)
