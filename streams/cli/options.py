"""Options that commands share, and the one way in which flags become ``Settings``."""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, get_args, get_origin

import click
from confluent_kafka import KafkaException
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from streams.runtime.errors import EXIT_BROKER, EXIT_CONFIG
from streams.settings import ROLES, Role, Settings, config_file
from streams.topics import TopicError

#: The command ran, and what it looked for is wrong or it failed.
EXIT_OTHER: Final = 1
#: Left out of flags, because a command line can be read by everybody on the machine.
_SECRET: Final = SecretStr


def load_settings(**flags: Any) -> Settings:
    """Settings from the given flags (None = not given), the environment and ``assay.toml``. Exits with 2 and one message if wrong."""
    given = {name: value for name, value in flags.items() if value is not None}
    file = config_file()
    if "ASSAY_CONFIG" in os.environ and not file.is_file():
        raise_usage(f"ASSAY_CONFIG names {file}, which is no file; correct it or unset it")
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise_usage(f"{file} is not valid TOML: {error}")
    except UnicodeDecodeError as error:
        raise_usage(f"{file} is not UTF-8, as TOML must be: {error}")
    except ValidationError as error:
        raise_usage("wrong configuration:\n" + "\n".join(_fault_line(fault) for fault in error.errors(include_url=False)))


def _fault_line(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"  {name}: there is no such setting; `assay config show` lists them all"
    field = Settings.model_fields.get(name)
    got = "a secret" if field is not None and _plain_type(field)[0] is _SECRET else repr(fault.get("input"))
    return f"  {name}: {fault['msg']} (got {got}); set --{name.replace('_', '-')}, ASSAY_{name.upper()} or {name} in {config_file()}"


def raise_usage(message: str, code: int = EXIT_CONFIG) -> NoReturn:
    """Stop with one clear message and a non-zero exit code."""
    click.echo(f"assay: {message}", err=True)
    raise SystemExit(code)


@contextmanager
def stop_on_broker_trouble() -> Iterator[None]:
    """Turn a broker or a topic that is not there into one message and exit code 3."""
    try:
        yield
    except TopicError as error:
        raise_usage(str(error), EXIT_BROKER)
    except KafkaException as error:
        raise_usage(f"the broker refused: {error.args[0].str()}; `assay doctor` looks for the cause", EXIT_BROKER)


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that talks to a broker and pass the outcome as ``settings``."""
    return settings_options("bootstrap_servers", "topic_prefix", "app_id")(function)


def data_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data-dir`` (None = from the other sources)."""
    return click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for RocksDB and snapshots; one per worker."
    )(function)


def torch_device_option(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--device`` (see ``torch_device``)."""
    return click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help=about)


def torch_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU if torch sees one. Exits with 2 where one is asked for and there is none."""
    import torch  # takes seconds, and few commands need it

    if name == "cuda" and not torch.cuda.is_available():
        raise_usage("torch sees no GPU; use --device cpu, or see `assay doctor`")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def roles_option(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--roles`` (all of them, unless given), passed as a tuple."""
    return click.option("--roles", default=",".join(ROLES), show_default=True, callback=_roles, metavar="ROLE,...", help=about)


def _roles(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[Role, ...]:
    """``embed,recommend`` as a tuple, in the order of ``ROLES``. Raises ``BadParameter`` for an unknown or missing role."""
    wanted = {part.strip() for part in value.split(",") if part.strip()}
    strange = wanted - set(ROLES)
    if strange or not wanted:
        raise click.BadParameter(
            f"{', '.join(sorted(strange)) or 'nothing'} is no role; choose from {','.join(ROLES)}, with commas between"
        )
    return tuple(role for role in ROLES if role in wanted)


def settings_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a flag for each named setting (none named: for every one but the secrets) and pass what they amount to as ``settings``."""
    chosen = names or tuple(name for name, field in Settings.model_fields.items() if _plain_type(field)[0] is not _SECRET)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            flags = {name: kwargs.pop(name) for name in chosen}
            return function(*args, settings=load_settings(**flags), **kwargs)

        for name in reversed(chosen):
            wrapper = _option(name, Settings.model_fields[name])(wrapper)
        return wrapper

    return decorate


def _plain_type(field: FieldInfo) -> tuple[Any, tuple[Any, ...]]:
    """The type of a setting without ``| None``, and the values of a ``Literal``."""
    kinds: Iterable[Any] = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    annotation = next(iter(kinds)) if type(None) in get_args(field.annotation) else field.annotation
    return (str, get_args(annotation)) if get_origin(annotation) is not None else (annotation, ())


def _option(name: str, field: FieldInfo) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind, choices = _plain_type(field)
    flag = f"--{name.replace('_', '-')}"
    shown = {None: "", "": "", True: "on", False: "off"}.get(field.default, field.default) if kind is not int else field.default
    about = f"{field.description}." + (f"  [default: {shown}]" if shown != "" else "")
    if kind is bool:
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", name, default=None, help=about)
    if choices:
        return click.option(flag, name, type=click.Choice(choices), help=about)
    if kind is Path:
        return click.option(flag, name, type=click.Path(path_type=Path), help=about)
    # Numbers stay strings here: Settings says what is wrong with them, and all that is wrong at once.
    return click.option(flag, name, metavar=kind.__name__.upper() if kind in (int, float) else "TEXT", help=about)
