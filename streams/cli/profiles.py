"""``assay profiles``: what is known of a shopper, read from the changelog that holds it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Console

from models.attribution import Memory, Touch
from models.profiles import ProfileError, decode_profile, describe
from streams.agents.shoppers import LIST_PREFIX, PROFILE_PREFIX, Shopper, decode_list
from streams.cli.options import EXIT_OTHER, broker_options, raise_usage, stop_on_broker_trouble
from streams.reading import TopicReader, newest
from streams.runtime.names import changelog_topic
from streams.settings import Settings

_SHOWN = 15


@click.group()
def command() -> None:
    """What is known of a shopper, for subject access and audit.

    Read from the changelog, which is the truth that workers restore from; committed state only.
    """


@command.command(
    epilog="""Examples:

\b
  assay profiles get user-00042
  assay profiles get sim-s17 --json          # an anonymous session
"""
)
@click.argument("shopper", metavar="USER")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with everything that is kept.")
@broker_options
def get(*, settings: Settings, shopper: str, as_json: bool) -> None:
    """Show what is kept of USER: a user_id, or the session_id of somebody who has not logged in.

    Exits with 1 if nothing is known.
    """
    asked = [Shopper(shopper, anonymous) for anonymous in (False, True)]
    keys = {key for one in asked for key in (one.profile_key, one.list_key)}
    with stop_on_broker_trouble(), TopicReader(settings, [changelog_topic(settings, "recommend")]) as reader:
        live = newest(reader, keys.__contains__)
    found = list(_described(live))
    if not found:
        raise_usage(f"nothing is known of {shopper}", EXIT_OTHER)
    for fields in found:
        click.echo(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode() if as_json else _text(fields))


@command.command(
    epilog="""Examples:

\b
  assay profiles export profiles.jsonl
  assay profiles export - | jq -r 'select(.profile.events > 100) | .user_id'
"""
)
@click.argument("file", type=click.File("wb", lazy=False))
@broker_options
def export(*, settings: Settings, file: BinaryIO) -> None:
    """Write every profile to FILE (- for standard output), one JSON object a line: users and anonymous sessions."""
    status = Console(stderr=True).status("reading the changelog")
    with stop_on_broker_trouble(), status, TopicReader(settings, [changelog_topic(settings, "recommend")]) as reader:
        live = newest(reader, lambda key: key.startswith((PROFILE_PREFIX, LIST_PREFIX)))
    count = 0
    for fields in _described(live):
        file.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        count += 1
    click.echo(f"{count} profiles", err=True)


def _described(live: dict[tuple[int, bytes], bytes]) -> Any:
    for (partition, key), value in sorted(live.items()):
        if not key.startswith(PROFILE_PREFIX):
            continue
        kind, _, name = key.removeprefix(PROFILE_PREFIX).decode().partition("|")
        emitted = decode_list(live.get((partition, LIST_PREFIX + key.removeprefix(PROFILE_PREFIX))))
        try:
            profile = describe(decode_profile(value))
        except ProfileError as error:
            raise_usage(f"the profile of {name} cannot be read: {error}; it was written by another version", EXIT_OTHER)
        yield {
            "session_id" if kind == "s" else "user_id": name,
            "partition": partition,
            "profile": profile,
            "last_list": {"recommendation_id": emitted.recommendation_id, "skus": emitted.skus},
            "remembered": _remembered(emitted.memory),
        }


def _remembered(memory: Memory) -> dict[str, Any]:
    """Lists and items by the hashes that are kept of them."""
    clicks, views = memory.touches()
    return {
        "lists": [
            {"recommendation_id_hash": f"{sent.digest:08x}", "at": _iso(sent.at_s), "sku_hashes": [item.hex() for item in sent.items]}
            for sent in memory.sent_lists()
        ],
        "clicks": [_touch(touch) for touch in clicks],
        "views": [_touch(touch) for touch in views],
        "order_lines": [
            {"hash": line.hex(), "unit_margin": None if margin is None else f"{margin.normalize():f}"}
            for line, margin in memory.order_lines()
        ],
    }


def _touch(touch: Touch) -> dict[str, Any]:
    return {
        "recommendation_id_hash": f"{touch.digest:08x}",
        "at": _iso(touch.at_s),
        "sku_hash": touch.item.hex(),
        "position": touch.place,
    }


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _text(fields: dict[str, Any]) -> str:
    profile = fields["profile"]
    who = f"user {fields['user_id']}" if "user_id" in fields else f"anonymous session {fields['session_id']}"
    lines = [
        f"{who}  (partition {fields['partition']})",
        f"  {profile['events']} events from {profile['first_seen']} to {profile['last_seen']}",
        f"  current session: {profile['session']['items']} items since {profile['session']['start']}",
    ]
    if profile["sessions_joined"]:
        lines.append(f"  sessions joined: {', '.join(profile['sessions_joined'])}")
    weights = sorted(profile["categories"]["weights"], key=lambda entry: -entry["weight"])
    if weights:
        lines.append("  categories: " + ", ".join(f"{entry['category']} {entry['weight']:.2f}" for entry in weights[:5]))
    lines += _section("recent", [f"{entry['at']}  {entry['type']:<12} {entry['sku']}" for entry in profile["recent"]])
    lines += _section(
        "bought",
        [f"{entry['sku']}: {entry['units']} in {entry['purchases']} purchase(s), last {entry['last']}" for entry in profile["bought"]],
    )
    lines += _section("last list", [f"{place}. {sku}" for place, sku in enumerate(fields["last_list"]["skus"], 1)])
    return "\n".join(lines)


def _section(name: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = [f"    ... and {len(entries) - _SHOWN} more (--json shows all)"] if len(entries) > _SHOWN else []
    return [f"  {name}:", *(f"    {entry}" for entry in entries[:_SHOWN]), *more]
