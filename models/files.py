"""Files that are there whole or as they were before."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` beside ``path`` and rename it there: whoever reads meanwhile has the old or the new."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def read_yaml(path: Path, model: type[M], error: type[Exception], complaint: str, hint: str = "") -> M:
    """What a YAML file says, as ``model``. Raises ``error`` with the file's name and what is wrong where; ``complaint``: what a file that
    is none does not do; ``hint``: what one looks like.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as found:
        raise error(f"{path} cannot be read: {found.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as found:
        raise error(f"{path} does not {complaint}: {found}" + (f"\n{hint}" if hint else "")) from None
