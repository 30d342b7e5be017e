"""``assay serve``: the read API alone."""

from __future__ import annotations

import logging
import signal
import threading

import click

from streams.cli.options import raise_usage, settings_options
from streams.settings import Settings


@click.command(
    epilog="""Examples:

\b
  assay serve
  curl http://127.0.0.1:8080/v1/users/ann/recommendations
  # product search too: encoder, texts and vectors in memory
  assay serve --search
  curl 'http://127.0.0.1:8080/v1/search?q=red+mug&user=ann'
  # open to others: with a key
  ASSAY_API_KEY=... assay serve --host 0.0.0.0 --data-dir /var/lib/assay/serve

Exit codes: 0 stopped as asked, 2 wrong configuration, encoder or address taken, 3 no broker, 4 data dir, 5 a reader failed, 6 topics.
"""
)
@settings_options(
    "host",
    "port",
    "search",
    "encoder",
    "api_key",
    "data_dir",
    "bootstrap_servers",
    "topic_prefix",
    "app_id",
    "index",
    "threads",
    "trending_half_life_s",
    "live_sessions",
    "business_rules",
    "serve_cache_mb",
    "rocksdb_memtable_mb",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "ssl_ca_location",
)
def command(*, settings: Settings) -> None:
    """Answer recommendations over HTTP, from a copy of the topics on this machine.

    Start as many as there are readers to serve; each keeps its own copy and touches no worker. Routes are listed at /.
    With --business-rules what is similar or trending keeps to the rules that lists keep to: name the file that the workers read.
    With --search it also finds products, by word and by meaning; its --encoder must be the embed worker's.
    Prefer ASSAY_API_KEY to --api-key: command lines can be read by others on the machine.
    """
    from models.encoder.source import EncoderUnavailableError
    from models.search.lexical import LexicalUnavailableError
    from streams.runtime.errors import RuntimeFault
    from streams.serve import start

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with start(settings) as server:
            click.echo(f"assay: serving on http://{server.host}:{server.port}", err=True)
            server.run_until(stop)
    except RuntimeFault as fault:
        raise_usage(str(fault), fault.exit_code)
    except (EncoderUnavailableError, LexicalUnavailableError) as error:
        raise_usage(str(error))
