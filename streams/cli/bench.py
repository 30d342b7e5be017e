"""``assay bench``: measurements beside a peer or a baseline, in the same run."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Final

import click

from streams.cli.options import EXIT_OTHER, raise_usage, stop_on_broker_trouble

#: name -> (module of tests.benchmarks with ``run``, what it measures).
BENCHMARKS: Final[dict[str, tuple[str, str]]] = {
    "pipeline": (
        "pipeline",
        "events/s and CPU per event: state-only and full job, ours, Kafka Streams, Quix Streams, stock Faust",
    ),
    "freshness": ("freshness", "click -> record and product upsert -> first recommendation, p50 and p99 at half load"),
    "latency": ("latency", "event -> record that answers it, p50 to p99.9 by rate: ours beside Kafka Streams exactly_once_v2"),
    "serve": ("serve", "read API with a million stored users: requests/s and latency, beside a plain service over the same copy"),
    "search": (
        "search",
        "product search at 10,000 products: ms by new and remembered query, the reads beside it, and how soon a product is found",
    ),
    "failover": ("failover", "seconds until a dead or stopped worker's partitions put out again, beside Kafka Streams"),
    "recovery": ("recovery", "changelog records/s when a wiped disk is rebuilt, beside stock Faust and Kafka Streams"),
    "interrupted": ("interrupted", "share of its rate that a worker keeps while a random fault hits every 10 s"),
    "scale": ("scale", "1, 2, 3 workers: events/s and rebalance pause; CPU per event as users, products and history grow"),
    "overload": ("overload", "minutes at twice the rate of a backlog: memory, lag, rebalances, and how fast it catches up"),
    "soak": ("soak", "two workers, a random fault a minute: verdict against the oracle; memory, open files and disk over time"),
    "processor": ("recommend_processor", "the recommend processor alone, no broker: us per event"),
    "planted": ("planted", "does valuation find planted worth: channels of 2 to 50 % noise, their order, intervals and copies"),
    "faithfulness": ("faithfulness", "do the values of a vote of ten rank assets as wider votes do, and as lists served without each"),
    "feedback": ("feedback", "lists with value feedback and without, where a channel does harm and where none does: hit rate, MRR"),
    "kmc": ("kmc_shapley", "values of past sessions beside Monte Carlo on the same neighbours (KMC-Shapley): time, memory, agreement"),
    "ranking": ("ranking", "CPU us of a list at 10,000, 100,000 and a million products, for a million users"),
    "index": ("index_twins", "FAISS twins up to a million products: recall, ms per query, upserts/s beside searches, memory, growth"),
    "valuation": ("valuation", "KNN-Shapley: us an outcome, exact, truncated and by asset, beside pyDVL; how well it finds flipped labels"),
    "encoder": ("encoder_throughput", "texts/s of the BERT encoder"),
    "intervals": ("intervals", "coverage of 95 % intervals by autocorrelation and tail, of incremental margin, and when peeking"),
}
#: Of these the length is chosen in minutes.
_PROLONGED: Final = frozenset({"overload", "soak"})
#: Of these the seed is chosen.
_SEEDED: Final = frozenset({"soak"})


@click.command(epilog="Names:\n\n" + "\n\n".join(f"{name}: {text}" for name, (_, text) in BENCHMARKS.items()))
@click.argument("name", type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line, its results a list of flat rows.")
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True, help="Interleaved repetitions; medians are reported.")
@click.option("--events", type=click.IntRange(1000), help="Events per repetition (default: enough for a few seconds each).")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="How long overload (10 by default) and soak (60) last.")
@click.option("--seed", type=click.IntRange(0), help="Draws the faults and the feed of soak (4 by default): equal seeds, equal faults.")
@click.option("--bootstrap-servers", help="Use this Kafka instead of starting one (nothing else should run on it).")
def command(
    name: str,
    *,
    as_json: bool,
    repetitions: int,
    events: int | None,
    minutes: float | None,
    seed: int | None,
    bootstrap_servers: str | None,
) -> None:
    """Measure NAME. Benchmarks live in tests/benchmarks of a source checkout; run from there.

    \b
    Examples:
      assay bench pipeline --json
      assay bench soak --minutes 10 --seed 7
    """  # noqa: D301 - click's own mark for text that is not to be rewrapped
    if minutes is not None and not math.isfinite(minutes):
        raise_usage(f"--minutes must be a number of minutes, got {minutes}")
    if minutes is not None and name not in _PROLONGED:
        raise_usage(f"--minutes is for {' and '.join(sorted(_PROLONGED))}; {name} takes --events and --repetitions")
    if seed is not None and name not in _SEEDED:
        raise_usage(f"--seed is for {' and '.join(sorted(_SEEDED))}; {name} draws by a seed of its own, if at all")
    sys.path.insert(0, str(Path.cwd()))
    module, _ = BENCHMARKS[name]
    try:
        benchmark = importlib.import_module(f"tests.benchmarks.{module}")
    except ModuleNotFoundError as error:
        raise_usage(f"{error}: benchmarks need a source checkout and its bench extra; run `make bench BENCH={name}` in the checkout")
    chosen = {name: value for name, value in {"minutes": minutes, "seed": seed}.items() if value is not None}
    peers = importlib.import_module("tests.benchmarks.peers")
    try:
        with stop_on_broker_trouble():
            report = benchmark.run(repetitions=repetitions, events=events, bootstrap_servers=bootstrap_servers, **chosen)
    except peers.PeerUnavailable as missing:
        raise_usage(f"{name} cannot run: {missing}", EXIT_OTHER)
    click.echo(report.table())
    if as_json:
        click.echo(report.to_json())
    if report.failed:
        raise_usage(report.failed, EXIT_OTHER)
