"""The state-only job on our runtime, as a worker process of its own."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from streams.settings import Settings
from streams.worker import run_tasks
from tests.benchmarks.state_job import state_task


def main() -> None:
    """Run the worker until it is stopped."""
    parser = argparse.ArgumentParser()
    for name in ("broker", "app-id", "source", "sink", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--session-timeout-s", type=float, help="default: the environment's, as for any worker")
    parser.add_argument("--standby", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    timeout = {} if options.session_timeout_s is None else {"session_timeout_s": options.session_timeout_s}
    settings = Settings(
        bootstrap_servers=options.broker, app_id=options.app_id, data_dir=Path(options.data_dir), standby=options.standby, **timeout
    )
    task, table = state_task(options.source, options.sink)
    sys.exit(run_tasks(settings, [task], table))


if __name__ == "__main__":
    main()
