"""``assay worker``: run one or more roles."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from streams.cli.options import roles_option, settings_options
from streams.settings import Role, Settings


@click.command(
    epilog="""Examples:

\b
  # everything in one process, for development
  assay worker
  # production: each scales by starting more, each with a data dir of its own
  assay worker --roles embed --device cuda --data-dir /var/lib/assay/embed-1
  assay worker --roles recommend --data-dir /var/lib/assay/recommend-1 --supervise
  assay worker --roles value,serve --data-dir /var/lib/assay/value-1

Exit codes: 0 stopped as asked, 2 wrong configuration, 3 no broker, 4 data dir, 5 crashed or stuck, 6 topics. After 3, 5 or a signal
--supervise starts the worker again; 2, 4 and 6 need somebody who does what the message says.
"""
)
@roles_option("What this process does.")
@click.option(
    "--supervise",
    is_flag=True,
    help="Start again after a crash or without a broker, after pauses that grow to 30 s, or 5 s without a broker; it ends with its "
    "supervisor. (Compose and Kubernetes do it themselves.)",
)
@settings_options()
def command(*, settings: Settings, roles: tuple[Role, ...], supervise: bool) -> None:
    """Run one or more roles until SIGTERM or Ctrl-C; stopping finishes and commits what is in flight.

    \b
    embed      product text to vectors, by a BERT encoder (GPU if there is one)
    recommend  events to profiles and lists of recommendations
    value      outcomes to rolling metrics and valuation
    serve      recommendations over HTTP, from a read replica

    Every setting below can also stand in assay.toml (k = 10) or in the environment (ASSAY_K=10).
    Secrets (ASSAY_SASL_PASSWORD, ASSAY_API_KEY) have no flags, because command lines can be read by others.
    """  # noqa: D301 - click's own mark for text that is not to be rewrapped
    from streams import worker

    if supervise:
        raise SystemExit(worker.supervise([sys.executable, "-m", "streams.cli", *_without_supervise(sys.argv[1:])]))
    raise SystemExit(worker.run_worker(settings, roles))


def _without_supervise(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if argument != "--supervise"]
