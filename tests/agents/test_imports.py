"""What a worker imports before it serves: each of its starts waits for that, a takeover too."""

from __future__ import annotations

import subprocess
import sys

#: Takes as long to import as all else together, and most workers never need it.
_HEAVY = ("lightgbm", "sklearn", "scipy.stats", "scipy.optimize", "torch", "transformers", "pandas", "implicit", "optuna")


def test_a_worker_without_a_ranker_or_an_encoder_imports_none_of_their_libraries() -> None:
    roles = "streams.agents.recommend, streams.agents.value, streams.worker"
    script = f"import sys, {roles}; print([name for name in {_HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
