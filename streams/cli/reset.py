"""``assay reset``: forget derived state and reprocess from a chosen point."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
import orjson

from streams.cli.options import raise_usage, roles_option, settings_options, stop_on_broker_trouble
from streams.reset import Reset, StartPoint, at_offsets, at_time, beginning, delete_local, end, local_folders, tasks_for
from streams.runtime.errors import RuntimeFault
from streams.settings import ROLES, Role, Settings


@click.command(
    epilog="""Examples:

\b
  assay reset                                     # everything, from the beginning of the events
  assay reset --roles value --yes                 # valuation alone, from the outcomes
  assay reset --from 2025-06-01T00:00:00Z         # events that arrived since
  assay reset --from offsets:start.json           # {"storefront.events": {"0": 1200, "1": 1180}}
  assay reset --local --data-dir /var/lib/assay   # only this disk; the changelog fills it again

Exit codes: 0 done, 1 not confirmed, 2 usage, 3 broker, topics, or workers that still run, 4 data dir in use.
"""
)
@roles_option("Whose state to forget; what they feed is reset with them.")
@click.option("--from", "start", default="beginning", show_default=True, help="beginning, end, a time with zone, or offsets:FILE.json.")
@click.option("--local", is_flag=True, help="Delete only what is in --data-dir; the broker keeps all and nothing is reprocessed.")
@click.option(
    "--keep-outputs",
    is_flag=True,
    help="Leave what was sent to others in its topics; reprocessing then adds to it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options("bootstrap_servers", "topic_prefix", "app_id", "partitions", "partitioner", "data_dir")
def command(*, settings: Settings, roles: tuple[Role, ...], start: str, local: bool, keep_outputs: bool, yes: bool) -> None:
    """Forget derived state, so that workers make it again from a chosen point. Stop the workers first.

    Says what it will delete before it asks. The events, the catalogue and requests to be forgotten are never touched. If it is
    interrupted, workers refuse to start until it was run again.
    """
    tasks = tasks_for(roles)
    again = f"assay reset --roles {','.join(roles)} --from {start}{' --keep-outputs' if keep_outputs else ''}"
    folders = local_folders(settings, tasks, everything=set(roles) == set(ROLES))
    with stop_on_broker_trouble():
        point = _start_point(settings, start)
        reset = None if local or not tasks else Reset(settings, tasks, keep_outputs=keep_outputs, command=again)
        click.echo("This will delete:")
        for folder in folders:
            click.echo(f"  {folder}  (on this disk)")
        if reset is not None:
            for topic, records in reset.records.items():
                click.echo(f"  {topic}  (up to {records} records)")
            click.echo(f"and the group offsets of {', '.join(tasks)}, which will read their sources again from: {start}")
        elif not folders:
            click.echo("  nothing: the data dir holds nothing of these roles")
            return
        if not yes:
            click.confirm("Go on?", abort=True)
        try:
            delete_local(settings, folders)
            if reset is not None:
                reset.run(point, click.echo)
        except RuntimeFault as error:
            raise_usage(str(error), error.exit_code)
    click.echo("done; start the workers" if reset is not None else "done; the next worker fills its stores from the changelogs")


def _start_point(settings: Settings, start: str) -> StartPoint:
    if start in ("beginning", "end"):
        return beginning if start == "beginning" else end
    if start.startswith("offsets:"):
        path = Path(start.removeprefix("offsets:"))
        try:
            offsets = orjson.loads(path.read_bytes())
            return at_offsets(
                {topic: {str(int(place)): int(offset) for place, offset in places.items()} for topic, places in offsets.items()}
            )
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise_usage(f"--from {start}: {path} holds no object of the form {{topic: {{partition: offset}}}} ({error})")
    try:
        time = datetime.fromisoformat(start)
    except ValueError:
        raise_usage(f"--from {start}: give beginning, end, offsets:FILE.json, or a time such as 2025-06-01T00:00:00Z")
    if time.tzinfo is None:
        raise_usage(f"--from {start}: a time needs its zone, such as {start}Z or {start}+01:00")
    return at_time(settings, int(time.timestamp() * 1000))
