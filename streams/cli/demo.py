"""``assay demo``: a storefront, the whole pipeline and a live view, in one process."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
from click.core import ParameterSource
from rich.console import Console

from streams.cli.options import EXIT_CONFIG, EXIT_OTHER, raise_usage, settings_options, stop_on_broker_trouble
from streams.settings import Settings, origins

#: Shoppers at a pace that a person can follow.
_WATCHED_PER_SECOND = 250.0


def _pace(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Events a second; ``max`` is infinity, None leaves it to the command."""
    if value is None:
        return None
    try:
        pace = float("inf") if value == "max" else float(value)
    except ValueError:
        pace = 0.0
    if pace <= 0:
        raise click.BadParameter("give a number of events a second above 0, or max")
    return pace


@click.command(
    epilog="""Examples:

\b
  assay demo                                    # watch; Ctrl-C stops
  assay demo --events 20000 --exit              # run to the end, a summary and one JSON object
  assay demo --dataset online-retail --path online_retail.csv.gz --events 50000 --exit --json
  assay demo --bootstrap-servers 127.0.0.1:9092 # on your broker, in topics of its own that are deleted at the end

Exit codes: 0 done, 1 events are unaccounted for, 2 usage or data set, 3 broker, 5 a worker crashed.
"""
)
@click.option("--events", type=click.IntRange(min=1), help="Send this many.  [default: without end, or the whole data set]")
@click.option("--exit", "exit_at_end", is_flag=True, help="Stop when every event is counted, and print the summary.")
@click.option("--json", "as_json", is_flag=True, help="Nothing but the JSON object on standard output.")
@click.option("--dataset", help="Replay a public data set instead of the simulation (`assay replay --list`).")
@click.option("--path", type=click.Path(exists=True, path_type=Path), help="Where the data set is.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of the simulation: equal seeds give equal shops.")
@click.option("--speed", callback=_pace, metavar="N|max", help="Events a second.  [default: 250 to watch, max with --exit]")
@settings_options(
    "bootstrap_servers", "topic_prefix", "app_id", "partitions", "data_dir", "encoder", "device", "index", "k", "host", "port"
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    settings: Settings,
    events: int | None,
    exit_at_end: bool,
    as_json: bool,
    dataset: str | None,
    path: Path | None,
    seed: int,
    speed: float | None,
) -> None:
    """Show the whole pipeline at work. Needs no broker and no data.

    An embedded broker, every role in this process, and a simulated storefront whose shoppers have planted tastes and react to
    what is recommended. Every figure is read back from the topics. Progress goes to standard error.
    """
    if (dataset is None) != (path is None):
        raise_usage("--dataset and --path go together: `assay replay --list` says where to download each set")
    if exit_at_end and events is None and dataset is None:
        raise_usage("--exit needs --events N: the simulation has no end")
    from streams.demo.run import DemoOptions, run_demo
    from streams.replay import ReplayError
    from streams.runtime.errors import RuntimeFault

    given = ctx.get_parameter_source("bootstrap_servers") is ParameterSource.COMMANDLINE
    elsewhere = given or origins(()).by_setting["bootstrap_servers"] != "default"
    pace = speed if speed is not None else None if exit_at_end else _WATCHED_PER_SECOND
    options = DemoOptions(
        events=events,
        exit_at_end=exit_at_end,
        dataset=dataset,
        path=path,
        seed=seed,
        per_second=None if pace == float("inf") else pace,
        embedded=not elsewhere,
    )
    try:
        with stop_on_broker_trouble():
            summary = run_demo(settings, options, Console(stderr=True))
    except ReplayError as error:
        raise_usage(str(error), EXIT_CONFIG)
    except RuntimeFault as error:
        raise_usage(str(error), error.exit_code)
    except (ValueError, OSError, ImportError) as error:  # as in a worker: a setting, a model folder or a package that cannot be used
        raise_usage(f"{type(error).__name__}: {error}", EXIT_CONFIG)
    except KeyboardInterrupt:
        raise_usage("stopped before the first event", EXIT_OTHER)
    click.echo(summary.as_text(), err=as_json)
    if as_json or exit_at_end:
        click.echo(orjson.dumps(summary.as_json()))
    if exit_at_end and summary.unaccounted:
        raise SystemExit(EXIT_OTHER)
