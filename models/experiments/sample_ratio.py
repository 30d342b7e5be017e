"""Whether the arms have the users that they should: the first thing to ask of an experiment, before any of its effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scipy.special import chdtrc

#: Below this p-value the split is held to be broken (Fabijan et al., KDD 2019, who name thresholds of 0.01 and less).
MISMATCH: Final = 0.001


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Users by arm beside those expected, the chi-square statistic of the two and its p-value."""

    users: Mapping[str, int]
    expected: Mapping[str, float]
    statistic: float
    p_value: float

    @property
    def mismatch(self) -> bool:
        """True if chance hardly ever splits users so: something loses or moves users of one arm, and effects mean nothing."""
        return self.p_value < MISMATCH


def sample_ratio(users: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Pearson's chi-square test of the users of each arm against the ``shares`` (0..1, adding up to 1) of the experiment.

    An arm of share 0 that has users makes the p-value 0. Raises ``ValueError`` for users of an arm that has no share.

    >>> check = sample_ratio({"old": 5_100, "new": 4_900}, {"old": 0.5, "new": 0.5})
    >>> check.statistic, round(check.p_value, 3), check.mismatch
    (4.0, 0.046, False)
    """
    unknown = users.keys() - shares.keys()
    if unknown:
        raise ValueError(f"there are users of arms that the experiment does not have: {sorted(unknown)}")
    total = sum(users.values())
    expected = {arm: total * share for arm, share in shares.items()}
    counted = {arm: users.get(arm, 0) for arm in shares}
    if any(counted[arm] and not expected[arm] for arm in shares):
        return SampleRatio(counted, expected, float("inf"), 0.0)
    open_arms = [arm for arm in shares if expected[arm]]
    statistic = sum((counted[arm] - expected[arm]) ** 2 / expected[arm] for arm in open_arms)
    p_value = float(chdtrc(len(open_arms) - 1, statistic)) if len(open_arms) > 1 else 1.0
    return SampleRatio(counted, expected, statistic, p_value)
