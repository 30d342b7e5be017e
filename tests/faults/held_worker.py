"""The state-only job in a worker process whose commits wait for as long as the file that ``ASSAY_TEST_HOLD`` names is there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from streams.runtime.producer import TransactionalProducer
from tests.benchmarks.our_state_worker import main

VARIABLE = "ASSAY_TEST_HOLD"
_LOOK_S = 0.01


def hold(file: Path) -> None:
    """From now on no transaction is committed while ``file`` is there."""
    commit = TransactionalProducer.commit
    nobody = threading.Event()

    def commit_late(producer: TransactionalProducer) -> None:
        while file.exists():
            nobody.wait(_LOOK_S)
        commit(producer)

    TransactionalProducer.commit = commit_late  # type: ignore[method-assign]


if __name__ == "__main__":
    hold(Path(os.environ[VARIABLE]))
    main()
