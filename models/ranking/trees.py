"""Gradient-boosted trees over rows of features, by LightGBM: what all models made of them have in common."""

from __future__ import annotations

from typing import Any, Final, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray

#: Rounds without a gain on what is checked by, after which no more trees are added.
_PATIENCE: Final = 30


class Trees:
    """What ``booster`` says of rows of features."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @classmethod
    def grow(cls, parameters: dict[str, Any], rounds: int, training: lightgbm.Dataset, checking: lightgbm.Dataset, threads: int) -> Self:
        """Trained on ``training`` in at most ``rounds``, of which those are kept that did best on ``checking``."""
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        booster = lightgbm.train(parameters | {"num_threads": threads}, training, rounds, valid_sets=[checking], callbacks=[stop])
        return cls.from_text(booster.model_to_string(num_iteration=booster.best_iteration))

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[c] of ``features`` float32[c, f]."""
        if not len(features):
            return np.zeros(0)
        return np.asarray(self._booster.predict(features, num_threads=1, validate_features=False), dtype=np.float64)

    def to_text(self) -> str:
        """The trees, readable by LightGBM everywhere."""
        return str(self._booster.model_to_string())

    @classmethod
    def from_text(cls, text: str) -> Self:
        """As ``to_text`` gave it. Raises ``lightgbm.basic.LightGBMError``."""
        return cls(lightgbm.Booster(model_str=text))
