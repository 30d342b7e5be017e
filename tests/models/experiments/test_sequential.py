"""Looking every day: the fixed interval breaks, the confidence sequence holds."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from models.experiments import ConfidenceSequence, Effect
from models.experiments.sequential import LEAST_USERS
from tests.models.experiments.peeking import false_positives


def test_the_width_is_the_published_one() -> None:
    """Equation 9 of Waudby-Smith et al. for a mean of n values with standard deviation sigma."""
    sequence, sigma, alpha = ConfidenceSequence(tightest_at=1_000), 3.0, 0.05
    rho = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 1_000)
    for n in (100, 1_000, 50_000):
        published = sigma * math.sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / alpha))
        assert sequence.half_width(sigma / math.sqrt(n), n) == pytest.approx(published)


def test_it_is_tightest_where_it_was_told_to_be() -> None:
    def over_fixed(users: float) -> float:
        return ConfidenceSequence(tightest_at=10_000).half_width(1.0, users) / 1.96  # type: ignore[arg-type]

    best = minimize_scalar(over_fixed, bounds=(1_000, 100_000), method="bounded")
    assert best.x == pytest.approx(10_000, rel=0.05)
    assert best.fun == pytest.approx(1.55, abs=0.01)


def test_it_is_silent_while_an_arm_has_few_users() -> None:
    sequence, effect = ConfidenceSequence(tightest_at=1_000), Effect(1.0, 0.0, 2.0, 0.5, 100.0)
    assert sequence.bounds(effect, LEAST_USERS - 1, 10_000) is None
    bounds = sequence.bounds(effect, LEAST_USERS, 10_000)
    assert bounds is not None
    assert bounds[0] < effect.low
    assert bounds[1] > effect.high


@pytest.mark.parametrize(("tightest_at", "level"), [(0, 0.95), (100, 1.0), (100, 0.0)])
def test_what_makes_no_sense_is_refused(tightest_at: int, level: float) -> None:
    with pytest.raises(ValueError, match="tightest_at must be above 0"):
        ConfidenceSequence(tightest_at, level)


@pytest.mark.parametrize("spending", ["normal", "skewed"])
def test_peeking_breaks_the_fixed_interval_and_not_the_sequence(spending: Literal["normal", "skewed"]) -> None:
    """A thousand tests of two equal rankers, looked at after every hundred users up to 20,000."""
    fixed, always_valid = false_positives(spending, np.random.default_rng(11), replays=1_000)
    print(f"{spending}: fixed interval {100 * fixed:.1f} %, confidence sequence {100 * always_valid:.1f} % false positives")
    assert fixed > 0.25
    assert always_valid <= 0.05
