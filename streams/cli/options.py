"""Options that commands share, and the one way in which flags become ``Settings``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from streams.settings import Settings

EXIT_CONFIG = 2
EXIT_BROKER = 3


def load_settings(**flags: Any) -> Settings:
    """Settings from the given flags (None = not given), the environment and ``assay.toml``. Exits with 2 and one message if wrong."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            name = ".".join(str(part) for part in fault["loc"])
            lines.append(
                f"  {name}: {fault['msg']} (got {fault.get('input')!r}); set --{name.replace('_', '-')}, ASSAY_{name.upper()} or {name} in assay.toml"
            )
        raise_usage("wrong configuration:\n" + "\n".join(lines))


def raise_usage(message: str, code: int = EXIT_CONFIG) -> Any:
    """Stop with one clear message and a non-zero exit code."""
    click.echo(f"assay: {message}", err=True)
    raise SystemExit(code)


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that talks to a broker and pass the outcome as ``settings``."""

    @click.option("--bootstrap-servers", help="Kafka, as host:port[,host:port].  [default: 127.0.0.1:9092]")
    @click.option("--topic-prefix", help="Put before every topic name.")
    @click.option("--app-id", help="Prefix of consumer groups and changelogs.  [default: assay]")
    @functools.wraps(function)
    def wrapper(*args: Any, bootstrap_servers: str | None, topic_prefix: str | None, app_id: str | None, **kwargs: Any) -> Any:
        settings = load_settings(bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, app_id=app_id)
        return function(*args, settings=settings, **kwargs)

    return wrapper


def data_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data-dir`` (None = from the other sources)."""
    return click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for RocksDB and snapshots; one per worker."
    )(function)
