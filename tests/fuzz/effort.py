"""How hard fuzz tests try: as much as every run of the tests can afford, or ``ASSAY_FUZZ`` times that."""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

#: No input may take longer, whatever it is; on a busy shared machine a good one takes a hundredth of that.
PATIENCE = timedelta(seconds=10)


def effort(examples: int) -> settings:
    """Settings for a test that tries ``examples`` inputs in an ordinary run. Each must be done within ``PATIENCE``: none may hang."""
    times = int(os.environ.get("ASSAY_FUZZ", "1"))
    calm = [HealthCheck.too_slow, HealthCheck.data_too_large]  # a document of 200 KB is meant
    return settings(max_examples=examples * times, deadline=PATIENCE, suppress_health_check=calm)
