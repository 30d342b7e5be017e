"""Gradient-boosted trees over rows of features, by LightGBM: what all models made of them have in common.

LightGBM is imported by whoever first needs it: with all that it brings along it takes longer than everything else that a worker imports,
and one without a ranker never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lightgbm

#: Rounds without a gain on what is checked by, after which no more trees are added.
_PATIENCE: Final = 30


class Trees:
    """What ``booster`` says of rows of features."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @staticmethod
    def examples(
        names: Sequence[str],
        features: NDArray[np.float32],
        right: NDArray[np.bool_],
        groups: NDArray[np.int64] | None = None,
        like: lightgbm.Dataset | None = None,
    ) -> lightgbm.Dataset:
        """Rows ``features`` float32[c, f], whose columns are ``names``, that are ``right`` bool[c] or not. ``groups``: how many rows each
        list has; ``like``: what is trained on, where these are to check by.
        """
        import lightgbm

        return lightgbm.Dataset(features, right.astype(np.int8), reference=like, group=groups, feature_name=list(names))

    @classmethod
    def grow(cls, parameters: dict[str, Any], rounds: int, training: lightgbm.Dataset, checking: lightgbm.Dataset, threads: int) -> Self:
        """Trained on ``training`` in at most ``rounds``, of which those are kept that did best on ``checking``."""
        import lightgbm

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
        """As ``to_text`` gave it. Raises ``ValueError``."""
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error
        return cls(booster)
