"""A/B tests of two equal rankers that somebody looks at again and again."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.experiments import ConfidenceSequence
from models.experiments.sequential import LEAST_USERS


def false_positives(
    spending: Literal["normal", "skewed"], generator: np.random.Generator, replays: int, users: int = 10_000, step: int = 50
) -> tuple[float, float]:
    """Share of tests without a difference in which the fixed interval, and the confidence sequence, ever exclude 0.

    A test has ``users`` users in each arm and is looked at whenever ``step`` more are in each.
    """
    sequence = ConfidenceSequence(tightest_at=users)
    looks = np.arange(LEAST_USERS, users + 1, step)
    halves = np.array([sequence.half_width(1.0, 2 * int(look)) for look in looks])
    fixed = always_valid = 0
    for _ in range(replays):
        values = generator.standard_normal((2, users)) if spending == "normal" else generator.lognormal(0.0, 1.0, (2, users))
        sums, squares = (np.cumsum(part, axis=1)[:, looks - 1] for part in (values, values**2))
        means = sums / looks
        errors = np.sqrt(((squares / looks - means**2) / (looks - 1)).sum(axis=0))
        differences = np.abs(means[0] - means[1])
        fixed += bool((differences > 1.96 * errors).any())
        always_valid += bool((differences > halves * errors).any())
    return fixed / replays, always_valid / replays
