"""Starts a worker process again when it crashes, for machines without systemd, compose or Kubernetes.

The worker knows its supervisor by ``VARIABLE``: it stops when that is gone (nobody else would start it again, or stop it), and the next
one may find its data dir in use for as long as that takes (``wait_until_free``).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from streams.runtime.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_DATA_DIR, EXIT_TOPICS

logger = logging.getLogger(__name__)

#: What tells a worker the process id of its supervisor.
VARIABLE: Final = "ASSAY_SUPERVISOR"
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
#: A broker that is back should not wait for its workers.
LONGEST_BROKER_PAUSE_S: Final = 5.0
#: A run that lasted this long was healthy: the next pause is short again.
HEALTHY_S: Final = 60.0
_LOOK_S: Final = 1.0


def final(code: int) -> bool:
    """Whether a worker that ended with ``code`` stays down: stopped as asked, or only somebody who does what its message says can help.

    A broker that does not answer is no such fault, not at the first start either: after a power cut the worker may be up before it.
    """
    return code in (0, EXIT_CONFIG, EXIT_DATA_DIR, EXIT_TOPICS)


def next_pause(pause_s: float, ran_s: float, code: int) -> float:
    """The pause after one of ``pause_s`` and a run of ``ran_s`` seconds that ended with ``code``: doubled up to a limit, which is lower
    where no broker answered, and short again after a healthy run.
    """
    longest_s = LONGEST_BROKER_PAUSE_S if code == EXIT_BROKER else LONGEST_PAUSE_S
    return FIRST_PAUSE_S if ran_s >= HEALTHY_S else min(longest_s, 2 * pause_s)


def supervisor_pid() -> int | None:
    """The process id of this worker's supervisor; None where nobody supervises it."""
    # Taken out, so that no process which a worker starts takes the worker's supervisor for its own.
    number = os.environ.pop(VARIABLE, None)
    return None if number is None else int(number)


def stop_without(supervisor: int) -> None:
    """From now on (a thread looks), stop this process as SIGTERM does once the process ``supervisor`` is its parent no more."""

    def look() -> None:
        while os.getppid() == supervisor:
            time.sleep(_LOOK_S)
        logger.warning("the supervisor (pid %d) is gone: stopping, since nobody would start this worker again", supervisor)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, name="supervisor", daemon=True).start()


def supervise(
    arguments: Sequence[str],
    *,
    chance: Callable[[], float] = random.random,
    start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
) -> int:
    """Run the command line ``arguments`` until it ends for good; its exit code. SIGTERM and SIGINT are passed on and end the supervision.

    Pauses vary by a quarter (``chance`` in 0..1), so that workers that crashed together do not return together.
    """
    stopping = threading.Event()
    child: subprocess.Popen[bytes] | None = None
    kept: int | None = None

    def pass_on(number: int, _frame: object) -> None:
        nonlocal kept
        stopping.set()
        if child is None:
            kept = number
        else:
            child.send_signal(number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGINT, pass_on)
    pause_s = FIRST_PAUSE_S / 2
    while True:
        # A signal that comes while the worker is being started has nobody to go to yet: it is kept until there is a process.
        child = None
        if stopping.is_set():
            return 0
        started = time.monotonic()
        # In a process group of its own: the terminal's Ctrl-C would reach it beside the signal passed on, and a second one kills.
        child = start(list(arguments), env={**os.environ, VARIABLE: str(os.getpid())}, process_group=0)
        if kept is not None:
            child.send_signal(kept)
        code = child.wait()
        ran_s = time.monotonic() - started
        if stopping.is_set():
            return max(code, 0)
        if final(code):
            if code:
                logger.error("worker ended with %s and stays down: do what its message says, then start it again", code)
            return code
        pause_s = next_pause(pause_s, ran_s, code)
        wait_s = pause_s * (0.75 + 0.5 * chance())
        reason = f"{code} (no broker)" if code == EXIT_BROKER else code
        logger.error("worker ended with %s; starting it again in %.1f s", reason, wait_s)
        stopping.wait(wait_s)
