"""A straight line through samples: how fast something grew, and whether it grew like a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Trend(NamedTuple):
    """``per_minute``: the slope of the least-squares line; ``r2``: the share of the variance that it explains, 1 = a line."""

    per_minute: float
    r2: float


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of ``values`` sampled at ``seconds``; no slope for fewer than two moments.

    >>> trend([0, 30, 60, 90], [1.0, 2.0, 3.0, 4.0])
    Trend(per_minute=2.0, r2=1.0)
    """
    at, y = np.asarray(seconds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(np.unique(at)) < 2:
        return Trend(0.0, 0.0)
    slope, intercept = np.polyfit(at, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    rest = float(((y - slope * at - intercept) ** 2).sum())
    return Trend(round(float(slope) * 60, 4), round(1 - rest / spread, 4) if spread else 0.0)
