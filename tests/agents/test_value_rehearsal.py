from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_COUNT = """
import gc, sys
from datetime import timedelta
from decimal import Decimal
from numba.core.dispatcher import Dispatcher
from streams.agents.value import tasks
from streams.settings import Settings

def compiled():
    ours = [one for one in gc.get_objects() if isinstance(one, Dispatcher) and one.py_func.__module__.startswith("models.")]
    return {one.py_func.__qualname__: len(one.signatures) for one in ours if one.signatures}

shown = sys.argv[1] == "embeddings"
tasks(Settings(value_neighbours=sys.argv[1]))
before = compiled()
from models.valuation.appraisal import Rules
from tests.agents.valuation_harness import START, Pipeline, log_of, outcome
if shown:
    from tests.agents.test_value_embeddings import played
    played(batch=7, restarts=3)
else:
    pipeline = Pipeline(Rules(k=5, head=64, rows=40))
    sale = {"type": "purchase", "revenue": Decimal(9), "quantity": 1, "currency": "GBP", "attributed": True}
    told = [
        outcome(
            START + timedelta(seconds=20 * n), sku=f"i{n % 7}", shopper=f"u{n // 4}", channel=["web", "app"][n % 2],
            **(sale if n % 5 == 4 else {}),
        )
        for n in range(400)
    ]
    for at in range(0, 400, 50):
        if at % 100 == 0:
            pipeline.restart()
        pipeline.feed([entry for entry in log_of(*told) if at <= entry.offset < at + 50])
    pipeline.settle()
    assert len(pipeline.newest()) > 5
assert compiled() == before, (before, compiled())
assert len(before) >= 3, before
"""


@pytest.mark.parametrize("neighbours", ["sessions", "embeddings"])
def test_nothing_is_left_to_compile_when_outcomes_come(neighbours: str) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", _COUNT, neighbours], cwd=root, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
