"""Weights of sources, found by trying: the tree-structured Parzen estimator (Bergstra et al., NIPS 2011), by Optuna."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import optuna


def tune(names: Sequence[str], objective: Callable[[NDArray[np.float32]], float], *, trials: int, seed: int = 0) -> dict[str, float]:
    """Weights in 0..1 by name, for which ``objective`` (of weights float32[n], in the order of ``names``) was highest.

    The first trials weigh all alike, then one alone each, so the outcome is never worse than any of these (as far as ``trials`` go).
    """
    import optuna  # which a worker, that is given weights, never needs

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def attempt(trial: optuna.Trial) -> float:
        return objective(np.array([trial.suggest_float(name, 0.0, 1.0) for name in names], dtype=np.float32))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    study.enqueue_trial(dict.fromkeys(names, 0.5))
    for alone in names:
        study.enqueue_trial({name: float(name == alone) for name in names})
    study.optimize(attempt, n_trials=trials)
    return {name: float(value) for name, value in study.best_params.items()}
