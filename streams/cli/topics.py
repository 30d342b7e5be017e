"""``assay topics``: create, check or reset the topics of a deployment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import click
import orjson

from streams.cli.options import EXIT_BROKER, raise_usage, settings_options, stop_on_broker_trouble
from streams.settings import Settings
from streams.topics import Drift, TopicAdmin, TopicError


@click.group()
def command() -> None:
    """Create, check or reset the topics.

    The table is schemas/topics.py, plus one changelog for each task that keeps state. Exit codes: 0 all is well, 2 wrong
    configuration, 3 broker unreachable or topics wrong.
    """


_options = settings_options("bootstrap_servers", "topic_prefix", "app_id", "partitions", "replication")


def _report(drifts: Sequence[Drift], as_json: bool, **extra: Any) -> None:
    """Print drifts and leave with 3 if any of them is fatal."""
    if as_json:
        click.echo(orjson.dumps({**extra, "drift": [dataclasses.asdict(drift) for drift in drifts]}))
    else:
        for drift in drifts:
            click.echo(f"{'wrong' if drift.fatal else 'note '}  {drift}")
    if any(drift.fatal for drift in drifts):
        raise SystemExit(EXIT_BROKER)


@command.command()
@_options
@click.option("--mend", is_flag=True, help="Also set settings of existing topics that have drifted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: created, drift.")
def create(settings: Settings, mend: bool, as_json: bool) -> None:
    """Create what is missing; say what differs from the table."""
    with stop_on_broker_trouble():
        admin = TopicAdmin(settings)
        created = admin.create()
        drifts = admin.check()
        if mend:
            admin.mend(drifts)
            drifts = admin.check()
    if not as_json:
        click.echo(f"created {len(created)} of {len(admin.plan)} topics" + "".join(f"\n  {name}" for name in created))
    _report(drifts, as_json, created=created)


@command.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object: topics, drift.")
def check(settings: Settings, as_json: bool) -> None:
    """Compare the broker with the table: missing topics, partition counts, settings."""
    with stop_on_broker_trouble():
        admin = TopicAdmin(settings)
        drifts = admin.check()
    if not drifts and not as_json:
        click.echo(f"all {len(admin.plan)} topics are as they should be")
    _report(drifts, as_json, topics=[topic.name for topic in admin.plan])


@command.command()
@click.argument("names", nargs=-1)
@_options
@click.option("--inputs", is_flag=True, help="Without NAMES: also the topics that the storefront writes (events, catalogue, erasures).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: reset (topic -> records deleted). Needs --yes.")
def reset(*, settings: Settings, names: tuple[str, ...], inputs: bool, yes: bool, as_json: bool) -> None:
    """Delete topics and create them again, empty: NAMES, else everything that is derived from the storefront's topics."""
    if as_json and not yes:
        raise_usage("--json does not ask: add --yes")
    with stop_on_broker_trouble():
        admin = TopicAdmin(settings)
        chosen = admin.select(names, inputs=inputs)
        running = admin.running_groups()
        if running:
            raise TopicError(f"workers are running (groups {', '.join(running)}); stop them first")
        counts = admin.records(chosen)
        if not as_json:
            click.echo(f"On {settings.bootstrap_servers} this deletes, for good:")
            for topic in chosen:
                click.echo(
                    f"  {topic.name}: " + (f"up to {counts[topic.name]:,} records" if topic.name in counts else "absent, will be created")
                )
            click.echo("and creates them again, empty. Delete the workers' --data-dir folders too: they belong to the old topics.")
        if not yes:
            click.confirm("Go on?", abort=True)
        admin.reset(chosen)
    click.echo(orjson.dumps({"reset": counts}) if as_json else f"reset {len(chosen)} topics")
