"""Named points between the steps of a transaction at which a fault test can kill the process.

``ASSAY_SEAM=committed:7`` kills the process with SIGKILL at its seventh pass of ``committed``; unset, a pass costs one
comparison. The names follow a batch through its life:

=============  =========================================================
``decoded``    the processor has run, nothing is sent
``produced``   everything is with the broker, nothing is committed
``committing`` the commit was asked for, its answer is not known
``committed``  the broker has committed, RocksDB knows nothing of it
``stored``     RocksDB holds the batch, the group's offset does not
``acked``      all is done
=============  =========================================================
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "ASSAY_SEAM"
#: Longer than a producer waits for more to send.
_SENT_S: Final = 0.2
SEAMS: Final = ("decoded", "produced", "committing", "committed", "stored", "acked")


def _unarmed(_name: str) -> None:
    """Pass a seam when none is armed."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def armed(spec: str | None, strike: Callable[[], None] = _kill) -> Callable[[str], None]:
    """The function to call at each seam, for a ``spec`` such as ``committed:7`` (None or empty: nothing is armed).

    ``produced`` strikes once the producer has had time to send what it was handed; ``committing`` from another thread a moment after the
    call, so that the process dies inside the commit.
    Raises ``ValueError`` for an unknown seam or a count below 1.
    """
    if not spec:
        return _unarmed
    name, _, count = spec.partition(":")
    passes = int(count or 1)
    if name not in SEAMS or passes < 1:
        raise ValueError(f"{VARIABLE}={spec!r}: expected <seam>:<pass> with seam one of {', '.join(SEAMS)} and pass >= 1")
    lock = threading.Lock()
    seen = 0

    def reached(at: str) -> None:
        nonlocal seen
        if at != name:
            return
        with lock:
            seen += 1
            due = seen == passes
        if not due:
            return
        if at == "committing":
            threading.Timer(0.003, strike).start()
            return
        if at == "produced":
            time.sleep(_SENT_S)
        strike()

    return reached


#: Called by the runtime at each seam.
reached: Callable[[str], None] = armed(os.environ.get(VARIABLE))
