"""Intervals that may be looked at every day: they hold at all times at once, so stopping at the first that excludes 0 is no mistake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from models.experiments.effects import Effect

#: Users per arm before anything is said: the sequence is asymptotic, and standard errors of fewer are too often too small.
LEAST_USERS: Final = 100


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics, 2024; theorem 2.2).

    With n users in both arms, standard error s of the difference and r = n rho^2, the half width is
    s sqrt((1 + 1/r) (ln(1 + r) - 2 ln(1 - level))). ``tightest_at``: the n at which it is narrowest beside the fixed interval
    (1.55 x at 95 %), to be chosen before the experiment; it sets rho and nothing depends on it but width.
    """

    tightest_at: int
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.tightest_at < 1 or not 0 < self.level < 1:
            raise ValueError(f"tightest_at must be above 0 and level within 0..1, got {self.tightest_at} and {self.level}")

    def half_width(self, standard_error: float, users: int) -> float:
        """Half the width of the interval with ``users`` users in both arms together."""
        error = -2 * math.log(1 - self.level)
        ratio = users * (error + math.log(error + 1)) / self.tightest_at
        return standard_error * math.sqrt((1 + 1 / ratio) * (math.log1p(ratio) + error))

    def bounds(self, effect: Effect, treated: int, control: int) -> tuple[float, float] | None:
        """The interval of ``effect`` with so many users in its arms; None while an arm has fewer than ``LEAST_USERS``."""
        if min(treated, control) < LEAST_USERS:
            return None
        half = self.half_width(effect.standard_error, treated + control)
        return effect.difference - half, effect.difference + half
