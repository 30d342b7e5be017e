"""How probable it is that a candidate is bought before the visit is over: gradient-boosted trees on the logistic loss, by LightGBM."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.ranking.candidates import NAMES
from models.ranking.trees import Trees

#: Purchases to learn from, and to stop by, below which nothing is said of how probable one is.
PURCHASES_NEEDED: Final = 20
_PARAMETERS: Final = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}
_ROUNDS: Final = 400


class PurchaseModel(Trees):
    """Probabilities of rows of features, whose columns are ``candidates.NAMES``.

    The loss is proper, so the probabilities are calibrated as far as the visits to come are like those of the log. Isotonic regression of
    the ranker's own score tells purchases apart less well: AUC .62 beside .70 on Online Retail [tests/benchmarks/README.md].
    """

    @classmethod
    def fit(
        cls, features: NDArray[np.float32], bought: NDArray[np.bool_], border: int, middle: int, threads: int = 1
    ) -> tuple[Self, dict[str, float]] | None:
        """Trained on the candidates ``features`` float32[c, f], oldest first, of which ``bought`` bool[c] were, before ``border``. Those
        from there to ``middle`` say when to stop, the others how well it does: Brier score (mean squared error), beside that of the
        frequency before it, and mean probability beside frequency. None where too little was bought.
        """
        if min(int(bought[:border].sum()), int(bought[border:middle].sum())) < PURCHASES_NEEDED:
            return None
        training = cls.examples(NAMES, features[:border], bought[:border])
        checking = cls.examples(NAMES, features[border:middle], bought[border:middle], like=training)
        model = cls.grow(_PARAMETERS, _ROUNDS, training, checking, threads)
        found, told = model.probabilities(features[middle:]), bought[middle:].astype(np.float64)
        return model, {
            "purchases": int(bought.sum()),
            "purchase_brier": round(float(((found - told) ** 2).mean()), 6),
            "purchase_brier_constant": round(float(((bought[:middle].mean() - told) ** 2).mean()), 6),
            "purchase_probability": round(float(found.mean()), 6),
            "purchase_frequency": round(float(told.mean()), 6),
        }

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[c] of ``features`` float32[c, f]."""
        return self.predict(features)
