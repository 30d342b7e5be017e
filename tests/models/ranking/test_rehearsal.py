from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core.caching import CacheImpl

from models.compilation import compiled

_COUNT = """
import gc, sys
from pathlib import Path
import numpy as np
from numba.core.dispatcher import Dispatcher
from models.ranking.rehearsal import rehearse

def compiled():
    ours = [one for one in gc.get_objects() if isinstance(one, Dispatcher) and one.py_func.__module__.startswith("models.")]
    return {one.py_func.__qualname__: len(one.signatures) for one in ours if one.signatures}

from models.factors.model import FactorModel
from tests.agents.test_recommend_trained import trained
more = {}
if sys.argv[1] == "all":
    more = {"trained": trained("recent_place", 1, Path(sys.argv[2])), "factors": True, "explain_sessions": 2}
rehearse(**more)
before = compiled()
from tests.agents.pipeline import ERASURES, Pipeline, event, erasure
worker = Pipeline(repeats="drop_seen", diversity=0.3, trained=more.get("trained"), explain_sessions=more.get("explain_sessions", 0))
if more:
    worker.processor.factors_changed(FactorModel(np.eye(6, dtype=np.float32), list("abcdef"), 0.1, 8.0))
worker.send(event("click", 0), event("purchase", 1, "v", sku="b"), event("search", 2, "w"), event("browse", 3, category="Aisle"))
worker.send(event("login", 4, "u", session_id="s"), event("click", 5, sku="c"))
worker.process(worker.records([erasure("u")], ERASURES))
from models.rules import read_rules
from models.rules.example import EXAMPLE
worker.processor.rules_changed(read_rules(EXAMPLE.encode()))
worker.send(event("click", 6), event("click", 7, "v", country="IE"), event("click", 8, "w", sku="c"))
worker.processor.rules_changed(read_rules(b"pin: [{sku: d, position: 2}]"))
worker.send(event("click", 9))
from models.valuation.feedback import SourceWeights
worker = Pipeline(value_feedback=True)
worker.processor.feedback_changed(SourceWeights({"channel": {"relay": 0.0}}))
worker.send(event("click", 10), event("click", 11, channel="relay", sku="b"))
assert compiled() == before, (before, compiled())
assert before["fill_pools"] == 1
assert not more or before["reorder"] == before["_describe"] == before["_fold_in"] == before["trace_votes"] == 1
"""


@pytest.mark.parametrize("sources", ["those that learn live", "all"])
def test_nothing_is_left_to_compile_when_events_come(sources: str, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, sources, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_an_installation_that_cannot_be_written_to_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    def double(number):
        return 2 * number

    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(double, cache=True)
    assert compiled(double)(21) == 42
