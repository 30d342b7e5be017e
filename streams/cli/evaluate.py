"""``assay evaluate``: how good the lists are, by a protocol that others have published numbers for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from streams.cli import evaluate_logs
from streams.cli.options import EXIT_OTHER, load_settings, raise_usage, torch_device, torch_device_option
from streams.cli.report import bars, report, report_options

if TYPE_CHECKING:
    from models.evaluation import SessionDataset

_COLUMNS = (
    "method", "hit_rate_at_20", "hit_rate_low", "hit_rate_high", "mrr_at_20", "mrr_low", "mrr_high", "p50_us", "p99_us", "train_seconds",
    "memory_mb",
)  # fmt: skip


def _session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names sessions to learn from and tests: ``train``, ``test``, ``tail`` (see ``_read``)."""
    file = click.Path(path_type=Path, dir_okay=False)
    share = click.FloatRange(0, 0.9, min_open=True)
    for option in reversed(
        (
            click.option("--train", type=file, required=True, help="Sessions to learn from."),
            click.option("--test", type=file, help="Tests to judge on; either this or --tail."),
            click.option("--tail", type=share, help="Judge on this newest share of the training sessions instead."),
        )
    ):
        function = option(function)
    return function


def _read(train: Path, test: Path | None, tail: float | None, console: Console) -> tuple[SessionDataset, dict[str, object]]:
    """The sessions and tests, and what a report says about them. Exits with 2 and one message where they cannot be judged."""
    from models.evaluation import DatasetError, read_dataset

    if (test is None) == (tail is None):
        raise_usage("give either --test FILE or --tail SHARE")
    try:
        dataset = read_dataset(train, test)
        if tail is not None:
            dataset = dataset.tail(tail)
    except DatasetError as error:
        raise_usage(str(error))
    for warning in dataset.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(dataset.train):,} sessions, {len(dataset.names):,} items, {len(dataset.prefixes):,} tests", highlight=False)
    about = {"sessions": len(dataset.train), "items": len(dataset.names), "tests": len(dataset.prefixes), "warnings": dataset.warnings}
    return dataset, about


@click.group()
def command() -> None:
    """Judge recommendations by a published protocol."""


@command.command(
    epilog="""\b
Files (either may be gzipped; blank lines are passed over; of longer sessions 200 clicks are read):
  --train   a session a line, its items separated by spaces, oldest session first
  --test    a test a line: the items so far, separated by spaces, a tab, the one item that came next

\b
Examples:
  assay evaluate session --train train_sessions.txt.gz --test test.tsv.gz
  # choose without looking at the test: judge on the newest 5 % of training
  assay evaluate session --train train_sessions.txt.gz --tail 0.05 --methods session-index,decayed-rules --json
"""
)
@_session_options
@click.option("--methods", default="all", show_default=True, help="Names with commas between, or all.")
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of trained sequence models (`assay train sequence`); all of the same sessions in it are asked as one, and one that is "
    "missing is trained and kept there.",
)
@torch_device_option("Where to train, if need be.")
@report_options("results, a list of flat rows, and what failed")
def session(
    *, train: Path, test: Path | None, tail: float | None, methods: str, models: Path | None, device: str, **outputs: Any
) -> None:  # fmt: skip
    """Next-click prediction in sessions: the protocol of the SR-GNN paper (AAAI 2019) and those that followed.

    Every method learns from all training sessions, then ranks all items for every test; items of the session may be in the list. Shown are
    hit rate (called P@20 there) and MRR at 20, in percent, with their 95 % intervals, the time of one recommendation on one thread, and
    what learning took, that of models found trained counted as long as it took then. A target that training never saw counts as a miss.
    Weights of `fused`, and the order of `ranked` and `ranked-live` (which does without the sequence model), are learned on the newest 5 %
    of training. A method that cannot learn from the sessions says why and is left out; the exit code is then 1.
    """
    from models.evaluation import METHODS, Training, create_method, judge
    from models.sequence import Epoch, SequenceModelError
    from streams.evaluation import chart

    chosen = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(METHODS))
    if unknown or not chosen:
        raise_usage(f"no method is called {', '.join(unknown) or methods!r}; there are {', '.join(METHODS)}")
    console = Console(stderr=True)
    dataset, about = _read(train, test, tail, console)
    device = torch_device(device)
    results = []
    failed: dict[str, str] = {}
    with bars(console, 20) as progress:

        def told(part: str, epoch: Epoch) -> None:
            progress.console.print(
                f"sequence model, {part}: epoch {epoch.number}, loss {epoch.loss:.3f}, {epoch.seconds:.0f} s", highlight=False
            )

        training = Training(models, device, os.cpu_count() or 1, progress=told)
        for name in chosen:
            task = progress.add_task(name, total=len(dataset.prefixes))
            try:
                results.append(judge(create_method(name, training), dataset, lambda done, task=task: progress.update(task, completed=done)))
            except (SequenceModelError, ValueError) as error:
                progress.console.print(f"{name}: {error}", highlight=False, markup=False, soft_wrap=True)
                failed[name] = str(error)
    rows = [{column: getattr(result, column) for column in _COLUMNS} for result in results]
    title = f"Next click, learned from {len(dataset.train):,} sessions"
    report(rows, _COLUMNS, {"protocol": "session", **about, "failed": failed}, chart=lambda: chart.of_sessions(results, title), **outputs)
    if failed:
        raise SystemExit(EXIT_OTHER)


@command.command(
    epilog="""\b
Files: as of `assay evaluate session`.

\b
Examples:
  assay evaluate stream --train train_sessions.txt.gz --test test.tsv.gz
  # in the order of the file, where not a single list may differ
  assay evaluate stream --train train_sessions.txt.gz --test test.tsv.gz --partitions 1 --json
"""
)
@_session_options
@click.option(
    "--partitions", type=click.IntRange(1, 4), default=4, show_default=True, help="Partitions that sessions are spread over by their keys."
)
@report_options("results, and how many lists are equal", plot=False)
def stream(*, train: Path, test: Path | None, tail: float | None, partitions: int, **outputs: Any) -> None:
    """Does the session index learn from the stream what it learns from the file?

    Every click of the training sessions goes through an embedded broker, as a record of the topic `sessions` like those that the
    recommend worker writes, and is taken up like a worker takes that topic up. Then every test's list is set beside that of an index
    taught from the file, row by row (differing), and of one taught from the file in the order in which the broker delivered
    (unexplained: must be 0, else the exit code is 1). With one partition both orders are the same.

    What is judged is topic, reader and index; the recommend worker has no part in it. Sessions are the file's, not parted by a pause
    (ASSAY_SESSION_GAP_S); the index has the parameters by which `assay evaluate session` judges it alone, not those that it has among
    the worker's other sources; and it is asked with that protocol's anchors, the last items of a prefix, not with a profile's. Lists of
    the worker are judged by prequential, basket and cold.
    """
    from models.evaluation import judge
    from models.evaluation.methods import SessionIndexMethod
    from streams.evaluation.stream import StreamedSessionIndex, compare
    from streams.runtime.errors import RuntimeFault

    console = Console(stderr=True)
    dataset, about = _read(train, test, tail, console)
    from_file, streamed = SessionIndexMethod(), StreamedSessionIndex(load_settings(), partitions=partitions)
    try:
        with bars(console, 24) as progress:
            results = []
            for method in (from_file, streamed):
                task = progress.add_task(method.name, total=len(dataset.prefixes))
                results.append(judge(method, dataset, lambda done, task=task: progress.update(task, completed=done)))
        found = compare(streamed, from_file, dataset)
    except (RuntimeFault, ValueError) as error:
        raise_usage(str(error), EXIT_OTHER)
    rows = [{column: getattr(result, column) for column in _COLUMNS} for result in results]
    report(rows, _COLUMNS, {"protocol": "stream", "partitions": partitions, **about, "lists": asdict(found)}, **outputs)
    console.print(
        f"{found.differing:,} of {found.tests:,} lists differ from the file's; the order of arrival ({found.overtaken:,} of "
        f"{found.clicks:,} clicks were overtaken) leaves {found.unexplained:,} unexplained",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if found.unexplained:
        raise SystemExit(EXIT_OTHER)


for _protocol in (evaluate_logs.basket, evaluate_logs.prequential, evaluate_logs.cold):
    command.add_command(_protocol)
